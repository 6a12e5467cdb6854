"""Drift: whether recent inputs could have come in any order with those that certificates were made on.

Every feature of an input is binned. Its place among the calibration samples and the inputs so far, ties
broken at random, is a conformal p-value; while all of them are exchangeable, these are independent and
uniform, however few calibration samples there are. Bets on them make martingales (conformal test
martingales: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005; Vovk and others,
Retrain or not retrain, 2021), and by Ville's inequality (1939) a martingale that begins with 1 ever reaches
1 / alpha with probability alpha at most. Nothing grows with the number of inputs.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from selector.drift.martingale import MAX_CAPITAL, Martingales, MartingaleState
from selector.drift.reference import Spread
from zoo.errors import BundleError
from zoo.releases.input_reference import MAX_FEATURES, InputReference, Number
from zoo.releases.input_reference import DriftFeature as DriftFeature

BLOCK_INPUTS = 6  # that are looked at together while nothing speaks for a change
RECENT_INPUTS = 128  # inputs whose features are kept

_SUSPECT = 3.0  # capital over that of the beginning from which on inputs are looked at one by one
_MAX_LOG_CAPITAL = math.log(MAX_CAPITAL)
_MIN_FEATURE = float(np.finfo(np.float32).min)
_MAX_LOG_ODDS = 1e30
_STAKE_SUM = 2.11  # a little more than the sum of 1 / (n ln² n) from n = 2 on
_MAX_NAME_CHARACTERS = 64  # letters of a name in a report

Floats = NDArray[np.float32]
Confidence = tuple[str, float]  # a model and the log-odds of its answer
Evidence = Annotated[float, Meta(ge=-_MAX_LOG_CAPITAL, le=_MAX_LOG_CAPITAL)]


def _stake(looked: int) -> float:
    """What is staked on the next input: most of it early, but never all.

    Whenever the change comes, something is left to bet.
    """
    return 1 / ((looked + 2) * math.log(looked + 2) ** 2 * _STAKE_SUM)


class DriftStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a monitor has seen, in a form that travels between processes.

    Examples
    --------
    >>> watching = Selector.load("my-bundle", watch=True)
    >>> answer = watching.predict(image)
    >>> watching.drift.seen, watching.drift.alarm
    (1, False)
    """

    seen: Annotated[int, Meta(ge=0)]  # inputs since the beginning or the last reset
    alarm: bool
    since: Annotated[int, Meta(ge=0)] = 0  # inputs after the one that raised the alarm
    log_evidence: Evidence  # the largest so far; an alarm from log(1 / alpha) on
    moved: tuple[str, ...]  # what has changed, strongest first; names of features, or "confidence <model>"
    evidence: Annotated[dict[str, Evidence], Meta(max_length=MAX_FEATURES + 1)]  # of each alone
    names: Annotated[tuple[str, ...], Meta(max_length=MAX_FEATURES)]
    recent: Annotated[
        tuple[Annotated[tuple[Number, ...], Meta(max_length=MAX_FEATURES)], ...],
        Meta(max_length=RECENT_INPUTS),
    ]  # features of the latest inputs that were looked at, oldest first; columns as in names


