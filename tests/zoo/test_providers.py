"""Claims about execution providers: named in any way, refused with those that there are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.small_models import COLOURS, build_onnx
from zoo.errors import ProviderError
from zoo.models.card import ModelCard
from zoo.models.model import Model
from zoo.models.session import open_session
from zoo.providers import CPU, Provider, on_provider

ALMOST_CPU = Provider(CPU.name, (("arena_extend_strategy", "kSameAsRequested"),))


@pytest.mark.parametrize(
    "value",
    [
        "CPUExecutionProvider:b=2,a=1",
        "cpu: a=1, b=2",
        ("CPU", {"b": "2", "a": 1}),
        [("CPUExecutionProvider", {"a": "1", "b": "2"})],
        [("CPUExecutionProvider", {"a": "1", "b": "2"}), "CPUExecutionProvider"],
    ],
)
def test_a_provider_is_the_same_in_whatever_way_it_is_named(value: Any) -> None:
    found = Provider.of(value)
    assert str(found) == "CPUExecutionProvider:a=1,b=2"
    assert not found.is_cpu
    assert Provider.of(found) is found


def test_a_provider_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ProviderError, match=r"expected one of .*CPUExecutionProvider.*, got 'Abacus'"):
        Provider.of("Abacus")


@pytest.mark.parametrize("value", ["", "cpu:a", "a b", 3, [], ("cpu", {"x": [1]}), ["cpu", "cpu", "cpu"]])
def test_what_names_no_provider_is_refused(value: Any) -> None:
    with pytest.raises(ProviderError, match="expected an execution provider such as"):
        Provider.of(value)


def test_several_providers_are_refused() -> None:
    with pytest.raises(ProviderError, match="with CPUExecutionProvider after it at most"):
        Provider.of(["CPU", "CPU"])


def test_a_provider_that_leaves_the_model_to_the_cpu_is_told() -> None:
    class Elsewhere:
        """A session as ONNX Runtime makes it where a provider does not start."""

        def __init__(self, *_: object, **__: object) -> None: ...

        def get_providers(self) -> list[str]:
            return [CPU.name]

    with pytest.raises(ProviderError, match="expected Other to run it, got CPUExecutionProvider"):
        on_provider(Elsewhere, b"", None, Provider("Other"), "tiny")


def test_a_model_runs_with_the_options_of_a_provider() -> None:
    content = build_onnx()
    card = ModelCard(
        name="full", file="models/full.onnx", sha256="0" * 64, size_bytes=len(content), classes=COLOURS,
        task="classification", resolution=(8, 8), parameters=1, macs=1,
    )  # fmt: skip
    assert Model(card, content, provider=ALMOST_CPU).card.name == "full"


def test_one_input_at_a_time_makes_all_shapes_behind_the_front_known() -> None:
    provider, content = Provider.of("cpu:batch=1"), build_onnx()
    assert (provider.passed_on, provider.is_cpu) == ({}, False)
    (known,) = open_session(content, name="m", provider=provider).get_outputs()
    assert known.shape == [1, len(COLOURS)]
    card = ModelCard(
        name="m",
        classes=COLOURS,
        resolution=(8, 8),
        file="m.onnx",
        sha256="0" * 64,
        size_bytes=len(content),
        parameters=1,
        macs=1,
    )
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 9, 3), np.uint8)
    alone, together = (Model(card, content, provider=one).logits(images) for one in (provider, CPU))
    assert np.allclose(alone, together, atol=1e-6)
    with pytest.raises(ProviderError, match="expected batch=1"):
        Provider.of("cpu:batch=4")
