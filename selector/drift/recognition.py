"""Recognition: which variant of a task recent inputs look like, by what variants say of theirs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from selector.drift.monitor import RECENT_INPUTS, DriftStatus, evidence
from zoo.releases.release import BundleRelease

# Inputs after an alarm before anything is told: older ones may be of the environment before, and fewer do not
# tell environments apart that differ little.
MIN_INPUTS_AFTER_ALARM = 64
MAX_EVIDENCE_GAP = math.log(10)  # evidence that does not tell two variants apart


@dataclass(frozen=True)
class Likeness:
    """How much recent inputs speak against one variant."""

    release: BundleRelease
    log_evidence: float
    fits: bool


def likenesses(status: DriftStatus, variants: Iterable[BundleRelease]) -> tuple[Likeness, ...]:
    """How much the latest inputs speak against each variant, least first.

    Only inputs after the alarm count. A variant fits where the evidence against it stays below that of an
    alarm. Variants without a drift reference are left out, and all of them where there are few inputs.

    Parameters
    ----------
    status
        Of the variant that answers.
    """
    if min(status.since, len(status.recent)) < MIN_INPUTS_AFTER_ALARM:
        return ()
    recent = np.asarray(status.recent[-status.since :], np.float32)
    found = []
    for release in variants:
        if release.drift is None or not set(release.drift.names) & set(status.names):
            continue
        against = evidence(release.drift, status.names, recent)
        found.append(Likeness(release, against, against < math.log(1 / release.drift.alpha)))
    return tuple(sorted(found, key=lambda one: (one.log_evidence, one.release.name)))


def recognised(
    status: DriftStatus,
    variants: Iterable[BundleRelease],
    *,
    active: str,
    accuracy: Callable[[BundleRelease], float],
) -> BundleRelease | None:
    """The variant to go on with after an alarm; None: the inputs look like none of them.

    Among those that the inputs do not tell apart, two specialists of one environment for instance, the most
    accurate is taken, then the newest version, then the first by name. The variant that answers has to fit
    better than others, as it raised the alarm: on all inputs that are remembered, which all came after the
    alarm, without any evidence.

    Parameters
    ----------
    active
        Name of the variant that answers.
    accuracy
        Of a variant's best model.
    """
    found = [one for one in likenesses(status, variants) if one.fits]
    if found and found[0].release.name == active:
        return found[0].release if _is_back(status, found[0].release) else None
    close = [
        one.release
        for one in found
        if one.log_evidence <= found[0].log_evidence + MAX_EVIDENCE_GAP and one.release.name != active
    ]
    return min(close, key=lambda one: (-accuracy(one), -one.version, one.name), default=None)


def _is_back(status: DriftStatus, active: BundleRelease) -> bool:
    assert active.drift is not None
    recent = np.asarray(status.recent, np.float32)
    enough = min(status.since, len(recent)) >= RECENT_INPUTS
    return enough and evidence(active.drift, status.names, recent) < 0
