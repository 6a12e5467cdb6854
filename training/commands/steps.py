"""The commands profile and fit: the way from a zoo and inputs to a selector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selector.commands.completion import in_profile, one_of, tables_in_profile
from selector.commands.last_words import command
from selector.commands.options import (
    MY_BUNDLE,
    MY_FIT,
    MY_PROFILE,
    MY_ZOO,
    THIS_MACHINE,
    TRAINING_PANEL,
    UNCERTIFIED,
    CertifiedOption,
    DataOption,
    EnvironmentsOption,
    JobsOption,
    JsonOption,
    LatencyOption,
    ModelsOption,
    OutOption,
    ProfileOption,
    ProviderOption,
    SeedOption,
    SkipBadOption,
    ZooOption,
    asking_constraint,
    names_in,
    numbers_in,
)
from selector.commands.say import say
from selector.commands.tables import table
from training.certificates.choice import CertificateTest
from training.commands.labelled_images import load_data
from training.fitting.options import FitOptions, PolicyKind
from training.routing.commands import (
    MeanCostOption,
    QuantileCostOption,
    fit_router,
    refuse_costs,
)
from training.routing.commands import register as register_outcomes
from zoo.errors import DataError

if TYPE_CHECKING:
    from training.search.comparisons import CandidateComparison

SPLITS = ("fit", "tune", "certify", "test")
DEFAULTS = FitOptions()

RequiredOption = Annotated[
    float | None,
    typer.Option("--precision", help="Required probability of a right answer, in (0, 1). Default: 0.95."),
]
AccuracyOption = Annotated[float | None, typer.Option("--accuracy", help="Another name for --precision.")]


def profile(
    data: DataOption,
    zoo: ZooOption = MY_ZOO,
    out: OutOption = MY_PROFILE,
    environments: EnvironmentsOption = "",
    split: Annotated[str, typer.Option(help="Shares, such as fit=0.4,tune=0.1,certify=0.25,test=0.25.")] = "",
    batch_size: Annotated[int, typer.Option(min=1, help="Images per inference, fewer if large.")] = 64,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads, one a batch. Default: one a core that may be used; of each worker with --ray: 1.",
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away a profile of other images or splits.")
    ] = False,
    skip_bad: SkipBadOption = False,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS|local",
            help="Spread the work over a cluster of Ray: HOST:PORT of its head, or local.",
        ),
    ] = None,
    provider: ProviderOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Run every model over labelled images once, and keep what each answered.

    Interrupted, the same command continues; after a model was added, only that one runs.
    Example: zooselect profile --data photos/ --zoo my-zoo
    """
    import msgspec

    from training.data.splits import Splits
    from training.outcomes.accuracy import profiled_accuracy
    from training.outcomes.profile import profile as run
    from zoo.models.zoo import Zoo
    from zoo.providers import CPU, Provider

    shares = numbers_in(
        split,
        SPLITS,
        lambda part: DataError(
            f"--split: expected shares such as fit=0.5,tune=0.1,certify=0.2,test=0.2, got {part!r}."
        ),
    )
    opened = Zoo.open(zoo)
    images = load_data(data, environments=environments, skip_bad=skip_bad, seed=seed, kind=opened.kind)
    record = run(
        opened,
        images,
        out,
        splits=Splits(seed=seed, **shares),
        batch_size=batch_size,
        threads=threads,
        restart=restart,
        progress=not as_json,
        ray=ray,
        provider=Provider.of(provider or CPU),
    )
    if as_json:
        say(msgspec.json.encode(record).decode())
        return
    table_path = out / "latency" / THIS_MACHINE.name
    at = None if out == MY_PROFILE else table_path
    found = profiled_accuracy(out, record)
    if found is not None:
        rows = [[name, f"{share:.1%}"] for name, share in found.models.items()]
        say(table(["model", "right"], rows))
        say(f"of {found.samples:,} samples; the test samples are left out")
        if found.near_chance:
            say(
                f"warning: no better than always answering {found.commonest!r} ({found.chance:.1%} right): "
                f"{', '.join(found.near_chance)}. Check the order of their classes and their preprocessing, "
                "or remove them from the zoo.",
                err=True,
            )
    say(
        f"{record.samples:,} samples × {len(record.models)} models in {out}"
        + (f" ({record.skipped} unreadable images left out)" if record.skipped else "")
        + f". Next: {command('bench', zoo, out=at, provider=provider)}, then "
        + command("fit", **_unless_usual(zoo=zoo, profile=out, latency=table_path))
    )


