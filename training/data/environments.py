"""Changing environments: for images light, noise, blur, occlusion, rotation and JPEG; repeatable for each.

What happens to an image depends on the seed, the image's id and the environment alone, never on the order in
which images are asked for.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from training.data.images import CLEAR, LabelledImages, digest_of
from training.data.signal_environments import SIGNAL_ENVIRONMENTS
from zoo.errors import DataError
from zoo.inputs.kind import InputKind, Item
from zoo.inputs.kinds import IMAGE

Pixels = NDArray[np.uint8]
Effect = Callable[[Item, np.random.Generator, float], Item]

SEVERITY = 0.7  # hard enough that small networks fail where large ones do not
_VERSION = "1"  # raised when an effect changes, so that results from the old one are stale
_CACHE_BYTES = 256 * 2**20


def clear(image: Pixels, rng: np.random.Generator, severity: float) -> Pixels:
    """The image as it is."""
    return image


def dark(image: Pixels, rng: np.random.Generator, severity: float) -> Pixels:
    """Little light: down to 10 % of the brightness at severity 1, with the noise of a sensor."""
    exposure = 1 - 0.9 * severity * rng.uniform(0.8, 1.0)
    read_noise = rng.normal(0, 8 * severity, image.shape)
    return _to_uint8(image * exposure + read_noise)


def noise(image: Pixels, rng: np.random.Generator, severity: float) -> Pixels:
    """Gaussian noise with a standard deviation of up to 40 % of the range at severity 1."""
    return _to_uint8(image + rng.normal(0, 255 * 0.4 * severity * rng.uniform(0.7, 1.0), image.shape))


def blur(image: Pixels, rng: np.random.Generator, severity: float) -> Pixels:
    """Out of focus: a Gaussian of up to 12 % of the shorter side at severity 1."""
    radius = 0.12 * severity * rng.uniform(0.7, 1.0) * min(image.shape[:2])
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def occlusion(image: Pixels, rng: np.random.Generator, severity: float) -> Pixels:
    """Something in front: a rectangle of one colour over up to 40 % of the area at severity 1."""
    height, width = image.shape[:2]
    share, ratio = 0.4 * severity * rng.uniform(0.7, 1.0), np.exp(rng.uniform(-0.5, 0.5))
    rows = int(np.clip(round(height * np.sqrt(share * ratio)), 1, height))
    columns = int(np.clip(round(width * np.sqrt(share / ratio)), 1, width))
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    covered = image.copy()
    covered[top : top + rows, left : left + columns] = rng.integers(0, 256, 3)
    return covered


def rotation(image: Pixels, rng: np.random.Generator, severity: float) -> Pixels:
    """A tilted camera: up to ±60° at severity 1, the corners filled with the colour of the border."""
    angle = 60 * severity * rng.uniform(0.5, 1.0) * rng.choice([-1, 1])
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    red, green, blue = (int(value) for value in np.median(border, axis=0))
    turned = Image.fromarray(image).rotate(angle, Image.Resampling.BILINEAR, fillcolor=(red, green, blue))
    return np.asarray(turned)


def jpeg(image: Pixels, rng: np.random.Generator, severity: float) -> Pixels:
    """Strong JPEG compression: from quality 95 near severity 0 down to 1 at severity 1."""
    quality = max(1, round(95 * (1 - severity * rng.uniform(0.8, 1.0)) ** 3))
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


ENVIRONMENTS: dict[str, Effect] = {
    CLEAR: clear,
    "dark": dark,
    "noise": noise,
    "blur": blur,
    "occlusion": occlusion,
    "rotation": rotation,
    "jpeg": jpeg,
}


# Kind of input → its environments; another kind adds its own.
OF_KINDS: dict[str, Mapping[str, Effect]] = {"image": ENVIRONMENTS, "signal": SIGNAL_ENVIRONMENTS}


def environments_of(kind: InputKind) -> Mapping[str, Effect]:
    """The environments of one kind of input; those of which none are known stay as they are, ``clear``."""
    return OF_KINDS.get(kind.name, {CLEAR: clear})


def apply(
    image: Item,
    environment: str,
    *,
    sample: str,
    seed: int = 0,
    severity: float = SEVERITY,
    kind: InputKind = IMAGE,
) -> Item:
    """Show an image under an environment.

    Parameters
    ----------
    image
        uint8 ``[H, W, 3]``, or an input of another `kind`.
    environment
        A key of :func:`environments_of` that kind.
    sample
        The image's id: equal ids, seeds and severities give equal pixels.
    severity
        0 (nothing happens) to 1 (hardly recognisable).

    Returns
    -------
    uint8 ``[H, W, 3]`` of the same size.

    Raises
    ------
    DataError
        For an unknown environment or a severity outside 0..1.
    """
    known = environments_of(kind)
    _check([environment], severity, known)
    if severity == 0:
        return image
    key = digest_of(str(seed), sample, environment).digest()
    return known[environment](image, np.random.default_rng(list(key)), severity)


def under_environments(
    data: LabelledImages,
    names: Sequence[str] | None = None,
    *,
    seed: int = 0,
    severity: float = SEVERITY,
) -> LabelledImages:
    """Every image of `data` once under each environment, as samples ``id@environment`` of the same group.

    Without names, under all that its kind of input has.

    Images are made when asked for, and kept as long as all that are kept fit into 256 MiB.

    Raises
    ------
    DataError
        For unknown or repeated names, a severity outside 0..1, or data that already are under environments.
    """
    names = tuple(environments_of(data.kind)) if names is None else names
    _check(names, severity, environments_of(data.kind))
    applied = sorted(set(data.environments) - {CLEAR})
    if applied:
        raise DataError(
            f"expected original images, got some under {', '.join(applied)}. "
            "Apply all environments in one call."
        )
    return _UnderEnvironments(data, list(names), seed, severity)


class _UnderEnvironments(LabelledImages):
    def __init__(self, originals: LabelledImages, names: list[str], seed: int, severity: float) -> None:
        super().__init__(
            originals.classes,
            [f"{sample}@{name}" for sample in originals.ids for name in names],
            np.repeat(originals.labels, len(names)),
            groups=[group for group in originals.groups for _ in names],
            environments=names * len(originals),
            kind=originals.kind,
        )
        self.skipped = originals.skipped
        self.left_out = originals.left_out
        self._originals, self._names = originals, names
        self._seed, self._severity = seed, severity
        self._kept: dict[int, Item] = {}
        self._kept_bytes = 0

    def image(self, index: int) -> Item:
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        which, environment = divmod(index, len(self._names))
        image = apply(
            self._originals.image(which),
            self._names[environment],
            sample=self._originals.ids[which],
            seed=self._seed,
            severity=self._severity,
            kind=self.kind,
        )
        if self._kept_bytes + image.nbytes <= _CACHE_BYTES:
            image = image.view()
            image.flags.writeable = False
            self._kept[index] = image
            self._kept_bytes += image.nbytes
        return image

    @property
    def originals_sha256(self) -> str:
        return self._originals.originals_sha256

    @cached_property
    def contents(self) -> NDArray[np.uint64]:
        return np.repeat(self._originals.contents, len(self._names))

    def _digest(self) -> str:
        settings = [_VERSION, str(self._seed), repr(float(self._severity)), *self._names]
        return digest_of("environments", self._originals.sha256, *settings).hexdigest()


def _check(names: Sequence[str], severity: float, known: Mapping[str, Effect]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) != len(names):
        got = ", ".join(map(repr, unknown or names)) or "none"
        raise DataError(f"expected distinct names out of {', '.join(known)}, got {got}. Correct them.")
    if not 0 <= severity <= 1:
        raise DataError(f"expected a severity from 0 to 1, got {severity}. Choose one in between.")


def _to_uint8(values: NDArray[np.float64]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
