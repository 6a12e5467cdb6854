"""The command plan: what has to move to a device, how long it takes, and which models are worth it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selector.commands.completion import in_zoo, one_of
from selector.commands.options import DEVICE_PANEL, MY_ZOO, BudgetOption, JsonOption, ZooOption
from selector.commands.say import say
from selector.commands.tables import table
from zoo.errors import CardError, DataError

if TYPE_CHECKING:
    from selector.worth.best_set import TaskWorth, Worth
    from zoo.client.plan import Plan
    from zoo.client.rates import RateRow
    from zoo.releases.release import Index
    from zoo.store.installed import Installed

EMPTY = "-"
_OPTIONS = {"models": "--model", "bundles": "--bundle", "raw_stays": "--raw-stays"}


def plan(
    context: typer.Context,
    store: Annotated[
        str | None, typer.Argument(help="Folder of a device's store; - for a device that holds nothing.")
    ] = None,
    repo: Annotated[Path | None, typer.Option(help="Folder of a publisher.")] = None,
    models: Annotated[
        list[str] | None, typer.Option("--model", help="A wanted model; repeat for more. Default: all.")
    ] = None,
    bundles: Annotated[
        list[str] | None, typer.Option("--bundle", help="A wanted bundle; repeat for more. Default: all.")
    ] = None,
    budget: BudgetOption = None,
    rate: Annotated[
        str,
        typer.Option(
            help="Rate of the network, in Mbit/s; for --split several, as in 1,10,100. Default: as it was "
            "measured last."
        ),
    ] = "",
    deadline: Annotated[float | None, typer.Option(help="Seconds within which all is to arrive.")] = None,
    deadlines: Annotated[
        str, typer.Option(help="Deadlines of the table of rates, in seconds.")
    ] = "1,5,10,60",
    split: Annotated[
        str | None,
        typer.Option(
            help="Instead: where to cut this model of a zoo between a device and a server.",
            autocompletion=one_of(in_zoo),
        ),
    ] = None,
    zoo: ZooOption = MY_ZOO,
    rtt: Annotated[str, typer.Option(help="--split: round trips, in ms, as in 10,50.")] = "20",
    slower: Annotated[
        str,
        typer.Option(help="--split: how many times slower the device is than the one measured, as in 1,8."),
    ] = "1",
    raw_stays: Annotated[
        bool, typer.Option("--raw-stays", help="--split: the image itself must not leave the device.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what has to be fetched and evicted for some models, how long it takes and what is worth it.

    Nothing is fetched, and signatures are not checked: this is for planning. Tensors that models share count
    once. With --budget, the models that gain most within it are chosen for each bundle's own constraint.

    With --split, the best place to cut a model is found from what 'zooselect zoo cut' measured; all of it on
    the device and all of it on the server are among the ways. Examples: zooselect plan - --repo published
    --budget 20 --rate 10 --deadline 5; zooselect plan --split resnet56 --rate 1,10,100 --rtt 20 --slower 8
    """
    _check_given(context, split)
    if split is not None:
        from selector.commands.network.split import plan_split

        plan_split(split, zoo, rate=rate, rtt=rtt, slower=slower, raw_stays=raw_stays, as_json=as_json)
        return
    assert store is not None
    assert repo is not None
    import msgspec

    from selector.worth.best_set import worth
    from zoo.client.plan import plan as planned
    from zoo.client.rates import rate_table
    from zoo.releases.catalogue import index_from_folder

    limits = _numbers(deadlines)
    index = index_from_folder(repo)
    installed, usage, measured = _device(store)
    everything = not models and not bundles
    budget_bytes = None if budget is None else int(budget * 1e6)
    found = planned(
        tuple(index.models) if everything else models or (),
        index,
        installed,
        bundles=tuple(index.bundles) if everything else bundles or (),
        budget_bytes=budget_bytes,
        rate_bytes_per_s=_rate(rate) * 1e6 / 8 if rate else measured,
        usage=usage,
        deadline_s=deadline,
    )
    rates = rate_table(index, limits)
    best = None
    if budget_bytes is not None:
        best = worth(_tasks(repo, index), index, budget_bytes=budget_bytes, held=installed.blobs)
    if as_json:
        facts = {
            "plan": msgspec.to_builtins(found)
            | {"missing_bytes": found.missing_bytes, "in_time": found.in_time},
            "deadlines_s": limits,
            "rates": msgspec.to_builtins(rates),
            "worth": None if best is None else msgspec.to_builtins(best) | {"gain_per_mb": best.gain_per_mb},
        }
        say(msgspec.json.encode(facts).decode())
        return
    _show_plan(found)
    _show_rates(rates, limits)
    if best is not None:
        _show_worth(best)


