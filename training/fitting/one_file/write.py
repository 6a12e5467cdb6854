"""Writing a selector in one file: from a bundle, for one question, tried before it is handed out."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import msgspec
import numpy as np

from selector.answering.view import Asked, Course, View
from selector.bundle.bundle import Bundle, read_bundle, version_for
from selector.bundle.one_file import DRIFT_OUTPUTS, ONE_FILE_VERSION, OUTPUTS, OneFile, feeds_of
from selector.bundle.source import FolderSource
from selector.policies.policy import Policy
from training.fitting.one_file.graph import one_file_graph
from training.fitting.one_file.parts import check_sizes
from training.fitting.one_file.trial import TIMEOUT_S, try_file
from zoo.errors import BundleError, ParityError
from zoo.files import atomic_path
from zoo.inputs.kind import Item

TOLERANCE = 1e-6  # of probabilities


@dataclass(frozen=True)
class Written:
    """A file that was written and tried."""

    record: OneFile
    size_bytes: int
    compared: int  # inputs whose answers were those of the bundle
    reason: str | None  # why what was asked is not certified


def write_one_file(
    bundle: str | Path,
    path: str | Path,
    precision: float | None = None,
    *,
    images: Sequence[Any] = (),
    drift: bool = False,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int | None = None,
    **asked: Unpack[Asked],
) -> Written:
    """Write the selector of a bundle, for one constraint, as a single ONNX file.

    The file takes one input, such as ``image`` uint8 ``[H, W, 3]``, ``signal`` ``[L]``, or arrays by their
    names. It gives what ``Selector.predict`` answers: ``probabilities`` float64 ``[C]``, ``class_index``
    int64, the strings ``label``, ``model`` and ``path`` ``[K]``, and ``probability`` float64, NaN where
    nothing estimates it. It is tried in a process of its own and compared with the bundle, input by input,
    before it is moved to `path`.

    Parameters
    ----------
    bundle
        Folder of the bundle.
    precision, **asked
        As for ``Selector.predict``. Where nothing is certified, the file answers as ``predict`` does then.
    images
        Inputs as ``Selector.predict`` takes them to compare on, best those that a device will see; a few made
        ones come on top.
    drift
        Also give what the drift monitor looks at: ``drift_features`` float32 ``[F]``, and ``confidence``
        float64 where every input comes to the same first model.
    timeout_s, memory_bytes
        What the trial may take.

    Raises
    ------
    BundleError
        When the policy needs a model on a server, models are too large for one file, or an array of the input
        has the name of an output; also when there is no drift reference.
    ModelError
        When a model has no counterpart in the operators of the others.
    SelfTestError
        When the file does not open or answer.
    ParityError
        When it answers something else than the bundle.

    Examples
    --------
    >>> from training.fitting.one_file.write import write_one_file
    >>> written = write_one_file("my-bundle", "selector.onnx")
    >>> written.record.constraint == bundle.default, written.reason
    (True, None)
    >>> Selector.load("selector.onnx").predict(image).label
    'red'
    """
    folder, target = Path(bundle), Path(path)
    whole, source = read_bundle(folder), FolderSource(folder)
    taken = {one.name for one in whole.kind.inputs} & {*OUTPUTS, *DRIFT_OUTPUTS}
    if taken:
        raise BundleError(
            f"expected arrays with other names than the outputs of a file, got {', '.join(sorted(taken))}. "
            "Export a bundle (--out)."
        )
    view = View(whole, source, source.held(whole), threads=1, refuse_unknown=True).for_asked(asked)
    course = view.course(precision, asked)
    policy = view.policy if course.certificate is not None else None
    models = (view.alone(course.asked.constraint),) if policy is None else policy.models
    _check_local(whole, models)
    check_sizes(whole.card(name) for name in models)
    if drift and whole.drift is None:
        raise BundleError(
            "expected a drift reference in the bundle, got none. Fit again to a profile with "
            "features, or leave drift (--drift) out."
        )
    record = OneFile(
        schema_version=ONE_FILE_VERSION,
        constraint=course.asked.constraint,
        environment=course.asked.environment,
        models=models,
        threshold=course.threshold,
        drift=drift,
        min_onnxruntime="1.0",
        opset=1,
        zooselect=importlib.metadata.version("zooselect"),
        bundle=_part_of(whole, view, course, models),
    )
    record, content = one_file_graph(whole, folder, models, policy, record)
    shown = [whole.kind.item(image) for image in images] + whole.kind.made()
    feeds = [feeds_of(whole.kind, whole.kind.stack([item])) for item in shown]
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)
        answers = try_file(temporary, feeds, timeout_s=timeout_s, memory_bytes=memory_bytes)
        _compare(view, course, shown, answers)
    return Written(record, len(content), len(shown), course.reason)


def _check_local(bundle: Bundle, models: Sequence[str]) -> None:
    remote = [name for name in models if bundle.card(name).remote is not None]
    if remote:
        raise BundleError(
            f"expected a policy whose models run in one file, got {', '.join(remote)} on a server, which "
            "takes several runs an input. Ask for the models on the device alone (never_remote, "
            "--never-remote), or export a bundle."
        )


def _part_of(bundle: Bundle, view: View, course: Course, models: Sequence[str]) -> Bundle:
    """What of the bundle the file stands for: one policy, its models, and the certificate."""
    index = 0 if view.index is None else view.index
    policy: Policy = bundle.policies[index]
    kept = set(models) | set(policy.models)
    certificates = (
        () if course.certificate is None else (msgspec.structs.replace(course.certificate, policy=0),)
    )
    costs = tuple(
        msgspec.structs.replace(
            one,
            models={name: value for name, value in one.models.items() if name in kept},
            paths=tuple(path for path in one.paths if set(path.models) <= kept),
        )
        for one in bundle.costs
    )
    drift = bundle.drift
    if drift is not None:
        held = {name: values for name, values in drift.confidence.items() if name in kept}
        drift = msgspec.structs.replace(drift, confidence=held)
    cards = tuple(card for card in bundle.models if card.name in kept)
    return msgspec.structs.replace(
        bundle,
        schema_version=version_for(cards, provider=bundle.calibration.provider),
        models=cards,
        by_accuracy=tuple(name for name in bundle.by_accuracy if name in kept),
        policies=(policy,),
        default=course.asked.constraint,
        certificates=certificates,
        costs=costs,
        drift=drift,
        selector=bundle.selector if policy.needs_features else None,
    )


def _compare(view: View, course: Course, items: Sequence[Item], answers: Sequence[dict[str, Any]]) -> None:
    kind = view.bundle.kind
    for i, (item, got) in enumerate(zip(items, answers, strict=True)):
        (outcome,) = view.run(kind.stack([item]), course, answer=True)[1]
        probabilities = outcome.probabilities
        index = int(probabilities.argmax())
        wanted = (view.bundle.classes[index], index, outcome.model, list(outcome.path))
        found = (got["label"], got["class_index"], got["model"], got["path"])
        off = float(np.abs(np.array(got["probabilities"]) - probabilities).max())
        known = np.array([got["probability"], outcome.probability])
        far = np.isnan(known).any() != np.isnan(known).all() or abs(known[0] - known[1]) > TOLERANCE
        if wanted != found or not off <= TOLERANCE or far:
            raise ParityError(
                f"{kind.noun} {i}: expected the file to answer {wanted} as the bundle does, got {found}, "
                f"with probabilities that differ by {off:.1e}. It was not written. Check the versions in "
                "constraints.txt; if it stays, export a bundle."
            )
