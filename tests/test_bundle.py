"""Claims about ``bundle.json``: every field is checked and named, certificates are tied to their subject."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selector.bundle import Bundle, bundle_json_schema, read_bundle, subject
from zoo.errors import BundleError, CardError, ModelNotFoundError, SchemaVersionError

Record = dict[str, Any]


@pytest.fixture
def record(world: World) -> Record:
    loaded: Record = json.loads((world.bundles["input"] / "bundle.json").read_text())
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
    (lambda r: r.update(default_precision=1.0), r"`float` < 1.0 - at `\$.default_precision`"),
    (lambda r: r.update(default_precision="high"), r"got `str` - at `\$.default_precision`"),
    (lambda r: r["policy"].pop("kind"), r"missing required field `kind` - at `\$.policy`"),
    (lambda r: r["policy"].update(kind="magic"), r"Invalid value 'magic' - at `\$.policy.kind`"),
    (lambda r: r["policy"].update(order=[]), r"length >= 1 - at `\$.policy.order`"),
    (lambda r: r["policy"].update(order=["Tiny"]), r"matching regex .* - at `\$.policy.order\[0\]`"),
    (lambda r: r["models"][1].update(sha256="12"), r"matching regex .* - at `\$.models\[1\].sha256`"),
    (lambda r: r["models"][1].update(file="../x"), "relative path inside the zoo"),
    (lambda r: r["certificates"][0].update(samples=0), r">= 1 - at `\$.certificates\[0\].samples`"),
    (lambda r: r["certificates"][0].update(p_value=2), r"<= 1.0 - at `\$.certificates\[0\].p_value`"),
    (lambda r: r["certificates"][0].update(threshold=None), r"got `null` - at `\$.certificates\[0\].thr"),
    (lambda r: r["certificates"][0].update(models=["huge"]), r"certificates: expected models of the policy"),
    (lambda r: r["costs"][0]["models"].update(tiny=-1), r"> 0.0 - at `\$.costs\[0\].models\[...\]`"),
    (lambda r: r["costs"][0]["models"].pop("tiny"), r"costs of 'bench-top': expected each of"),
    (lambda r: r.update(costs=[]), r"length >= 1 - at `\$.costs`"),
    (lambda r: r["models"].append(r["models"][0]), "models: names must be distinct"),
    (lambda r: r.update(by_accuracy=["tiny"]), r"by_accuracy: expected each of \['full', 'small', 'tiny'\]"),
    (lambda r: r["policy"].update(order=["tiny", "tiny"]), "policy: expected distinct models"),
    (lambda r: r["policy"].update(order=["huge"]), "policy: expected distinct models of this bundle"),
    (lambda r: r.update(selector=None), "an input policy needs a selector graph"),
    (lambda r: r["selector"].update(file="/etc/passwd"), "relative path inside the bundle"),
    (lambda r: r["selector"].update(file="a/../../b"), "relative path inside the bundle"),
    (lambda r: r.update(classes=["red", "green", "violet"]), "classes: expected the classes of the models"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_a_wrong_field_is_named_with_its_path(
    record: Record, tmp_path: Path, change: Callable[[Record], Any], message: str
) -> None:
    change(record)
    with pytest.raises(CardError, match=f"bundle.json: not a valid Bundle record: .*{message}"):
        read(record, tmp_path)


def test_a_bundle_of_a_newer_version_says_to_upgrade(record: Record, tmp_path: Path) -> None:
    record["schema_version"], record["unheard"] = 2, "of"
    with pytest.raises(
        SchemaVersionError, match=r"expected schema version 1 or older, got 2\. .*pip install"
    ):
        read(record, tmp_path)


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
    names = [card.name for card in bundle.models]
    whole = bundle.subject(names)
    assert bundle.certificates[0].subject_sha256 == whole == bundle.subject(reversed(names))
    assert bundle.selector is not None
    graph = msgspec.structs.replace(bundle.selector, sha256="0" * 64)
    card = msgspec.structs.replace(bundle.models[0], sha256="0" * 64)
    policy = world.fits["cascade"].record.bundle.policy
    others = {
        bundle.subject(names[:-1]),
        subject(bundle.policy, graph, bundle.classes, bundle.models),
        subject(policy, bundle.selector, bundle.classes, bundle.models),
        subject(bundle.policy, bundle.selector, bundle.classes[::-1], bundle.models),
        subject(bundle.policy, bundle.selector, bundle.classes, (card, *bundle.models[1:])),
    }
    assert len(others) == 5
    assert whole not in others


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
