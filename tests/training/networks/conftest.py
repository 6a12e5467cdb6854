"""A zoo that several files of tests copy or add to."""

from __future__ import annotations

import pytest

from training.data.sources import digits
from training.networks.family import train_family
from zoo.convert.int8.add_int8 import add_int8
from zoo.models.zoo import Zoo


@pytest.fixture(scope="session")
def digits_zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """``tiny``, taught digits for a moment, and ``tiny-int8``; copy it before you add to it."""
    zoo = Zoo.create(tmp_path_factory.mktemp("digits") / "zoo")
    train_family(zoo, digits(), sizes=("tiny",), epochs=1, progress=False)
    add_int8(zoo, "tiny", [digits().image(i) for i in range(32)], force=True)
    return zoo
