"""Comparing an execution provider with that of the certificates, image by image, at every threshold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from msgspec import UNSET
from numpy.typing import NDArray

from selector.answering.engine import Engine
from selector.answering.runners import Outcome, runner_of
from selector.bundle.agreement import AGREEMENT_VERSION, CPU_VERSION, Agreed, Agreement
from selector.bundle.bundle import Bundle, read_bundle, valid_certificates
from selector.bundle.source import FolderSource
from selector.policies.policy import Policy
from selector.policies.staged import State
from zoo.errors import BundleError, ProviderError
from zoo.inputs.kind import Batch
from zoo.inputs.kinds import InputLike
from zoo.providers import Provider

_Floats = NDArray[np.float32]
MIN_SAMPLES = 20


def agree(
    folder: str | Path,
    images: Iterable[InputLike],
    provider: Provider,
    *,
    confidence: float = 0.99,
    environment: str | None = None,
    threads: int = 1,
) -> Agreement:
    """Count the images that a provider answers otherwise than that of the certificates, as a rule the CPU's.

    Models run once an image with either; the thresholds are then gone through with what they said.

    Parameters
    ----------
    images
        Like the inputs of the device, and none of the certify samples: those of the tune split, or new ones.
    confidence
        Of each bound of the share of other answers, in (0, 1).
    environment
        Where the images were taken, for the certificates of that environment.

    Returns
    -------
    Agreement
        :func:`selector.bundle.agreement.save_agreement` puts it where ``Selector.load(…, providers=…)`` finds
        it.

    Raises
    ------
    ProviderError
        When `provider` is that of the certificates, or one of both is not there or does not run a model.
    BundleError
        When too few images are given, or nothing is certified for the installed models on this device.

    Examples
    --------
    >>> from selector.answering.measuring.agree import agree
    >>> from zoo.providers import Provider
    >>> other = Provider("CPUExecutionProvider", (("arena_extend_strategy", "kSameAsRequested"),))
    >>> agree("my-bundle", [image] * 20, other).reference_other
    0
    """
    root = Path(folder)
    bundle = read_bundle(root)
    base = Provider.of(bundle.calibration.provider_name)
    if provider == base:
        raise ProviderError(
            f"expected another execution provider than that of the certificates, got {provider}. Name one."
        )
    index = bundle.policy_for(name for name in FolderSource(root).held(bundle) if name in bundle.local)
    proofs = [] if index is None else valid_certificates(bundle, index)
    places = {(proof.subject_sha256, proof.threshold) for proof in proofs if proof.environment == environment}
    if index is None or not places:
        raise BundleError(
            f"expected a certificate for models that are on this device, in {root}, got none. "
            "There is nothing that could count on another provider."
        )
    counted = _Counted(bundle, bundle.policies[index], sorted(places))
    sides = [_Side(bundle, root, counted.policy, one, threads) for one in (base, provider)]
    for image in images:
        counted.add(bundle.kind.one(image), sides)
    if counted.samples < MIN_SAMPLES:
        raise BundleError(
            f"expected at least {MIN_SAMPLES} images to compare on, got {counted.samples}. Give more: with "
            "500 that all agree, 0.9 % may still differ."
        )
    reference = bundle.card(bundle.reference)
    return Agreement(
        schema_version=CPU_VERSION if base.is_cpu else AGREEMENT_VERSION,
        provider=str(provider),
        onnxruntime=ort.__version__,
        confidence=confidence,
        environment=environment,
        samples=counted.samples,
        reference_sha256=reference.sha256,
        reference_other=counted.reference_other,
        rows=counted.rows(),
        beside=UNSET if base.is_cpu else str(base),
    )


class _Side:
    """The models of a policy on one provider, with what they said to the latest image."""

    def __init__(self, bundle: Bundle, root: Path, policy: Policy, provider: Provider, threads: int) -> None:
        source = FolderSource(root, provider)
        self._engine = Engine(bundle, source, policy, bundle.reference, threads=threads)
        self._said: dict[str, _Floats] = {}
        self._embedded: dict[str, tuple[_Floats, _Floats]] = {}

    def forget(self) -> None:
        """Begin with another image."""
        self._said.clear()
        self._embedded.clear()

    def logits(self, name: str, batch: Batch) -> _Floats:
        """Logits of one model, which runs once."""
        if name not in self._said:
            self._said[name] = self._engine.logits(name, batch)
        return self._said[name]

    def embedded(self, name: str, batch: Batch, width: int) -> tuple[_Floats, _Floats]:
        """Logits and embedding of one model, which runs once."""
        if name not in self._embedded:
            self._embedded[name] = self._engine.embedded(name, batch, width)
        return self._embedded[name]

    def scores(self, batch: Batch) -> _Floats:
        """Scores of the selector graph."""
        return self._engine.scores(batch)

    def features(self, batch: Batch) -> _Floats:
        """Features of the selector graph."""
        return self._engine.features(batch)

    def judge(self, state: State, logits: _Floats, features: _Floats | None) -> tuple[_Floats, _Floats]:
        """Answers and scores of a state."""
        return self._engine.judge(state, logits, features)


class _Counted:
    """Counts of images that were answered otherwise."""

    def __init__(self, bundle: Bundle, policy: Policy, places: Sequence[tuple[str, float]]) -> None:
        self.policy, self.samples, self.reference_other = policy, 0, 0
        self._bundle, self._places = bundle, places
        self._labels, self._paths = [0] * len(places), [0] * len(places)
        self._runner = runner_of(policy, confident=False)

    def add(self, batch: Batch, sides: Sequence[_Side]) -> None:
        """One image ``[1, H, W, 3]``."""
        self.samples += 1
        for side in sides:
            side.forget()
        alone = [self._right(side.logits(self._bundle.reference, batch)[0]) for side in sides]
        self.reference_other += alone[0] != alone[1]
        for i, (_, threshold) in enumerate(self._places):
            one, other = (self._answer(side, batch, threshold) for side in sides)
            self._labels[i] += self._class_of(one) != self._class_of(other)
            self._paths[i] += one.path != other.path

    def rows(self) -> tuple[Agreed, ...]:
        """The counts."""
        counts = zip(self._places, self._labels, self._paths, strict=True)
        return tuple(
            Agreed(subject_sha256=subject, threshold=threshold, other_labels=labels, other_paths=paths)
            for (subject, threshold), labels, paths in counts
        )

    def _answer(self, side: _Side, batch: Batch, threshold: float) -> Outcome:
        return self._runner.run(side, batch, threshold, answer=True)[0]

    def _class_of(self, outcome: Outcome) -> tuple[int, ...]:
        return self._right(outcome.probabilities)

    def _right(self, values: NDArray[np.floating]) -> tuple[int, ...]:
        """What decides whether an answer is right: its class, or the set of its k most probable ones."""
        count = self._bundle.calibration.top_k
        if count == 1:
            return (int(values.argmax()),)
        return tuple(sorted(np.argsort(-values, kind="stable")[:count].tolist()))
