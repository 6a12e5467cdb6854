"""Outcomes of text classification pipelines of Hugging Face's transformers, timed one text at a time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from training.outcomes.table import ONE_ENVIRONMENT, OutcomeTable
from zoo.errors import DataError

LEAST_PROBABILITY = 1e-12  # before its logarithm


def from_text_pipelines(
    pipelines: Mapping[str, Any], texts: Sequence[str], labels: Sequence[str]
) -> OutcomeTable:
    """What pipelines say of texts, and how many milliseconds each answer took.

    Lengths of the texts are the features.

    Parameters
    ----------
    pipelines
        Name → ``transformers.pipeline("text-classification", …)``, or what is called alike: given a text and
        ``top_k=None`` it returns a ``label`` and a ``score`` (its probability) for every class.
    texts, labels
        n texts, and the name of the true class of each.

    Raises
    ------
    DataError
        When there is nothing to ask, classes differ, or a label is none of them.
    """
    if not pipelines or not texts or len(texts) != len(labels):
        raise DataError(
            f"expected pipelines, and as many texts as labels, got {len(pipelines)} pipelines, {len(texts)} "
            f"texts and {len(labels)} labels. Give them."
        )
    classes: list[str] = []
    logits = {}
    paid = np.empty((len(texts), len(pipelines)))
    for j, (name, pipeline) in enumerate(pipelines.items()):
        rows = []
        pipeline(texts[0], top_k=None)  # what is made on the first call is no cost of an answer
        for i, text in enumerate(texts):
            start = time.perf_counter()
            said = pipeline(text, top_k=None)
            paid[i, j] = (time.perf_counter() - start) * 1e3
            shares = {
                one["label"]: float(one["score"]) for one in (said[0] if isinstance(said[0], list) else said)
            }
            classes = classes or sorted(shares)
            if sorted(shares) != classes:
                raise DataError(
                    f"expected pipelines of the classes {', '.join(classes[:8])}, got other ones of "
                    f"{name!r}. Choose "
                    "pipelines of one task."
                )
            rows.append([shares[one] for one in classes])
        logits[name] = np.log(np.maximum(rows, LEAST_PROBABILITY)).astype(np.float32)
    unknown = sorted(set(labels) - set(classes))
    if unknown:
        raise DataError(f"expected labels among {', '.join(classes[:8])}, got {unknown[0]!r}. Correct it.")
    truth = np.array([classes.index(one) for one in labels], dtype=np.int64)
    ids = np.array([str(i) for i in range(len(texts))])
    lengths = [(len(text), len(text.split()), text.count("\n")) for text in texts]
    return OutcomeTable(
        models=tuple(pipelines),
        ids=ids,
        groups=ids,
        environments=np.full(len(ids), ONE_ENVIRONMENT),
        right=np.stack([one.argmax(axis=1) == truth for one in logits.values()], axis=1).astype(np.float64),
        paid=paid,
        scores=np.full((len(ids), len(pipelines)), np.nan),
        labels=truth,
        logits=logits,
        features=np.array(lengths, dtype=np.float64),
        feature_names=("characters", "words", "lines"),
        unit="ms",
    )
