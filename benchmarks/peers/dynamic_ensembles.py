"""Dynamic selection of classifiers and ensembles, from the package DESlib."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.validation import validate_data

from benchmarks.peers.peer import NO_MODEL, Peer, Scaling, optional, some_rows
from selector.policies.rules import softmax
from training.outcomes.outcomes import Outcomes
from training.policies.frontier import Floats, Simulated

MAX_ROWS = 4000
NEIGHBOURS = 7  # DESlib's own default
ROW_UNIT = 1e-9  # of the column that carries the row's number: it must not move neighbours


@dataclass
class Stored:
    """Class probabilities that pool members look their answers up in."""

    probabilities: Floats  # [n, M, C]


class PoolMember(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A model of the zoo as a fitted scikit-learn classifier: the last column says which row is asked."""

    def __init__(self, stored: Stored, model: int) -> None:
        self.stored = stored
        self.model = model
        self.classes_ = np.arange(stored.probabilities.shape[2])

    def fit(self, numbered: Floats, labels: NDArray[np.integer]) -> PoolMember:
        """Nothing: the model is trained already; scikit-learn takes only what can be fitted for fitted."""
        return self

    def predict_proba(self, numbered: Floats) -> Floats:
        """Stored class probabilities ``[n, C]`` of features with the row's number ``[n, F + 1]``."""
        rows = np.rint(numbered[:, -1] / ROW_UNIT).astype(np.intp)
        found: Floats = self.stored.probabilities[rows, self.model]
        return found

    def predict(self, numbered: Floats) -> NDArray[np.intp]:
        """Class of the largest stored probability ``[n]``."""
        predicted: NDArray[np.intp] = self.predict_proba(numbered).argmax(axis=1)
        return predicted


class DynamicEnsemble(Peer):
    """A method of DESlib with a pool of models; it answers with one class, right if it is the label.

    Whatever is selected, all models of the pool have run, so all are charged, and `overhead_ms` for features
    and neighbours. Settings are pools: the two cheapest models, the three cheapest, … the whole zoo.
    """

    folds = 5
    module: ClassVar[str]
    method: ClassVar[str]

    def _settle(self, development: Outcomes) -> None:
        method = adapted(getattr(optional(self.module), self.method))
        rows = some_rows(development, MAX_ROWS, self.seed)
        self._scaling = Scaling.of(rows.features)
        self._stored = Stored(_probabilities(rows))
        neighbours = max(2, min(NEIGHBOURS, len(rows) - 1))
        self._fitted = []
        for size in range(min(2, len(self.models)), len(self.models) + 1):
            pool = [PoolMember(self._stored, j) for j in range(size)]
            fitted = None
            if size > 1:
                fitted = method(pool, k=neighbours, random_state=self.seed, n_jobs=1)
                with warnings.catch_warnings():
                    # The neighbours' labels are told to a classifier, of which nothing but distances is used.
                    warnings.filterwarnings("ignore", "The number of unique classes is greater", UserWarning)
                    fitted.fit(self._numbered(rows), rows.labels)
                # META-DES cannot answer where all models are always right, or always wrong: any will do.
                meta = getattr(fitted, "meta_classifier_", None)
                fitted = None if meta is not None and len(meta.classes_) < 2 else fitted
            self._fitted.append((size, fitted))

    def _points(self, outcomes: Outcomes) -> list[Simulated]:
        self._stored.probabilities = _probabilities(outcomes)
        numbered = self._numbered(outcomes)
        points = []
        for size, fitted in self._fitted:
            votes = (
                self._stored.probabilities[:, 0].argmax(axis=1)
                if fitted is None
                else fitted.predict(numbered)
            )
            points.append(
                Simulated(
                    float(size),
                    np.full(len(outcomes), NO_MODEL),
                    np.asarray(votes) == outcomes.labels,
                    np.full(len(outcomes), self.costs[:size].sum() + self.overhead_ms),
                )
            )
        return points

    def _numbered(self, outcomes: Outcomes) -> Floats:
        numbers = ROW_UNIT * np.arange(len(outcomes))[:, np.newaxis]
        return np.concatenate([self._scaling(outcomes.features), numbers], axis=1)


class Ola(DynamicEnsemble):
    """Overall local accuracy: the model that is right most often among the neighbours answers."""

    name = "deslib-ola"
    source = "DESlib (Cruz et al., JMLR 2020): OLA, Woods, Kegelmeyer and Bowyer, PAMI 1997"
    module = "deslib.dcs.ola"
    method = "OLA"


class KnoraE(DynamicEnsemble):
    """KNORA-Eliminate: the models that are right on all neighbours vote."""

    name = "deslib-knora-e"
    source = "DESlib (Cruz et al., JMLR 2020): KNORA-E, Ko, Sabourin and Britto, Pattern Recognition 2008"
    module = "deslib.des.knora_e"
    method = "KNORAE"


class MetaDes(DynamicEnsemble):
    """META-DES: a learned rule on neighbours and output profiles says which models vote."""

    name = "deslib-meta-des"
    source = "DESlib (Cruz et al., JMLR 2020): META-DES, Cruz et al., Pattern Recognition 2015"
    module = "deslib.des.meta_des"
    method = "METADES"


def adapted(method: Any) -> Any:
    """A DESlib class that runs with today's scikit-learn and knows all classes.

    DESlib 0.3.7 calls ``BaseEstimator._validate_data``, which scikit-learn 1.7 has made a function, and
    takes only classes that occur among the development labels for possible answers.
    """

    def _validate_data(self: Any, *args: Any, **options: Any) -> Any:
        return validate_data(self, *args, **options)

    def _setup_label_encoder(self: Any, y: NDArray[np.integer]) -> None:
        self._check_label_encoder()
        self.enc_ = LabelEncoder().fit(self.pool_classifiers_[0].classes_)
        self.classes_ = self.enc_.classes_

    replaced = {"_validate_data": _validate_data, "_setup_label_encoder": _setup_label_encoder}
    return type(method.__name__, (method,), replaced)


def _probabilities(outcomes: Outcomes) -> Floats:
    return np.stack([softmax(outcomes.logits[:, j]) for j in range(len(outcomes.models))], axis=1)
