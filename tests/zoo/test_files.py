"""Claims about files: a reader sees the old content or the new, and only content that was recorded."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo import files
from zoo.errors import CardError, DigestError, SchemaVersionError, ZooError
from zoo.files import (
    atomic_path,
    decode_record,
    encode_record,
    read_record,
    read_verified,
    sha256_bytes,
    sha256_file,
    write_atomic,
)


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record as small as records get."""

    schema_version: int
    text: str


def test_replaces_a_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "note.json"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_keeps_the_old_file_when_the_writer_fails(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    write_atomic(path, b"old")

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_keeps_the_old_file_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "note.json"
    write_atomic(path, b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ZooError, match=r"note\.json: No space left on device\. Nothing was changed; free"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="needs the file size limit of POSIX systems")
def test_keeps_the_old_file_when_the_system_stops_the_write(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    write_atomic(path, b"old")
    program = (
        "import resource, sys; from pathlib import Path; from zoo.files import write_atomic\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_atomic(Path(sys.argv[1]), bytes(5000))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=100
    )
    assert "zoo.errors.ZooError: cannot write" in done.stderr
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_refuses_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ZooError, match=r"cannot write .*file/note\.json"):
        write_atomic(tmp_path / "file" / "note.json", b"new")


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_written_files_have_the_usual_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "note.json", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "note.json").stat().st_mode) == 0o640


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_writing_leaves_the_umask_of_other_threads_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(_: int) -> int:
        raise AssertionError("the umask belongs to the whole process")

    before = os.umask(0o077)
    try:
        monkeypatch.setattr(os, "umask", change)
        write_atomic(tmp_path / "note.json", b"")
        with atomic_path(tmp_path / "token", private=True) as temporary:
            assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "note.json").stat().st_mode) == 0o600


@pytest.mark.skipif(os.name != "posix", reason="needs pipes in folders")
def test_a_pipe_is_no_file_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(DigestError, match="got: a pipe, not a file"):
        read_verified(tmp_path / "model.onnx", "0" * 64, 4)


@given(content=st.binary(max_size=200))
def test_digest_of_bytes_and_of_a_file_agree(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "content.bin"
    path.write_bytes(content)
    assert sha256_file(path) == sha256_bytes(content)
    assert read_verified(path, sha256_bytes(content), len(content)) == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"abc", "expected 4 bytes, got 3. The file was truncated"),
        (b"abcde", "expected 4 bytes, got 5. The file was truncated or replaced"),
        (b"abcx", "expected SHA-256 88d4266fd4e6338d…, got"),
    ],
)
def test_refuses_a_file_that_is_not_the_recorded_one(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(DigestError, match=message):
        read_verified(path, sha256_bytes(b"abcd"), 4)


@pytest.mark.parametrize("size", [10**12, 2**63 - 1, 2**64, 10**30])
def test_reads_nothing_for_a_record_that_claims_an_absurd_size(tmp_path: Path, size: int) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"abcd")
    with pytest.raises(DigestError, match=r"expected [\d,]{17,} bytes, got 4\."):
        read_verified(path, sha256_bytes(b"abcd"), size)


def test_says_why_a_file_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DigestError, match="got: No such file"):
        read_verified(tmp_path / "missing.onnx", "0" * 64, 4)
    with pytest.raises(DigestError, match="got: a folder, not a file"):
        read_verified(tmp_path, "0" * 64, 4)
    with pytest.raises(CardError, match="expected a Note record, got: No such file"):
        read_record(tmp_path / "missing.json", Note, schema_version=1)


def test_refuses_json_that_is_larger_than_any_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_JSON_BYTES", 100)
    (tmp_path / "note.json").write_bytes(b" " * 101)
    with pytest.raises(CardError, match="expected at most 100 bytes of JSON, got more"):
        read_record(tmp_path / "note.json", Note, schema_version=1)


def test_records_are_readable_text_that_reads_back(tmp_path: Path) -> None:
    note = Note(1, "hello\nworld ✓")
    write_atomic(tmp_path / "note.json", encode_record(note))
    assert read_record(tmp_path / "note.json", Note, schema_version=1) == note
    assert encode_record(note).endswith(b"\n}\n")


@given(st.integers(-3, 9) | st.integers(), st.integers(1, 3))
def test_any_schema_version_is_read_or_refused_by_name(version: int, oldest: int) -> None:
    content = b'{"schema_version": %d, "text": ""}' % version
    if oldest <= version <= 3:
        found = decode_record(content, Note, name="note.json", schema_version=3, oldest=oldest)
        assert found.schema_version == version
        return
    message = "version 3 or older" if version > 3 else f"version {oldest} or newer, got .* make it again"
    with pytest.raises(SchemaVersionError, match=message):
        decode_record(content, Note, name="note.json", schema_version=3, oldest=oldest)


def test_nothing_but_a_file_is_opened_or_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CardError, match="expected a Note record, got: a pipe, not a file"):
        read_record(tmp_path / "pipe", Note, schema_version=1)
    for path, kind in ((tmp_path / "pipe", "a pipe"), (tmp_path, "a folder")):
        with pytest.raises(ZooError, match=rf"cannot write .*: {kind}, not a file\. Nothing was changed"):
            write_atomic(path, b"new")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
