"""Numbers that a router decides by: features with gaps filled, and what the models that ran told."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from selector.policies.rules import Floats
from selector.routing.record import GivenFeature, ScoreScale
from zoo.errors import DataError

Number = float | int | bool | None
Features = Mapping[str, Number | str] | Sequence[Number] | NDArray[np.floating] | None
_IN = "environment is "
LEAST_CHANCE = 1e-6  # of a probability, before its log-odds
_LARGEST = float(np.finfo(np.float32).max)


def log_odds_of(scale: ScoreScale, score: float) -> float:
    """Log-odds of a right answer of one score; the same bits as :func:`log_odds_of_each`."""
    scores, odds = scale.scores, scale.log_odds
    place = bisect.bisect_right(scores, score)
    if place == 0:
        return odds[0]
    if place == len(scores):
        return odds[-1]
    slope = (odds[place] - odds[place - 1]) / (scores[place] - scores[place - 1])
    return odds[place - 1] + slope * (score - scores[place - 1])


def log_odds_of_each(scale: ScoreScale, scores: NDArray[np.floating]) -> Floats:
    """Log-odds of a right answer of scores ``[n]``."""
    points, odds = np.array(scale.scores), np.array(scale.log_odds)
    if len(points) == 1:
        return np.full(len(scores), odds[0])
    wide = scores.astype(np.float64)
    place = np.searchsorted(points, wide, side="right")
    inside = np.clip(place, 1, len(points) - 1)
    slopes = (odds[1:] - odds[:-1]) / (points[1:] - points[:-1])
    risen = slopes[inside - 1] * (wide - points[inside - 1])
    found: Floats = odds[inside - 1] + risen
    return np.where(place == 0, odds[0], np.where(place == len(points), odds[-1], found))


def odds_of_scores(scores: NDArray[np.floating]) -> NDArray[np.float32]:
    """Log-odds float32 ``[n, M]`` of probabilities ``[n, M]``."""
    known = np.clip(scores.astype(np.float64), LEAST_CHANCE, 1 - LEAST_CHANCE)
    odds: NDArray[np.float32] = np.log(known / (1 - known)).astype(np.float32)
    return odds


def filled(features: Sequence[GivenFeature], values: NDArray[np.floating]) -> NDArray[np.float32]:
    """All columns float32 ``[n, F + G]``, from values ``[n, F]`` with NaN where one is missing."""
    missing = np.isnan(values)
    fills = np.array([feature.fill for feature in features])
    gaps = [i for i, feature in enumerate(features) if feature.gaps]
    known = np.where(missing, fills, values) if features else values
    columns: NDArray[np.float32] = np.concatenate([known, missing[:, gaps]], axis=1).astype(np.float32)
    return columns


def environment_features(environments: Iterable[str]) -> tuple[str, ...]:
    """Names of the features that are 1 in an environment and else 0."""
    return tuple(_IN + name for name in environments)


class FeatureReader:
    """Reads the features of one input, given by name or in order.

    Parameters
    ----------
    features
        Of the router, in its order.
    """

    def __init__(self, features: Sequence[GivenFeature]) -> None:
        self._features = tuple(features)
        self._names = {feature.name: i for i, feature in enumerate(features)}
        self._fills = [feature.fill for feature in features]
        self._gaps = [i for i, feature in enumerate(features) if feature.gaps]
        self._may_lack = [feature.gaps for feature in features]
        self._places = {name.removeprefix(_IN): name for name in self._names if name.startswith(_IN)}

    def read(self, given: Features) -> NDArray[np.float32]:
        """All columns float32 ``[1, F + G]`` of one input.

        Raises
        ------
        DataError
            When a feature is unknown, no finite number, or missing where none was missing in the table.
        """
        values = self._in_order(given)
        missing = [0.0] * len(values)
        for i, value in enumerate(values):
            if value is None or value != value:
                if not self._may_lack[i]:
                    raise DataError(
                        f"expected a number for the feature {self._features[i].name!r}, which no sample of "
                        "the table lacks, got none. Give it, or fit to a table with gaps in it."
                    )
                values[i], missing[i] = self._fills[i], 1.0
            elif not -_LARGEST <= value <= _LARGEST:
                raise DataError(
                    f"expected a finite number for the feature {self._features[i].name!r}, got {value!r}. "
                    "Leave it out where it is not known."
                )
        return np.array([[*values, *(missing[i] for i in self._gaps)]], np.float32)

    def _in_order(self, given: Features) -> list[Number]:
        names = self._names
        if given is None:
            given = {}
        try:
            if isinstance(given, Mapping):
                if self._places and "environment" in given:
                    given = self._told(given)
                unknown = given.keys() - names.keys()
                if unknown:
                    raise DataError(
                        f"expected features among {', '.join(names) or 'none'}, got "
                        f"{', '.join(sorted(map(str, unknown)))}. Give those of the table."
                    )
                values = [given.get(name) for name in names]
            else:
                values = list(given)
                if len(values) != len(names):
                    raise DataError(
                        f"expected {len(names)} features in the order {', '.join(names)}, got {len(values)}."
                    )
            return [None if value is None else float(value) for value in values]
        except (TypeError, ValueError) as error:
            raise DataError(f"expected a number for every feature, got: {error}. Give numbers.") from None

    def _told(self, given: Mapping[str, Number | str]) -> Mapping[str, Number | str]:
        """The features of an environment in place of its name."""
        place = given["environment"]
        if place not in self._places:
            raise DataError(
                f"expected an environment among {', '.join(self._places)}, got {place!r:.100}. Tell one that "
                "the table had."
            )
        others = {name: value for name, value in given.items() if name != "environment"}
        return dict.fromkeys(self._places.values(), 0.0) | others | {self._places[place]: 1.0}


def as_number(what: str, value: object, *, model: str) -> float:
    """A finite float; raises :class:`DataError` for anything else that was told of a model."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"expected a finite number as the {what} of {model!r}, got {value!r:.100}. Tell what the model "
            "said, or that it failed."
        )
    return number
