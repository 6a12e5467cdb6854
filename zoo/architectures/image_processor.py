"""Image processors of transformers: their facts as a preprocessing record."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from zoo.architectures.preprocessing import Preprocessing, nearest_interpolation, triple
from zoo.errors import ModelError

# Pillow's numbers of its ways to resize.
_RESAMPLES = dict(enumerate(("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")))
_SQUASHES = {"ViT", "DeiT", "Beit", "EfficientNet"}  # where one number for the size means both sides
_CONVNEXT_SQUASHES_FROM = 384  # pixels


def processor_preprocessing(
    facts: Mapping[str, Any], resolution: tuple[int, int] | None, given: Collection[str] = ()
) -> tuple[Preprocessing, dict[str, str]]:
    """What an image processor does, as a record.

    Parameters
    ----------
    facts
        The content of a ``preprocessor_config.json``.
    resolution
        Another height and width that the network sees, in pixels.
    given
        Fields of the record that are not taken from the facts, so that these may lack them.

    Returns
    -------
    preprocessing
        The record.
    notes
        Field → a sentence, for what the record cannot say.

    Raises
    ------
    ModelError
        When the facts lack the size or the means, or do not resize.
    KeyError, TypeError, ValueError, ArithmeticError
        When a fact is of another kind than expected.
    """
    kind = str(facts.get("image_processor_type") or facts.get("feature_extractor_type") or "")
    for ending in ("Fast", "ImageProcessor", "FeatureExtractor"):
        kind = kind.removesuffix(ending)
    mobilevit = kind.startswith("MobileViT")
    notes: dict[str, str] = {}
    size, crop = _size_and_crop(facts, kind, notes, resolution)
    factor = float(facts.get("rescale_factor", 1 / 255)) if facts.get("do_rescale", True) else 1.0
    shift = -1.0 if facts.get("rescale_offset") else 0.0
    mean, std = (0.0,) * 3, (1.0,) * 3
    # That of MobileViT never normalises, whatever its facts say.
    if not mobilevit and facts.get("do_normalize", "image_mean" in facts):
        if "image_mean" not in facts and not {"mean", "std"} <= set(given):
            raise ModelError(
                "preprocessor_config.json: expected image_mean and image_std, got neither. Give mean and std."
            )
        mean, std = triple(facts.get("image_mean", [0.0])), triple(facts.get("image_std", [1.0]))
        if kind == "EfficientNet" and facts.get("include_top", True):
            std = triple([value * value for value in std])  # this processor divides twice
    wanted = _RESAMPLES[int(facts.get("resample", 2))]
    interpolation = nearest_interpolation(wanted)
    if interpolation != wanted:
        notes["interpolation"] = f"Images are resized {interpolation} here; the snapshot says {wanted}."
    flipped = facts.get("do_flip_channel_order", mobilevit)
    preprocessing = Preprocessing(
        size,
        mean=triple([(value - shift) / (255 * factor) for value in mean]),
        std=triple([value / (255 * factor) for value in std]),
        crop=crop,
        interpolation=interpolation,
        channels="bgr" if flipped else "rgb",
    )
    return preprocessing, notes


def _size_and_crop(
    facts: Mapping[str, Any], kind: str, notes: dict[str, str], resolution: tuple[int, int] | None
) -> tuple[tuple[int, int], float | None]:
    """Height and width that the network sees, and the share of the short side that is kept."""
    cropped = bool(facts.get("do_center_crop", "crop_size" in facts))
    size = facts.get("size", facts.get("crop_size"))
    if size is None or not facts.get("do_resize", True):
        if resolution is None:
            raise ModelError(
                "preprocessor_config.json: expected images to be resized to a size, got "
                f"{'none' if size is None else 'do_resize: false'}. Give the size that the network sees."
            )
        return resolution, None
    edge: float | None = None  # what the short side is resized to, where the aspect ratio is kept
    if isinstance(size, dict) and "shortest_edge" in size:
        edge = int(size["shortest_edge"])
    elif isinstance(size, (int, float)) and kind not in _SQUASHES and (cropped or kind == "ConvNext"):
        edge = int(size)
    resized = (int(edge), int(edge)) if edge is not None else _sides(size)
    seen = _sides(facts.get("crop_size", size)) if cropped else resized
    if edge is not None and kind == "ConvNext":
        seen = resized
        if edge >= _CONVNEXT_SQUASHES_FROM:
            return resolution or seen, None
        edge, cropped = int(edge / float(facts.get("crop_pct") or 224 / 256)), True
    elif edge is not None and kind == "PoolFormer" and facts.get("crop_pct"):
        edge = int(edge / float(facts["crop_pct"]))
    elif edge is not None and kind == "Levit":
        edge = int(256 / 224 * edge)
    if edge is None and seen == resized:
        return resolution or seen, None
    if edge is None or not cropped:
        notes["crop"] = "The centre of an image is cut out here and keeps its aspect ratio; the snapshot " + (
            "resizes it without." if edge is None else "takes images of any aspect ratio."
        )
    share = min(seen) / (edge or min(resized))
    if share > 1:
        notes["crop"] = "The whole short side of an image is taken here; the snapshot pads it."
    return resolution or seen, min(1.0, share)


def _sides(size: Any) -> tuple[int, int]:
    if isinstance(size, dict):
        if "shortest_edge" in size:
            return int(size["shortest_edge"]), int(size["shortest_edge"])
        return int(size["height"]), int(size["width"])
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return int(height), int(width)
