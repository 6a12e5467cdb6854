"""Training: one network, a family, and a student taught by any model of the zoo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from numpy.typing import NDArray
from torch import nn
from typer.testing import CliRunner

from tests.support.small_models import COLOURS, plain_image
from training.commands import train as train_command
from training.data.images import ArrayImages, LabelledImages
from training.data.sources import digits
from training.data.splits import Splits
from training.networks.distill import build, distill
from training.networks.family import train_family
from training.networks.loop import Recipe, train
from zoo import Zoo
from zoo.architectures.preprocessing import Preprocess, Preprocessing
from zoo.errors import CardError, ClassMismatchError, DataError, ZooError

SEEN_AT_8 = Preprocessing((8, 8), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
QUICK = Recipe(epochs=12, lr=1e-2)


def few_digits(size: int = 8) -> LabelledImages:
    return digits(size).subset(range(600))


def linear(outputs: int = 10, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, outputs))


def accuracy(module: nn.Module, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    with torch.inference_mode():
        answers = module(Preprocess(SEEN_AT_8)(torch.from_numpy(images))).argmax(1).numpy()
    return float((answers == labels).mean())


@pytest.fixture
def colours() -> LabelledImages:
    names = [COLOURS[i % 3] for i in range(60)]
    rng = np.random.default_rng(0)
    images = np.stack([plain_image(name) for name in names]) - rng.integers(0, 40, (60, 8, 8, 3))
    labels = [sorted(COLOURS).index(name) for name in names]
    ids = [f"c{i}" for i in range(60)]
    return ArrayImages(images.astype(np.uint8), sorted(COLOURS), ids, labels)


def test_a_trained_network_is_right_about_images_it_has_not_seen() -> None:
    data = few_digits()
    module = linear()
    train(module, data.stack()[:400], data.labels[:400], preprocessing=SEEN_AT_8, recipe=QUICK)
    assert not module.training
    assert accuracy(module, data.stack()[400:], data.labels[400:]) > 0.8


def test_equal_seeds_give_equal_weights_and_leave_torchs_seed_alone() -> None:
    data = few_digits()
    modules = [linear(), linear()]
    for module in modules:
        torch.manual_seed(1)
        train(module, data.stack(), data.labels, preprocessing=SEEN_AT_8, recipe=Recipe(epochs=1), seed=4)
        assert torch.initial_seed() == 1
    assert all(map(torch.equal, modules[0].parameters(), modules[1].parameters()))


def test_a_student_follows_its_teacher_where_the_labels_are_noise() -> None:
    data = few_digits()
    noise = np.random.default_rng(0).integers(0, 10, len(data))
    knows = 8 * np.eye(10, dtype=np.float32)[data.labels]
    module = linear()
    recipe = Recipe(epochs=12, lr=1e-2, alpha=0.9)
    train(module, data.stack(), noise, preprocessing=SEEN_AT_8, recipe=recipe, teacher_logits=knows)
    assert accuracy(module, data.stack(), data.labels) > 0.7


def test_images_of_a_size_that_leaves_one_over_do_not_break_batch_normalisation() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 10))
    data = few_digits().subset(range(65))
    train(module, data.stack(), data.labels, preprocessing=SEEN_AT_8, recipe=Recipe(epochs=1, flip=True))


@pytest.mark.parametrize(("images", "labels"), [(1, 1), (5, 4)])
def test_refuses_too_few_images_or_labels(images: int, labels: int) -> None:
    data = few_digits()
    with pytest.raises(DataError, match="at least two images with a label each"):
        train(linear(), data.stack()[:images], data.labels[:labels], preprocessing=SEEN_AT_8)


def test_refuses_logits_of_other_images() -> None:
    data, logits = few_digits(), np.zeros((3, 10), np.float32)
    with pytest.raises(DataError, match="got 3"):
        train(linear(), data.stack(), data.labels, preprocessing=SEEN_AT_8, teacher_logits=logits)


def test_says_when_training_diverges() -> None:
    data, module = few_digits(), linear()
    with torch.no_grad():
        next(module.parameters()).fill_(float("nan"))
    with pytest.raises(ZooError, match="finite loss"):
        train(module, data.stack(), data.labels, preprocessing=SEEN_AT_8, recipe=Recipe(epochs=1))


@pytest.mark.parametrize("setting", [{"epochs": 0}, {"alpha": 2.0}, {"lr": float("nan")}, {"batch_size": 1}])
def test_refuses_a_recipe_out_of_range(setting: dict[str, float]) -> None:
    with pytest.raises(DataError, match=f"expected {next(iter(setting))} from"):
        Recipe(**setting)  # type: ignore[arg-type]


def test_equal_seeds_build_equal_networks() -> None:
    first, second, other = (build("tiny", 10, seed)[0].head.weight for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_family_is_trained_recorded_and_not_trained_again(tmp_path: Path) -> None:
    zoo, data = Zoo.create(tmp_path), few_digits()
    cards = train_family(zoo, data, sizes=("tiny", "small"), share=0.5, seed=3, epochs=4)
    assert [card.name for card in cards] == ["tiny", "small"]
    assert [(card.compression, card.parent) for card in cards] == [("distilled", "small"), ("none", None)]
    for card in cards:
        assert card.trained_on is not None
        assert card.trained_on.data_sha256 == data.originals_sha256
        assert (card.trained_on.share, card.trained_on.seed) == (0.5, 3)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "models").iterdir()}
    assert (
        train_family(Zoo.open(tmp_path), data, sizes=("tiny", "small"), share=0.5, seed=3, epochs=4) == cards
    )
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "models").iterdir()}


def test_a_family_that_lost_a_file_or_changed_its_settings_is_trained_again(tmp_path: Path) -> None:
    zoo, data = Zoo.create(tmp_path), few_digits()
    (first,) = train_family(zoo, data, sizes=["tiny"], epochs=2)
    (tmp_path / first.file).unlink()
    (again,) = train_family(zoo, data, sizes=["tiny"], epochs=2)
    assert again == first
    assert (tmp_path / first.file).is_file()
    with pytest.raises(CardError, match="--force"):
        train_family(zoo, data, sizes=["tiny"], epochs=3)
    (longer,) = train_family(zoo, data, sizes=["tiny"], epochs=3, force=True)
    assert longer.sha256 != first.sha256


def test_the_small_network_learns_digits(tmp_path: Path) -> None:
    zoo, data = Zoo.create(tmp_path), digits()
    train_family(zoo, data, sizes=["small"], epochs=12)
    unseen = data.subset(Splits(train=0.4).assign(data.groups) != "train")
    answers = zoo.model("small").logits(unseen.stack()).argmax(1)
    assert (answers == unseen.labels).mean() > 0.95


@pytest.mark.parametrize("sizes", [[], ["huge"], ["tiny", "tiny"]])
def test_refuses_unknown_repeated_or_no_sizes(tmp_path: Path, sizes: list[str]) -> None:
    with pytest.raises(DataError, match="expected distinct sizes out of tiny, small, medium, full"):
        train_family(Zoo.create(tmp_path), few_digits(), sizes=sizes)


def test_any_model_of_the_zoo_can_teach_a_student(small_zoo: Zoo, colours: LabelledImages) -> None:
    student = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    recipe = Recipe(epochs=60, lr=0.05)
    card = distill(small_zoo, "full", colours, student=(student, SEEN_AT_8), name="student", recipe=recipe)
    assert (card.compression, card.parent, card.classes) == ("distilled", "full", colours.classes)
    answers = small_zoo.model("student").logits(colours.stack()).argmax(1)
    assert (answers == colours.labels).mean() > 0.9


def test_a_student_is_trained_on_the_same_part_as_its_teacher(tmp_path: Path) -> None:
    zoo, data = Zoo.create(tmp_path), few_digits()
    (teacher,) = train_family(zoo, data, sizes=["small"], share=0.55, seed=8, epochs=1)
    student = distill(zoo, "small", data, student="tiny", epochs=1)
    assert (student.name, student.trained_on) == ("small-tiny", teacher.trained_on)


def test_a_student_is_trained_again_when_its_teacher_changed(tmp_path: Path) -> None:
    zoo, data = Zoo.create(tmp_path), few_digits()
    train_family(zoo, data, sizes=["small"], epochs=1)
    first = distill(zoo, "small", data, student="tiny", epochs=1)
    assert distill(zoo, "small", data, student="tiny", epochs=1) == first
    train_family(zoo, data, sizes=["small"], epochs=2, force=True)
    with pytest.raises(CardError, match="--force"):
        distill(zoo, "small", data, student="tiny", epochs=1)
    assert distill(zoo, "small", data, student="tiny", epochs=1, force=True).sha256 != first.sha256


def test_refuses_a_teacher_that_does_not_know_the_classes(small_zoo: Zoo) -> None:
    with pytest.raises(ClassMismatchError, match="'full' does not know '0'"):
        distill(small_zoo, "full", few_digits())


def test_refuses_a_student_with_its_teachers_name(small_zoo: Zoo, colours: LabelledImages) -> None:
    with pytest.raises(DataError, match="another name"):
        distill(small_zoo, "full", colours, name="full")


def test_the_command_trains_the_asked_sizes_and_says_what_comes_next(tmp_path: Path) -> None:
    app, zoo_app = typer.Typer(), typer.Typer()
    zoo_app.command("train")(train_command.train)
    app.add_typer(zoo_app, name="zoo")
    words = f"zoo train --data digits --environments dark --sizes tiny --epochs 1 --zoo {tmp_path}"
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 0, result.output
    assert f"zooselect profile --data digits --zoo {tmp_path} --environments dark" in result.stdout
    assert Zoo.open(tmp_path).names == ("tiny",)
