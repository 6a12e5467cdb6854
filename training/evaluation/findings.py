"""Findings in words: what an evaluation says, for reports and terminals."""

from __future__ import annotations

from collections.abc import Sequence

from selector.bundle.certificate import Certificate
from selector.commands.tables import table
from selector.policies.constraint import Constraint
from training.certificates.aim import accuracy_to_certify
from training.certificates.certify import samples_needed
from training.evaluation.busy import busy_fit
from training.evaluation.records import MethodRow
from training.fitting.fitted import MOST_ALTERNATIVES, Fitted, ever_cheaper


def subtitle(fitted: Fitted, samples: int, asked: Constraint) -> str:
    """One line under the title."""
    bundle = fitted.record.bundle
    device = bundle.costs_ms()
    return (
        f"{samples:,} test images nobody looked at before, {len(bundle.models)} models, "
        f"device {device.device} ({device.threads} thread{'s' if device.threads > 1 else ''}), "
        f"asked: {asked}"
    )


def facts(fitted: Fitted, samples: int, asked: Constraint, *, wall_clock: bool) -> list[tuple[str, str]]:
    """Label and value of what a reader wants to know about the run."""
    bundle = fitted.record.bundle
    certificate = fitted.certificate(asked)
    costs = bundle.costs_ms()
    lines = [
        ("Policy", f"{fitted.policy.kind}: {' → '.join(fitted.policy.models)}"),
        ("Reference model", bundle.reference),
        (
            "Test / certify / fit + tune samples",
            f"{samples:,} / {bundle.calibration.certify:,} / "
            f"{bundle.calibration.fit + bundle.calibration.tune:,}",
        ),
        (
            "Times",
            "wall-clock, interleaved: points, line and figures alike"
            if wall_clock
            else f"added up from the latency table of {costs.device}: points, line and figures alike",
        ),
    ]
    if certificate is None:
        alone = "fastest" if asked.on_time else "most accurate local" if asked.on_network else "reference"
        lines.append(("Certificate", f"none for {asked}: the {alone} model answers"))
    else:
        lines.append(
            (
                "Certificate",
                f"{certificate.constraint} at {certificate.confidence:.0%} confidence "
                f"({certificate.samples:,} samples: {certificate.accuracy:.1%} right, "
                f"{certificate.mean_ms:.3g} ms{', ' if certificate.sends else ''}{certificate.sends}; "
                f"p = {certificate.p_value:.2g})",
            )
        )
        if certificate.test is not None:
            lines.append(("Test", proven_by(fitted, certificate)))
    calibration = bundle.calibration
    if calibration.environment is not None:
        lines.append(("Environment", f"{calibration.environment}: no other was fitted or judged"))
    lines += _without_server(fitted, asked)
    if calibration.agree_with is not None:
        lines.append(("A right answer", f"is what {calibration.agree_with} says"))
    elif calibration.top_k > 1:
        lines.append(("A right answer", f"has the label among its {calibration.top_k} most probable classes"))
    if costs.selector_ms:
        lines.append(("Features + scores", f"{costs.selector_ms * 1e3:.0f} µs an image"))
    return lines


def _without_server(fitted: Fitted, asked: Constraint) -> list[tuple[str, str]]:
    """What counts where no server is reached, or none may be asked; nothing in a zoo without one."""
    bundle = fitted.record.bundle
    if len(bundle.local) == len(bundle.models):
        return []
    index = bundle.policy_for(bundle.local)
    if index is None:
        return [("Without a server", "nothing answers: no model runs on the device")]
    proven = fitted.certificate(asked, policy=index)
    way = " → ".join(bundle.policies[index].models)
    if proven is None:
        return [("Without a server", f"{way}: nothing is certified for {asked}")]
    return [("Without a server", f"{way}: {proven.constraint}, {proven.accuracy:.1%} of the samples right")]


def notes(
    fitted: Fitted, rows: Sequence[MethodRow], asked: Constraint, *, times_known: bool = True
) -> list[str]:
    """What the rows mean, in sentences; without times where those are not to be compared."""
    sentences = []
    if fitted.certificate(asked) is None:
        sentences.append(explain_uncertified(fitted, asked))
    ours = next(row for row in rows if row.kind == "ours")
    singles = [row for row in rows if row.kind == "single"]
    if not times_known:
        return sentences
    if asked.on_time:
        within = [
            row for row in singles if (row.mean_ms if asked.kind == "mean_ms" else row.p95_ms) <= asked.level
        ]
        best = max(within, key=lambda row: row.accuracy, default=None)
        if best is None:
            sentences.append(f"No single model keeps {asked} on these test images.")
        else:
            sentences.append(
                f"The selector is right on {ours.accuracy:.1%}; {best.name}, the most accurate single model "
                f"that keeps {asked}, on {best.accuracy:.1%}."
            )
        return sentences
    if asked.on_network:
        return sentences
    goal = asked.level
    if asked.kind == "max_drop":
        goal = (
            next(row.accuracy for row in singles if row.name == fitted.record.bundle.reference) - asked.level
        )
    enough = [row for row in singles if row.accuracy >= goal]
    cheapest = min(enough, key=lambda row: row.mean_ms, default=None)
    if cheapest is None:
        sentences.append(f"No single model reaches {goal:.3g} on these test images.")
    elif ours.mean_ms < cheapest.mean_ms:
        sentences.append(
            f"The selector takes {ours.mean_ms / cheapest.mean_ms:.0%} of the time of {cheapest.name}, "
            f"the cheapest single model that reaches {goal:.3g} here."
        )
    else:
        alone = (
            "is certified on its own, too."
            if certified_alone(fitted, asked, cheapest.name)
            else "has no certificate; more certify samples would let the selector be less careful."
        )
        sentences.append(
            f"The selector is no faster than {cheapest.name}, the cheapest single model that reaches "
            f"{goal:.3g} here ({ours.mean_ms:.3g} against {cheapest.mean_ms:.3g} ms). "
            f"The single model {alone}"
        )
    return sentences


