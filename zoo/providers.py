"""Execution providers of ONNX Runtime: which one runs models, with which options."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from zoo.errors import ProviderError

_NAME = re.compile(r"[A-Za-z0-9]{1,64}")
_KEY = re.compile(r"[A-Za-z0-9_.]{1,64}")
_ENDING = "ExecutionProvider"
_MAX_OPTIONS = 32
_MAX_VALUE = 1000  # characters
_BATCH = "batch"  # an option of ours, which is not passed on

# "OpenVINO:device_type=CPU", or as ONNX Runtime takes it: ("OpenVINOExecutionProvider", {…})
ProviderLike: TypeAlias = (
    "Provider | str | tuple[str, Mapping[str, str]] | Sequence[str | tuple[str, Mapping[str, str]]]"
)


@dataclass(frozen=True, slots=True)
class Provider:
    """An execution provider and its options.

    Examples
    --------
    >>> from zoo.providers import Provider
    >>> str(Provider.of("openvino:device_type=CPU,precision=FP32"))
    'OpenVINOExecutionProvider:device_type=CPU,precision=FP32'
    >>> Provider.of("cpu").is_cpu
    True
    """

    name: str
    options: tuple[tuple[str, str], ...] = ()  # sorted by key

    def __str__(self) -> str:
        """Its name in full, and its options: what tables and agreements are kept under."""
        options = ",".join(f"{key}={value}" for key, value in self.options)
        return f"{self.name}:{options}" if options else self.name

    @property
    def is_cpu(self) -> bool:
        """Whether it is that of the CPU, without options."""
        return self == CPU

    @property
    def one_by_one(self) -> bool:
        """Whether inputs go in one at a time, by the option ``batch=1``.

        All shapes behind the front, which resizes inputs of any size, are known then. Providers that want
        known shapes take that part of a model, and the front stays on the CPU.

        Examples
        --------
        >>> Provider.of("cpu:batch=1").one_by_one
        True
        """
        return (_BATCH, "1") in self.options

    @property
    def passed_on(self) -> dict[str, str]:
        """The options that ONNX Runtime is given."""
        return {key: value for key, value in self.options if key != _BATCH}

    @classmethod
    def of(cls, value: ProviderLike) -> Provider:
        """The provider that is meant, if this ONNX Runtime has it.

        Parameters
        ----------
        value
            Its name, in full or without ``ExecutionProvider``, in any case, with options after a colon; a
            pair of name and options; or a list that ends with that of the CPU, as ONNX Runtime takes it. The
            option ``batch=1`` is ours; see :attr:`one_by_one`.

        Raises
        ------
        ProviderError
            When this ONNX Runtime has no such provider, or its options are malformed.

        Examples
        --------
        >>> Provider.of(["CPUExecutionProvider"]).name
        'CPUExecutionProvider'
        """
        if isinstance(value, Provider):
            return value
        name, options = _parts(value)
        held = available()
        wanted = name.removesuffix(_ENDING).lower()
        found = next((one for one in held if one.removesuffix(_ENDING).lower() == wanted), None)
        if found is None:
            raise ProviderError(
                f"expected one of the execution providers of this ONNX Runtime, {', '.join(held)}, got "
                f"{name!r}. Name one of these, or install the ONNX Runtime that has it in place of the other."
            )
        if options.get(_BATCH, "1") != "1":
            raise ProviderError(
                f"expected batch=1, which gives a provider one input at a time, got {options[_BATCH]!r}. "
                "Leave it out for batches of any size."
            )
        return cls(found, tuple(sorted(options.items())))


CPU = Provider("CPUExecutionProvider")


def available() -> tuple[str, ...]:
    """Names of the providers that this ONNX Runtime has.

    Examples
    --------
    >>> from zoo.providers import available
    >>> "CPUExecutionProvider" in available()
    True
    """
    import onnxruntime as ort

    return tuple(ort.get_available_providers())


def on_provider(opened: Any, content: bytes, options: Any, provider: Provider, name: str) -> Any:
    """The session that `opened`, the class of sessions, makes with another provider than the CPU's.

    Raises
    ------
    ProviderError
        When the provider does not start or does not take the model; ONNX Runtime would go on with the CPU.
    """
    ask: list[Any] = [(provider.name, provider.passed_on)]
    if provider.name != CPU.name:
        ask.append(CPU.name)
    try:
        session = opened(content, options, providers=ask, enable_fallback=False)
        used = session.get_providers()
    except Exception as error:  # ONNX Runtime raises a family of unrelated classes
        raise ProviderError(
            f"model {name!r}: expected {provider} to take it, got: {str(error).strip()[:300]}. Check the "
            "options, or run it on the CPU; docs/providers.md says what providers are known to refuse."
        ) from error
    if used[:1] != [provider.name]:
        raise ProviderError(
            f"model {name!r}: expected {provider} to run it, got {', '.join(used)}. Check that what the "
            "provider needs is installed, or leave the provider out."
        )
    return session


def _parts(value: object) -> tuple[str, dict[str, str]]:
    """Name and options."""
    if isinstance(value, str):
        name, _, listed = value.partition(":")
        pairs = [part.partition("=") for part in listed.split(",") if part.strip()]
        if any(not between for _, between, _ in pairs):
            raise _malformed(value)
        options = {key.strip(): text.strip() for key, _, text in pairs}
    elif isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Mapping):
        name, options = value[0], {key: _text(one) for key, one in value[1].items()}
    elif isinstance(value, Sequence) and value and len(value) <= 2:
        last = value[-1] if isinstance(value[-1], str) else value[-1][0]
        if len(value) == 2 and last != CPU.name:
            raise ProviderError(
                f"expected one execution provider, with {CPU.name} after it at most, got {value!r}. "
                "Leave the others out."
            )
        return _parts(value[0])
    else:
        raise _malformed(value)
    if (
        not isinstance(name, str)
        or not _NAME.fullmatch(name)
        or len(options) > _MAX_OPTIONS
        or not all(isinstance(key, str) and _KEY.fullmatch(key) for key in options)
        or not all(isinstance(text, str) and len(text) <= _MAX_VALUE for text in options.values())
    ):
        raise _malformed(value)
    return name, options


def _text(option: Any) -> Any:
    """An option as ONNX Runtime writes it: numbers and truth values are text."""
    return str(option) if isinstance(option, bool | int | float) else option


def _malformed(value: object) -> ProviderError:
    return ProviderError(
        f"expected an execution provider such as 'OpenVINO:device_type=CPU', got {value!r}. "
        "Give its name, and after a colon its options, separated by commas."
    )
