"""Agreement: how far answers of another execution provider are those of the CPU, and what follows from it.

A certificate is about answers of one provider, that of the CPU as a rule. Where another one gives another
label to at most a share d of all inputs, a precision falls by d at most, and a drop below the reference model
grows by d and by the share of inputs to which that model gives another label. Bounds of d are exact (Clopper
and Pearson 1934, one-sided), and the probability that one is wrong is added to that of a false certificate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import UNSET, UnsetType

from selector.bundle.certificate import Certificate, Probability
from selector.policies.constraint import Constraint
from zoo.files import encode_record, read_record, sha256_bytes, write_atomic
from zoo.providers import CPU, Provider
from zoo.types import NonNegative, Positive, Sha256

AGREEMENT_VERSION = 2  # since 2, it may be beside another provider than the CPU's
CPU_VERSION = 1  # written where it is beside that of the CPU, so that older readers go on reading
FOLDER = "agreements"
_STEPS = 60  # of a bisection
_CLOSE = 1e-12  # of thresholds that are the same


class Agreed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was counted for one policy at one threshold."""

    subject_sha256: Sha256  # of its certificates
    threshold: float
    other_labels: NonNegative  # inputs whose label was another one
    other_paths: NonNegative  # inputs that other models answered


class Agreement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Answers of a provider beside those of the certificates' one, on inputs that certified nothing."""

    schema_version: Positive
    provider: str  # with its options
    onnxruntime: str
    confidence: Probability  # of each bound
    environment: str | None  # of the inputs; None: a mix like that of the calibration data
    samples: Positive
    reference_sha256: Sha256  # of the reference model
    reference_other: NonNegative  # inputs to which that model alone gave another label
    rows: tuple[Agreed, ...]
    beside: str | UnsetType = UNSET  # the provider that certificates are about; left out: the CPU's

    def __post_init__(self) -> None:
        if max(self.reference_other, *(row.other_labels for row in self.rows), 0) > self.samples:
            raise ValueError(f"rows: expected at most {self.samples} inputs, got more")

    def bound(self, other: int) -> float:
        """Upper bound of the share of all inputs that get another answer, of the count among the samples."""
        return upper_bound(other, self.samples, 1.0 - self.confidence)


def upper_bound(count: int, samples: int, level: float) -> float:
    """The exact upper confidence bound of a share: the largest under which so few are not less likely than
    `level`.

    Examples
    --------
    >>> from selector.bundle.agreement import upper_bound
    >>> round(upper_bound(0, 500, 0.05), 5)
    0.00597
    """
    low, high = count / samples, 1.0
    if low >= 1.0:
        return 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _at_most(count, samples, middle) > level:
            low = middle
        else:
            high = middle
    return high


def agreed(proofs: Iterable[Certificate], agreement: Agreement | None) -> list[Certificate]:
    """Certificates that count on the provider of an agreement, with what it takes from each.

    Those of time and of what is sent do not: they are about the CPU's.
    """
    if agreement is None:
        return []
    found = []
    for proof in proofs:
        rows = [row for row in agreement.rows if _is_about(row, proof)]
        if not rows or proof.environment != agreement.environment:
            continue
        less = agreement.bound(rows[0].other_labels)
        wrong = 1.0 - agreement.confidence
        asked = proof.constraint
        if asked.kind == "precision":
            level, confidence = asked.level - less, proof.confidence - wrong
        elif asked.kind == "max_drop":
            level = asked.level + less + agreement.bound(agreement.reference_other)
            confidence = proof.confidence - 2 * wrong
        else:
            continue
        if confidence <= 0 or not (0 < level < 1):
            continue
        changed = Constraint(kind=asked.kind, level=level)
        found.append(msgspec.structs.replace(proof, constraint=changed, confidence=confidence))
    return found


def agreement_file(folder: Path, provider: Provider) -> Path:
    """Where the agreement of a provider lies, in the folder of a bundle."""
    return folder / FOLDER / f"{provider.name.lower()}-{sha256_bytes(str(provider).encode())[:12]}.json"


def read_agreement(folder: Path, provider: Provider, beside: str = CPU.name) -> Agreement | None:
    """The agreement of a provider with the one `beside` it that was written for this ONNX Runtime, or None.

    Raises
    ------
    CardError, SchemaVersionError
        When the record does not validate, or a newer zooselect wrote it.
    """
    import onnxruntime as ort

    path = agreement_file(folder, provider)
    if not path.is_file():
        return None
    found = read_record(path, Agreement, schema_version=AGREEMENT_VERSION)
    base = CPU.name if found.beside is UNSET else found.beside
    mine = (found.provider, base, found.onnxruntime) == (str(provider), beside, ort.__version__)
    return found if mine else None


def save_agreement(agreement: Agreement, folder: Path, provider: Provider) -> Path:
    """Write an agreement into the folder of its bundle; the path."""
    path = agreement_file(folder, provider)
    write_atomic(path, encode_record(agreement))
    return path


def _is_about(row: Agreed, proof: Certificate) -> bool:
    same = math.isclose(row.threshold, proof.threshold, rel_tol=_CLOSE, abs_tol=0.0)
    return row.subject_sha256 == proof.subject_sha256 and same


def _at_most(count: int, samples: int, share: float) -> float:
    """Probability of at most `count` among `samples`, each with probability `share`."""
    if share >= 1.0:
        return 0.0
    log_share, log_rest = math.log(share) if share > 0 else -math.inf, math.log1p(-share)
    total = 0.0
    for i in range(count + 1):
        ways = math.lgamma(samples + 1) - math.lgamma(i + 1) - math.lgamma(samples - i + 1)
        total += math.exp(ways + (i * log_share if i else 0.0) + (samples - i) * log_rest)
    return min(1.0, total)