@asking_constraint(
    precision=RequiredOption,
    accuracy=AccuracyOption,
    mean_cost=MeanCostOption,
    quantile_cost=QuantileCostOption,
)
def fit(
    *,
    asked: dict[str, Any],
    zoo: ZooOption = MY_ZOO,
    profile: ProfileOption = MY_PROFILE,
    latency: LatencyOption = THIS_MACHINE,
    costs_of: Annotated[
        str | None,
        typer.Option(
            help="Instead of --latency: the name of a latency table in the profile.",
            autocompletion=one_of(tables_in_profile),
        ),
    ] = None,
    out: OutOption = MY_FIT,
    network: Annotated[
        str | None,
        typer.Option(
            "--network",
            help="How models on servers are reached: wifi, 4g, 5g, none, or a network table of 'zooselect "
            "bench --network'. Default: as they were timed.",
        ),
    ] = None,
    raw_stays: Annotated[
        bool,
        typer.Option("--raw-stays", help="Leave out models to which the image itself is sent; cuts stay."),
    ] = False,
    policy: Annotated[
        PolicyKind,
        typer.Option(
            help="input: decide from the image alone; cascade: run cheap, escalate; probe: run cheap, "
            "then go on to any other; auto: compare."
        ),
    ] = DEFAULTS.policy,
    models: ModelsOption = "",
    delta: Annotated[
        float, typer.Option(help="Allowed probability that a certificate is wrong.")
    ] = DEFAULTS.delta,
    max_bytes: Annotated[
        int | None, typer.Option(help="Choose models of at most so many bytes in all.", min=1)
    ] = DEFAULTS.max_bytes,
    top_k: Annotated[
        int, typer.Option(help="Right is an answer with the label among its k most probable classes.")
    ] = DEFAULTS.top_k,
    no_labels: Annotated[
        bool,
        typer.Option("--no-labels", help="Right is what the dearest model says, whatever the label."),
    ] = DEFAULTS.agree_with_reference,
    certificate: Annotated[
        CertificateTest,
        typer.Option(
            help="Test of a precision. control-variate: proves more, where three models or more and enough "
            "fit and tune samples allow it; binomial: exact given these; auto: by those numbers."
        ),
    ] = DEFAULTS.certificate,
    environment: Annotated[
        str | None,
        typer.Option(
            help="Fit and certify for images of this environment only. Default: all in the profile.",
            autocompletion=one_of(in_profile),
        ),
    ] = DEFAULTS.environment,
    require_certified: CertifiedOption = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Replace a certified selector even by one that is not."),
    ] = False,
    list_levels: Annotated[
        bool,
        typer.Option("--list", help="Write nothing; print which levels could be certified, at what time."),
    ] = False,
    jobs: JobsOption = None,
    seed: SeedOption = DEFAULTS.seed,
    as_json: JsonOption = False,
) -> None:
    """Learn which model is enough for which input, and prove the precision on held-out samples.

    A fit for another constraint on the same profile takes a small part of the time of the first.
    Example: zooselect fit --precision 0.95
    """
    import msgspec

    from training.evaluation.busy import busy_fit, busy_warning
    from training.evaluation.findings import alternatives, certified_levels, explain_uncertified, proven_by
    from training.fitting.costs import costs_table
    from training.fitting.fit import fit as run
    from training.fitting.fit import fit_nearest
    from training.fitting.fitted import holds_certified, save_fit
    from training.outcomes.table_profile import is_table
    from zoo.models.cuts import keeping_images
    from zoo.models.zoo import Zoo

    common: dict[str, Any] = {"policy": policy, "delta": delta, "certificate": certificate, "seed": seed}
    common["environment"] = environment
    if is_table(profile):
        fit_router(
            profile,
            out,
            asked,
            replace=replace,
            require_certified=require_certified,
            list_levels=list_levels,
            as_json=as_json,
            of_zoos={
                "--latency": latency != THIS_MACHINE,
                "--costs-of": costs_of is not None,
                "--network": network is not None,
                "--raw-stays": raw_stays,
                "--max-bytes": max_bytes is not None,
                "--top-k": top_k != DEFAULTS.top_k,
                "--no-labels": no_labels,
            },
            models=tuple(names_in(models)),
            **common,
        )
        return
    refuse_costs(asked, profile)
    options = FitOptions(**asked, **common, max_bytes=max_bytes, top_k=top_k, agree_with_reference=no_labels)
    chosen = names_in(models)
    whole = Zoo.open(zoo)
    some = whole.only(chosen) if chosen else whole
    if raw_stays:
        staying = keeping_images(some.cards)
        if not staying:
            raise DataError(
                f"expected a model that keeps the image on the device, got only {', '.join(some.names)}. "
                "Add one that runs here, cut one (zooselect zoo cut), or leave out --raw-stays."
            )
        some = some.only(staying)
    file = latency if costs_of is None or latency != THIS_MACHINE else None
    table = costs_table(profile, file, costs_of)
    busy = busy_warning(table, some.names, zoo=zoo, profile=profile)
    if busy:
        say(busy, err=True)
    fitted = run(profile, some, table, options, network=network, jobs=jobs, progress=not as_json)
    if busy_fit(fitted) and not options.constraint.on_time:  # else it is said with what is not certified
        say(f"warning: {busy_fit(fitted)}", err=True)
    if list_levels:
        found = fitted.certified(options.constraint.kind)
        say(msgspec.json.encode(found).decode() if as_json else certified_levels(fitted, options.constraint))
        return
    proven = fitted.certificate()
    kept_before = None if replace or proven is not None else holds_certified(out)
    if kept_before is None:
        save_fit(fitted, out, replace=True)
    if as_json:
        say(msgspec.json.encode(fitted.record).decode())
    else:
        say(f"policy: {fitted.policy.kind}, {' → '.join(fitted.policy.models)}")
        for item in _best_first(fitted.record.comparisons, budget=fitted.record.bundle.default.is_budget):
            say(
                f"  {item.accuracy:.1%} at {item.mean_ms:.3f} ms in cross-validation: {item.label}, "
                f"{' → '.join(item.models)}" + (" (chosen)" if item.chosen else "")
            )
        kept = [item.name for item in fitted.record.features if item.kept]
        if kept:
            say(f"features kept: {len(kept)} of {len(fitted.record.features)}: {', '.join(kept)}")
        if proven is not None:
            say(
                f"certified: {proven.constraint} at {proven.confidence:.0%} confidence "
                f"({proven.accuracy:.1%} of {proven.samples} certify samples right, "
                f"{proven.mean_ms:.3f} ms{', ' if proven.sends else ''}{proven.sends})"
            )
            if proven.test is not None:
                say(proven_by(fitted, proven))
        if kept_before is None:
            judged = command("evaluate", **_unless_usual(fit=out, profile=profile, zoo=zoo))
            exported = command("export", **_unless_usual(fit=out, zoo=zoo))
            say(f"Written to {out}. Next: {judged}, then {exported}")
    if proven is None:
        asked_for = fitted.record.bundle.default
        say(explain_uncertified(fitted, asked_for), err=True)
        again = command(
            "fit",
            **_unless_usual(zoo=zoo, profile=profile, latency=latency),
            costs_of=costs_of,
            network=network,
            out=None if out == MY_FIT else out,
            policy=None if policy == "auto" else policy,
            models=models,
            delta=None if delta == DEFAULTS.delta else delta,
            max_bytes=max_bytes,
            top_k=None if top_k == 1 else top_k,
            no_labels=no_labels,
            certificate=None if certificate == DEFAULTS.certificate else certificate,
            environment=environment,
            seed=seed or None,
        )
        nearest = fit_nearest(fitted, profile, some, table, options, network=network, jobs=jobs)
        instead = alternatives(fitted, asked_for, again=again, nearest=nearest)
        if instead:
            say(instead, err=True)
        # of the policy that a device with all models follows
        held = [c.constraint for c in fitted.alternatives(asked_for) if fitted.certificate(c.constraint)]
        if held and kept_before is None:
            one = fitted.record.bundle.kind.noun.upper()
            asking = command("predict", MY_BUNDLE, one, **{held[0].kind: f"{held[0].level:g}"})
            say(
                f"To have it without another fit, from what was written to {out}: "
                f"{command('export', **_unless_usual(fit=out, zoo=zoo))}, then {asking}",
                err=True,
            )
        if kept_before is not None:
            say(
                f"Nothing was written: {out} keeps the selector that is certified for {kept_before}. "
                "To replace it by this one, add --replace; or name another folder with --out.",
                err=True,
            )
        if require_certified:
            raise typer.Exit(UNCERTIFIED)


def _unless_usual(**folders: Path) -> dict[str, Path]:
    """The folders that are not the ones a command takes by default."""
    usual = {"zoo": MY_ZOO, "profile": MY_PROFILE, "fit": MY_FIT, "latency": THIS_MACHINE}
    return {name: path for name, path in folders.items() if path != usual[name]}


def _best_first(rows: Sequence[CandidateComparison], *, budget: bool) -> list[CandidateComparison]:
    """First those that reach what is asked, the cheapest or within a budget the most accurate first."""

    def key(row: CandidateComparison) -> tuple[bool, float, float]:
        by_time = row.reaches and not budget
        order = (row.mean_ms, -row.accuracy) if by_time else (-row.accuracy, row.mean_ms)
        return (not row.reaches, *order)

    return sorted(rows, key=key)


def register(app: typer.Typer) -> None:
    """Add the commands of this file to the command line."""
    register_outcomes(app)
    for step in (profile, fit):
        app.command(rich_help_panel=TRAINING_PANEL)(step)
