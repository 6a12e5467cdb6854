"""Fairness: what a group reports costs no other group its decision, and counts as long as its token does."""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

import selector.fleet.schedule
from selector.fleet.decide import Decision
from selector.fleet.schedule import Turns, assign_groups
from selector.fleet.tally import MAX_QUESTION_KINDS, MOST_COUNTED, GroupDemand, Received, Tally
from selector.fleet.tokens import SCHEMA_VERSION, Token, TokenFile, Tokens
from selector.telemetry.demand import AskedDemand
from selector.telemetry.report import Held, encode_report
from selector.worth.best_set import TaskWorth
from tests.support.small_releases import index_of
from tests.support.small_service import Client, demand, report, running
from zoo.errors import PublishError, ServiceError
from zoo.files import encode_record
from zoo.releases.release import Assignment, Index

INDEX = index_of({"small": {"s": 90}, "big": {"b": 990}}, {"birds": ("small", "big")})
BIRDS = TaskWorth(name="birds", ways=(), singles={"big": 0.9, "small": 0.5}, answers=100)


def made_up(devices: int) -> Tally:
    """A group whose devices each name 32 bundles and as many models that nobody has published."""
    tally = Tally()
    for i in range(devices):
        own = tuple(demand(f"d{i}-{j}", 10, 4, asked=(), models={f"m{i}-{j}": 4}) for j in range(16))
        held = tuple(Held(name=f"h{i}-{j}", version=1) for j in range(16))
        models = tuple(Held(name=f"x{i}-{j}", version=1) for j in range(16))
        tally.add(Received(at=1.0, report=report(i, bundles=held, models=models, demand=own)))
    return tally


