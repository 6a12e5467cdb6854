"""Turns: after an alarm a task goes on with the installed variant that its inputs look like."""

from __future__ import annotations

import contextlib
import threading

from selector.answering.follower import Follower
from selector.answering.following import StoreSelector
from selector.device.variants import Variants
from selector.drift.recognition import MIN_INPUTS_AFTER_ALARM
from zoo.errors import ZooError


class Turns:
    """Looks beside the answers what inputs look like, once that can be told, then less and less often.

    Parameters
    ----------
    wake
        Is set when the store should be brought in line with what was found.
    """

    def __init__(self, variants: Variants, wake: threading.Event) -> None:
        self._variants = variants
        self._wake = wake
        # task → after how many inputs of which Selector to look, and how many to wait from then on
        self._due: dict[str, tuple[StoreSelector, int, int]] = {}
        self._noticer = Follower(self._recognise)

    def notice(self, task: str, selector: StoreSelector) -> None:
        """After an answer to a task whose inputs have drifted."""
        seen = selector.inputs_seen
        watched, due, wait = self._due.get(task, (None, 0, 0))
        if watched is not selector:
            due, wait = seen + MIN_INPUTS_AFTER_ALARM, MIN_INPUTS_AFTER_ALARM
            self._due[task] = (selector, due, wait)
        if seen >= due:
            self._due[task] = (selector, seen + wait, 2 * wait)
            self._noticer.wake()

    def go_on(self) -> None:
        """Have tasks whose inputs have drifted go on with the installed variant that they look like."""
        for task, selector in self._variants.selectors.items():
            if selector.drifted and self._variants.recognise(task) is not None:
                self._due.pop(task, None)
                self._wake.set()  # for what there was no room for beside the variant before

    def _recognise(self) -> None:
        """Go on with installed variants that fit, and in any case have a round begin now."""
        with contextlib.suppress(ZooError):  # the next round tries again, and keeps what is wrong
            self.go_on()
        self._wake.set()
