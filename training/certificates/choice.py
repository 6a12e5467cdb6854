"""Which test proves a precision: decided from numbers that are known before any outcome is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from selector.bundle.certificate import PrecisionTest
from selector.policies.constraint import Constraint
from zoo.errors import PrecisionError

LEAST_MODELS = 3
LEAST_RATIO = 0.5  # of fit and tune samples to certify samples
LEAST_CERTIFY = 300  # with fewer, one share that is not known costs more than the rest gains

CertificateTest = Literal["auto", "binomial", "control-variate"]


@dataclass(frozen=True)
class ChosenTest:
    """The test that a fit uses for precisions, and why."""

    test: PrecisionTest
    reason: str


def check_constraint(asked: CertificateTest, constraint: Constraint) -> None:
    """Raise :class:`PrecisionError` where a test is unknown, or is not one of such a constraint."""
    if asked not in get_args(CertificateTest):
        raise PrecisionError(
            f"expected certificate among {', '.join(get_args(CertificateTest))}, got {asked!r}."
        )
    if asked == "control-variate" and constraint.kind != "precision":
        raise PrecisionError(
            f"expected certificate auto or binomial with {constraint.kind}, got control-variate, "
            "which is a test of a precision. Ask for a precision, or leave certificate at auto."
        )


def choose_test(
    asked: CertificateTest, *, models: int, development: int, certify: int, grouped: bool
) -> ChosenTest:
    """The control variate where it holds and gains as a rule, else the exact binomial.

    Only these numbers decide. A choice by what the samples show would void the proof.

    Parameters
    ----------
    models
        In the zoo.
    development, certify
        Samples: fit and tune together, and certify.
    grouped
        Whether some of them are variants of one original.

    Raises
    ------
    PrecisionError
        When the control variate is asked for and is not valid here.

    Examples
    --------
    >>> choose_test("auto", models=8, development=2446, certify=1223, grouped=False).test
    'control-variate'
    >>> choose_test("auto", models=2, development=2446, certify=1223, grouped=False)
    ChosenTest(test='binomial', reason='2 models, fewer than 3')
    """
    void = None
    if grouped:
        void = "some samples are variants of one original"
    elif models < LEAST_MODELS:
        void = f"{models} model{'' if models == 1 else 's'}, fewer than {LEAST_MODELS}"
    elif development < LEAST_RATIO * certify:
        void = f"{development:,} fit and tune samples, fewer than half of {certify:,} certify samples"
    if asked == "binomial":
        return ChosenTest("binomial", "asked for")
    if void is None and asked == "auto" and certify < LEAST_CERTIFY:
        void = f"{certify:,} certify samples, fewer than {LEAST_CERTIFY}"
    if void is None:
        why = "asked for: " if asked == "control-variate" else ""
        return ChosenTest(
            "control-variate",
            f"{why}{models} models, {development:,} fit and tune samples for {certify:,} certify samples, "
            "each of an original of its own",
        )
    if asked == "control-variate":
        raise PrecisionError(
            f"expected samples and models that the certificate control-variate holds for, got: {void}. "
            "Take certificate auto or binomial, or other samples or models."
        )
    return ChosenTest("binomial", void)
