"""Claims about calibration: what min-max spoils another way keeps, and what none keeps is not added."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from tests.support.command_line import CommandLine
from tests.support.small_models import COLOURS
from zoo.architectures.preprocessing import Preprocessing
from zoo.convert.add import add_module
from zoo.convert.int8.add_int8 import add_int8
from zoo.convert.int8.calibration import CALIBRATIONS, GOOD_AGREEMENT, Quantised, quantize_best
from zoo.convert.int8.compress import quantize_int8
from zoo.convert.int8.ranges import BINS, _share
from zoo.errors import ModelError
from zoo.models.card import TrainedOn
from zoo.models.session import open_session
from zoo.models.zoo import Zoo

SIDE = 16
PART = TrainedOn(data_sha256="0" * 64, share=0.4, seed=0)


class Outlier(nn.Module):
    """Answers the strongest colour; a channel that nothing reads is huge where red is above a limit."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.see, self.spread, self.forget = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 3, 1)
        self.head = nn.Linear(3, 3)
        with torch.no_grad():
            self.see.weight[:, :, 0, 0] = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
            self.see.bias[:] = torch.tensor([0, 0, 0, -limit])
            self.spread.weight[:, :, 0, 0] = torch.diag(torch.tensor([1, 1, 1, 5e5]))
            self.forget.weight[:, :, 0, 0] = torch.eye(3, 4)
            self.head.weight[:] = 20 * torch.eye(3)
            for layer in (self.spread, self.forget, self.head):
                layer.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        found = nn.functional.hardswish(self.spread(torch.relu(self.see(images))))
        answer: Tensor = self.head(torch.relu(self.forget(found)).mean((2, 3)))
        return answer


def pictures(count: int, seed: int) -> list[NDArray[np.uint8]]:
    """A colour each, more or less strong; a single pixel of the first one is pure red."""
    rng = np.random.default_rng(seed)
    made = rng.integers(40, 90, (count, SIDE, SIDE, 3))
    made[np.arange(count), ..., rng.integers(0, 3, count)] += rng.integers(20, 120, count)[:, None, None]
    made[0, 0, 0] = (255, 0, 0)
    return list(made.astype(np.uint8))


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    made = Zoo.create(tmp_path_factory.mktemp("zoo"))
    for name, limit in (("rare", 0.9), ("often", 0.3)):
        add_module(made, name, Outlier(limit).eval(), Preprocessing((SIDE, SIDE)), COLOURS, source="outlier")
    return made


def classes(zoo: Zoo, name: str, images: list[NDArray[np.uint8]]) -> NDArray[np.int64]:
    return zoo.model(name).logits(np.stack(images)).argmax(1)


def test_ranges_that_cut_outliers_off_keep_the_answers_that_min_max_spoils(zoo: Zoo) -> None:
    told: list[Quantised] = []
    others = pictures(60, seed=1)[1:]
    card = add_int8(zoo, "rare", pictures(120, 0), held_out=others, calibrated_on=PART, tell=told.append)
    worst, best = told[0].trials
    assert (str(worst.calibration), str(best.calibration)) == ("min-max ranges", "percentile 99.999 ranges")
    assert worst.agreement < 0.6 < GOOD_AGREEMENT < best.agreement
    agreement = (classes(zoo, card.name, others) == classes(zoo, "rare", others)).mean()
    assert agreement == pytest.approx(best.agreement)
    assert (
        f"percentile 99.999 ranges; the parent's class for {agreement:.1%} of 59 other images" in card.source
    )


def test_calibration_images_are_remembered_as_training_images_are(zoo: Zoo) -> None:
    images = pictures(120, 0)
    assert add_int8(zoo, "rare", images, calibrated_on=PART, name="known").learned_from == (PART,)


def test_a_version_that_answers_otherwise_is_refused_unless_forced(zoo: Zoo) -> None:
    images = pictures(60, 0)
    with pytest.raises(ModelError, match=r"at least 90% .* best of 6 calibrations .*Calibrate on .*--force"):
        add_int8(zoo, "often", images)
    assert "often-int8" not in zoo.names
    assert add_int8(zoo, "often", images, force=True).compression == "int8"


def test_the_command_prints_each_calibration_that_it_tried_before_it_refuses(
    zoo: Zoo, zooselect: CommandLine
) -> None:
    for index, pixels in enumerate(pictures(60, 0)):
        path = Path("photos") / COLOURS[index % 3] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    compress = ("zoo", "compress", "often", "--data", "photos", "--share", 1, "--zoo", zoo.folder)
    done = zooselect(*compress, code=1)
    tried = re.findall(r"^(\S.*?) +[\d.]+%$", done.err, re.MULTILINE)
    assert tried == [str(one) for one in CALIBRATIONS]
    assert "least-error ranges" in tried
    assert "--force" in done.err


def test_least_error_ranges_keep_what_min_max_spoils_however_far_away_the_outliers_are(zoo: Zoo) -> None:
    card, images, others = zoo.card("rare"), pictures(120, 0), np.stack(pictures(60, seed=1)[1:])
    content = quantize_int8((zoo.folder / card.file).read_bytes(), images, name="q", least_error=True)
    said = open_session(content, name="q").run(["logits"], {"image": others})[0].argmax(1)
    assert (said == classes(zoo, "rare", list(others))).mean() > GOOD_AGREEMENT


def test_least_error_cuts_a_long_tail_off_and_leaves_even_values_alone() -> None:
    even = np.full(BINS, 1000)
    tail = np.concatenate([np.linspace(4000, 3000, BINS // 4), np.full(3 * BINS // 4, 0.002)]).astype(int)
    tail[-1] = 1
    assert _share(even) > 0.99
    assert 0.2 < _share(tail) < 0.35


def test_least_error_keeps_what_lies_beyond_the_many_zeros_after_an_activation_function() -> None:
    counts = np.linspace(60, 20, BINS).astype(int)
    counts[0] = 5_000_000
    assert _share(counts) > 0.9


def test_a_good_first_calibration_ends_the_search(zoo: Zoo) -> None:
    card = zoo.card("rare")
    content = (zoo.folder / card.file).read_bytes()
    found = quantize_best(content, pictures(33, 0)[1:], name="q")
    assert [str(trial.calibration) for trial in found.trials] == ["min-max ranges"]
    assert (found.images, found.held_out, found.apart) == (24, 8, True)
    assert open_session(found.content, name="q").get_inputs()[0].name == "image"


def test_eight_images_are_compared_on_themselves(zoo: Zoo) -> None:
    content = (zoo.folder / zoo.card("rare").file).read_bytes()
    found = quantize_best(content, pictures(9, 0)[1:], name="q")
    assert (found.images, found.held_out, found.apart) == (8, 8, False)
    assert "of these images" in found.describe()


def test_images_of_different_sizes_set_ranges_together(zoo: Zoo) -> None:
    content = (zoo.folder / zoo.card("rare").file).read_bytes()
    images = [image[: 16 - i % 3] for i, image in enumerate(pictures(20, 0))]
    assert len(quantize_best(content, images, name="q").trials) == 3
