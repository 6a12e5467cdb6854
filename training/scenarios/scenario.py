"""The scenario: a device with little storage whose environment changes, from the alarm to the specialist."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selector.answering.answers import Prediction
from selector.answering.selector import Selector
from selector.answering.view import Asked
from selector.bundle.bundle import read_bundle
from selector.device.device import Device
from selector.device.reconciler import Round
from selector.fleet.app import Service, make_app
from selector.fleet.group_tasks import tasks_for
from selector.fleet.groups import FILE as GROUPS_FILE
from selector.fleet.groups import SCHEMA_VERSION as GROUPS_VERSION
from selector.fleet.groups import Groups, Rule
from selector.fleet.ledger import Ledger
from selector.fleet.schedule import assign_groups
from selector.fleet.server import serving
from selector.fleet.signatures import Signatures
from selector.fleet.tokens import Tokens
from selector.worth.best_set import worth
from selector.worth.value import task_worth
from training.evaluation.timeline import Answer, Mark, Phase, Timeline, phase_of
from training.scenarios.replay import replay
from training.scenarios.reused import Say
from training.scenarios.specialists import TASK, Published
from training.scenarios.surroundings import HERE, Surroundings, network_of
from zoo.errors import DataError
from zoo.files import encode_record, write_atomic
from zoo.publisher.assignments import sign_assignments
from zoo.publisher.keys import Keys
from zoo.publisher.publish import published as published_index
from zoo.remote.network import Network

GROUP = "cameras"
UPDATE_INTERVAL_S = 5.0  # between two looks of the device at the publisher, unless an alarm wakes it
SERVED_UPDATE_INTERVAL_S = 1.0  # the same where a server decides, so that assignments come soon
SETTLE_TIMEOUT_S = 60.0  # longest wait for looks of the device, before the first change and after
KILLED_AT, STARTED_AT = 0.25, 0.5  # shares of the phase in which the server of models is killed
LEAD_SHARE = 0.5  # share of a phase that is left when the server assigns the next specialist


@dataclass(frozen=True)
class Settings:
    """How a scenario runs."""

    environments: tuple[str, ...]  # in which the device is, one after another; some without a specialist
    inputs: int = 400  # of each
    budget_bytes: int = 1_000_000
    inputs_per_s: float = 50.0
    precision: float = 0.9
    server: bool = False  # a server controls what the device holds
    seed: int = 0
    networks: tuple[str, ...] = ()  # one for each environment; none where no server is asked for answers
    deadline_s: float = 0.5  # of an answer that asks a server
    update_interval_s: float | None = None  # between two looks of the device; None: what is usual
    inputs_a_look: int | None = None  # after so many, inputs wait for a look: then no clock says what happens


def run_scenario(
    root: Path,
    published: Published,
    settings: Settings,
    *,
    around: Surroundings | None = None,
    say: Say = print,
) -> Timeline:
    """Let a device answer in changing environments, and write down what happens.

    Parameters
    ----------
    root
        Folder for the device and the service, made anew.
    around
        What the networks of the settings change. In the middle its server is killed, and started again.

    Raises
    ------
    DataError
        When there are too few test images, or no environment.
    """
    if not settings.environments or settings.inputs < 1 or not settings.inputs_per_s > 0:
        raise DataError("expected environments, inputs and a rate above 0, got none of one of them.")
    if settings.networks and (around is None or len(settings.networks) != len(settings.environments)):
        raise DataError("expected a network for each environment, and what they are networks of.")
    networks = [network_of(name) for name in settings.networks]
    streams = [_stream(published, settings, i) for i in range(len(settings.environments))]
    for folder in (root / "device", root / "service"):
        shutil.rmtree(folder, ignore_errors=True)
    start = time.perf_counter()
    reported: dict[str, int] = {}
    with (
        _served(root / "service", published, settings) as (direct, operator, token),
        contextlib.nullcontext(direct) if around is None else around.publisher(direct) as url,
    ):
        device = Device.set_up(
            root / "device",
            url,
            published.root,
            budget_bytes=settings.budget_bytes,
            group=GROUP,
            service=url,
            token=token,
            servers=() if around is None else (around.address,),
        )
        run = _Run(device, settings, operator, published, around, networks)
        try:
            run.begin(streams[0])
            for i, stream in enumerate(streams):
                over = f", {networks[i].name}" if networks else ""
                say(f"{settings.inputs} inputs under {settings.environments[i]}{over} …")
                run.phase(i, stream)
                reported |= operator.alarms()
        finally:
            if around is not None:
                around.become(HERE)
            device.close()
    own, phases = _judged(run, streams, published, settings)
    return Timeline(
        title=published.title,
        control="server" if settings.server else "device",
        budget_bytes=settings.budget_bytes,
        inputs_per_s=settings.inputs_per_s,
        precision=settings.precision,
        phases=tuple(phases),
        marks=tuple(run.marks),
        answers=tuple(run.answers),
        own=tuple(own),
        longest_ms=max(answer.latency_ms for answer in run.answers),
        reported=reported,
        seconds=time.perf_counter() - start,
        deadline_ms=settings.deadline_s * 1e3 if networks else None,
        as_good=None  # times of a network are those of then
        if networks
        else replay(
            {published.name(one): folder for one, folder in published.bundles.items()},
            [image for stream in streams for image in stream.images],
            [label for stream in streams for label in stream.labels],
            run.answers,
            budget_bytes=settings.budget_bytes,
            precision=settings.precision,
            seed=settings.seed,
        ),
    )


@dataclass(frozen=True)
class _Stream:
    images: list[NDArray[np.uint8]]
    labels: list[str]


def _stream(published: Published, settings: Settings, number: int) -> _Stream:
    """Test images of one environment in a random order, none twice."""
    data = published.test_images(settings.environments[number])
    if len(data) < settings.inputs:
        raise DataError(
            f"expected {settings.inputs} test images, got {len(data)}. Ask for fewer with --inputs."
        )
    order = np.random.default_rng((settings.seed, number)).permutation(len(data))[: settings.inputs]
    return _Stream([data.image(int(i)) for i in order], [data.classes[data.labels[i]] for i in order])


class _Operator:
    """The side of the server: what it knows, and what it assigns."""

    def __init__(self, folder: Path, published: Published, ledger: Ledger, budget_bytes: int) -> None:
        self._folder, self._published, self._ledger = folder, published, ledger
        self._budget_bytes = budget_bytes
        self._signatures = Signatures(published.repo, published.keys)

    def assign(self, environments: Sequence[str]) -> str:
        """Have the devices hold the variants for these environments; returns what was assigned, in words."""
        index = published_index(self._published.repo)
        bundles = {
            self._published.name(one): read_bundle(self._published.bundles[one]) for one in environments
        }
        known = {name: one.accuracy for name, one in index.models.items() if one.accuracy is not None}
        tasks = [task_worth(bundle, name=name, known=known) for name, bundle in bundles.items()]
        best = worth(tasks, index, budget_bytes=self._budget_bytes)
        names = tuple(bundles)
        rule = Rule(models=best.models, bundles=names)
        groups = Groups(schema_version=GROUPS_VERSION, groups={GROUP: rule})
        write_atomic(self._folder / GROUPS_FILE, encode_record(groups))
        assign_groups(
            self._published.repo,
            self._ledger.tally,
            lambda index, demand: tasks_for(self._published.repo, index, demand),
            sign=self._signatures.assignments,
            settings=self._folder,
            lately_s=86400.0,
        )
        return ", ".join(names)

    def alarms(self) -> dict[str, int]:
        """Bundle → devices whose newest report says that its inputs have drifted."""
        demand = self._ledger.tally.demand(GROUP, since=0.0)
        return {name: one.alarms for name, one in demand.bundles.items() if one.alarms}


@contextlib.contextmanager
def _served(folder: Path, published: Published, settings: Settings) -> Iterator[tuple[str, _Operator, str]]:
    folder.mkdir(parents=True)
    tokens = Tokens(folder / "tokens.json")
    token = tokens.add("device", GROUP)
    ledger = Ledger(folder)
    try:
        operator = _Operator(folder, published, ledger, settings.budget_bytes)
        if settings.server:
            operator.assign(settings.environments[:1])
        else:  # a run before may have left an assignment, which the device would follow
            sign_assignments(published.repo, Keys.open(published.keys), (), remove=(GROUP,))
        with serving(make_app(published.repo, Service(tokens, ledger))) as url:
            yield url, operator, token
    finally:
        ledger.close()


@dataclass
class _Run:
    """A device under way, and what was written down of it."""

    device: Device
    settings: Settings
    operator: _Operator
    published: Published
    around: Surroundings | None = None
    networks: Sequence[Network] = ()
    answers: list[Answer] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    _moved: int = 0
    _seen: Round | None = None
    _unknown: tuple[str, ...] = ()
    _sent: int = 0  # before the first phase
    _stage: int = 0  # of what happens to the server of models
    _problem: str = ""

    def begin(self, stream: _Stream) -> None:
        """Install the task, and wait until the device has what pays in its first environment."""
        self._moved += self.device.install(TASK).bytes_on_wire
        if self.around is not None and self.networks:
            self.around.become(self.networks[0])
        usual = SERVED_UPDATE_INTERVAL_S if self.settings.server else UPDATE_INTERVAL_S
        given = self.settings.update_interval_s
        self.device.start(every_s=usual if given is None else given)
        for image in stream.images[: max(60, len(stream.images) // 4)]:
            self._predict(image)
        self.device.selector().reset_drift()
        self._wait_for_looks(2)
        self.device.selector().warm_up(*stream.images[0].shape[:2])
        self.marks.clear()
        self._sent = 0 if self.around is None else self.around.sent_bytes

    def phase(self, number: int, stream: _Stream) -> None:
        """One environment: an input, its answer, and whatever has happened meanwhile."""
        environments = self.settings.environments
        if number and environments[number] != environments[number - 1]:
            self._mark("change", environments[number])
        if self.around is not None and self.networks:
            self.around.become(self.networks[number])
            if number and self.networks[number] != self.networks[number - 1]:
                self._mark("network", self.networks[number].name)
        attacked = len(environments) // 2 + 1  # the phase in which the server of models is killed
        pushed = not self.settings.server or number + 1 >= len(environments)
        due = time.perf_counter()
        for i, (image, label) in enumerate(zip(stream.images, stream.labels, strict=True)):
            if not pushed and i >= (1 - LEAD_SHARE) * len(stream.images):
                pushed = True
                ahead = [name for name in environments[: number + 2] if name in self.published.bundles]
                self._mark("push", self.operator.assign(tuple(dict.fromkeys(ahead[-2:]))))
            if number >= attacked:
                self._attack(i / len(stream.images) if number == attacked else 1.0)
            self._answer(image, label)
            if self.settings.inputs_a_look is not None and (i + 1) % self.settings.inputs_a_look == 0:
                self._wait_for_looks(1)
            due += 1 / self.settings.inputs_per_s
            time.sleep(max(0.0, due - time.perf_counter()))

    def _predict(self, image: NDArray[np.uint8]) -> Prediction:
        asked: Asked = {} if self.around is None else {"remote_deadline_s": self.settings.deadline_s}
        return self.device.predict(image, precision=self.settings.precision, **asked)

    def _attack(self, share: float) -> None:
        """Kill the server of models at a fourth of a phase, start it again at a half."""
        if self.around is None:
            return
        server = self.around.server
        if self._stage == 0 and share >= KILLED_AT:
            server.kill()
            self._mark("server", "killed")
        elif self._stage == 1 and share >= STARTED_AT:
            server.start()
            self._mark("server", "started again")
        elif self._stage == 2 and server.up.is_set():
            self._mark("server", "answers again")
        else:
            return
        self._stage += 1

    def _answer(self, image: NDArray[np.uint8], label: str) -> None:
        selector, bundle = self.device.selector(), self.device.variant().bundle
        was = selector.drifted
        start = time.perf_counter()
        answer = self._predict(image)
        waited = time.perf_counter() - start
        if selector.drifted and not was:
            status = selector.drift
            self._mark("alarm", "" if status is None else ", ".join(status.moved[:3]))
        self._look()
        last = self.answers[-1].bundle if self.answers else bundle
        if bundle != last:
            self._mark("switch", bundle)
        self.answers.append(
            Answer(
                right=answer.label == label,
                certified=answer.certified,
                model=answer.model,
                bundle=bundle,
                latency_ms=waited * 1e3,
                bytes_moved=self._moved,
                stored_bytes=self.device.store.used_bytes(),
                installed=tuple(item.release.name for item in self.device.store.installed.models),
                asked=bool(selector.bundle.on_servers(self.device.config.asked) & set(answer.path)),
                reason=answer.reason,
                sent_bytes=0 if self.around is None else self.around.sent_bytes - self._sent,
            )
        )

    def _wait_for_looks(self, count: int) -> None:
        """Until the device has looked at the publisher so often, from what was last noted on."""
        patience = time.monotonic() + SETTLE_TIMEOUT_S
        while count and time.monotonic() < patience:
            if self.device.last is not self._seen:
                count -= 1
                self._look()
            time.sleep(0.02)

    def _look(self) -> None:
        """Note what the last round has brought."""
        found = self.device.last
        if found is None or found is self._seen:
            return
        self._seen = found
        change = found.change
        if change is not None:
            self._moved += change.bytes_on_wire
            if change.installed:
                self._mark("fetch", ", ".join(change.installed))
            if change.evicted or change.removed:
                self._mark("evict", ", ".join((*change.evicted, *change.removed)))
        if found.unknown and found.unknown != self._unknown:
            self._mark("unknown", ", ".join(found.unknown))
        self._unknown = found.unknown
        problem = "" if found.problem is None else str(found.problem)
        if problem and problem != self._problem:
            self._mark("problem", problem)
        self._problem = problem

    def _mark(self, kind: str, text: str) -> None:
        self.marks.append(Mark(at=len(self.answers), kind=kind, text=text))  # type: ignore[arg-type]


def _judged(
    run: _Run, streams: Sequence[_Stream], published: Published, settings: Settings
) -> tuple[list[bool | None], list[Phase]]:
    """Every phase beside its specialist alone, which answers the same inputs with the same models."""
    own: list[bool | None] = []
    phases: list[Phase] = []
    moved = sent = 0
    for i, stream in enumerate(streams):
        environment = settings.environments[i]
        first, end = i * settings.inputs, (i + 1) * settings.inputs
        answers = run.answers[first:end]
        folder = published.bundles.get(environment)
        alone = [None] * len(answers) if folder is None else _alone(folder, answers, stream, settings)
        own += alone
        name = None if folder is None else published.name(environment)
        network = settings.networks[i] if settings.networks else None
        before = {"moved_before": moved, "sent_before": sent}
        phases.append(
            phase_of(environment, name, first, answers, alone, run.marks, network=network, **before)
        )
        moved, sent = answers[-1].bytes_moved, answers[-1].sent_bytes
    return own, phases


def _alone(folder: Path, answers: Sequence[Answer], stream: _Stream, settings: Settings) -> list[bool | None]:
    names = {card.name for card in read_bundle(folder).models}
    held = [name for name in answers[-1].installed if name in names]
    selector = Selector.load(folder, models=held or None, watch=False)
    found = selector.predict_batch(stream.images, settings.precision)
    return [one.label == label for one, label in zip(found, stream.labels, strict=True)]
