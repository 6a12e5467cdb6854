"""Input features: cheap numbers computed from the image alone, before any model runs.

The image is read on a fixed grid of 2×2 cells of neighbouring pixels, so the cost does not depend on its
size, and pixel-level detail (noise, blur) is still seen. A strided convolution turns the cells into a Haar
wavelet transform (Haar 1910) of the luma plus two chroma planes; two more give coarser bands. Means, extremes
and soft shares of these planes are *components*; every feature is a linear combination of components, so that
the exported graph stays at some eighty tiny operators and ends in one matrix product, whichever features are
kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import DataError

POOL_VERSION = 1  # raise it when a feature's meaning changes: stored values become stale

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_CB = (-0.168736, -0.331264, 0.5)
_CR = (0.5, -0.418688, -0.081312)
_PLANES = ("luma", "vertical", "horizontal", "diagonal", "blue", "red")
_DETAIL = _PLANES[1:4]
_BANDS = ("fine", "middle", "coarse")
_MIRROR = tuple(f"mirror_{i}" for i in range(8))
_FLIP = tuple(f"flip_{i}" for i in range(8))
_PRODUCTS = ("centre", "left", "top", *_MIRROR, *_FLIP)  # contrasts between the 16 blocks of a plane
# plane, threshold, half-width of the soft edge, all on the scale 0..1
_SOFT: tuple[tuple[str, float, float], ...] = (
    *(("luma", i / 8, 1 / 32) for i in range(1, 8)),
    ("luma", 0.05, 0.02),
    ("luma", 0.95, 0.02),
    *((plane, edge, edge / 2) for plane in _PLANES[1:3] for edge in (0.02, 0.12)),
    *((plane, 0.1, 0.03) for plane in _PLANES[4:]),
)
_LOG_FLOOR = 2e-3  # about half a grey level of 255: less is not detail


def _soft_name(plane: str, threshold: float) -> str:
    return f"{plane}_above_{threshold:.3f}"


# What the module computes, in the order in which it is concatenated.
COMPONENTS: tuple[str, ...] = (
    *(f"mean_{plane}" for plane in _PLANES),
    *(f"abs_{plane}" for plane in _PLANES),
    *(f"std_{plane}" for plane in _PLANES),
    *(_soft_name(plane, threshold) for plane, threshold, _ in _SOFT),
    *(f"max_{plane}" for plane in _PLANES),
    *(f"min_{plane}" for plane in _PLANES),
    *(f"{product}_{plane}" for plane in _PLANES for product in _PRODUCTS),
    *(f"abs_{product}_{plane}" for plane in _PLANES for product in _PRODUCTS),
    "entropy",
    *(f"log_fine_{plane}" for plane in _PLANES),
    *(f"log_{band}_{plane}" for band in _BANDS[1:] for plane in _PLANES[:4]),
    *(f"log_{statistic}_{plane}" for statistic in ("std", "max", "min") for plane in _PLANES),
    "log_height",
    "log_width",
)


def _mean_of(*components: str) -> dict[str, float]:
    return {component: 1 / len(components) for component in components}


def _difference(plus: dict[str, float], minus: dict[str, float]) -> dict[str, float]:
    return plus | {component: -weight for component, weight in minus.items()}


def _band(band: str, *planes: str) -> dict[str, float]:
    return _mean_of(*(f"log_{band}_{plane}" for plane in planes or _DETAIL))


_EDGE_PLANES = _PLANES[1:3]

# The pool: feature → weights of components.
FEATURES: dict[str, dict[str, float]] = {
    "luma_mean": {"mean_luma": 1},
    "luma_std": {"std_luma": 1},
    **{f"luma_above_{i}_of_8": {_soft_name("luma", i / 8): 1} for i in range(1, 8)},
    "dark_share": {_soft_name("luma", 0.05): -1},
    "bright_share": {_soft_name("luma", 0.95): 1},
    "entropy": {"entropy": 1},
    "hue_blue": {"mean_blue": 1},
    "hue_red": {"mean_red": 1},
    "hue_blue_std": {"std_blue": 1},
    "hue_red_std": {"std_red": 1},
    "saturation": {"abs_blue": 1, "abs_red": 1},
    "colourful_share": _mean_of(_soft_name("blue", 0.1), _soft_name("red", 0.1)),
    **{f"{band}_{plane}_energy": {f"log_{band}_{plane}": 1} for band in _BANDS for plane in _DETAIL},
    "sharpness_fine": _difference(_band("fine"), _band("middle")),
    "sharpness_middle": _difference(_band("middle"), _band("coarse")),
    **{
        f"edge_angle_{band}": _difference(_band(band, "vertical"), _band(band, "horizontal"))
        for band in _BANDS
    },
    "corner_to_edge": _difference(_band("fine", "diagonal"), _band("fine", *_EDGE_PLANES)),
    "edge_density": _mean_of(*(_soft_name(plane, 0.02) for plane in _EDGE_PLANES)),
    "strong_edge_density": _mean_of(*(_soft_name(plane, 0.12) for plane in _EDGE_PLANES)),
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
    "mirror_difference": _mean_of(*(f"abs_{pair}_luma" for pair in _MIRROR)),
    "flip_difference": _mean_of(*(f"abs_{pair}_luma" for pair in _FLIP)),
    "log_area": {"log_height": 1, "log_width": 1},
    "log_aspect": {"log_width": 1, "log_height": -1},
}
NAMES: tuple[str, ...] = tuple(FEATURES)
_SIZE_FEATURES = {"log_area", "log_aspect"}


class InputFeatures(nn.Module):
    """Features of uint8 images as one module.

    Parameters
    ----------
    names
        Which features, in which order; by default all.
    grid
        Pixels read per axis; a multiple of 16.

    Raises
    ------
    DataError
        For an unknown feature name or an unsuitable grid.
    """

    weights: Tensor
    middle_weights: Tensor
    coarse_weights: Tensor
    places: Tensor
    steps: Tensor
    soft_slope: Tensor
    soft_offset: Tensor
    soft_planes: Tensor
    bins: Tensor
    bins_offset: Tensor
    contrasts: Tensor
    combination: Tensor

    def __init__(self, names: Sequence[str] = NAMES, *, grid: int = 32) -> None:
        super().__init__()
        unknown = [name for name in names if name not in FEATURES]
        if unknown or not names:
            raise DataError(f"expected features among {', '.join(NAMES)}; got {unknown or 'none'}.")
        if grid < 16 or grid % 16:
            raise DataError(f"expected a grid that is a multiple of 16, got {grid}.")
        self.names = tuple(names)
        self.grid = grid
        self.with_size = bool(_SIZE_FEATURES & set(names))
        self._register_transform()
        self._register_statistics()
        components = COMPONENTS if self.with_size else COMPONENTS[:-2]
        combination = torch.zeros(len(components), len(names))
        for column, name in enumerate(names):
            for component, weight in FEATURES[name].items():
                combination[components.index(component), column] = weight
        self.register_buffer("combination", combination)

    def forward(self, image: Tensor) -> Tensor:
        """Features float32 ``[N, F]`` of images uint8 ``[N, H, W, 3]``."""
        rows, columns = self._pixels(image.shape[1]), self._pixels(image.shape[2])
        pixels = image.index_select(1, rows).index_select(2, columns)
        fine = F.conv2d(pixels.permute(0, 3, 1, 2).to(torch.float32), self.weights, stride=2)
        middle = F.conv2d(fine, self.middle_weights, stride=2)
        coarse = F.conv2d(middle, self.coarse_weights, stride=2)
        magnitude = fine.abs()
        planes = torch.cat([fine, fine * fine, magnitude], 1).flatten(2).mean(2)
        mean, square, absolute = planes[:, :6], planes[:, 6:12], planes[:, 12:]
        std = (F.relu(square - mean * mean) + 1e-6).sqrt()
        shares = self._soft_shares(magnitude)
        blocks = F.avg_pool2d(magnitude, self.grid // 8).flatten(2)
        largest, smallest = blocks.amax(2), blocks.amin(2)
        products = torch.matmul(blocks, self.contrasts).flatten(1)
        histogram = torch.matmul(shares[:, :7], self.bins) + self.bins_offset
        entropy = -(histogram * torch.log(F.relu(histogram) + 1e-3)).sum(1, keepdim=True)
        bands = [band.abs().mean((2, 3)) for band in (middle, coarse)]
        logs = torch.log(torch.cat([absolute, *bands, std, largest, smallest], 1) + _LOG_FLOOR)
        parts = [mean, absolute, std, shares, largest, smallest, products, products.abs(), entropy, logs]
        if self.with_size:
            parts.append(self._log_size(image))
        return torch.matmul(torch.cat(parts, 1), self.combination)

    def _register_transform(self) -> None:
        haar = (
            torch.tensor([[[1.0, 1], [1, 1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]]]) / 4
        )
        luma, blue, red = (torch.tensor(plane).view(3, 1, 1) / 255 for plane in (_LUMA, _CB, _CR))
        planes = [kernel * luma for kernel in haar] + [haar[0] * blue, haar[0] * red]
        self.register_buffer("weights", torch.stack(planes))
        # the coarser bands look at the luma only; zero weights are cheaper than cutting it out
        for name, width in (("middle_weights", 6), ("coarse_weights", 4)):
            weights = torch.zeros(4, width, 2, 2)
            weights[:, 0] = haar
            self.register_buffer(name, weights)
        cells = self.grid // 2
        self.register_buffer("places", ((torch.arange(cells) + 0.5) / cells).repeat_interleave(2))
        self.register_buffer("steps", torch.arange(self.grid) % 2)

    def _register_statistics(self) -> None:
        slope = torch.tensor([1 / (2 * half) for _, _, half in _SOFT])
        threshold = torch.tensor([threshold for _, threshold, _ in _SOFT])
        self.register_buffer("soft_slope", slope.view(1, -1, 1))
        self.register_buffer("soft_offset", (0.5 - threshold * slope).view(1, -1, 1))
        self.register_buffer("soft_planes", torch.tensor([_PLANES.index(plane) for plane, _, _ in _SOFT]))
        # shares above 7 thresholds → shares of 8 bins
        bins = torch.zeros(7, 8)
        for i in range(7):
            bins[i, i], bins[i, i + 1] = -1, 1
        offset = torch.zeros(1, 8)
        offset[0, 0] = 1
        self.register_buffer("bins", bins)
        self.register_buffer("bins_offset", offset)
        centre = torch.full((4, 4), -1 / 12)
        centre[1:3, 1:3] = 1 / 4
        side = torch.full((4, 4), 1 / 8)
        side[:, 2:] = -1 / 8
        contrasts = [centre, side, side.T]
        for upright in (False, True):
            for i in range(4):
                for j in range(2):
                    pair = torch.zeros(4, 4)
                    pair[i, j], pair[i, 3 - j] = 1, -1
                    contrasts.append(pair.T if upright else pair)
        self.register_buffer("contrasts", torch.stack(contrasts, -1).reshape(16, -1))

    def _pixels(self, size: int) -> Tensor:
        first = (self.places * (size - 1)).to(torch.int64)
        return torch.clamp(first + self.steps, max=size - 1)

    def _soft_shares(self, magnitude: Tensor) -> Tensor:
        # soft, so that the share does not jump when a value crosses the threshold by rounding
        chosen = magnitude.flatten(2).index_select(1, self.soft_planes)
        return torch.clamp(chosen * self.soft_slope + self.soft_offset, 0, 1).mean(2)

    def _log_size(self, image: Tensor) -> Tensor:
        ones = image[:, 0, 0, :1].to(torch.float32) * 0 + 1
        return torch.log(torch.cat([ones * image.shape[1], ones * image.shape[2]], 1))
