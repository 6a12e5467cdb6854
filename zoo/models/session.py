"""Sessions of ONNX Runtime, opened as models and graphs need them."""

from __future__ import annotations

import os
from pathlib import Path

import onnxruntime as ort

from zoo.errors import ModelError, ProviderError
from zoo.models.limits import limited_memory
from zoo.providers import CPU, Provider, on_provider


def open_session(
    content: bytes,
    *,
    name: str,
    threads: int = 1,
    weights: Path | None = None,
    arena: bool = True,
    memory_bytes: int | None = None,
    provider: Provider = CPU,
) -> ort.InferenceSession:
    """Open an ONNX graph with `threads` threads.

    Parameters
    ----------
    weights
        Folder of verified files in which the graph keeps its weights; None: all weights are in the graph.
    arena
        Keep the memory of a run for the next one, which is faster; without, it is given back.
    memory_bytes
        Most memory of the arena; None: no limit.
    provider
        What runs it; operators that it does not have run on the CPU.

    Raises
    ------
    ProviderError
        When the provider does not take it.
    ModelError
        When the bytes are not a model that ONNX Runtime can run, or keep weights in other files.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = arena
    if threads > 1:  # or the threads of one model go on spinning where those of the next one have to work
        options.add_session_config_entry("session.force_spinning_stop", "1")
    if provider.one_by_one:
        options.add_free_dimension_override_by_name("N", 1)
    options.log_severity_level = 4  # what goes wrong is raised, not printed
    # Weights in other files are covered by no card's digest, and would be looked up from the current folder.
    folder = f"{os.devnull}/weights belong into the graph" if weights is None else str(weights.absolute())
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    try:
        with limited_memory(options, memory_bytes):
            if provider.is_cpu:
                return ort.InferenceSession(content, options, providers=[CPU.name])
            return on_provider(ort.InferenceSession, content, options, provider, name)
    except ProviderError:
        raise
    except Exception as error:  # ONNX Runtime raises a family of unrelated classes
        advice = (
            "Embed the weights in the ONNX file, then add it."
            if weights is None and "xternal data" in str(error)
            else "The file is corrupt or needs a newer ONNX Runtime; add it again."
        )
        raise ModelError(
            f"model {name!r}: expected an ONNX graph that ONNX Runtime {ort.__version__} can run, got: "
            f"{first_line(error)}. {advice}"
        ) from error


def first_line(error: Exception) -> str:
    """The first line of what ONNX Runtime says, bounded."""
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
