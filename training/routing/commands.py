"""Commands for outcomes of a table: outcomes, and what fit, evaluate and export do with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selector.commands.last_words import command
from selector.commands.options import (
    MY_FIT,
    MY_PROFILE,
    TRAINING_PANEL,
    UNCERTIFIED,
    JsonOption,
    OutOption,
    SeedOption,
    names_in,
    numbers_in,
)
from selector.commands.say import say, say_prose
from selector.commands.tables import table
from training.routing.options import RouteOptions
from zoo.errors import DataError, PrecisionError

if TYPE_CHECKING:
    from training.outcomes.table_outcomes import TableOutcomes
    from training.routing.fitted import FittedRouter

MY_ROUTER = Path("my-router")
SPLITS = ("fit", "tune", "certify", "test")
ON_COST = ("mean_cost", "quantile_cost")

MeanCostOption = Annotated[
    float | None,
    typer.Option(
        "--mean-cost",
        help="Instead, with outcomes of a table: the best answers within this mean cost, in its unit.",
    ),
]
QuantileCostOption = Annotated[
    float | None,
    typer.Option(
        "--quantile-cost", help="Instead, with outcomes of a table: with 95 of 100 answers within this cost."
    ),
]


def outcomes(
    file: Annotated[Path, typer.Argument(help="Table: .parquet or .csv, one row an input.", metavar="FILE")],
    out: OutOption = MY_PROFILE,
    cost_unit: Annotated[
        str | None, typer.Option(help="Unit of the costs, such as usd. Default: what --costs says.")
    ] = None,
    costs: Annotated[
        Path | None,
        typer.Option(
            help='JSON with one cost for all answers of a model, such as {"small": 0.1, "large": 2}.'
        ),
    ] = None,
    models: Annotated[
        str, typer.Option("--models", help="Read only these models, separated by commas. Default: all.")
    ] = "",
    ignore: Annotated[str, typer.Option("--ignore", help="Columns to leave out, separated by commas.")] = "",
    layout: Annotated[
        str,
        typer.Option(help="wide: as below; routerbench: columns M and M|total_cost; long: a row an answer."),
    ] = "wide",
    tell_environment: Annotated[
        bool,
        typer.Option(
            "--tell-environment",
            help="The application will tell the environment of every input: it becomes features.",
        ),
    ] = False,
    split: Annotated[str, typer.Option(help="Shares, such as fit=0.4,tune=0.1,certify=0.25,test=0.25.")] = "",
    restart: Annotated[
        bool, typer.Option("--restart", help="Replace a profile of other outcomes or splits.")
    ] = False,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Read from a table what models answered elsewhere; fit, evaluate and export go on without a zoo.

    Columns: id; group, environment and label where there are any; feature.NAME; and of every model M:
    M.right (true,
    false or a quality from 0 to 1), M.score (any number that grows with confidence), M.logits, M.cost.
    Example: zooselect outcomes answers.csv --cost-unit usd
    """
    import msgspec

    from training.data.splits import Splits
    from training.outcomes.table import read_table
    from training.outcomes.table_checks import check_table
    from training.outcomes.table_profile import load_table_outcomes, store_table

    shares = numbers_in(
        split,
        SPLITS,
        lambda part: DataError(
            f"--split: expected shares such as fit=0.5,tune=0.1,certify=0.2,test=0.2, got {part!r}."
        ),
    )
    read = read_table(
        file,
        unit=cost_unit,
        costs=costs,
        models=names_in(models),
        ignore=names_in(ignore),
        layout=layout,
        told=tell_environment,
    )
    checked = check_table(read)
    record = store_table(checked, out, splits=Splits(seed=seed, **shares), restart=restart)
    for warning in checked.warnings:
        say(f"warning: {warning}.", err=True)
    if as_json:
        facts = {"left_out_with_gaps": checked.left_out, "warnings": list(checked.warnings)}
        say(json.dumps(facts | json.loads(msgspec.json.encode(record))))
        return
    kept = load_table_outcomes(out)
    say(_summary(kept, record.unit))
    say(
        f"{len(read):,} rows × {len(read.models)} models, {len(record.features)} features; of {len(kept):,} "
        "samples, without those of the test split"
    )
    if checked.left_out:
        say(f"{checked.left_out:,} rows are left out: some model lacks an outcome, a cost or a score there")
    for note in checked.notes:
        say_prose(note + ".")
    again = command("fit", profile=None if out == MY_PROFILE else out, max_drop=0.01)
    say(f"Written to {out}. Next: {again}")


def _summary(found: TableOutcomes, unit: str) -> str:
    """Accuracy and mean cost of every model, and of the best answer to every input."""
    accuracy, costs = found.accuracy(), found.mean_costs()
    rows = [
        [
            name,
            f"{accuracy[name]:.1%}",
            f"{costs[name]:.4g}",
            "yes" if found.scores[:, j].any() or found.combinable else "no",
        ]
        for j, name in enumerate(found.models)
    ]
    rows.sort(key=lambda row: float(row[2]))
    best = found.right.max(axis=1)
    cheapest = (found.paid + (found.right < best[:, None]) * 1e15).min(axis=1)
    rows.append(["(oracle)", f"{float(best.mean()):.1%}", f"{float(cheapest.mean()):.4g}", ""])
    head = "quality" if found.graded else "right"
    return table(["model", head, f"mean {unit}", "says how sure"], rows, "lrrl")


