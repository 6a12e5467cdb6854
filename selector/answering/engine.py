"""The engine: the open sessions of a bundle's graphs and models, and what runs on them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selector.answering.follower import breathe
from selector.answering.parts import InParts
from selector.answering.reach import Asking, Reach
from selector.answering.runners import Outcome, Sessions, one_alone, run_alone, runner_of
from selector.bundle.bundle import Bundle
from selector.bundle.graph import Graph
from selector.bundle.source import FolderSource, Source
from selector.policies.policy import Policy
from selector.policies.rules import MAX_LISTED
from selector.policies.staged import StagedPolicy, State
from zoo.errors import MissingExtraError, ModelError, NotFiniteError, UnreachableError
from zoo.inputs.kind import TYPES, Batch
from zoo.models.card import match_classes
from zoo.models.model import Model, all_finite

_JUDGED = ["answer", "scores"]
_SCORES, _FEATURES = ["scores"], ["features"]


class Engine:
    """Follows a policy of a bundle with the installed models.

    Thread-safe: sessions are opened once, under a lock, when first needed; ONNX Runtime runs them
    concurrently.

    Parameters
    ----------
    policy
        The policy that is followed; None where there is none for the installed models.
    fallback
        The model that answers alone where nothing is certified.
    watch
        Whether outcomes are to tell how sure the first model was, where the bundle has a drift reference.
    """

    def __init__(
        self,
        bundle: Bundle,
        source: Source | Path,
        policy: Policy | None,
        fallback: str,
        *,
        threads: int,
        watch: bool = False,
    ) -> None:
        self.bundle = bundle
        self.kind = bundle.kind
        self.watch = watch and bundle.drift is not None
        self.source = FolderSource(source) if isinstance(source, Path) else source
        self.policy = policy
        self.fallback = fallback
        self.threads = threads
        self._lock = threading.Lock()
        self._models: dict[str, Model] = {}
        self._permutations: dict[str, NDArray[np.intp]] = {}
        self._graphs = self._make_graphs()
        self._listed = len(bundle.classes) <= MAX_LISTED  # one answer is worked out in lists
        self._runner = None if policy is None else runner_of(policy, confident=self.watch)

    def _make_graphs(self) -> dict[object, Graph]:
        """The graphs of images by name, and those of a staged policy by what has run."""
        graphs: dict[object, Graph] = {}
        taken = {one.name: TYPES[one.type] for one in self.kind.inputs}
        selector, drift, policy = self.bundle.selector, self.bundle.drift, self.policy
        if selector is not None:
            outputs = {"features": None, "scores": None}
            graphs["selector"] = Graph(
                self.source, selector, name="selector graph", inputs=taken, outputs=outputs
            )
        if drift is not None:
            watched = {"features": len(drift.features)}
            graphs["drift"] = Graph(self.source, drift, name="drift graph", inputs=taken, outputs=watched)
        if isinstance(policy, StagedPolicy):
            inputs = dict.fromkeys(("logits", "features")[: 1 + policy.needs_features], "tensor(float)")
            for state in policy.states:
                known = {"answer": len(self.bundle.classes), "scores": 1 + len(state.actions)}
                graphs[state.ran] = Graph(self.source, state, name=state.file, inputs=inputs, outputs=known)
        return graphs

    def _needed_graphs(self) -> Iterator[Graph]:
        """The graphs that answers need."""
        for key, graph in self._graphs.items():
            if key == "selector":
                needed = self.policy is not None and self.policy.needs_features
            else:
                needed = key != "drift" or self.watch
            if needed:
                yield graph

    def warm_up(self, image: Batch, models: Sequence[str]) -> None:
        """Open what the policy and `models` need here, and run it once on a batch of one.

        No server is asked.
        """
        for name in models:
            if self.bundle.card(name).remote is None:
                self.logits(name, image)
        features = None
        if self.policy is not None and self.policy.needs_features:
            features = self.features(image)
            self.scores(image)
        if isinstance(self.policy, StagedPolicy):
            for state in self.policy.states:
                logits = np.zeros((1, len(state.ran), len(self.bundle.classes)), np.float32)
                self.judge(state, logits, features)
        if self.watch:
            self.watched(image)

    def open(self, models: Sequence[str]) -> None:
        """Open the sessions of `models` and those of the policy's graphs."""
        for name in models:
            self._open_model(name)
            breathe()
        for graph in self._needed_graphs():
            graph.open()

    def inherit(self, before: Engine, models: Sequence[str]) -> None:
        """Take over the open sessions of `before` for the same files; of models, only those in `models`.

        Call it before the engine is used.
        """
        if before.threads != self.threads or before.bundle.classes != self.bundle.classes:
            return
        with before._lock:
            for name in models:
                model = before._models.get(name)
                if model is not None and model.card.sha256 == self.bundle.card(name).sha256:
                    self._models[name] = model
                    if name in before._permutations:
                        self._permutations[name] = before._permutations[name]
        for key, graph in self._graphs.items():
            old = before._graphs.get(key)
            if old is not None and old.opened and old.is_like(graph):
                self._graphs[key] = old

    def share(self, other: Engine) -> None:
        """Use the sessions of another engine of the same bundle and source; what either opens, both have.

        Call it before the engine is used.
        """
        self._lock, self._models, self._permutations = other._lock, other._models, other._permutations
        for key, graph in self._graphs.items():
            known = other._graphs.get(key)
            if known is not None and known.is_like(graph):
                self._graphs[key] = known

    @property
    def in_use(self) -> bool:
        """Whether any session is open."""
        return bool(self._models) or any(graph.opened for graph in self._graphs.values())

    def run(
        self,
        batch: Batch,
        threshold: float | None,
        *,
        answer: bool,
        alone: str | None = None,
        asking: Asking | None = None,
    ) -> list[Outcome]:
        """Follow the policy at `threshold`, or use one model where that is None.

        Parameters
        ----------
        batch
            Of images uint8 ``[N, H, W, 3]``, checked.
        answer
            Whether logits are needed; without, an input policy runs no model.
        alone
            The model that answers without a threshold; by default the fallback model.
        asking
            How models on servers are asked; needed where there are any.
        """
        sessions: Sessions = self if asking is None else asking
        if len(batch) > 1:
            sessions = InParts(sessions)
        if threshold is None:
            return run_alone(alone or self.fallback, sessions, batch, answer=answer, confident=self.watch)
        assert self._runner is not None
        return self._runner.run(sessions, batch, threshold, answer=answer)

    def one(self, image: Batch, threshold: float | None, *, alone: str) -> Outcome:
        """:meth:`run` for one image ``[1, H, W, 3]`` that is to be answered, on this device."""
        if self._listed:
            if threshold is None:
                return one_alone(alone, self, image, confident=self.watch)
            assert self._runner is not None
            return self._runner.one(self, image, threshold)
        return self.run(image, threshold, answer=True, alone=alone)[0]

    def row(self, name: str, image: Batch) -> tuple[list[float], NDArray[np.float32]]:
        """Logits of one model for one image ``[1, H, W, 3]``, as a list and ``[1, C]``.

        They are in the order of the bundle's classes.
        """
        model = self._models.get(name)
        if model is None:
            model = self._open_model(name)
        if name not in self._permutations:
            return model.row(image)
        logits = model.row(image)[1][:, self._permutations[name]]
        return logits.tolist()[0], logits

    def scores_of(self, image: Batch) -> list[float]:
        """Scores ``[M]`` of the selector graph for one image ``[1, H, W, 3]``."""
        found = self._of_images("selector", _SCORES, image)
        scores: list[float] = found.tolist()[0]
        if not isfinite(sum(scores)):
            _check_finite("selector graph", found)
        return scores

    def judge_one(
        self, state: State, logits: NDArray[np.float32], features: NDArray[np.float32] | None, *, answer: bool
    ) -> tuple[list[float], NDArray[np.float32] | None]:
        """Scores of a state, and its answer ``[1, C]`` if wanted, from logits ``[1, K, C]``.

        What nobody wants is not copied out of the graph.
        """
        feeds = {"logits": logits} if features is None else {"logits": logits, "features": features}
        found = self._graphs[state.ran].run(_JUDGED if answer else _SCORES, feeds, logits.nbytes)
        scores: list[float] = found[-1].tolist()[0]
        if not isfinite(sum(scores)) or (answer and not all_finite(found[0])):
            _check_finite(state.file, *found)
        return scores, found[0] if answer else None

    def asking(self, reach: Reach, until: float) -> Asking:
        """The sessions of one answer, whose servers have to answer by `until` of the monotonic clock."""
        return Asking(self, reach, until)

    def ask(self, name: str, batch: Batch, until: float) -> tuple[NDArray[np.float32], int]:
        """:meth:`logits` of a model on a server, and the bytes that were sent for them.

        Raises
        ------
        UnreachableError
            When there are none by `until` of the monotonic clock.
        """
        model = self._models.get(name) or self._open_model(name)
        assert model.remote is not None
        try:
            logits = model.run_by(batch, until)
        except (ModelError, MissingExtraError) as error:  # no reason to give no answer
            raise UnreachableError(str(error)) from error
        permutation = self._permutations.get(name)
        return logits if permutation is None else logits[:, permutation], model.remote.last_bytes[0]

    def logits(self, name: str, batch: Batch) -> NDArray[np.float32]:
        """Logits ``[N, C]`` of one model, in the order of the bundle's classes."""
        model = self._models.get(name)
        if model is None:
            model = self._open_model(name)
        logits = model.run(batch)
        permutation = self._permutations.get(name)
        return logits if permutation is None else logits[:, permutation]

    def embedded(
        self, name: str, batch: Batch, width: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits ``[N, C]`` as of :meth:`logits`, and the model's embedding ``[N, width]``."""
        logits, embedding = self._open_model(name).embedded(batch)
        if embedding.shape[1] != width:
            raise ModelError(
                f"model {name!r}: expected an embedding of {width} numbers, as the policy was fitted to, got "
                f"{embedding.shape[1]}. Fetch the bundle and its models again."
            )
        permutation = self._permutations.get(name)
        return logits if permutation is None else logits[:, permutation], embedding

    def _open_model(self, name: str) -> Model:
        with self._lock:
            if name not in self._models:
                card = self.bundle.card(name)
                if card.classes != self.bundle.classes:
                    self._permutations[name] = np.array(
                        match_classes(self.bundle.classes, card.classes, model=name)
                    )
                self._models[name] = self.source.model(card, threads=self.threads)
            return self._models[name]

    def scores(self, batch: Batch) -> NDArray[np.float32]:
        """Scores ``[N, M]`` of the selector graph."""
        scores = self._of_images("selector", _SCORES, batch)
        _check_finite("selector graph", scores)
        return scores

    def features(self, batch: Batch) -> NDArray[np.float32]:
        """Features ``[N, F]`` of the selector graph."""
        return self._of_images("selector", _FEATURES, batch)

    def open_drift(self) -> None:
        """Open the graph of what is watched."""
        self._graphs["drift"].open()

    def watched(self, batch: Batch) -> NDArray[np.float32]:
        """Features ``[N, F]`` that tell whether inputs have changed; for bundles with a drift reference."""
        return self._of_images("drift", _FEATURES, batch)

    def _of_images(self, graph: str, outputs: list[str], batch: Batch) -> NDArray[np.float32]:
        values: NDArray[np.float32] = self._graphs[graph].run(outputs, self.kind.feeds(batch), batch.nbytes)[
            0
        ]
        return values

    def judge(
        self, state: State, logits: NDArray[np.float32], features: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Answers ``[N, C]`` and scores ``[N, 1 + A]`` of a state, from logits ``[N, K, C]``."""
        feeds = {"logits": logits} if features is None else {"logits": logits, "features": features}
        answer, scores = self._graphs[state.ran].run(_JUDGED, feeds, logits.nbytes)
        _check_finite(state.file, answer, scores)
        return answer, scores


def _check_finite(graph: str, *outputs: NDArray[np.float32]) -> None:
    """Raise :class:`NotFiniteError` for outputs that can decide nothing: NaN compares false with all."""
    if not all(map(all_finite, outputs)):
        raise NotFiniteError(
            f"{graph}: expected finite scores, got NaN or infinite ones. "
            "Fit and export the bundle again, with images like this one among those of the profile."
        )
