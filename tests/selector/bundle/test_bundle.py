"""Claims about ``bundle.json``: every field is checked and named, certificates are tied to their subject."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selector import Selector
from selector.bundle.bundle import SCHEMA_VERSION, Bundle, bundle_json_schema, read_bundle, subject
from selector.bundle.certificate import Certificate, covering
from selector.policies.constraint import Constraint
from selector.policies.staged import StagedPolicy
from zoo.errors import BundleError, CardError, ModelNotFoundError, SchemaVersionError

if TYPE_CHECKING:
    from tests.support.world import World

Record = dict[str, Any]


@pytest.fixture
def record(world: World) -> Record:
    loaded: Record = json.loads((world.bundles["input"] / "bundle.json").read_text())
    loaded["policies"][0].update(rule="threshold", costs_ms=[])
    return loaded


def read(record: Any, folder: Path) -> Bundle:
    (folder / "bundle.json").write_text(record if isinstance(record, str) else json.dumps(record))
    return read_bundle(folder)


def test_a_bundle_reads_back_as_it_was_fitted(world: World) -> None:
    for kind, folder in world.bundles.items():
        assert read_bundle(folder) == world.fits[kind].record.bundle


CHANGES: list[tuple[Callable[[Record], Any], str]] = [
    (lambda r: r.pop("task"), "missing required field `task`"),
    (lambda r: r.update(extra=1), "unknown field `extra`"),
    (lambda r: r.update(classes="red"), r"Expected `array`, got `str` - at `\$.classes`"),
    (lambda r: r.update(classes=["red"]), r"`array` of length >= 2 - at `\$.classes`"),
    (lambda r: r["default"].update(level=1.0), "expected a precision strictly between 0 and 1, got 1.0"),
    (lambda r: r["default"].update(level="high"), r"got `str` - at `\$.default.level`"),
    (lambda r: r["default"].update(kind="speed"), r"Invalid enum value 'speed' - at `\$.default.kind`"),
    (lambda r: r["default"].update(kind="mean_ms", level=-1), "expected a mean_ms strictly between 0"),
    (lambda r: r.update(policies=[]), r"length >= 1 - at `\$.policies`"),
    (lambda r: r["policies"][0].pop("kind"), r"missing required field `kind` - at `\$.policies\[0\]`"),
    (lambda r: r["policies"][0].update(kind="magic"), r"Invalid value 'magic' - at `\$.policies\[0\].kind`"),
    (lambda r: r["policies"][0].update(order=[]), r"length >= 1 - at `\$.policies\[0\].order`"),
    (lambda r: r["policies"][0].update(order=["Tiny"]), r"policies\[0\]: expected distinct models"),
    (lambda r: r["policies"][0].update(rule="price"), "costs_ms: expected 3, one a model, got 0"),
    (lambda r: r["policies"][0].update(among=["full", "tiny"]), r"among: expected some of \['tiny', 'small'"),
    (lambda r: r["models"][1].update(sha256="12"), r"matching regex .* - at `\$.models\[1\].sha256`"),
    (lambda r: r["models"][1].update(file="../x"), "relative path that stays inside"),
    (lambda r: r["certificates"][0].update(samples=0), r">= 1 - at `\$.certificates\[0\].samples`"),
    (lambda r: r["certificates"][0].update(p_value=2), r"<= 1.0 - at `\$.certificates\[0\].p_value`"),
    (lambda r: r["certificates"][0].update(threshold=None), r"got `null` - at `\$.certificates\[0\].thr"),
    (lambda r: r["certificates"][0].update(policy=1), "certificates: expected one of 1 policies, got 1"),
    (lambda r: r["certificates"][0].update(policy=-1), r">= 0 - at `\$.certificates\[0\].policy`"),
    (lambda r: r["certificates"][0]["constraint"].update(level=2), r"expected a \w+ strictly between"),
    (lambda r: r["costs"][0]["models"].update(tiny=-1), r"> 0.0 - at `\$.costs\[0\].models\[...\]`"),
    (lambda r: r["costs"][0]["models"].pop("tiny"), r"costs of 'bench-top': expected each of"),
    (lambda r: r.update(costs=[]), r"length >= 1 - at `\$.costs`"),
    (lambda r: r["models"].append(r["models"][0]), "models: names must be distinct"),
    (lambda r: r.update(by_accuracy=["tiny"]), r"by_accuracy: expected each of \['full', 'small', 'tiny'\]"),
    (lambda r: r["policies"][0].update(order=["tiny", "tiny"]), r"policies\[0\]: expected distinct models"),
    (
        lambda r: r["policies"][0].update(order=["huge"]),
        r"policies\[0\]: expected distinct models of this bund",
    ),
    (
        lambda r: r.update(selector=None),
        r"policies\[0\]: expected a selector graph for its features, got none",
    ),
    (lambda r: r["selector"].update(file="/etc/passwd"), "relative path that stays inside"),
    (lambda r: r["selector"].update(file="a/../../b"), "relative path that stays inside"),
    (lambda r: r.update(classes=["red", "green", "violet"]), "classes: expected the classes of the models"),
]


STATES: list[tuple[Callable[[Record], Any], str]] = [
    (lambda p: p["states"].pop(), r"states: nothing says what to do after \['tiny', "),
    (
        lambda p: p["states"].append(p["states"][0]),
        "states: expected distinct ones, the first with one model",
    ),
    (lambda p: p["states"][2].update(ran=["small", "full"]), r"states: (expected all to begin|nothing says)"),
    (lambda p: p["states"][0]["actions"].append([]), "length >= 1"),
    (lambda p: p["states"][0]["actions"].append(["tiny"]), "costs_ms: expected 3, one an action, got 2"),
    (
        lambda p: p["states"][0].update(costs_ms=[-1, 1]),
        r">= 0.0 - at `\$.policies\[0\].states\[0\].costs_ms",
    ),
    (lambda p: p["states"][0].update(file="/etc/passwd"), "relative path that stays inside"),
    (lambda p: p.update(rule="luck"), r"Invalid enum value 'luck' - at `\$.policies\[0\].rule`"),
    (lambda p: p.update(features=["luma_mean"]), r"policies\[0\].features: expected those of the selector"),
]


@pytest.mark.parametrize(("change", "message"), STATES)
def test_a_wrong_state_is_named_with_its_path(
    world: World, tmp_path: Path, change: Callable[[Record], Any], message: str
) -> None:
    record = json.loads((world.bundles["probe"] / "bundle.json").read_text())
    change(record["policies"][0])
    with pytest.raises(CardError, match=f"bundle.json: not a valid Bundle record: .*{message}"):
        read(record, tmp_path)


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_a_wrong_field_is_named_with_its_path(
    record: Record, tmp_path: Path, change: Callable[[Record], Any], message: str
) -> None:
    change(record)
    with pytest.raises(CardError, match=f"bundle.json: not a valid Bundle record: .*{message}"):
        read(record, tmp_path)


def test_a_bundle_of_a_newer_version_says_to_upgrade(record: Record, tmp_path: Path) -> None:
    record["schema_version"], record["unheard"] = SCHEMA_VERSION + 1, "of"
    with pytest.raises(
        SchemaVersionError,
        match=rf"expected schema version {SCHEMA_VERSION} or older, .*upgrade this one",
    ):
        read(record, tmp_path)


def test_a_bundle_of_version_3_is_still_read(record: Record, tmp_path: Path) -> None:
    record["schema_version"] = 3
    assert read(record, tmp_path).schema_version == 3


def test_a_bundle_of_version_2_is_still_read(record: Record, tmp_path: Path) -> None:
    del record["drift"], record["calibration"]["environment"]
    record["schema_version"] = 2
    assert read(record, tmp_path).drift is None


def test_a_drift_reference_of_other_models_is_refused(world: World, tmp_path: Path) -> None:
    record = json.loads((world.watched["cascade"] / "bundle.json").read_text())
    record["drift"]["confidence"]["other"] = record["drift"]["confidence"]["tiny"]
    with pytest.raises(CardError, match=r"drift\.confidence: expected models of this bundle"):
        read(record, tmp_path)


def test_a_bundle_of_version_1_says_to_make_it_again(record: Record, tmp_path: Path) -> None:
    old = {"schema_version": 1, "task": "classification", "default_precision": 0.95, "policy": {}}
    for content in (old, {**record, "schema_version": 1}):
        with pytest.raises(
            SchemaVersionError, match=r"expected schema version 2 or newer, got 1\. .*make it again"
        ):
            read(content, tmp_path)
        with pytest.raises(SchemaVersionError):
            Selector.load(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"schema_version": "1"}', "\ud83d", "[" * 10**5])
def test_what_is_no_bundle_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(CardError, match="not a valid Bundle record"):
        read_bundle(tmp_path)


def test_a_folder_without_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"got no bundle.json there\. Make one with 'zooselect export'"):
        read_bundle(tmp_path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=values)
def test_any_changed_field_gives_a_valid_bundle_or_our_error(
    record: Record, tmp_path: Path, data: st.DataObject, value: Any
) -> None:
    changed = json.loads(json.dumps(record))
    place: Any = changed
    while True:
        keys: list[Any] = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        inner = place[key]
        if not isinstance(inner, (dict, list)) or not inner or data.draw(st.booleans()):
            break
        place = inner
    if data.draw(st.booleans()):
        place[key] = value
    else:
        del place[key]
    with contextlib.suppress(CardError, BundleError):
        assert isinstance(read(changed, tmp_path), Bundle)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1), junk=st.binary(max_size=4))
def test_any_changed_bytes_give_a_valid_bundle_or_our_error(
    world: World, tmp_path: Path, position: float, junk: bytes
) -> None:
    content = (world.bundles["cascade"] / "bundle.json").read_bytes()
    place = int(position * len(content))
    (tmp_path / "bundle.json").write_bytes(content[:place] + junk + content[place + len(junk) :])
    with contextlib.suppress(CardError, BundleError):
        assert isinstance(read_bundle(tmp_path), Bundle)


def test_the_subject_of_a_certificate_changes_with_all_that_it_depends_on(world: World) -> None:
    bundle = world.fits["input"].record.bundle
    whole, policy = bundle.subject(0), bundle.policies[0]
    assert bundle.certificates[0].subject_sha256 == whole
    assert whole == subject(policy, bundle.selector, bundle.classes, bundle.models[::-1])
    assert bundle.selector is not None
    graph = msgspec.structs.replace(bundle.selector, sha256="0" * 64)
    card = msgspec.structs.replace(bundle.models[0], sha256="0" * 64)
    others = {
        subject(policy, graph, bundle.classes, bundle.models),
        subject(world.fits["cascade"].policy.policy, bundle.selector, bundle.classes, bundle.models),
        subject(world.fits["probe"].policy.policy, bundle.selector, bundle.classes, bundle.models),
        subject(policy, bundle.selector, bundle.classes[::-1], bundle.models),
        subject(policy, bundle.selector, bundle.classes, (card, *bundle.models[1:])),
        subject(policy, bundle.selector, bundle.classes, bundle.models[1:]),
    }
    assert len(others) == 6
    assert whole not in others


def test_the_subject_of_a_staged_policy_changes_with_each_of_its_graphs(world: World) -> None:
    bundle = world.fits["learned"].record.bundle
    policy = world.fits["learned"].policy.policy
    assert isinstance(policy, StagedPolicy)
    subjects = {bundle.subject(0)}
    for i, state in enumerate(policy.states):
        states = list(policy.states)
        states[i] = msgspec.structs.replace(state, sha256="0" * 64)
        other = msgspec.structs.replace(policy, states=tuple(states))
        subjects.add(subject(other, None, bundle.classes, bundle.models))
    assert len(subjects) == 1 + len(policy.states)


def test_what_does_not_use_the_selector_graph_does_not_depend_on_it(world: World) -> None:
    bundle = world.fits["cascade"].record.bundle
    graph = world.fits["input"].record.bundle.selector
    for i, policy in enumerate(bundle.policies):
        cards = [bundle.card(name) for name in policy.models]
        assert bundle.subject(i) == subject(policy, graph, bundle.classes, cards)


def test_the_best_policy_for_the_installed_models_is_the_first_that_needs_no_others(world: World) -> None:
    bundle = world.fits["cascade"].record.bundle
    assert bundle.policy_for(["full", "small", "tiny"]) == 0
    for names in (["tiny"], ["small", "full"], ["tiny", "full"]):
        found = bundle.policy_for(names)
        assert found is not None
        assert set(bundle.policies[found].models) <= set(names)
        assert not any(set(policy.models) <= set(names) for policy in bundle.policies[:found])
    assert bundle.policy_for([]) is None
    assert world.fits["probe"].record.bundle.policy_for(["tiny", "small"]) is None


def certificate(kind: Any, level: float, **changes: Any) -> Certificate:
    fields = {"policy": 0, "environment": None} | changes
    return Certificate(
        constraint=Constraint(kind=kind, level=level),
        confidence=0.95,
        threshold=0.5,
        samples=100,
        accuracy=0.9,
        mean_ms=1.0,
        p_value=0.01,
        subject_sha256="0" * 64,
        **fields,
    )


@pytest.mark.parametrize(
    ("kind", "levels", "asked", "found"),
    [
        ("precision", (0.8, 0.9, 0.95), 0.85, 0.9),
        ("precision", (0.8, 0.9, 0.95), 0.9, 0.9),
        ("precision", (0.8, 0.9), 0.91, None),
        ("max_drop", (0.0, 0.01, 0.05), 0.02, 0.01),
        ("max_drop", (0.01,), 0.0, None),
        ("mean_ms", (1.0, 2.0, 3.0), 2.5, 2.0),
        ("p95_ms", (1.0, 2.0), 0.9, None),
    ],
)
def test_the_laxest_certificate_that_is_strict_enough_is_used(
    kind: Any, levels: tuple[float, ...], asked: float, found: float | None
) -> None:
    held = [certificate(kind, level) for level in levels]
    held += [certificate(kind, asked, policy=1), certificate(kind, asked, environment="dark")]
    best = covering(held, Constraint(kind=kind, level=asked), policy=0)
    assert (best.constraint.level if best else None) == found
    there = covering(held, Constraint(kind=kind, level=asked), policy=0, environment="dark")
    assert there is held[-1]


def test_asks_for_models_and_devices_by_name(world: World) -> None:
    bundle = world.fits["input"].record.bundle
    assert bundle.card("tiny").name == "tiny"
    assert bundle.reference == "full"
    assert bundle.costs_ms("bench-top") == bundle.costs_ms()
    with pytest.raises(
        ModelNotFoundError, match=r"no model 'huge' in this bundle\. It names: tiny, small, full"
    ):
        bundle.card("huge")
    with pytest.raises(BundleError, match="expected costs of device 'phone', got only: bench-top"):
        bundle.costs_ms("phone")


def test_the_json_schema_names_every_field() -> None:
    definition = bundle_json_schema()["$defs"]["Bundle"]
    assert set(definition["properties"]) == set(Bundle.__struct_fields__)
    assert definition["additionalProperties"] is False
