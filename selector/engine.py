"""The engine: runs the selector graph and the models that a policy asks for. Sessions live here."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from selector.bundle import Bundle
from selector.policy import (
    InputPolicy,
    Stage,
    choose,
    log_odds_of,
    right_probability,
    right_probability_of,
    top_log_odds,
)
from zoo.card import match_classes
from zoo.errors import ModelError
from zoo.files import read_verified
from zoo.model import Model, open_session


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to one image."""

    model: str  # the model whose answer counts
    path: tuple[str, ...]  # all models that ran (or would run), in order
    probability: float  # estimated probability that the answer is right; NaN where nothing estimates it
    logits: NDArray[np.float32] | None  # [C]; None where the model was only picked


class Engine:
    """Follows the policy of a bundle with the installed models.

    Thread-safe: sessions are opened once, under a lock, when first needed; ONNX Runtime runs them
    concurrently.
    """

    def __init__(self, bundle: Bundle, folder: Path, installed: tuple[str, ...], *, threads: int) -> None:
        self.bundle = bundle
        self.folder = folder
        self.threads = threads
        self.fallback = next(name for name in bundle.by_accuracy if name in installed)
        self.stages: list[Stage] = []
        self._names = [name for name in bundle.policy.models if name in installed]
        self._columns: list[int] = []
        if isinstance(bundle.policy, InputPolicy):
            self._columns = [i for i, name in enumerate(bundle.policy.order) if name in installed]
        else:
            self.stages = [stage for stage in bundle.policy.stages if stage.model in installed]
        self._lock = threading.Lock()
        self._models: dict[str, Model] = {}
        self._permutations: dict[str, NDArray[np.intp]] = {}
        self._graph: ort.InferenceSession | None = None

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
        if len(batch) == 1:  # numpy's call overhead on single rows would be felt beside a small model
            if self.stages:
                return [self._cascade_one(batch, threshold)]
            return [self._input_one(batch, threshold, answer=answer)]
        if self.stages:
            return self._run_cascade(batch, threshold)
        return self._run_input(batch, threshold, answer=answer)

    def _run_fallback(self, batch: NDArray[np.uint8], *, answer: bool) -> list[Outcome]:
        name = self.fallback
        if not answer:
            return [Outcome(name, (name,), float("nan"), None)] * len(batch)
        logits = self.logits(name, batch)
        return [Outcome(name, (name,), float("nan"), row) for row in logits]

    def _cascade_one(self, image: NDArray[np.uint8], threshold: float) -> Outcome:
        best: Outcome | None = None
        path: tuple[str, ...] = ()
        for stage in self.stages:
            path = (*path, stage.model)
            logits = self.logits(stage.model, image)[0]
            probability = right_probability_of(stage, log_odds_of(logits))
            if best is None or probability >= threshold or probability > best.probability:
                best = Outcome(stage.model, path, probability, logits)
            else:
                best = Outcome(best.model, path, best.probability, best.logits)
            if probability >= threshold:
                break
        assert best is not None
        return best

    def _input_one(self, image: NDArray[np.uint8], threshold: float, *, answer: bool) -> Outcome:
        row = self.scores(image)[0].tolist()
        scores = [row[column] for column in self._columns]
        pick = next((i for i, score in enumerate(scores) if score >= threshold), None)
        if pick is None:
            pick = max(range(len(scores)), key=scores.__getitem__)
        name = self._names[pick]
        return Outcome(name, (name,), scores[pick], self.logits(name, image)[0] if answer else None)

    def _run_input(self, batch: NDArray[np.uint8], threshold: float, *, answer: bool) -> list[Outcome]:
        # float64, as in every simulation: a score must not change sides of a threshold by rounding it
        scores = self.scores(batch)[:, self._columns].astype(np.float64)
        picks = choose(scores, threshold)
        outcomes: list[Outcome | None] = [None] * len(batch)
        for pick in np.unique(picks):
            name = self._names[pick]
            rows = np.flatnonzero(picks == pick)
            logits = self.logits(name, batch if len(rows) == len(batch) else batch[rows]) if answer else None
            for i, row in enumerate(rows):
                probability = float(scores[row, pick])
                outcomes[row] = Outcome(name, (name,), probability, None if logits is None else logits[i])
        return [outcome for outcome in outcomes if outcome is not None]

    def _run_cascade(self, batch: NDArray[np.uint8], threshold: float) -> list[Outcome]:
        best: list[Outcome | None] = [None] * len(batch)
        waiting = np.arange(len(batch))
        path: tuple[str, ...] = ()
        for stage in self.stages:
            path = (*path, stage.model)
            logits = self.logits(stage.model, batch if len(waiting) == len(batch) else batch[waiting])
            probabilities = right_probability(stage, top_log_odds(logits)[1])
            for i, row in enumerate(waiting):
                before, probability = best[row], float(probabilities[i])
                if probability >= threshold or before is None or probability > before.probability:
                    best[row] = Outcome(stage.model, path, probability, logits[i])
                else:
                    best[row] = Outcome(before.model, path, before.probability, before.logits)
            waiting = waiting[probabilities < threshold]
            if not len(waiting):
                break
        return [outcome for outcome in best if outcome is not None]

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
                self._models[name] = Model.open(card, self.folder, threads=self.threads)
            return self._models[name]

    def scores(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores ``[N, M]`` of the selector graph, one column a model of the policy."""
        graph = self._graph or self._open_graph()
        try:
            scores: NDArray[np.float32] = graph.run(["scores"], {"image": batch})[0]
        except Exception as error:
            raise ModelError(
                f"the selector graph failed on images {list(batch.shape)}: {str(error)[:300]}. "
                "Export the bundle again."
            ) from error
        return scores

    def _open_graph(self) -> ort.InferenceSession:
        with self._lock:
            if self._graph is None:
                record = self.bundle.selector
                assert record is not None
                content = read_verified(self.folder / record.file, record.sha256, record.size_bytes)
                graph = open_session(content, name="selector", threads=1)
                inputs = [(item.name, item.type) for item in graph.get_inputs()]
                outputs = {item.name for item in graph.get_outputs()}
                if inputs != [("image", "tensor(uint8)")] or not {"features", "scores"} <= outputs:
                    raise ModelError(
                        f"selector graph: expected image uint8 → features, scores; "
                        f"got {inputs} → {sorted(outputs)}. "
                        "Export the bundle again."
                    )
                self._graph = graph
            return self._graph
