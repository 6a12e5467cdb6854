"""Findings in words: what an evaluation says, for reports and terminals."""

from __future__ import annotations

from collections.abc import Sequence

from training.cascade import accuracy_to_certify
from training.certify import samples_needed
from training.evaluation import MethodRow
from training.fitted import Fitted


def subtitle(fitted: Fitted, samples: int, precision: float) -> str:
    """One line under the title."""
    bundle = fitted.record.bundle
    device = bundle.costs_ms()
    return (
        f"{samples:,} test images nobody looked at before, {len(bundle.models)} models, "
        f"device {device.device} ({device.threads} thread{'s' if device.threads > 1 else ''}), "
        f"asked precision {precision:g}"
    )


def facts(fitted: Fitted, samples: int, precision: float, *, wall_clock: bool) -> list[tuple[str, str]]:
    """Label and value of what a reader wants to know about the run."""
    bundle = fitted.record.bundle
    certificate = fitted.certificate(precision)
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
            "wall-clock, interleaved; the line in the plot is added up from the latency table"
            if wall_clock
            else f"added up from the latency table of {costs.device}",
        ),
    ]
    if certificate is None:
        lines.append(("Certificate", f"none for {precision:g}: the reference model answers"))
    else:
        lines.append(
            (
                "Certificate",
                f"right with probability ≥ {certificate.precision:g} at {certificate.confidence:.0%} "
                f"confidence ({certificate.right} of {certificate.samples} right, "
                f"p = {certificate.p_value:.2g})",
            )
        )
    if costs.selector_ms:
        lines.append(("Features + scores", f"{costs.selector_ms * 1e3:.0f} µs an image"))
    for item in fitted.record.comparisons:
        state = "reaches" if item.reaches_target else "does not reach"
        lines.append(
            (
                f"Cross-validated {item.kind}{' (chosen)' if item.chosen else ''}",
                f"{item.accuracy:.1%} at {item.mean_ms:.3g} ms; {state} the "
                f"{fitted.record.target_accuracy:.1%} that a certificate asks for",
            )
        )
    return lines


def notes(fitted: Fitted, rows: Sequence[MethodRow], precision: float) -> list[str]:
    """What the rows mean, in sentences."""
    sentences = []
    ours = next(row for row in rows if row.kind == "ours")
    enough = [row for row in rows if row.kind == "single" and row.accuracy >= precision]
    cheapest = min(enough, key=lambda row: row.mean_ms, default=None)
    if fitted.certificate(precision) is None:
        sentences.append(explain_uncertified(fitted, precision))
    if cheapest is None:
        sentences.append(f"No single model reaches {precision:g} on these test images.")
    elif ours.mean_ms < cheapest.mean_ms:
        sentences.append(
            f"The selector takes {ours.mean_ms / cheapest.mean_ms:.0%} of the time of {cheapest.name}, "
            f"the cheapest single model that reaches {precision:g} here."
        )
    else:
        sentences.append(
            f"The selector is no faster than {cheapest.name}, the cheapest single model that reaches "
            f"{precision:g} here ({ours.mean_ms:.3g} against {cheapest.mean_ms:.3g} ms). The single "
            "model has no certificate; more certify samples would let the selector be less careful."
        )
    return sentences


def explain_uncertified(fitted: Fitted, precision: float) -> str:
    """Why `precision` is not certified, and what can be."""
    bundle = fitted.record.bundle
    highest = fitted.highest_certified()
    samples = bundle.calibration.certify
    needed = accuracy_to_certify(precision, samples, delta=fitted.record.delta)
    can = f"the highest that can is {highest:g}" if highest is not None else "no precision above 0.5 can"
    text = (
        f"Precision {precision:g} cannot be certified with {samples} certify samples: {needed:.1%} of "
        f"them would have to be right; {can}. The reference model {bundle.reference} answers "
        "instead, uncertified."
    )
    best = max((item.accuracy for item in fitted.record.comparisons), default=0.0)
    more = samples_needed(best, precision, delta=fitted.record.delta)
    if more is not None and more > samples:
        text += (
            f" At the accuracy seen in cross-validation ({best:.1%}) about {more:,} certify samples would do."
        )
    elif more is None:
        text += f" The best accuracy seen in cross-validation is {best:.1%}: a better model is needed."
    return text