def steps(tally: Tally) -> int:
    """Calls of functions that it takes to sum a group up; no other load on the machine changes them."""
    count = 0

    def note(frame: object, event: str, _: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        tally.demand("cameras", since=0, published=INDEX)
    finally:
        sys.setprofile(None)
    return count


def test_a_sum_takes_steps_in_proportion_to_the_reports() -> None:
    few, many = made_up(20), made_up(80)
    assert steps(many) < 4.5 * steps(few)
    assert steps(few) < 20 * 200


def test_names_that_are_not_published_do_not_count() -> None:
    tally = made_up(3)
    tally.add(Received(at=1.0, report=report(7)))
    found = tally.demand("cameras", since=0, published=INDEX)
    assert list(found.bundles) == ["birds"]
    assert (found.window, found.held, found.bundles["birds"].models) == (10, {"small": 1}, {"big": 4})
    assert set(found.versions) == {"bundles/birds", "models/small"}
    assert found.left_out == 3 * (16 + 16 + 16)
    everything = tally.demand("cameras", since=0)
    assert (len(everything.bundles), everything.left_out) == (97, 0)


def test_kinds_of_question_that_devices_make_up_are_forgotten() -> None:
    tally = Tally()
    for i in range(2 * MOST_COUNTED // 16):
        asked = [AskedDemand(kind="mean_ms", level=16.0 * i + j, answers=1, unmet=1) for j in range(15)]
        common = AskedDemand(kind="precision", level=0.9, answers=9, unmet=2)
        tally.add(Received(at=1.0, report=report(i, demand=(demand(answers=99, asked=(common, *asked)),))))
    birds = tally.demand("cameras", since=0, published=INDEX).bundles["birds"]
    assert birds.asked[0] == AskedDemand(kind="precision", level=0.9, answers=9 * 512, unmet=2 * 512)
    assert (len(birds.asked), birds.window) == (MAX_QUESTION_KINDS, 99 * 512)


def test_quick_groups_come_first_and_slow_ones_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(selector.fleet.schedule.time, "perf_counter", lambda: now)
    turns = Turns(slow_s=1.0, round_s=5.0)
    rounds = []
    for _ in range(4):
        rounds.append("")
        for name, _slow in turns.take({"a", "X", "b", "Y", "Z"}):
            rounds[-1] += name
            now += 4.0 if name.isupper() else 0.1
    assert rounds == ["XYZab", "abXY", "abZX", "abYZ"]
    assert [name for name, _ in turns.take({"b", "new"})] == ["b", "new"]


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is published is INDEX, whatever the folder."""
    monkeypatch.setattr(selector.fleet.schedule, "index_from_folder", lambda _: INDEX)


def groups(*names: str) -> Tally:
    tally = Tally()
    for name in names:
        own = (demand(answers=1000),)
        tally.add(Received(at=time.time(), report=report(group=name, demand=own), token="0" * 64))
    return tally


@pytest.mark.usefixtures("published")
def test_a_group_that_fails_or_cannot_be_signed_stops_no_other(tmp_path: Path) -> None:
    signed: list[str] = []

    def tasks(_: Index, asked: GroupDemand) -> list[TaskWorth]:
        if asked.group == "broken":
            raise ZeroDivisionError("a fault that nobody thought of")
        return [BIRDS]

    def sign(assignments: Sequence[Assignment], _: Sequence[str]) -> None:
        names = [one.group for one in assignments]
        if "refused" in names:
            raise PublishError("group refused: not published any more")
        signed.extend(names)

    tally = groups("a", "broken", "refused", "z")
    with pytest.raises(ServiceError, match=r"broken: a fault.*refused: not.*The other groups") as caught:
        assign_groups(tmp_path, tally, tasks, sign=sign, settings=tmp_path, lately_s=1e3)
    assert "group a" not in str(caught.value)
    assert signed == ["a", "z"]


@pytest.mark.usefixtures("published")
def test_quick_groups_are_signed_before_a_slow_one_is_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(selector.fleet.schedule.time, "perf_counter", lambda: now)
    done: list[str] = []

    def tasks(_: Index, asked: GroupDemand) -> list[TaskWorth]:
        nonlocal now
        now += 100.0 if asked.group == "attacked" else 0.01
        done.append(asked.group)
        return [BIRDS]

    def sign(assignments: Sequence[Assignment], _: Sequence[str]) -> None:
        done.append("signed " + " ".join(one.group for one in assignments))

    def round_of(turns: Turns | None) -> list[Decision]:
        done.clear()
        tally = groups("attacked", "b", "c")
        return assign_groups(tmp_path, tally, tasks, sign=sign, settings=tmp_path, lately_s=1e3, turns=turns)

    turns = Turns()
    round_of(turns)
    assert [one.group for one in round_of(turns)] == ["attacked", "b", "c"]
    assert done == ["b", "c", "signed b c", "attacked", "signed attacked"]


def test_reports_leave_with_their_token(tmp_path: Path) -> None:
    with running(tmp_path) as (client, service):
        other = service.tokens.add("device", "cameras")
        for i in range(3):
            client.post(report(i, demand=(demand(answers=1000, unmet=1000),)))
        client.post(report(7), authorization=f"Bearer {other}")
        assert asked(client)["devices"] == 4
        withdraw(service.tokens, client.token)
        found = asked(client)
        assert (found["devices"], found["withdrawn"], found["window"]) == (1, 3, 10)
        assert client.post(report(1, 2), authorization=f"Bearer {other}").json["new"]
        assert asked(client)["devices"] == 2
    with running(tmp_path) as (client, _):  # also after a restart
        assert (asked(client)["devices"], asked(client)["withdrawn"]) == (2, 2)


def asked(client: Client) -> dict[str, int]:
    got = client.ask("GET", "/v1/groups/cameras", authorization=f"Bearer {client.operator}")
    found: dict[str, int] = got.json
    return found


def withdraw(tokens: Tokens, token: str) -> None:
    """Delete the entry of a token, as the runbook says."""
    entry = tokens.find(token)
    assert entry is not None
    left = tuple(one for one in tokens.valid() if one != entry)
    tokens.path.write_bytes(encode_record(TokenFile(schema_version=SCHEMA_VERSION, tokens=left)))


@pytest.mark.usefixtures("published")
def test_a_decision_says_how_many_devices_no_longer_count(tmp_path: Path) -> None:
    (one,) = assign_groups(
        tmp_path,
        groups("cameras"),
        lambda *_: [BIRDS],
        sign=None,
        settings=tmp_path,
        lately_s=1e3,
        tokens=lambda: (),
    )
    assert not one.changed
    assert "1 devices do not count, their token is no longer valid" in one.reason


def test_of_reports_that_tell_no_token_one_that_is_as_old_has_to_do() -> None:
    tally = Tally()
    tally.add(Received(at=100.0, report=report(1)))
    for made, devices in ((50.0, 1), (150.0, 0)):
        token = Token(sha256="1" * 64, role="device", group="cameras", made=made)
        assert tally.demand("cameras", since=0, tokens=[token]).devices == devices
    phones = Token(sha256="1" * 64, role="device", group="phones", made=50.0)
    assert tally.demand("cameras", since=0, tokens=[phones]).withdrawn == 1


def test_a_report_takes_no_more_memory_than_bytes_on_the_wire() -> None:
    names = {f"m{i}": 1 for i in range(90)}
    large = report(demand=tuple(demand(f"b{j}", 9, 1, asked=(), models=names) for j in range(16)))
    tally = Tally()
    tracemalloc.start()
    try:
        for i in range(20):
            tally.add(Received(at=1.0, report=msgspec.structs.replace(large, device=f"{i:032x}")))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 20 * (len(encode_report(large)) + 2048)
    assert tally.newest()[0].report == msgspec.structs.replace(large, device=f"{0:032x}")