def _check_given(context: typer.Context, split: str | None) -> None:
    """Refuse what the other kind of plan takes, and ask for what this one needs."""
    given = {
        name
        for name in context.params
        if (source := context.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
    }
    of_split = {"zoo", "rtt", "slower", "raw_stays"}
    wrong = sorted(given & of_split if split is None else given - of_split - {"split", "rate", "as_json"})
    if wrong:
        options = ", ".join("STORE" if name == "store" else _OPTIONS.get(name, f"--{name}") for name in wrong)
        which = "only with --split" if split is None else "not with --split"
        raise DataError(f"expected these {which}: {options}. Leave them out, or plan twice.")
    missing = {"store": "STORE", "repo": "--repo"} if split is None else {"rate": "--rate"}
    for name, shown in missing.items():
        if name not in given:
            other = "" if split is not None else ", or --split NAME for cutting a model"
            raise DataError(f"expected {shown}, got none{other}. See zooselect plan --help.")


def _rate(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError(f"--rate: expected one number of Mbit/s such as 10, got {text!r}.") from None


def _device(store: str) -> tuple[Installed, dict[str, float], float | None]:
    from zoo.store.installed import INSTALLED_FILE, SCHEMA_VERSION, Installed
    from zoo.store.store import Store

    if store == EMPTY:
        return Installed(schema_version=SCHEMA_VERSION), {}, None
    if not (Path(store) / INSTALLED_FILE).is_file():
        raise CardError(
            f"expected the store of a device in {store}, got no {INSTALLED_FILE} there. "
            f"Check the path, or give {EMPTY} for a device that holds nothing."
        )
    opened = Store.open(store)
    return opened.installed, dict(opened.usage()), opened.rate_bytes_per_s


def _tasks(repo: Path, index: Index) -> list[TaskWorth]:
    from selector.bundle.bundle import decode_bundle
    from selector.worth.value import task_worth
    from zoo.releases.catalogue import read_blob

    tasks = []
    known = {name: one.accuracy for name, one in index.models.items() if one.accuracy is not None}
    for name, release in sorted(index.bundles.items()):
        bundle = decode_bundle(read_blob(repo, release.record), name=f"bundle {name!r}")
        tasks.append(task_worth(bundle, name=name, known=known))
    return tasks


def _show_plan(found: Plan) -> None:
    from zoo.client.rates import rate_text

    rows = [
        [
            item.name,
            item.kind,
            str(item.version),
            _mb(item.size_bytes),
            _mb(item.missing_bytes),
            "installed" if item.installed else "",
        ]
        for item in found.items
    ]
    say(table(["wanted", "kind", "version", "MB", "missing MB", ""], rows, "llrrrl"))
    shared = f"; {_mb(found.shared_bytes)} MB less than one by one" if found.shared_bytes else ""
    say(f"To fetch: {_mb(found.missing_bytes)} MB in {len(found.missing)} pieces{shared}.")
    if found.seconds is not None:
        late = {None: "", True: ", in time", False: f", too late for {found.deadline_s:g} s"}[found.in_time]
        say(f"At this rate: {found.seconds:.3g} s{late}.")
    if found.needed_bits_per_s is not None:
        say(f"Within {found.deadline_s:g} s: at least {rate_text(found.needed_bits_per_s)}.")
    if found.evict:
        say(f"To evict: {', '.join(found.evict)}, which frees {_mb(found.freed_bytes)} MB.")
    if not found.fits:
        assert found.budget_bytes is not None
        say(f"It does not fit: {_mb(found.peak_bytes)} MB are needed, {_mb(found.budget_bytes)} MB allowed.")


def _show_rates(rates: Sequence[RateRow], limits: Sequence[float]) -> None:
    say("\nMbit/s for a model to arrive in time, whole | to a device that holds all other models:")
    rows = [
        [row.name, _mb(row.size_bytes), _mb(row.own_bytes)]
        + [f"{a:.3g} | {b:.3g}" for a, b in zip(row.mbit_per_s, row.own_mbit_per_s, strict=True)]
        for row in rates
    ]
    say(table(["model", "MB", "not shared", *(f"in {limit:g} s" for limit in limits)], rows))


def _show_worth(best: Worth) -> None:
    say(
        f"\nWorth their bytes: {', '.join(best.models) or 'nothing'} for "
        f"{', '.join(best.bundles) or 'no bundle'}; {_mb(best.size_bytes)} MB, "
        f"{_mb(best.missing_bytes)} MB of it to fetch; gain {best.gain:.3g}"
        + ("." if best.exact else f", {best.bound:.3g} at most.")
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:.3f}" if size < 1e8 else f"{size / 1e6:.1f}"


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise DataError(f"expected seconds such as 1,5,10, got {text!r}.") from None


def register(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command(rich_help_panel=DEVICE_PANEL)(plan)
