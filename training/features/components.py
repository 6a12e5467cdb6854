"""Components: what is computed of an image, and only as much of it as the chosen features need.

The image is read on a fixed grid of 2×2 cells of neighbouring pixels, so the cost does not depend on its
size, and pixel-level detail (noise, blur) is still seen. A strided convolution turns the cells into a Haar
wavelet transform (Haar 1910) of the luma plus two chroma planes; two more give coarser bands. Means,
extremes, soft shares and contrasts between 16 blocks of these planes are the components. They come in
*stages* that share work; a stage runs only where a chosen component needs it.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
CB = (-0.168736, -0.331264, 0.5)
CR = (0.5, -0.418688, -0.081312)
PLANES = ("luma", "vertical", "horizontal", "diagonal", "blue", "red")
DETAIL = PLANES[1:4]
BANDS = ("fine", "middle", "coarse")
MIRROR = tuple(f"mirror_{i}" for i in range(8))
FLIP = tuple(f"flip_{i}" for i in range(8))
PRODUCTS = ("centre", "left", "top", *MIRROR, *FLIP)  # contrasts between the 16 blocks of a plane
LOG_FLOOR = 2e-3  # about half a grey level of 255: less is not detail
SIDE = 4  # blocks per axis


def soft_name(plane: str, threshold: float) -> str:
    """Component: the share of cells of `plane` above `threshold`."""
    return f"{plane}_above_{threshold:.3f}"


# component → plane, threshold, half-width of the soft edge, all on the scale 0..1
SOFT: dict[str, tuple[str, float, float]] = {
    soft_name(plane, threshold): (plane, threshold, half)
    for plane, threshold, half in (
        *(("luma", i / 8, 1 / 32) for i in range(1, 8)),
        ("luma", 0.05, 0.02),
        ("luma", 0.95, 0.02),
        *((plane, edge, edge / 2) for plane in PLANES[1:3] for edge in (0.02, 0.12)),
        *((plane, 0.1, 0.03) for plane in PLANES[4:]),
    )
}
HISTOGRAM = tuple(soft_name("luma", i / 8) for i in range(1, 8))
# component → threshold and half-width: cells whose vertical *and* horizontal detail is stronger
CORNERS: dict[str, tuple[float, float]] = {
    "corner_above_0.020": (0.02, 0.01),
    "corner_above_0.060": (0.06, 0.03),
}
OUTLINE = ("bright_area", "outline")

STAGES: dict[str, tuple[str, ...]] = {
    "mean": tuple(f"mean_{plane}" for plane in PLANES),
    "std": tuple(f"std_{plane}" for plane in PLANES),
    "shares": tuple(SOFT),
    "blocks": (
        *(f"abs_{plane}" for plane in PLANES),
        *(f"{product}_{plane}" for plane in PLANES for product in PRODUCTS),
    ),
    "extremes": tuple(f"{which}_{plane}" for which in ("max", "min") for plane in PLANES),
    "differences": tuple(f"abs_{product}_{plane}" for plane in PLANES for product in PRODUCTS),
    "spread": tuple(f"blockstd_{plane}" for plane in PLANES),
    "entropy": ("entropy",),
    "corners": tuple(CORNERS),
    "outline": OUTLINE,
    "bands": tuple(f"band_{band}_{plane}" for band in BANDS[1:] for plane in PLANES[:4]),
}
LOGS: dict[str, str] = {  # component → the component whose logarithm it is
    **{f"log_fine_{plane}": f"abs_{plane}" for plane in PLANES},
    **{f"log_{band}_{plane}": f"band_{band}_{plane}" for band in BANDS[1:] for plane in PLANES[:4]},
    **{
        f"log_{which}_{plane}": f"{which}_{plane}"
        for which in ("std", "max", "min", "blockstd")
        for plane in PLANES
    },
    **{f"log_{name}": name for name in OUTLINE},
}
SIZES = ("log_height", "log_width")
COMPONENTS: tuple[str, ...] = (*(name for names in STAGES.values() for name in names), *LOGS, *SIZES)
STAGE_OF = {name: stage for stage, names in STAGES.items() for name in names}


def stages_of(components: Collection[str]) -> frozenset[str]:
    """The stages, with those they are built on, that `components` need."""
    found: set[str] = set()
    for name in components:
        if name in SIZES:
            found.add("size")
            continue
        if name in LOGS:
            found.add("logs")
        stage = STAGE_OF[LOGS.get(name, name)]
        found.add(stage)
        found |= {
            "entropy": {"shares"},
            "differences": {"blocks"},
            "spread": {"blocks"},
            "extremes": {"blocks"},
        }.get(stage, set())
    return frozenset(found)


def _contrasts() -> dict[str, NDArray[np.float64]]:
    centre = np.full((SIDE, SIDE), -1 / 12)
    centre[1:3, 1:3] = 1 / 4
    side = np.full((SIDE, SIDE), 1 / 8)
    side[:, 2:] = -1 / 8
    found = {"abs": np.full((SIDE, SIDE), 1 / 16), "centre": centre, "left": side, "top": side.T}
    for names, upright in ((MIRROR, False), (FLIP, True)):
        for place, name in enumerate(names):
            i, j = divmod(place, 2)
            pair = np.zeros((SIDE, SIDE))
            pair[i, j], pair[i, 3 - j] = 1, -1
            found[name] = pair.T if upright else pair
    return found


CONTRASTS = _contrasts()
