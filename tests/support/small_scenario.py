"""A small real scenario: digits with one tiny network, and its specialist for the dark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from training.data.environments import under_environments
from training.data.sources import digits
from training.data.splits import Splits
from training.networks.family import train_family
from training.scenarios.specialists import Material, Published, make_specialists
from zoo.models.zoo import Zoo

SPLITS = Splits(train=0.4, fit=0.15, tune=0.05, certify=0.35, test=0.45)


@dataclass(frozen=True)
class SmallScenario:
    """What was made, and how often each step said so."""

    root: Path
    zoo: Zoo
    published: Published
    said: list[str]

    def make(self) -> Published:
        """Make it again, of what is there."""
        return make_specialists(
            self.root, self.zoo, self.published.material, ("clear", "dark"),
            precision=0.6, progress=False, say=self.said.append,
        )  # fmt: skip


def make_scenario(root: Path) -> SmallScenario:
    """A task whose models are certified for 60 % in the light, with a variant for the dark."""
    zoo = Zoo.open_or_create(root / "zoo")
    shown = under_environments(digits(), ["clear"], severity=1.0)
    train_family(zoo, shown, sizes=("tiny",), share=0.4, epochs=15, progress=False)
    material = Material(
        title="Tiny digits", parents=("tiny",), learn=digits(), judge=digits(), severity=1.0, splits=SPLITS,
        budget_bytes=100_000, precision=0.6, adapt={"epochs": 15},
    )  # fmt: skip
    said: list[str] = []
    published = make_specialists(
        root, zoo, material, ("clear", "dark"), precision=0.6, progress=False, say=said.append
    )
    return SmallScenario(root, zoo, published, said)
