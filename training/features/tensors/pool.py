"""The pool of named arrays: which features there are of an array, and which numbers a scout reads."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zoo.inputs.tensors import Array

MAX_SMALL = 32  # numbers of an array that are features as they are
MAX_READ = 1024  # numbers of an input that a scout reads
MAX_WATCHED = 10
LIMIT = 1e6  # beyond which numbers are cut off: statistics of float32 stay finite
STATISTICS = ("mean", "log_std", "largest", "smallest", "pad_share")


def names_of(one: Array) -> tuple[str, ...]:
    """The features of one array."""
    if not one.shape:
        return (one.name,)
    numbers = math.prod(one.shape)
    if numbers <= MAX_SMALL:
        return tuple(f"{one.name} {i}" for i in range(numbers))
    return tuple(f"{one.name} {what}" for what in STATISTICS if what != "pad_share" or one.pad is not None)


def places(arrays: Sequence[Array], grid: int) -> NDArray[np.int64]:
    """Which numbers ``[grid]`` of an input are read, in the order of its arrays."""
    total = sum(math.prod(one.shape) for one in arrays)
    found: NDArray[np.int64] = np.arange(grid) * total // grid
    return found