def refuse_costs(asked: Mapping[str, Any], profile: Path) -> None:
    """Raise :class:`PrecisionError` for budgets of cost where the profile is one of a zoo."""
    given = [name for name in ON_COST if name in asked]
    if given:
        raise PrecisionError(
            f"expected --mean-ms or --p95-ms with a profile of a zoo, got --{given[0].replace('_', '-')}, "
            f"which is for outcomes of a table; {profile} holds none. Read one with 'zooselect outcomes'."
        )


def fit_router(
    profile: Path,
    out: Path,
    asked: Mapping[str, Any],
    *,
    replace: bool,
    require_certified: bool,
    list_levels: bool,
    as_json: bool,
    of_zoos: Mapping[str, bool],
    **options: Any,
) -> None:
    """The command fit on outcomes of a table.

    Parameters
    ----------
    of_zoos
        Options that mean something for a zoo only → whether they were given.
    """
    import msgspec

    from training.routing.evaluation import certified_levels, explain_uncertified, proven
    from training.routing.fit import fit_table
    from training.routing.fitted import certified_before, save_router_fit

    for name, given in of_zoos.items():
        if given:
            raise DataError(
                f"expected no {name} with outcomes of a table, which have neither a zoo nor classes, got "
                "one. Leave it out."
            )
    levels = dict(asked)
    if "accuracy" in levels:
        levels["precision"] = levels.pop("accuracy")
    strange = sorted(set(levels) - {"precision", "max_drop", *ON_COST})
    if strange:
        raise PrecisionError(
            f"expected --precision, --max-drop, --mean-cost or --quantile-cost with outcomes of a table, got "
            f"--{strange[0].replace('_', '-')}. Ask for one of these."
        )
    chosen = RouteOptions(**levels, **options)
    fitted = fit_table(profile, chosen, progress=not as_json)
    if list_levels:
        found = [one for one in fitted.router.certificates if one.constraint.kind == chosen.constraint.kind]
        say(msgspec.json.encode(found).decode() if as_json else certified_levels(fitted, chosen.constraint))
        return
    certificate = fitted.certificate()
    kept = None if replace or certificate is not None else certified_before(out)
    if kept is None:
        save_router_fit(fitted, out, replace=True)
    if as_json:
        say(msgspec.json.encode(fitted.record).decode())
    else:
        _say_fit(fitted)
        if certificate is not None:
            say_prose(f"certified: {proven(fitted, chosen.constraint)}")
        if kept is None:
            where = {"fit": None if out == MY_FIT else out}
            judged = command("evaluate", **where, profile=None if profile == MY_PROFILE else profile)
            say(f"Written to {out}. Next: {judged}, then {command('export', **where, out=MY_ROUTER)}")
    if certificate is None:
        say(explain_uncertified(fitted, chosen.constraint), err=True)
        if kept is not None:
            say(
                f"Nothing was written: {out} keeps the router that is certified for {kept}. To replace it "
                "by this one, add --replace; or name another folder with --out.",
                err=True,
            )
        if require_certified:
            raise typer.Exit(UNCERTIFIED)


def _say_fit(fitted: FittedRouter) -> None:
    unit = fitted.router.unit
    say(f"policy: {fitted.policies[0].kind}, {' → '.join(fitted.policies[0].models)}")
    for item in fitted.record.comparisons:
        say(
            f"  {item.accuracy:.1%} at {item.mean_ms:.4g} {unit} in cross-validation: {item.label}, "
            f"{' → '.join(item.models)}" + (" (chosen)" if item.chosen else "")
        )
    kept = [item.name for item in fitted.record.features if item.kept]
    if kept:
        say(f"features kept: {len(kept)} of {len(fitted.record.features)}: {', '.join(kept)}")


def evaluate_router_fit(
    fit: Path, profile: Path, asked: Mapping[str, Any], *, report: Path, title: str, as_json: bool
) -> None:
    """The command evaluate on outcomes of a table."""
    import msgspec

    from selector.routing.constraint import route_constraint
    from training.reports.method_table import table as method_table
    from training.reports.page import render
    from training.routing.evaluation import evaluate_router
    from training.routing.fitted import load_router_fit

    levels = {("precision" if name == "accuracy" else name): level for name, level in asked.items()}
    strange = sorted(set(levels) - {"precision", "max_drop", *ON_COST})
    if strange:
        raise PrecisionError(
            f"expected --precision, --max-drop, --mean-cost or --quantile-cost with a router, got "
            f"--{strange[0].replace('_', '-')}. Ask for one of these."
        )
    evaluation = evaluate_router(load_router_fit(fit), profile, asked=route_constraint(**levels), title=title)
    render(evaluation, report)
    if as_json:
        say(msgspec.json.encode(evaluation).decode())
        return
    say(method_table(evaluation))
    for note in evaluation.notes:
        say_prose(note)
    say(f"Report: {report}. Next: {command('export', fit=None if fit == MY_FIT else fit, out=MY_ROUTER)}")


def export_router_fit(fit: Path, out: Path, *, as_json: bool) -> None:
    """The command export for a router."""
    from selector.routing.router import Router
    from training.routing.fitted import export_router, load_router_fit

    record = export_router(load_router_fit(fit), out)
    levels = Router.load(out).certified_precisions
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    if as_json:
        names = [model.name for model in record.models]
        say(
            json.dumps(
                {"router": str(out), "models": names, "certified_precisions": levels, "size_bytes": size}
            )
        )
        return
    can = f"{levels[0]:g} to {levels[-1]:g}" if levels else "none"
    say(
        f"{out}: {len(record.models)} models that your application runs, {size / 1e3:.1f} kB, certified "
        f"precisions {can}. Next, in Python: selector.Router.load({str(out)!r}); for other languages: "
        f"{command('route', out)}"
    )


def register(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command(rich_help_panel=TRAINING_PANEL)(outcomes)
