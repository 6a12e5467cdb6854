"""Weights from files: state dicts, checkpoints that hold one, and arrays; nothing in a file is executed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.errors import MissingExtraError, ModelError
from zoo.extras import install_command
from zoo.files import open_file, read_npz
from zoo.quiet import quiet

# Keys under which training scripts keep the weights beside an optimizer and an epoch, the likeliest first.
MAX_NPZ_BYTES = 4 * 2**30  # unpacked
_HOLDERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "model_state", "weights")
# What wrappers of torch and Lightning put before the name of every weight.
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.")
_COUNTS = ("num_batches_tracked", "n_averaged")  # of steps, which answers do not depend on
_SHOWN = 4  # names in a message


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The weights in a file by name, as they are stored.

    ``.safetensors`` and ``.npz`` are read by their own libraries, everything else by torch with
    ``weights_only=True``, which makes tensors and plain containers only and runs nothing of the file. Where
    the weights are one entry of a checkpoint (``state_dict``, ``model_state_dict``, ``model``), that entry is
    taken.

    Raises
    ------
    ModelError
        When the file cannot be read, holds other objects than tensors, or a whole model; the message says how
        to save the weights alone.
    MissingExtraError
        When the package for ``.safetensors`` is not installed.
    """
    path = Path(path)
    if path.suffix.lower() == ".npz":
        return _read_npz(path)
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    try:
        with quiet(), open_file(path) as stream:
            found = torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a family of unrelated classes for a bad file
        raise ModelError(_why_not(path, error)) from error
    held, where = found, ""
    while isinstance(held, Mapping) and not _is_state(held):
        key = next((key for key in _HOLDERS if isinstance(held.get(key), Mapping)), None)
        if key is None:
            break
        held, where = held[key], f"{where}[{key!r}]"
    if not isinstance(held, Mapping) or not held or not _is_state(held):
        raise ModelError(f"{path}: expected a state dict (name → tensor), got {_describe(held, where)}.")
    return dict(held)


def load_state(network: nn.Module, path: str | Path, *, what: str, unused: tuple[str, ...] = ()) -> None:
    """Load the weights in a file into `network`; see :func:`read_state`.

    Parameters
    ----------
    what
        What the network is, for the messages.
    unused
        Beginnings of names that are left out of the file's weights: parts that answers do not need.

    Raises
    ------
    ModelError
        When the file has no weights, or not those of this network.
    """
    fit_state(network, read_state(path), path, what=what, unused=unused)


def fit_state(
    network: nn.Module,
    state: Mapping[str, Tensor],
    path: str | Path,
    *,
    what: str,
    unused: tuple[str, ...] = (),
) -> None:
    """Load weights that :func:`read_state` returned into `network`.

    Names may begin with what wrappers put before them: ``module.`` (data parallel, averaged), ``_orig_mod.``
    (compiled), ``model.`` (Lightning).

    Raises
    ------
    ModelError
        When a tensor is missing, unknown, of another shape, or not finite.
    """
    own = network.state_dict()
    wanted = {key: value for key, value in own.items() if not key.endswith(_COUNTS)}
    given = {
        key: value for key, value in unwrapped(state, wanted).items() if not key.startswith(unused or "\n")
    }
    given = {key: value for key, value in given.items() if not key.endswith(_COUNTS)}
    missing, unknown = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    if missing or unknown:
        raise ModelError(
            f"{path}: expected the {len(wanted)} tensors of {what}; missing: {_some(missing)}; unknown: "
            f"{_some(unknown)}. Name the network that the weights belong to."
        )
    for key, value in given.items():
        shape = list(wanted[key].shape)
        if list(value.shape) != shape or value.is_floating_point() != wanted[key].is_floating_point():
            raise ModelError(
                f"{path}: {key}: expected float {shape} for {what}, got "
                f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}. "
                "Check the name of the network and the number of classes."
            )
        if not torch.isfinite(value).all():
            raise ModelError(f"{path}: {key}: expected finite weights, got NaN or infinite ones.")
    network.load_state_dict({**own, **given})


def unwrapped(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the names of the network that has `wanted`, without what wrappers put before them."""
    found = {key.replace("_orig_mod.", ""): value for key, value in state.items()}
    while not found.keys() & wanted.keys():
        weights = [key for key in found if not key.endswith(_COUNTS)]
        wrapper = next((w for w in _WRAPPERS if weights and all(key.startswith(w) for key in weights)), None)
        if wrapper is None:
            break
        found = {key.removeprefix(wrapper): value for key, value in found.items()}
    return found


def _is_state(held: Mapping[object, object]) -> bool:
    return all(map(_is_plain, held.values()))


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta


def _describe(held: object, where: str) -> str:
    if not isinstance(held, Mapping):
        return f"{type(held).__name__}{' in ' + where if where else ''}"
    others = [f"{key!r} ({type(value).__name__})" for key, value in held.items() if not _is_plain(value)]
    return f"a dict{' in ' + where if where else ''} with {_some(others)}" if held else "an empty dict"


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        arrays = read_npz(path, most_bytes=MAX_NPZ_BYTES)
        return {key: torch.from_numpy(value) for key, value in arrays.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path}: expected an .npz file with one float array a weight, got: {error}."
        ) from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingExtraError(
            f"{path}: needs the package safetensors, which is not installed. "
            f"Install it with: {install_command('timm')}"
        ) from error
    try:
        open_file(path).close()  # or a pipe would be waited for
        return dict(load_file(path))
    except (
        Exception
    ) as error:  # its own classes for a bad file, those of the system for one that is not there
        raise ModelError(f"{path}: expected a .safetensors file, got: {_first_line(error)}.") from error


def _why_not(path: Path, error: Exception) -> str:
    """What is wrong with a file that torch does not read without executing it, and what to do."""
    text = str(error)
    if "TorchScript" in text:
        return (
            f"{path}: expected a state dict, got a TorchScript model, which is not read. Where you trust it, "
            "save its weights in Python: torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt')."
        )
    others = _foreign_classes(path, text)
    if not others:
        return (
            f"{path}: expected a state dict written by torch.save(model.state_dict(), path), got: "
            f"{_first_line(error)}."
        )
    if any(name.startswith("torch.nn.modules.") for name in others):
        return (
            f"{path}: expected a state dict, got a whole model ({_some(others)}), which is not read: that "
            "would execute code. Where you trust it, open it in the program that wrote it and save its "
            "weights: torch.save(model.state_dict(), 'weights.pt'). Or give the module itself to "
            "zoo.convert.add_module."
        )
    return (
        f"{path}: expected a state dict, got a checkpoint with other objects beside the weights "
        f"({_some(others)}), which are not read: that would execute code. Where you trust it, open it in the "
        "program that wrote it and save the weights alone: torch.save(checkpoint['model'], 'weights.pt'), "
        "with the key that holds them."
    )


def _foreign_classes(path: Path, text: str) -> list[str]:
    """Names of the classes in a checkpoint that are not read; found without executing anything."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # files of before torch 1.6, of which torch names the first class only
        names = re.findall(r"GLOBAL ([\w.]+)", text)
    return sorted(names, key=lambda name: (name.startswith("torch."), name))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown or "none"
