"""The engine: runs the selector graph and the models that a policy asks for. Sessions live here."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selector.answering.follower import breathe
from selector.bundle.bundle import Bundle, needs_graph
from selector.bundle.graph import Graph
from selector.bundle.source import FolderSource, Source
from selector.policies.cascade import CascadePolicy, LookaheadPolicy, sure_enough, sure_enough_of
from selector.policies.input import InputPolicy
from selector.policies.policy import Policy
from selector.policies.rules import log_odds_of, next_action, next_action_of, softmax, top_log_odds
from selector.policies.staged import StagedPolicy, State
from zoo.models.card import match_classes
from zoo.models.model import Model


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to one image."""

    model: str  # the model whose answer counts
    path: tuple[str, ...]  # all models that ran (or would run), in order
    probability: float  # estimated probability that the answer is right; NaN where nothing estimates it
    answer: NDArray[np.float64] | None  # class probabilities [C]; None where the model was only picked
    scores: Sequence[float] | None = None  # of all models, in the policy's order, where the policy has them
    # log-odds of the first model's answer, where that is the same model for every image and this is watched
    confidence: float | None = None


class Engine:
    """Follows the policy of a bundle with the installed models.

    Thread-safe: sessions are opened once, under a lock, when first needed; ONNX Runtime runs them
    concurrently.
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
        self.watch = watch and bundle.drift is not None
        self.source = FolderSource(source) if isinstance(source, Path) else source
        self.policy = policy
        self.fallback = fallback
        self.threads = threads
        self._columns: list[int] = []
        if isinstance(policy, InputPolicy):
            self._columns = [policy.order.index(name) for name in policy.models]
        self._states = policy.by_ran() if isinstance(policy, StagedPolicy) else {}
        self._lock = threading.Lock()
        self._models: dict[str, Model] = {}
        self._permutations: dict[str, NDArray[np.intp]] = {}
        self._graph, self._drift = self._graphs_of_images()
        self._stages = {ran: self._stage_graph(state) for ran, state in self._states.items()}

    def _graphs_of_images(self) -> tuple[Graph | None, Graph | None]:
        """The selector graph and that of the features that are watched."""
        chosen, drift = self.bundle.selector, self.bundle.drift
        graph_of = partial(Graph, self.source, inputs={"image": "tensor(uint8)"})
        return (
            None
            if chosen is None
            else graph_of(chosen, name="selector graph", outputs={"features": None, "scores": None}),
            None
            if drift is None
            else graph_of(drift, name="drift graph", outputs={"features": len(drift.features)}),
        )

    def _stage_graph(self, state: State) -> Graph:
        assert isinstance(self.policy, StagedPolicy)
        inputs = ("logits", "features") if self.policy.features else ("logits",)
        return Graph(
            self.source,
            state,
            name=state.file,
            inputs=dict.fromkeys(inputs, "tensor(float)"),
            outputs={"answer": len(self.bundle.classes), "scores": 1 + len(state.actions)},
        )

    def warm_up(self, image: NDArray[np.uint8], models: Sequence[str]) -> None:
        """Open what the policy and `models` may need, and run it once on an image ``[1, H, W, 3]``."""
        for name in models:
            self.logits(name, image)
        features = None
        if isinstance(self.policy, InputPolicy):
            self.scores(image)
        elif isinstance(self.policy, StagedPolicy) and self.policy.features:
            features = self._features(image)
        for ran, state in self._states.items():
            logits = np.zeros((1, len(ran), len(self.bundle.classes)), np.float32)
            self._judge(state, logits, features)
        if self.watch:
            self.watched(image)

    def open(self, models: Sequence[str]) -> None:
        """Open the sessions of `models` and those of the policy's graphs."""
        for name in models:
            self._open_model(name)
            breathe()
        if self.policy is not None and needs_graph(self.policy) and self._graph is not None:
            self._graph.open()
        for graph in self._stages.values():
            graph.open()
        if self.watch and self._drift is not None:
            self._drift.open()

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
        if before.bundle.selector == self.bundle.selector and _opened(before._graph):
            self._graph = before._graph
        if before.bundle.drift == self.bundle.drift and _opened(before._drift):
            self._drift = before._drift
        for ran, state in self._states.items():
            if before._states.get(ran) == state and before._stages[ran].opened:
                self._stages[ran] = before._stages[ran]

    @property
    def in_use(self) -> bool:
        """Whether any session is open."""
        return bool(self._models) or any(map(_opened, (self._graph, self._drift, *self._stages.values())))

    def run(self, batch: NDArray[np.uint8], threshold: float | None, *, answer: bool) -> list[Outcome]:
        """Follow the policy at `threshold`, or use the fallback model where that is None.

        Parameters
        ----------
        batch
            uint8 ``[N, H, W, 3]``, checked.
        answer
            Whether logits are needed; without, an input policy runs no model.
        """
        if threshold is None:
            return self._run_fallback(batch, answer=answer)
        one = len(batch) == 1  # numpy's call overhead on single rows would be felt beside a small model
        policy = self.policy
        if isinstance(policy, StagedPolicy):
            if one:
                return [self._staged_one(policy, batch, threshold)]
            return self._run_staged(policy, batch, threshold)
        if isinstance(policy, CascadePolicy | LookaheadPolicy):
            return (
                [self._cascade_one(policy, batch, threshold)]
                if one
                else self._run_cascade(policy, batch, threshold)
            )
        assert policy is not None
        if one:
            return [self._input_one(policy, batch, threshold, answer=answer)]
        return self._run_input(policy, batch, threshold, answer=answer)

    def _run_fallback(self, batch: NDArray[np.uint8], *, answer: bool) -> list[Outcome]:
        name = self.fallback
        if not answer:
            return [Outcome(name, (name,), float("nan"), None)] * len(batch)
        logits = self.logits(name, batch)
        return [
            Outcome(name, (name,), float("nan"), row, confidence=odds)
            for row, odds in zip(softmax(logits), self._confidences(logits), strict=True)
        ]

    def _staged_one(self, policy: StagedPolicy, image: NDArray[np.uint8], threshold: float) -> Outcome:
        features = self._features(image) if policy.features else None
        ran = policy.states[0].ran
        rows = self.logits(ran[0], image)[:, np.newaxis]
        confidence = log_odds_of(rows[0, 0]) if self.watch else None
        while True:
            state = self._states[ran]
            answer, known = self._judge(state, rows, features)
            scores = known[0].tolist()
            pick = next_action_of(scores, state.ways_ms, threshold, policy.rule) if state.actions else 0
            if pick == 0:
                return Outcome(ran[-1], ran, scores[0], answer[0].astype(np.float64), confidence=confidence)
            name = state.actions[pick - 1][0]
            ran = (*ran, name)
            rows = np.concatenate([rows, self.logits(name, image)[:, np.newaxis]], axis=1)

    def _run_staged(self, policy: StagedPolicy, batch: NDArray[np.uint8], threshold: float) -> list[Outcome]:
        features = self._features(batch) if policy.features else None
        outcomes: list[Outcome | None] = [None] * len(batch)
        first = policy.states[0].ran
        waiting = [(first, np.arange(len(batch)), self.logits(first[0], batch)[:, np.newaxis])]
        confidences = self._confidences(waiting[0][2][:, 0])
        while waiting:
            ran, rows, logits = waiting.pop()
            state = self._states[ran]
            answer, known = self._judge(state, logits, None if features is None else features[rows])
            scores = known.astype(np.float64)
            picks = np.zeros(len(rows), dtype=np.intp)
            if state.actions:
                picks = next_action(scores, state.ways_ms, threshold, policy.rule)
            for i in np.flatnonzero(picks == 0):
                outcomes[rows[i]] = Outcome(
                    ran[-1],
                    ran,
                    float(scores[i, 0]),
                    answer[i].astype(np.float64),
                    confidence=confidences[rows[i]],
                )
            for name in dict.fromkeys(action[0] for action in state.actions):
                going = [a + 1 for a, action in enumerate(state.actions) if action[0] == name]
                mask = np.isin(picks, going)
                if mask.any():
                    more = self.logits(name, batch[rows[mask]])[:, np.newaxis]
                    waiting.append(((*ran, name), rows[mask], np.concatenate([logits[mask], more], axis=1)))
        return [outcome for outcome in outcomes if outcome is not None]

    def _cascade_one(
        self, policy: CascadePolicy | LookaheadPolicy, image: NDArray[np.uint8], threshold: float
    ) -> Outcome:
        path: tuple[str, ...] = ()
        for stage in policy.stages:
            path = (*path, stage.model)
            logits = self.logits(stage.model, image)
            odds = log_odds_of(logits[0])
            if len(path) == 1:
                confidence = odds
            probability, enough = sure_enough_of(stage, odds, threshold)
            if enough:
                break
        return Outcome(stage.model, path, probability, softmax(logits)[0], confidence=confidence)

    def _input_one(
        self, policy: InputPolicy, image: NDArray[np.uint8], threshold: float, *, answer: bool
    ) -> Outcome:
        row = self.scores(image)[0].tolist()
        scores = [row[column] for column in self._columns]
        pick = next_action_of(scores, policy.costs_ms, threshold, policy.rule)
        name = policy.models[pick]
        found = softmax(self.logits(name, image))[0] if answer else None
        return Outcome(name, (name,), scores[pick], found, row)

    def _run_input(
        self, policy: InputPolicy, batch: NDArray[np.uint8], threshold: float, *, answer: bool
    ) -> list[Outcome]:
        # float64, as in every simulation: a score must not change sides of a threshold by rounding it
        every = self.scores(batch).astype(np.float64)
        scores = every[:, self._columns]
        picks = next_action(scores, policy.costs_ms, threshold, policy.rule)
        outcomes: list[Outcome | None] = [None] * len(batch)
        for pick in np.unique(picks):
            name = policy.models[pick]
            rows = np.flatnonzero(picks == pick)
            answers = softmax(self.logits(name, batch[rows])) if answer else None
            for i, row in enumerate(rows):
                probability = float(scores[row, pick])
                found = None if answers is None else answers[i]
                outcomes[row] = Outcome(name, (name,), probability, found, every[row].tolist())
        return [outcome for outcome in outcomes if outcome is not None]

    def _run_cascade(
        self, policy: CascadePolicy | LookaheadPolicy, batch: NDArray[np.uint8], threshold: float
    ) -> list[Outcome]:
        outcomes: list[Outcome | None] = [None] * len(batch)
        waiting = np.arange(len(batch))
        path: tuple[str, ...] = ()
        for stage in policy.stages:
            path = (*path, stage.model)
            logits = self.logits(stage.model, batch if len(waiting) == len(batch) else batch[waiting])
            odds = top_log_odds(logits)[1]
            if len(path) == 1:
                confidences = odds.tolist()
            probabilities, enough = sure_enough(stage, odds, threshold)
            done = enough | (stage is policy.stages[-1])
            answers = softmax(logits)
            for i in np.flatnonzero(done):
                outcomes[waiting[i]] = Outcome(
                    stage.model,
                    path,
                    float(probabilities[i]),
                    answers[i],
                    confidence=confidences[waiting[i]],
                )
            waiting = waiting[~done]
            if not len(waiting):
                break
        return [outcome for outcome in outcomes if outcome is not None]

    def _confidences(self, logits: NDArray[np.float32]) -> list[float] | list[None]:
        if not self.watch:
            return [None] * len(logits)
        odds: list[float] = [log_odds_of(logits[0])] if len(logits) == 1 else top_log_odds(logits)[1].tolist()
        return odds

    def logits(self, name: str, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits ``[N, C]`` of one model, in the order of the bundle's classes."""
        model = self._models.get(name)
        if model is None:
            model = self._open_model(name)
        logits = model.run(batch)
        permutation = self._permutations.get(name)
        return logits if permutation is None else logits[:, permutation]

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

    def scores(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores ``[N, M]`` of the selector graph."""
        return self._of_images(self._graph, "scores", batch)

    def _features(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._of_images(self._graph, "features", batch)

    def watched(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features ``[N, F]`` that tell whether inputs have changed; for bundles with a drift reference."""
        return self._of_images(self._drift, "features", batch)

    @staticmethod
    def _of_images(graph: Graph | None, output: str, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert graph is not None
        values: NDArray[np.float32] = graph.run([output], {"image": batch})[0]
        return values

    def _judge(
        self, state: State, logits: NDArray[np.float32], features: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        feeds = {"logits": logits} if features is None else {"logits": logits, "features": features}
        answer, scores = self._stages[state.ran].run(("answer", "scores"), feeds)
        return answer, scores


def _opened(graph: Graph | None) -> bool:
    return graph is not None and graph.opened
