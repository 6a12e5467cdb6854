"""Claims about opening installed models: what is there answers, whatever happens to the store meanwhile."""

from __future__ import annotations

import threading

import msgspec
import numpy as np
import pytest

from tests.support.small_blobs import (
    Made,
    blob_of,
    install,
    noise,
    put,
)
from tests.support.small_models import COLOURS
from tests.support.stored import IMAGES, answers, damage
from zoo.errors import (
    DigestError,
    ModelError,
    ModelNotFoundError,
)
from zoo.releases.release import Blob
from zoo.store.store import Store


def test_a_model_that_was_evicted_and_installed_again_meanwhile_is_opened(
    store: Store, full: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(store, full)
    read, failed = store.read, []

    def meanwhile(blob: Blob) -> bytes:
        if not failed:
            failed.append(blob)
            before = store.installed
            store.commit(msgspec.structs.replace(before, models=()))
            install(store, full)
            raise DigestError("it was not there for a moment")
        return read(blob)

    monkeypatch.setattr(store, "read", meanwhile)
    assert answers(store.model("full")) == list(COLOURS)
    assert failed


def test_an_open_model_answers_after_it_was_evicted(store: Store, full: Made, red: Made) -> None:
    install(store, full)
    model = store.model("full")
    before = model.logits(IMAGES)
    install(store, red)
    assert not store.has(full[0].weights[-1].sha256)
    put(store, noise(40_000))  # the room on disk is used again
    np.testing.assert_array_equal(model.logits(IMAGES), before)
    with pytest.raises(ModelNotFoundError):
        store.model("full")


def test_answers_go_on_while_models_are_opened_and_evicted(store: Store, full: Made, red: Made) -> None:
    install(store, full)
    current = [(store.model("full"), list(COLOURS))]
    stop, wrong, count = threading.Event(), [], [0]

    def answer() -> None:
        while not stop.is_set():
            model, expected = current[0]
            got = answers(model)
            if got != expected:
                wrong.append(got)
            count[0] += 1

    thread = threading.Thread(target=answer)
    thread.start()
    for i in range(20):
        made, expected = ((red, ["red"] * 3), (full, list(COLOURS)))[i % 2]
        install(store, made)  # evicts what answers just now
        current[0] = (store.model(made[0].name), expected)
    stop.set()
    thread.join()
    assert not wrong
    assert count[0] > 0


def test_a_damaged_graph_is_refused_before_it_is_opened(store: Store, full: Made) -> None:
    install(store, full)
    damage(store, full[0].graph.sha256)
    with pytest.raises(DigestError, match="expected SHA-256"):
        store.model("full")


def test_a_weight_that_is_missing_or_cut_is_told(store: Store, full: Made) -> None:
    install(store, full)
    damage(store, full[0].weights[0].sha256, b"short")
    with pytest.raises(DigestError, match="got 1 fewer"):
        store.model("full")


def test_weights_of_another_model_do_not_fit(store: Store, full: Made) -> None:
    release = msgspec.structs.replace(full[0], weights=full[0].weights[:2])
    with pytest.raises(DigestError, match=r"expected a graph with 2 slots.*, got 3"):
        install(store, (release, full[1]))


def test_a_graph_that_does_not_open_is_a_model_error(store: Store, full: Made) -> None:
    content = b"\x0a\x01x"
    release = msgspec.structs.replace(full[0], graph=blob_of(content), weights=())
    install(store, (release, [content]))
    with pytest.raises(ModelError, match="expected an ONNX graph that ONNX Runtime"):
        store.model("full")
