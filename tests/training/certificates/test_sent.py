"""Claims about certificates of what is sent: false ones are as rare as they say."""

from __future__ import annotations

import numpy as np
import pytest

from selector.policies.constraint import Constraint
from training.certificates import certify
from training.certificates.sent import Sent
from training.policies.frontier import Simulated

COSTS = (1.0, 11.0, 31.0)  # of a model here, a server's, and both servers'
SENT = Sent(COSTS, np.array([0.0, 2.0, 6.0]), np.array([0.0, 1.0, 1.0]), constant=True)


def _point(paths: np.ndarray) -> Simulated:
    return Simulated(0.5, paths.clip(max=1), np.ones(len(paths), np.bool_), np.array(COSTS)[paths])


@pytest.mark.parametrize("kind", ["max_remote", "mean_uplink_kb"])
def test_what_is_just_not_kept_is_rarely_proven_and_what_is_kept_well_is(kind: str) -> None:
    rng = np.random.default_rng(0)
    shares = (0.7, 0.2, 0.1)
    level = 0.3 if kind == "max_remote" else 0.2 * 2.0 + 0.1 * 6.0
    just_not = Constraint(kind=kind, level=level * 0.999)  # type: ignore[arg-type]
    well = Constraint(kind=kind, level=level * 1.5)  # type: ignore[arg-type]
    false = true = 0
    for _ in range(200):
        point = _point(rng.choice(3, 400, p=shares))
        tests = certify.Tests([point], reference=point.right, top_ms=31.0, sent=SENT, by_sent=[0])
        false += tests.certify(just_not) is not None
        true += tests.certify(well) is not None
    assert false <= 17  # 0.05 of 200, and two standard deviations
    assert true > 190


def test_without_known_lengths_no_bytes_are_proven_and_nothing_sent_keeps_every_budget() -> None:
    unknown = Sent(COSTS, SENT.kb, SENT.remote, constant=False)
    at_home = Sent((1.0,), np.zeros(1), np.zeros(1), constant=True)
    none = _point(np.zeros(50, np.intp))
    kb, share = (Constraint(kind=kind, level=0.01) for kind in ("mean_uplink_kb", "max_remote"))
    for sent, proven in ((unknown, False), (at_home, True)):
        tests = certify.Tests([none], reference=none.right, top_ms=31.0, sent=sent, by_sent=[0])
        assert (tests.certify(kb) is not None) is proven
        assert (tests.certify(share) is not None) is proven  # 50 samples are too few for one in a hundred
    assert {one.kind for one in unknown.constraints()} == {"max_remote"}
