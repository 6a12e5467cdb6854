"""Claims about adaptation: a child is better where it was adapted to, honest about it, and small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.data.environments import under_environments
from training.data.images import LabelledImages
from training.data.sources import digits
from training.data.splits import Splits
from training.networks.adapt import Adaptation, adapt, add_adapted_int8
from training.networks.family import train_family
from training.networks.loop import Recipe
from training.outcomes.profile import profile
from zoo.convert.exchange import changeable
from zoo.convert.torch_graph import TorchGraph
from zoo.errors import CardError, DataError, ModelError, ModelNotFoundError, ZooError
from zoo.models.zoo import Zoo


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """Networks that have only ever seen digits in good light, and one adapted to the dark."""
    zoo = Zoo.create(tmp_path_factory.mktemp("adapt") / "zoo")
    train_family(zoo, digits(), sizes=("tiny", "small"), epochs=4, progress=False)
    return zoo


@pytest.fixture(scope="module")
def dark() -> LabelledImages:
    return under_environments(digits(), ["dark"])


@pytest.fixture(scope="module")
def made(zoo: Zoo, dark: LabelledImages) -> Adaptation:
    return adapt(zoo, "small", dark, "dark", epochs=6, progress=False)


def test_a_child_is_far_better_in_its_environment(made: Adaptation) -> None:
    assert made.kept
    assert made.after > made.before + 0.3
    assert made.p_value < 1e-6


def test_its_card_says_what_was_done(zoo: Zoo, made: Adaptation) -> None:
    card = zoo.card("small-dark")
    assert card == made.card
    assert card.adapted is not None
    assert (card.parent, card.adapted.parent_sha256) == ("small", zoo.card("small").sha256)
    assert card.adapted.changed == ("normalisation", "head")
    assert card.adapted.changed_bytes == made.difference.changed_bytes < 0.05 * card.size_bytes
    assert card.adapted.labels == "given"


def test_images_that_it_learned_from_never_judge_it(
    zoo: Zoo, made: Adaptation, dark: LabelledImages, tmp_path: Path
) -> None:
    record = profile(zoo, dark, tmp_path, splits=Splits(), progress=False)
    assert record.splits.train == 0.4
    assert made.card.learned_from[0] == made.card.learned_from[1]


def test_an_8_bit_child_is_close_to_it_and_says_what_it_shares(
    zoo: Zoo, made: Adaptation, dark: LabelledImages
) -> None:
    from zoo.convert.int8.add_int8 import add_int8

    add_int8(zoo, "small", [dark.image(i) for i in range(64)])
    small = add_adapted_int8(zoo, "small-dark", dark, progress=False)
    assert small.adapted is not None
    assert (small.parent, small.adapted.parent) == ("small-dark", "small-int8")
    assert small.adapted.changed_bytes < 0.1 * small.size_bytes
    batch = np.stack([dark.image(i) for i in range(200)])
    one, two = (zoo.model(name).logits(batch).argmax(1) for name in ("small-dark", "small-dark-int8"))
    assert (one == two).mean() > 0.9


def test_a_more_accurate_model_may_say_what_is_right(
    zoo: Zoo, made: Adaptation, dark: LabelledImages
) -> None:
    told = adapt(zoo, "tiny", dark, "dark", labels_from="small-dark", epochs=6, progress=False)
    assert told.kept
    assert told.card.adapted is not None
    assert told.card.adapted.labels == "small-dark"


def test_what_is_not_better_is_not_added_unless_asked_for(zoo: Zoo) -> None:
    nothing: Any = {"recipe": Recipe(epochs=1, lr=1e-7), "statistics": False, "progress": False}
    assert not adapt(zoo, "small", digits(), "clear", **nothing).kept
    assert "small-clear" not in zoo.names
    assert adapt(zoo, "small", digits(), "clear", keep=True, **nothing).kept


def test_statistics_follow_where_light_changed_and_stay_where_it_did_not(
    zoo: Zoo, dark: LabelledImages, made: Adaptation
) -> None:
    def followed(parent: str, child: str) -> bool:
        one, two = ((zoo.folder / zoo.card(name).file).read_bytes() for name in (parent, child))
        keys = changeable(one, classes=10, name=parent).statistics
        kept = [TorchGraph(content, name=parent).tensor(keys[0]) for content in (one, two)]
        return not np.array_equal(*kept)

    assert followed("small", "small-dark")
    adapt(zoo, "small-dark", dark, "again", epochs=1, keep=True, progress=False)
    assert not followed("small-dark", "small-dark-again")


def test_equal_seeds_give_equal_children(zoo: Zoo, dark: LabelledImages) -> None:
    one, two = (
        adapt(zoo, "tiny", dark, "again", epochs=1, keep=True, force=True, progress=False) for _ in range(2)
    )
    assert one.card.sha256 == two.card.sha256


def test_missing_classes_are_refused_or_left_alone(zoo: Zoo, dark: LabelledImages) -> None:
    few = dark.subset(dark.labels < 7)
    with pytest.raises(DataError, match="got none of '7', '8', '9'; it would forget them"):
        adapt(zoo, "small", few, "few", share=1, progress=False)
    judged = adapt(
        zoo, "small", few, "few", share=1, allow_missing=True, epochs=4, seed=1, keep=True, progress=False
    )
    assert judged.missing == ("7", "8", "9")
    assert judged.card.adapted is not None
    assert judged.card.adapted.changed == ("normalisation",)
    assert judged.after > judged.before


@pytest.mark.parametrize(
    ("parent", "environment", "options", "kind", "said"),
    [
        ("nobody", "dark", {}, ModelNotFoundError, "no model 'nobody' in this zoo"),
        (
            "small",
            "dark",
            {},
            CardError,
            "holds a different model 'small-dark' already: give the new one a --name",
        ),
        ("small", "Very dark", {}, CardError, "for the environment, got 'Very dark'"),
        ("small", "x" * 60, {}, CardError, "for the model"),
        ("small", "dark", {"name": "small"}, CardError, "another name for the child"),
        ("small", "new", {"labels_from": "small"}, DataError, "more accurate model than 'small' itself"),
        ("small", "new", {"what": ("biases",)}, ModelError, "it has normalisation, head"),
        ("small-int8", "new", {}, ModelError, "Adapt its float parent"),
    ],
)
def test_bad_wishes_are_refused_before_anything_is_trained(
    zoo: Zoo,
    made: Adaptation,
    dark: LabelledImages,
    parent: str,
    environment: str,
    options: dict[str, object],
    kind: type[ZooError],
    said: str,
) -> None:
    if parent == "small-int8" and parent not in zoo.names:
        from zoo.convert.int8.add_int8 import add_int8

        add_int8(zoo, "small", [dark.image(i) for i in range(64)])
    with pytest.raises(kind, match=said):
        adapt(zoo, parent, dark, environment, progress=False, **options)  # type: ignore[arg-type]


def test_too_few_images_are_refused(zoo: Zoo, dark: LabelledImages) -> None:
    with pytest.raises(DataError, match="expected at least 100 images to adapt a model with"):
        adapt(zoo, "small", dark.subset(np.arange(90)), "sparse", share=1, progress=False)