class Monitor:
    """Watches a stream of inputs. Safe to use from several threads.

    Parameters
    ----------
    reference
        What to hold inputs against.
    seed
        Of the random order of ties.
    """

    def __init__(self, reference: Spread, seed: int = 0) -> None:
        self.reference = reference
        self._seed = seed
        self._lock = threading.Lock()
        self._limit = 1 / reference.alpha
        self._start()

    def _start(self) -> None:
        features, models = self.reference.features, self.reference.confidence
        self._model = next(iter(models), "")  # whose confidence is in the last row
        rows = [*features, models[self._model]] if models else features
        self._bets = Martingales([(row.edges, row.counts) for row in rows], seed=self._seed)
        self._aside: dict[str, MartingaleState] = {}  # confidences of other models
        self._aside_capital = 0.0
        self._reserve = 1.0
        self._highest = 1.0  # capital, over all rows and in each, when it was largest
        self._each = np.ones(len(rows))
        self._seen = 0
        self._looked = 0  # of them, those that were looked at
        self._may_pass = False
        self._passed_last = False
        self._total = 0.0  # capital of all rows together
        self._alarm_at = 0  # inputs seen when the alarm was raised
        self._values = np.empty(len(rows), np.float32)
        self._known = self._values[: len(features)]
        self._ring = np.zeros((RECENT_INPUTS, len(features)), np.float32)

    def reset(self) -> None:
        """Forget all inputs, and an alarm with them; the probability of a false alarm counts anew."""
        with self._lock:
            self._start()

    def passes(self) -> bool:
        """Whether the next input need not be looked at; if so, it counts as seen.

        After inputs that spoke against a change, every second one passes until the next update. As this is
        decided before anything is known of these inputs, exchangeable inputs remain exchangeable (predictable
        sampling: Kallenberg 1988), and false alarms stay as rare; and a change makes almost every input speak
        for it. After an alarm, none passes.
        """
        if not self._may_pass:
            return False
        with self._lock:
            passes = self._may_pass and not self._passed_last
            self._passed_last = passes
            self._seen += passes
            return passes

    def pass_over(self, count: int) -> None:
        """Count inputs as seen that are not looked at."""
        with self._lock:
            self._seen += count

    @property
    def may_pass(self) -> bool:
        """Whether every second input passes, until the next update."""
        return self._may_pass

    @property
    def block(self) -> int:
        """How many inputs may wait until they are looked at together: few once something speaks for a change.

        It depends on earlier inputs alone, so whatever waits is what it would be without waiting.
        """
        if self._total / len(self._each) + self._reserve > _SUSPECT:
            return 1
        return BLOCK_INPUTS

    def update(
        self, values: Floats, confidence: Confidence | None = None, *, number: int | None = None
    ) -> bool:
        """Take note of one input; True once there was an alarm.

        Parameters
        ----------
        values
            Features float32 ``[F]``, in the order of the reference. What is no number counts as very small.
        confidence
            A model and the log-odds of its answer, where that model runs on every input whatever it shows.
        number
            Of the input among all that were seen, from 1 on; by default the next. Those left out passed.

        Raises
        ------
        BundleError
            When there are more or fewer features than in the reference.
        """
        if values.shape != self._known.shape:
            raise BundleError(
                f"expected {len(self._known)} features of one input, got shape {list(values.shape)}. "
                "Export the bundle again."
            )
        with self._lock:
            known = self._known
            np.fmax(values, _MIN_FEATURE, out=known)
            looked = self._looked
            self._ring[looked % RECENT_INPUTS] = values
            if confidence is not None and confidence[0] in self.reference.confidence:
                known = self._values
                known[-1] = confidence[1] if abs(confidence[1]) < _MAX_LOG_ODDS else _MIN_FEATURE
                if confidence[0] != self._model:
                    self._turn_to(confidence[0])
            stake = _stake(looked)
            self._reserve -= stake
            self._looked += 1
            self._seen = self._seen + 1 if number is None else number
            before = self._total + stake * len(known)
            self._total = self._bets.update(known, stake) + self._aside_capital
            highest = self._total / len(self._each) + self._reserve
            if highest > self._highest:
                if self._highest < self._limit <= highest:
                    self._alarm_at = self._seen
                self._highest = highest
                self._each = self._bets.capital + self._reserve
            return self._decide(before)

    def update_block(
        self,
        values: Floats,
        confidences: Sequence[Confidence | None] | None = None,
        *,
        numbers: Sequence[int] | None = None,
    ) -> bool:
        """:meth:`update` for inputs one after the other, in fewer calls; True once there was an alarm.

        Parameters
        ----------
        values
            Features float32 ``[n, F]``.
        confidences
            Of each of the n, as for :meth:`update`; by default none.
        numbers
            Of each, ascending; by default the next.

        Raises
        ------
        BundleError
            When there are more or fewer features than in the reference.
        """
        known = [None] * len(values) if confidences is None else list(confidences)
        models = {None if one is None else one[0] for one in known}
        if len(known) < 2 or values.shape[1:] != self._known.shape or not self._are_alike(models):
            places = [None] * len(known) if numbers is None else numbers
            for row, confidence, number in zip(values, known, places, strict=True):
                self.update(row, confidence, number=number)
            return self.alarm
        with self._lock:
            width, count = len(self._known), len(values)
            rows = np.empty((count, width + (None not in models)), np.float32)
            np.fmax(values, _MIN_FEATURE, out=rows[:, :width])
            if rows.shape[1] > width:
                odds = [one[1] for one in known if one is not None]
                rows[:, width] = [one if abs(one) < _MAX_LOG_ODDS else _MIN_FEATURE for one in odds]
            looked = self._looked
            first = looked % RECENT_INPUTS
            if first + count <= RECENT_INPUTS:
                self._ring[first : first + count] = values
            else:
                self._ring[np.arange(first, first + count) % RECENT_INPUTS] = values
            stakes = [_stake(looked + i) for i in range(count)]
            before = self._total + sum(stakes) * rows.shape[1]
            totals, each = self._bets.update_block(rows, np.array(stakes))
            highest = None
            for i, (stake, total) in enumerate(zip(stakes, totals.tolist(), strict=True)):
                self._reserve -= stake
                self._total = total + self._aside_capital
                capital = self._total / len(self._each) + self._reserve
                if capital > self._highest:
                    if self._highest < self._limit <= capital:
                        self._alarm_at = self._seen + 1 + i if numbers is None else numbers[i]
                    self._highest, highest = capital, each[i] + self._reserve
            if highest is not None:
                self._each = highest
            self._looked += count
            self._seen = self._seen + count if numbers is None else numbers[-1]
            return self._decide(before)

    def _are_alike(self, models: set[str | None]) -> bool:
        """Whether inputs with confidences of these models can be noted together: all of the present one."""
        return models <= {None} or models == {self._model if self._model in self.reference.confidence else ""}

    def _decide(self, before: float) -> bool:
        """Whether there was an alarm; and whether inputs may pass, where capital fell from `before`."""
        alarm = self._highest >= self._limit
        self._may_pass = not alarm and self._total <= before
        self._passed_last = False
        return alarm

    def _turn_to(self, model: str) -> None:
        """Bet on the confidence of another model in the last row; what was bet on the others waits."""
        feature = self.reference.confidence[model]
        other = self._aside.pop(model, None) or (feature.edges, feature.counts)
        self._aside[self._model] = self._bets.exchange(len(self._each) - 1, other)
        self._model = model
        self._aside_capital = sum(float(state.capital.sum()) for state in self._aside.values())

    @property
    def alarm(self) -> bool:
        """Whether inputs have drifted since the beginning or the last reset."""
        return self._highest >= self._limit

    @property
    def log_evidence(self) -> float:
        """Natural logarithm of the largest capital so far; an alarm from log(1 / alpha) on."""
        return math.log(self._highest)

    @property
    def seen(self) -> int:
        """Inputs since the beginning or the last reset."""
        return self._seen

    @property
    def moved(self) -> tuple[str, ...]:
        """What would have raised the alarm by itself, strongest first; empty without an alarm."""
        if not self.alarm:
            return ()
        ranked = sorted(self._evidence().items(), key=lambda item: -item[1])
        return tuple(name for name, value in ranked if value >= math.log(self._limit)) or (ranked[0][0],)

    @property
    def recent(self) -> Floats:
        """Features float32 ``[n, F]`` of the latest inputs that were looked at, oldest first.

        Without those that lack one.
        """
        with self._lock:
            looked = self._looked
            held = (
                self._ring[:looked]
                if looked < RECENT_INPUTS
                else np.roll(self._ring, -(looked % RECENT_INPUTS), 0)
            )
            return held[np.isfinite(held).all(axis=1)]

    def status(self) -> DriftStatus:
        """All of this, for another process."""
        return DriftStatus(
            seen=self.seen,
            alarm=self.alarm,
            since=self.seen - self._alarm_at if self.alarm else 0,
            log_evidence=self.log_evidence,
            moved=self.moved,
            evidence=self._evidence(),
            names=self.reference.names,
            recent=tuple(map(tuple, self.recent.tolist())),
        )

    def _evidence(self) -> dict[str, float]:
        """Logarithm of the capital of each row when that of all together was largest."""
        names = [*self.reference.names, f"confidence {self._model}"[:_MAX_NAME_CHARACTERS]]
        return {name: math.log(value) for name, value in zip(names, self._each.tolist(), strict=False)}


def evidence(reference: InputReference, names: Sequence[str], values: Floats) -> float:
    """Natural logarithm of the evidence that a window of inputs is unlike those of a reference.

    Where they are alike it is below ``log(1 / alpha)`` with probability 1 - alpha; the smallest belongs to
    the reference that they are most like. The same for the same window, whatever was seen before.

    Parameters
    ----------
    names
        Of the columns of `values`; those that the reference does not have do not count.
    values
        Features float32 ``[n, F]``, oldest first.

    Returns
    -------
    float
        Infinity where the reference has none of the names: nothing speaks for it.
    """
    shared = [feature for feature in reference.features if feature.name in names]
    if not shared:
        return math.inf
    bets = Martingales([(feature.edges, feature.counts) for feature in shared])
    columns = [list(names).index(feature.name) for feature in shared]
    rows = np.fmax(np.ascontiguousarray(values[:, columns]), _MIN_FEATURE)
    total = float(len(shared))
    for i, row in enumerate(rows):
        total = bets.update(row, 0.0 if i else 1.0)
    return math.log(total / len(shared))
