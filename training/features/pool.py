"""The pool: input features that may tell which model is enough, each a linear combination of components."""

from __future__ import annotations

from training.features.components import BANDS, DETAIL, FLIP, MIRROR, PLANES, soft_name

POOL_VERSION = 2  # raise it when a feature's meaning changes or features come: stored values become stale


def _mean_of(*components: str) -> dict[str, float]:
    return {component: 1 / len(components) for component in components}


def _difference(plus: dict[str, float], minus: dict[str, float]) -> dict[str, float]:
    return plus | {component: -weight for component, weight in minus.items()}


def _band(band: str, *planes: str) -> dict[str, float]:
    return _mean_of(*(f"log_{band}_{plane}" for plane in planes or DETAIL))


_EDGE_PLANES = PLANES[1:3]

# The pool: feature → weights of components.
FEATURES: dict[str, dict[str, float]] = {
    "luma_mean": {"mean_luma": 1},
    "luma_std": {"std_luma": 1},
    **{f"luma_above_{i}_of_8": {soft_name("luma", i / 8): 1} for i in range(1, 8)},
    "dark_share": {soft_name("luma", 0.05): -1},
    "bright_share": {soft_name("luma", 0.95): 1},
    "entropy": {"entropy": 1},
    "hue_blue": {"mean_blue": 1},
    "hue_red": {"mean_red": 1},
    "hue_blue_std": {"std_blue": 1},
    "hue_red_std": {"std_red": 1},
    "saturation": {"abs_blue": 1, "abs_red": 1},
    "colourful_share": _mean_of(soft_name("blue", 0.1), soft_name("red", 0.1)),
    **{f"{band}_{plane}_energy": {f"log_{band}_{plane}": 1} for band in BANDS for plane in DETAIL},
    "sharpness_fine": _difference(_band("fine"), _band("middle")),
    "sharpness_middle": _difference(_band("middle"), _band("coarse")),
    **{
        f"edge_angle_{band}": _difference(_band(band, "vertical"), _band(band, "horizontal"))
        for band in BANDS
    },
    "corner_to_edge": _difference(_band("fine", "diagonal"), _band("fine", *_EDGE_PLANES)),
    "edge_density": _mean_of(*(soft_name(plane, 0.02) for plane in _EDGE_PLANES)),
    "strong_edge_density": _mean_of(*(soft_name(plane, 0.12) for plane in _EDGE_PLANES)),
    "edge_peakedness": _difference(
        _mean_of(*(f"log_std_{plane}" for plane in _EDGE_PLANES)), _band("fine", *_EDGE_PLANES)
    ),
    "noise_peakedness": _difference({"log_std_diagonal": 1}, _band("fine", "diagonal")),
    "noise_floor": {"log_min_diagonal": 1},
    "calm_detail": _mean_of(*(f"log_min_{plane}" for plane in _EDGE_PLANES)),
    "busy_detail": _mean_of(*(f"log_max_{plane}" for plane in _EDGE_PLANES)),
    "detail_spread": _difference(
        _mean_of(*(f"log_max_{plane}" for plane in _EDGE_PLANES)),
        _mean_of(*(f"log_min_{plane}" for plane in _EDGE_PLANES)),
    ),
    "brightest_block": {"max_luma": 1},
    "darkest_block": {"min_luma": 1},
    "block_range": {"max_luma": 1, "min_luma": -1},
    "centre_brightness": {"centre_luma": 1},
    "centre_detail": _mean_of(*(f"centre_{plane}" for plane in _EDGE_PLANES)),
    "centre_saturation": _mean_of("centre_blue", "centre_red"),
    "left_brightness": {"left_luma": 1},
    "top_brightness": {"top_luma": 1},
    "left_detail": _mean_of(*(f"left_{plane}" for plane in _EDGE_PLANES)),
    "top_detail": _mean_of(*(f"top_{plane}" for plane in _EDGE_PLANES)),
    "mirror_difference": _mean_of(*(f"abs_{pair}_luma" for pair in MIRROR)),
    "flip_difference": _mean_of(*(f"abs_{pair}_luma" for pair in FLIP)),
    "log_area": {"log_height": 1, "log_width": 1},
    "log_aspect": {"log_width": 1, "log_height": -1},
    # from version 2 on
    "log_brightness": {"log_fine_luma": 1},
    "relative_contrast": _difference({"log_std_luma": 1}, {"log_fine_luma": 1}),
    "relative_detail": _difference(_band("fine"), {"log_fine_luma": 1}),
    "block_contrast": {"log_blockstd_luma": 1},
    "texture_to_shape": _difference({"log_std_luma": 1}, {"log_blockstd_luma": 1}),
    "detail_unevenness": _mean_of(*(f"log_blockstd_{plane}" for plane in _EDGE_PLANES)),
    "colour_unevenness": _mean_of("log_blockstd_blue", "log_blockstd_red"),
    "edge_length": {"abs_vertical": 1, "abs_horizontal": 1},
    "noise_length": {"abs_diagonal": 1},
    "keypoint_density": {"corner_above_0.020": 1},
    "strong_keypoint_density": {"corner_above_0.060": 1},
    "bright_area": {"bright_area": 1},
    "outline_length": {"log_outline": 1},
    "area_by_perimeter": _difference({"log_bright_area": 1}, {"log_outline": 1}),
    "blue_peak": {"max_blue": 1},
    "red_peak": {"max_red": 1},
    "centre_noise": {"centre_diagonal": 1},
    "mirror_detail": _mean_of(*(f"abs_{pair}_vertical" for pair in MIRROR)),
    "flip_detail": _mean_of(*(f"abs_{pair}_horizontal" for pair in FLIP)),
}
NAMES: tuple[str, ...] = tuple(FEATURES)
# Version → its features, where none has changed its meaning since: such profiles serve, with fewer features.
EARLIER: dict[int, tuple[str, ...]] = {1: NAMES[: NAMES.index("log_brightness")]}
