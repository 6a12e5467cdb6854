"""Cuts of a made-up model of 10 ms."""

from __future__ import annotations

from zoo.models.cuts import SCHEMA_VERSION, Cut, CutTable, Encoded
from zoo.models.timing import Machine

CLASSES = 10


def made_cuts(name: str = "net", sha256: str = "0" * 64) -> CutTable:
    """Three places: the picture itself, an early one with many bytes, and a late one with few."""
    return CutTable(
        schema_version=SCHEMA_VERSION,
        model=name,
        sha256=sha256,
        macs=1000,
        images=8,
        classes=CLASSES,
        whole_ms=10.0,
        encoded=(
            Encoded(encoding="raw", size_bytes=30_000),
            Encoded(encoding="png", size_bytes=20_000, encode_ms=2.0, decode_ms=0.5),
            Encoded(encoding="jpeg", size_bytes=5_000, encode_ms=0.5, decode_ms=0.25),
        ),
        cuts=(
            _cut("pixels", 0, 0.1, 9.9, 30_000),
            _cut("early", 100, 1.0, 9.0, 20_000),
            _cut("late", 300, 3.0, 7.0, 2_000),
        ),
        threads=1,
        machine=Machine(processor="made", cores=1, system="made", python="3", onnxruntime="1"),
    )


def _cut(tensor: str, macs: int, head_ms: float, tail_ms: float, size: int) -> Cut:
    return Cut(
        tensor=tensor,
        shape=(size,),
        float_bytes=4 * size,
        macs_before=macs,
        head_ms=head_ms,
        tail_ms=tail_ms,
        encoded=(
            Encoded(encoding="8-bit", size_bytes=size),
            Encoded(encoding="packed", size_bytes=size / 2, encode_ms=0.1, decode_ms=0.05),
        ),
    )