def certified_alone(fitted: Fitted, asked: Constraint, name: str) -> bool:
    """Whether a model has a certificate that covers a constraint without any other model."""
    return any(
        policy.models == (name,) and fitted.certificate(asked, policy=i) is not None
        for i, policy in enumerate(fitted.record.bundle.policies)
    )


def only_model(fitted: Fitted, asked: Constraint) -> str | None:
    """The model that answers every input under a constraint, with no other running before it, or None."""
    if fitted.certificate(asked) is None:
        return fitted.record.bundle.reference
    return fitted.policy.models[0] if len(fitted.policy.models) == 1 else None


def alternatives(
    fitted: Fitted, asked: Constraint, *, again: str = "zooselect fit", nearest: Fitted | None = None
) -> str:
    """What is certified instead of a constraint, as a table, and how to ask for it; empty if nothing is.

    Parameters
    ----------
    again
        The command that fits, with all its options but the constraint.
    nearest
        A fit for the nearest level: what it certifies counts as well; see
        :func:`training.fitting.fit.fit_nearest`.
    """
    fits = [fitted] if nearest is None else [fitted, nearest]
    found = [(one, c) for one in fits for c in one.alternatives(asked)]
    if not found:
        return ""
    found.sort(key=lambda pair: (abs(pair[1].constraint.level - asked.level), pair[1].mean_ms))
    if not asked.is_budget:
        found = ever_cheaper(found, key=lambda pair: pair[1].mean_ms)
    closest = f"{_option(asked)} {found[0][1].constraint.level:g}"
    return (
        _certificates_table(found[:MOST_ALTERNATIVES], "certified instead")
        + f"\nTo have the nearest: {again} {closest}."
        + "\nThat looks for what suits this level best, and tests it anew: it is certified when it passes."
    )


def certified_levels(fitted: Fitted, asked: Constraint) -> str:
    """Every level of the kind of a constraint that could be certified, with its time, as a table."""
    found = fitted.certified(asked.kind)
    if not found:
        return explain_uncertified(fitted, asked)
    return (
        _certificates_table([(fitted, c) for c in found], "could be certified")
        + f"\nThese are the policies that suit {asked}; 'zooselect fit {_option(asked)} LEVEL' may find a "
        f"faster one for its level. A line has confidence {1 - fitted.record.delta:.0%} for whoever decided "
        "on it before looking; a line that was picked from the table has less."
    )


def _option(asked: Constraint) -> str:
    return f"--{asked.kind.replace('_', '-')}"


def _certificates_table(found: Sequence[tuple[Fitted, Certificate]], heading: str) -> str:
    rows = [
        [
            f"{_option(c.constraint)} {c.constraint.level:g}",
            f"{c.accuracy:.1%}",
            f"{c.mean_ms:.3f}",
            " → ".join(fitted.record.bundle.policies[c.policy].models),
        ]
        for fitted, c in found
    ]
    fitted, first = found[0]
    alone = fitted.record.bundle.alone(first.constraint)
    rows.append(["(not certified)", "", f"{fitted.record.bundle.alone_ms(alone):.3f}", alone])
    return table([heading, "right", "mean ms", "models"], rows, align="lrrl")


def proven_by(fitted: Fitted, certificate: Certificate) -> str:
    """By which test a precision was proven, why that one, and what it holds over, in one sentence."""
    reason = fitted.record.bundle.calibration.test_reason
    why = f" ({reason})" if reason and certificate.environment is None else ""
    if certificate.test == "control-variate":
        return f"proven by a control variate{why}: over the draw of all labelled samples"
    return f"proven by the exact binomial test{why}: given the fit and tune samples"


def explain_uncertified(fitted: Fitted, asked: Constraint) -> str:
    """Why a constraint is not certified, and what can be."""
    bundle = fitted.record.bundle
    samples = bundle.calibration.certify
    can = fitted.certified_levels(asked.kind)
    text = f"Not certified with {samples:,} certify samples: {asked}. "
    if asked.kind == "precision":
        needed = accuracy_to_certify(asked.level, samples, delta=fitted.record.delta)
        text += f"{needed:.1%} of them would have to be right; " + (
            f"the highest precision that can be certified is {can[-1]:g}. "
            if can
            else "no precision above 0.5 can. "
        )
    elif can:
        text += f"The nearest that is: {Constraint(kind=asked.kind, level=can[0])}. "
    else:
        text += "Nothing of that kind is. "
    if asked.on_time:
        if not bundle.costs_ms().paths:
            text += "The latency table has no times of single runs: measure it again with 'zooselect bench'. "
        busy = busy_fit(fitted)
        text += f"{busy} " if busy else ""
        return text + f"The fastest model {bundle.alone(asked)} answers instead, uncertified."
    if asked.on_network:
        return (
            text
            + f"The most accurate model on the device {bundle.alone(asked)} answers instead, uncertified."
        )
    text += f"The reference model {bundle.reference} answers instead, uncertified."
    if asked.kind != "precision":
        return text
    best = max((item.accuracy for item in fitted.record.comparisons), default=0.0)
    more = samples_needed(best, asked.level, delta=fitted.record.delta)
    if more is not None and more > samples:
        text += (
            f" At the accuracy seen in cross-validation ({best:.1%}) about {more:,} certify samples would do."
        )
    elif more is None:
        text += f" The best accuracy seen in cross-validation is {best:.1%}: a better model is needed."
    return text
