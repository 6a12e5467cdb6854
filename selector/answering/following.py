"""A Selector over a device's store: it follows what is installed and evicted while it answers."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection, Mapping

from selector.answering.batches import Batch
from selector.answering.follower import Follower, breathe
from selector.answering.recent import Recalled
from selector.answering.runners import Outcome
from selector.answering.selector import Selector
from selector.answering.view import Asked, Course, View, check_threads
from selector.bundle.bundle import Bundle
from selector.bundle.source import StoreSource, state_of
from zoo.errors import LimitError, ZooError
from zoo.models.limits import RunLimits
from zoo.store.store import Store

STORE_CHECK_INTERVAL_S = 1.0  # how often answers have the store looked at
VIEW_RELEASE_DELAY_S = 1.0  # until no answer uses what was replaced any more


class StoreSelector(Selector):
    """Answers with what is installed in a device's store.

    The store is looked at when :meth:`update` is called, and in the background from time to time while images
    are answered. Safe to use from several threads at once.

    Parameters
    ----------
    store
        The store of the device.
    task
        Name of the installed bundle.
    threads, costs_of, watch
        As for :meth:`.Selector.load`.
    limits
        What a model or a graph may take for one input; None: anything. One that takes more is left out as
        soon as another has answered that input: where none can, the input is to blame.
    servers
        Addresses of the servers that may be asked.

    Raises
    ------
    BundleError
        When the bundle is not installed, or none of its models is.
    DigestError, CardError, SchemaVersionError
        When the bundle's record is damaged or of another version.
    """

    def __init__(
        self,
        store: Store,
        task: str,
        *,
        threads: int = 1,
        costs_of: str | None = None,
        watch: bool = True,
        limits: RunLimits | None = None,
        servers: Collection[str] = (),
    ) -> None:
        check_threads(threads)
        self.store = store
        self.task_name = task
        self._costs_of = costs_of
        self._watch = watch
        self._limits = limits
        self._servers = servers
        self._failed: dict[str, LimitError] = {}  # digest of a model, or of a bundle whose graph it was → why
        self._seen = state_of(store)  # the store's state that the view was made from
        super().__init__(self._view_of_store(threads), store.folder, threads=threads)
        self._look_at = time.perf_counter() + STORE_CHECK_INTERVAL_S
        self._switching = threading.Lock()
        self._left: list[View] = []  # replaced, kept while answers may still use them
        self._problem: ZooError | None = None
        self._follower = Follower(self._follow)

    def _view_of_store(self, threads: int, before: View | None = None) -> View:
        """The view of what the store holds now; raises :class:`ZooError` where that cannot answer."""
        source = StoreSource.of(self.store, self.task_name, self._limits, servers=self._servers)
        breathe()
        bundle = source.bundle()
        breathe()
        return self._view_without(self._failed, bundle, source, threads=threads, before=before)

    def _view_without(
        self,
        failed: Mapping[str, LimitError],
        bundle: Bundle,
        source: StoreSource,
        *,
        threads: int,
        before: View | None,
    ) -> View:
        """The view of a bundle without what took too much; with all of it where no model would be left."""
        held = source.held(bundle)
        usable = tuple(name for name in held if bundle.card(name).sha256 not in failed)
        record = source.release.record.sha256
        graphs = {error.part for digest, error in failed.items() if digest == record}
        return View(
            bundle,
            source,
            usable or held,
            threads=threads,
            costs_of=self._costs_of,
            watch=self._watch,
            before=before,
            left_out={*held} - {*usable} | graphs if usable else (),
            brisk=True,  # a device fetches what fits once inputs have changed, and they may come slowly
        )

    @property
    def problem(self) -> ZooError | None:
        """Why the latest state of the store could not be followed; None where it is followed."""
        return self._problem

    def update(self) -> bool:
        """Switch to the models and the bundle that the store holds now; True when that changed anything.

        Costs one look at a file when nothing was installed or evicted. Other threads answer with the models
        that they have until the new ones are open, and every answer ends with those it began with.

        Raises
        ------
        ZooError
            When the new state cannot be followed. The Selector goes on with the old one, as far as its
            models are open or still there, and tries again when the store has changed.
        """
        with self._switching:
            seen = state_of(self.store)
            if seen == self._seen:
                return False
            self._seen = seen
            try:
                view = self._view_of_store(self.threads, before=self._view)
                if self._view.engine.in_use:
                    view.engine.open(view.needed)
            except ZooError as error:
                self._problem = error
                raise
            self._left.append(self._view)  # or the answer that leaves it last would close its sessions
            self._follower.wake()
            self._view = view
            self._problem = None
            return True

    @property
    def left_out(self) -> tuple[LimitError, ...]:
        """Why models or graphs of this bundle are left out; one comes back with its next version."""
        source = _source_of(self._view)
        known = {source.release.record.sha256, *(card.sha256 for card in self.bundle.models)}
        return tuple(error for digest, error in self._failed.items() if digest in known)

    def recalled(self) -> Recalled:
        """The latest answers, for another process to work out what they ask for."""
        view = self._view
        record = _source_of(view).release.record.sha256
        used = view.reach.used() if view.remote else None
        return view.recent.recalled(self.task_name, record, self.drift, used)

    def _run(
        self,
        images: Batch,
        precision: float | None,
        asked: Asked,
        *,
        answer: bool,
        failed: ZooError | None = None,
    ) -> tuple[View, Course, list[Outcome]]:
        """Outcomes of images; where a model takes more than it may, from a view without it."""
        view, left = self._view, dict[str, LimitError]()
        while True:
            try:
                if isinstance(failed, LimitError) and not left:
                    raise failed
                found = self._run_in(view, images, precision, asked, answer=answer)
            except LimitError as error:
                source = _source_of(view)
                cards = {card.name: card.sha256 for card in view.bundle.models}
                digest = cards.get(error.part, source.release.record.sha256)
                if digest in left or {*view.installed} == {error.part}:
                    raise
                left[digest] = error
                without = self._failed | left
                view = self._view_without(without, view.bundle, source, threads=self.threads, before=view)
            else:
                if left:
                    self._leave_out(left, view)
                return found

    def _leave_out(self, failed: Mapping[str, LimitError], view: View) -> None:
        """Go on without what took too much, now that `view` has answered the input."""
        with self._switching:
            self._failed |= failed
            if self._view.bundle == view.bundle and {*view.installed} <= {*self._view.installed}:
                self._left.append(self._view)
                self._view = view
                self._follower.wake()

    def _look(self, now: float) -> None:
        """Have the store looked at in the background, if that is due."""
        if now > self._look_at:
            self._look_at = now + STORE_CHECK_INTERVAL_S
            self._follower.wake()

    def _after_loss(self, view: View) -> View | None:
        while self._view is view:
            with contextlib.suppress(ZooError):
                self.update()
            if state_of(self.store) == self._seen:
                break
        return None if self._view is view else self._view

    def _follow(self) -> None:
        """Tell the store what was used, follow it, and close what was replaced."""
        for name in self._view.recent.used():
            self.store.touch(name)
        with contextlib.suppress(ZooError):  # kept as `problem`; what is installed goes on answering
            self.update()
        if self._left:
            time.sleep(VIEW_RELEASE_DELAY_S)
            while self._left:
                self._left.pop()
                breathe()


def _source_of(view: View) -> StoreSource:
    source = view.engine.source
    assert isinstance(source, StoreSource)
    return source
