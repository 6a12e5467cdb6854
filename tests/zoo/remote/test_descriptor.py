"""Records of remote models: which addresses they take, and what a zoo with them is read by."""

import msgspec
import pytest

from zoo.errors import ZooError
from zoo.models.card import LOCAL_VERSION, Manifest, ModelCard
from zoo.remote.descriptor import Remote, check_address, checked, is_loopback


def _remote(**fields):
    given = {"address": "https://a.example", "model": "m", "input_name": "x", "output_name": "y", **fields}
    return msgspec.convert(given, Remote)


def _card(**fields):
    facts = {
        "name": "far",
        "classes": ("a", "b"),
        "resolution": (1, 1),
        "file": "models/far.json",
        "sha256": "0" * 64,
        "size_bytes": 1,
        "parameters": 0,
        "macs": 0,
    }
    return msgspec.convert({**facts, **fields}, ModelCard)


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd",
        "ftp://models.example.org",
        "grpc://models.example.org:8001",
        "models.example.org:8000",
        "https://",
        "https://me:secret@models.example.org",
        "https://token@models.example.org",
        "https://models.example.org/?token=1",
        "https://models.example.org/?",
        "https://models.example.org/#here",
        "https://models.example.org:99999",
        "https://models.example.org/a b",
        "https://models.example.org/\r\nX: y",
        "https://mödels.example.org",
        "http://[::1",
        "",
    ],
)
def test_an_address_of_another_kind_is_refused_and_no_secret_is_repeated(address):
    with pytest.raises(ValueError, match="expected an address") as caught:
        check_address(address)
    assert "secret" not in str(caught.value)
    with pytest.raises(ZooError):
        checked(address)
    with pytest.raises(msgspec.ValidationError):
        _remote(address=address)


def test_only_this_machine_is_loopback():
    near = ["http://localhost:1", "http://127.8.9.1", "http://[::1]:8000"]
    far = ["http://10.0.0.1", "http://localhost.example.org", "http://127.0.0.1.example.org"]
    assert all(map(is_loopback, near))
    assert not any(map(is_loopback, far))


def test_an_encoding_goes_with_its_layout():
    assert _remote(input_layout="bytes", encoding="jpeg").quality == 90
    with pytest.raises(msgspec.ValidationError, match="does not go with"):
        _remote(input_layout="bytes")
    with pytest.raises(msgspec.ValidationError, match="does not go with"):
        _remote(encoding="png")


def test_a_zoo_without_remote_models_is_written_as_before():
    manifest = Manifest.of((_card(),))
    assert manifest.schema_version == LOCAL_VERSION == 2
    assert b"remote" not in msgspec.json.encode(manifest)


def test_a_zoo_with_a_remote_model_has_a_version_that_older_readers_refuse():
    manifest = Manifest.of((_card(), _card(name="other", remote=_remote())))
    assert manifest.schema_version == 3
    read = msgspec.json.decode(msgspec.json.encode(manifest), type=Manifest)
    assert read == manifest
    assert read.models[0].remote is None
    assert read.models[1].remote == _remote()
