"""The labelled images that a command line names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selector.commands.last_words import say_last
from selector.commands.options import names_in
from selector.commands.say import say
from zoo.inputs.image_files import left_out_words

if TYPE_CHECKING:
    from training.data.images import LabelledImages
    from zoo.inputs.kind import InputKind


def load_data(
    spec: str,
    *,
    environments: str = "",
    skip_bad: bool = False,
    seed: int = 0,
    kind: InputKind | None = None,
) -> LabelledImages:
    """The labelled images, or inputs of another `kind`, under the environments that a command line names."""
    from training.data.environments import environments_of, under_environments
    from training.data.sources import load
    from zoo.inputs.kinds import IMAGE

    kind = kind or IMAGE
    skip = {"skip_bad": True} if skip_bad and spec != "digits" else {}
    data = tell_left_out(load(spec, kind=kind, **skip))
    if not environments:
        return data
    names = list(environments_of(kind)) if environments == "all" else names_in(environments)
    return under_environments(data, names, seed=seed)


def tell_left_out(data: LabelledImages) -> LabelledImages:
    """The same images, after a word about those that cannot be read and about files that are no images."""
    if data.skipped:
        say(
            f"{len(data.skipped)} {data.kind.noun}s could not be read and were left out: "
            f"{', '.join(data.skipped[:3])}{' …' if len(data.skipped) > 3 else ''}",
            err=True,
        )
    if data.left_out:
        say_last(left_out_words(data.left_out))
    return data
