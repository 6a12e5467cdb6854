"""Groups: what the operator decides about them, in a file that is edited by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from zoo.files import encode_record, read_record, write_atomic
from zoo.types import Name, Positive

SCHEMA_VERSION = 2
FILE = "groups.json"


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When what a group holds is decided anew."""

    budget_bytes: Positive | None = None  # instead of what devices report
    quantile: Annotated[float, Meta(ge=0, lt=1)] = 0.05  # share of the devices that may have a smaller budget
    least_answers: Annotated[int, Meta(ge=0)] = 100  # before anything is decided
    least_gain: Annotated[float, Meta(ge=0)] = 0.01  # of an answer, for a change
    deviations: Annotated[float, Meta(ge=0)] = 2.0  # of the mean gain, that a change has to gain at least
    models: tuple[Name, ...] | None = None  # fixed by the operator, most important first; None: by demand
    bundles: tuple[Name, ...] | None = None  # fixed with `models`; None: all published ones that use them
    assigned: bool = True  # False: nothing is assigned, each device follows what it is asked itself

    def __post_init__(self) -> None:
        if not self.assigned and (self.models is not None or self.bundles is not None):
            raise ValueError("expected either models, bundles or assigned: false, got both")


class Groups(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file: a rule for some groups, and one for all others."""

    schema_version: Positive
    groups: dict[Name, Rule] = {}
    others: Rule = Rule()

    def rule(self, group: str) -> Rule:
        """What holds for a group."""
        return self.groups.get(group, self.others)


def read_groups(folder: str | Path) -> Groups:
    """The file ``groups.json`` of a folder, or what holds without one.

    Raises
    ------
    CardError
        When it does not validate.
    """
    path = Path(folder) / FILE
    if not path.exists():
        return Groups(schema_version=SCHEMA_VERSION)
    return read_record(path, Groups, schema_version=SCHEMA_VERSION)


def withdraw(folder: str | Path, group: str) -> None:
    """Note that nothing is assigned to a group from now on; raises like :func:`read_groups`."""
    found = read_groups(folder)
    rule = msgspec.structs.replace(found.rule(group), models=None, bundles=None, assigned=False)
    changed = Groups(schema_version=SCHEMA_VERSION, groups={**found.groups, group: rule}, others=found.others)
    write_atomic(Path(folder) / FILE, encode_record(changed))
