"""Steps of complete runs: timed, and left out where an earlier run has done them and nothing has changed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from training.data.images import LabelledImages
from training.fitting.fit import fit, fit_inputs_sha256
from training.fitting.fitted import Fitted, load_fit, save_fit
from training.fitting.network import over_network
from zoo.errors import ZooError
from zoo.models.latency import LatencyTable, load_table, measure, save_table
from zoo.models.zoo import Zoo
from zoo.remote.network import Network

DEVICE = "this-machine"

Say = Callable[[str], None]


@contextlib.contextmanager
def timed(step: str, say: Say, seconds: dict[str, float] | None = None) -> Iterator[None]:
    """Say how long a step took, and note it in `seconds`."""
    start = time.perf_counter()
    yield
    elapsed = time.perf_counter() - start
    if seconds is not None:
        seconds[step] = elapsed
    say(f"{elapsed:6.1f} s  {step}")


def latency_of(zoo: Zoo, data: LabelledImages, path: Path, *, runs: int, progress: bool) -> LatencyTable:
    """The latency table in a file; measured where there is none yet, or it is of other models."""
    with contextlib.suppress(ZooError):
        table = load_table(path)
        table.costs_ms(zoo)
        return table
    images = [data.image(i) for i in range(min(32, len(data)))]
    table = measure(zoo, images, device=DEVICE, runs=runs, progress=progress)
    save_table(table, path)
    return table


def fit_of(
    work: Path, zoo: Zoo, table: LatencyTable, *, network: Network | None = None, progress: bool, **asked: Any
) -> tuple[Fitted, bool]:
    """The fit in ``<work>/fit`` of the profile beside it, and whether it had to be made anew."""
    if network is not None:
        table, zoo = over_network(table, zoo, network)
    wanted = fit_inputs_sha256(work / "profile", zoo, table, **asked)
    with contextlib.suppress(ZooError):
        before = load_fit(work / "fit")
        if before.record.inputs_sha256 == wanted:
            return before, False
    fitted = fit(work / "profile", zoo, table, progress=progress, **asked)
    save_fit(fitted, work / "fit", replace=True)
    return fitted, True


def has_int8(zoo: Zoo, name: str) -> bool:
    """Whether the zoo holds the 8-bit version of a model as it is now."""
    small = f"{name}-int8"
    return small in zoo.names and zoo.card(small).source.endswith(zoo.card(name).sha256[:12])
