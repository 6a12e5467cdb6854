"""Image processors of transformers become the preprocessing that they compute."""

from __future__ import annotations

from typing import Any

import pytest

from zoo.architectures.image_processor import processor_preprocessing
from zoo.architectures.preprocessing import Preprocessing
from zoo.errors import ModelError

HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
HALVES = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
SQUARE = {"height": 48, "width": 64}

# Compared with transformers 5.24 on images: equal up to rounding to whole grey values and whole pixels.
KNOWN: dict[str, tuple[dict[str, Any], Preprocessing]] = {
    "one number": (
        {"feature_extractor_type": "ViTFeatureExtractor", "size": 224, **HALF},
        Preprocessing((224, 224), **HALVES),
    ),
    "height and width": (
        {"image_processor_type": "ViTImageProcessorFast", "size": SQUARE, "resample": 3, **HALF},
        Preprocessing((48, 64), interpolation="bicubic", **HALVES),
    ),
    "shortest edge and crop": (
        {
            "size": {"shortest_edge": 256},
            "do_center_crop": True,
            "crop_size": SQUARE | {"height": 64},
            **HALF,
        },
        Preprocessing((64, 64), crop=0.25, **HALVES),
    ),
    "one number and crop": (
        {"image_processor_type": "CLIPImageProcessor", "size": 224, "crop_size": 224, **HALF},
        Preprocessing((224, 224), crop=1.0, **HALVES),
    ),
    "small ConvNext": (
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, **HALF},
        Preprocessing((224, 224), crop=0.875, **HALVES),
    ),
    "large ConvNext": (
        {"image_processor_type": "ConvNextImageProcessor", "size": 384, "crop_pct": 0.9, **HALF},
        Preprocessing((384, 384), **HALVES),
    ),
    "PoolFormer": (
        {"image_processor_type": "PoolFormerImageProcessor", "size": {"shortest_edge": 224}, "crop_pct": 0.9}
        | {"crop_size": 224, **HALF},
        Preprocessing((224, 224), crop=224 / 248, **HALVES),
    ),
    "Levit": (
        {"image_processor_type": "LevitImageProcessor", "size": 224, "crop_size": 224, **HALF},
        Preprocessing((224, 224), crop=0.875, **HALVES),
    ),
    "EfficientNet": (
        {"image_processor_type": "EfficientNetImageProcessor", "size": 64, "rescale_factor": 1 / 127.5}
        | {"rescale_offset": True, **HALF},
        Preprocessing((64, 64), mean=(0.75,) * 3, std=(0.125,) * 3),
    ),
    "MobileViT": (
        {"image_processor_type": "MobileViTImageProcessor", "size": {"shortest_edge": 288}, "crop_size": 256}
        | HALF,
        Preprocessing((256, 256), crop=256 / 288, channels="bgr"),
    ),
    "neither rescaled nor normalised": (
        {"size": 32, "do_rescale": False, "do_normalize": False},
        Preprocessing((32, 32), std=(1 / 255,) * 3),
    ),
}


@pytest.mark.parametrize("which", KNOWN)
def test_a_processor_becomes_a_record(which: str) -> None:
    facts, expected = KNOWN[which]
    got, notes = processor_preprocessing(facts, None)
    assert (got.resolution, got.interpolation, got.channels) == (
        *(expected.resolution, expected.interpolation, expected.channels),
    )
    assert (*got.mean, *got.std) == pytest.approx((*expected.mean, *expected.std))
    assert got.crop == (None if expected.crop is None else pytest.approx(expected.crop))
    assert notes == {}


@pytest.mark.parametrize(
    ("facts", "field", "message"),
    [
        ({"size": 224, "resample": 1}, "interpolation", "bicubic here; the snapshot says lanczos"),
        ({"size": 224, "resample": 0}, "interpolation", "bilinear here; the snapshot says nearest"),
        ({"size": {"shortest_edge": 224}}, "crop", "any aspect ratio"),
        ({"size": SQUARE, "crop_size": 32}, "crop", "resizes it without"),
        ({"size": {"shortest_edge": 224}, "crop_size": 256}, "crop", "pads it"),
    ],
)
def test_what_the_record_cannot_say_is_told(facts: dict[str, Any], field: str, message: str) -> None:
    assert message in processor_preprocessing(facts, None)[1][field]


def test_what_is_missing_is_asked_for_and_may_be_given() -> None:
    for facts, message in (
        ({}, "a size, got none"),
        ({"do_resize": False, "size": 224}, "do_resize: false"),
        ({"size": 224, "do_normalize": True}, "image_mean and image_std, got neither"),
    ):
        with pytest.raises(ModelError, match=message):
            processor_preprocessing(facts, None)
    given, _ = processor_preprocessing({"do_normalize": True}, (32, 48), {"mean", "std"})
    assert given.resolution == (32, 48)
