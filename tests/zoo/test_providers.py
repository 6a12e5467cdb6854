"""Claims about execution providers: named in any way, refused with those that there are."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.small_models import COLOURS, build_onnx
from zoo.errors import ProviderError
from zoo.models.card import ModelCard
from zoo.models.model import Model
from zoo.providers import CPU, Provider, on_provider

ALMOST_CPU = Provider(CPU.name, (("arena_extend_strategy", "kSameAsRequested"),))


@pytest.mark.parametrize(
    "value",
    [
        "CPUExecutionProvider:b=2,a=1",
        "cpu: a=1, b=2",
        ("CPU", {"b": "2", "a": "1"}),
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


@pytest.mark.parametrize("value", ["", "cpu:a", "a b", 3, [], ("cpu", {"x": 1}), ["cpu", "cpu", "cpu"]])
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
