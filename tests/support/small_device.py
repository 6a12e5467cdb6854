"""How tests use a device, and wait for what happens in its background."""

from __future__ import annotations

import time
from collections.abc import Callable

from selector.device.device import Device
from selector.device.reconciler import MIN_ANSWERS_TO_FETCH
from tests.support.small_models import plain_image


def until(claim: Callable[[], bool], seconds: float = 100.0) -> None:
    """Wait for something that happens in the background; only a hang takes all these seconds."""
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.002)


def ask(device: Device, count: int = MIN_ANSWERS_TO_FETCH) -> None:
    for i in range(count):
        device.predict(plain_image(("red", "green", "blue")[i % 3]))
