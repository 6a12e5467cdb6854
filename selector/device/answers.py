"""Answers of a device from what is installed, each task with the variant that its inputs look like."""

from __future__ import annotations

from typing import Unpack

from selector.answering.following import StoreSelector
from selector.answering.selector import Prediction
from selector.answering.view import Asked
from selector.device.turns import Turns
from selector.device.variants import Variant, Variants
from selector.drift.monitor import DriftStatus
from zoo.errors import BundleError, DigestError, LimitError, ModelNotFoundError
from zoo.inputs.kinds import InputLike


class Answers:
    """What a device answers with: a selector for each installed task; see :class:`.device.Device`."""

    def __init__(self, variants: Variants, turns: Turns) -> None:
        self._variants = variants
        self._turns = turns

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the installed tasks."""
        return self._variants.tasks

    def selector(self, task: str | None = None) -> StoreSelector:
        """The selector of the variant that answers for a task now; without a name, of the only task.

        Raises
        ------
        BundleError
            When it is not installed, or there are several and none is named.

        Examples
        --------
        >>> device.selector().classes
        ('red', 'green', 'blue')
        """
        return self._variants.selector(self._variants.named(task))

    def predict(
        self,
        image: InputLike,
        precision: float | None = None,
        *,
        task: str | None = None,
        **asked: Unpack[Asked],
    ) -> Prediction:
        """Answer one image with what is installed; see :meth:`selector.Selector.predict`.

        When inputs have drifted, the variant that they look like is looked for beside the answers.

        Examples
        --------
        >>> device.predict("photos/green/1.png", accuracy=0.9).label
        'green'
        """
        name = self._variants.named(task)
        selector = self._variants.selector(name)
        try:
            answer = selector.predict(image, precision, **asked)
        except (BundleError, DigestError, ModelNotFoundError):
            other = self._variants.rescue(name)  # what the variant had was evicted for another one
            if other is None or other is selector:
                raise
            return other.predict(image, precision, **asked)
        if selector.drifted:
            self._turns.notice(name, selector)
        return answer

    @property
    def left_out(self) -> tuple[LimitError, ...]:
        """Why models or graphs do not answer any more: each took more time or memory than it may."""
        return self._variants.left_out

    def variant(self, task: str | None = None) -> Variant:
        """Which bundle answers for a task now; raises like :meth:`selector`.

        Examples
        --------
        >>> device.variant().bundle
        'colours'
        """
        release = self._variants.active(self._variants.named(task))
        return Variant(release.task, release.name, release.environment)

    def variants(self, task: str | None = None) -> tuple[Variant, ...]:
        """All installed bundles of a task; raises like :meth:`selector`.

        Examples
        --------
        >>> [variant.environment for variant in device.variants()]
        [None]
        """
        releases = self._variants.of(self._variants.named(task))
        return tuple(Variant(one.task, one.name, one.environment) for one in releases)

    def use(self, task: str, environment: str | None = None) -> Variant:
        """Go on with the installed variant for an environment, or with the task's own for None.

        It is remembered, until inputs say otherwise or this is called again.

        Raises
        ------
        BundleError
            When it is not installed.

        Examples
        --------
        >>> device.use("colours").environment is None
        True
        """
        return self._variants.use(task, environment)

    def drift(self, task: str | None = None) -> DriftStatus | None:
        """Whether the inputs of a task have drifted; None where its bundle cannot tell.

        Examples
        --------
        >>> device.drift() is None  # this bundle cannot tell
        True
        """
        return self.selector(task).drift
