"""Estimators and text pipelines are asked once, timed, and become a table of outcomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("pyarrow")

from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from training.outcomes import from_estimators, from_text_pipelines
from training.outcomes.table_checks import check_table
from training.outcomes.table_profile import load_table_outcomes, store_table
from zoo.errors import DataError


def test_estimators_become_outcomes_with_logits(tmp_path: Path) -> None:
    X, y = load_digits(return_X_y=True)
    X, y = X[:600], y[:600]
    models = {
        "line": LogisticRegression(max_iter=50, tol=0.1).fit(X[:200, :8], y[:200]),
        "forest": RandomForestClassifier(5, random_state=0).fit(X[:200, :8], y[:200]),
    }
    table = from_estimators(models, X[200:, :8], y[200:])
    assert table.unit == "ms"
    assert (table.paid > 0).all()
    for j, model in enumerate(models.values()):
        np.testing.assert_array_equal(table.right[:, j], model.predict(X[200:, :8]) == y[200:])
    record = store_table(check_table(table), tmp_path)
    assert (record.evidence, record.classes) == ("logits", 10)
    assert load_table_outcomes(tmp_path).accuracy().keys() == models.keys()
    with pytest.raises(DataError, match="among the classes"):
        from_estimators(models, X[:3, :8], np.array([1, 2, 77]))
    with pytest.raises(DataError, match="same classes"):
        from_estimators(models | {"other": LogisticRegression().fit(X[:50, :8], y[:50] > 4)}, X[:, :8], y)
    with pytest.raises(DataError, match="at least one estimator"):
        from_estimators({}, X, y)


def says(sure: float) -> Any:
    def pipeline(text: str, top_k: None = None) -> list[dict[str, Any]]:
        good = sure if "good" in text else 1 - sure
        return [{"label": "yes", "score": good}, {"label": "no", "score": 1 - good}]

    return pipeline


def test_text_pipelines_become_outcomes_too() -> None:
    texts = ["a good film", "a bad film"] * 4
    labels = ["yes", "no"] * 4
    table = from_text_pipelines({"sure": says(0.9), "wrong": says(0.2)}, texts, labels)
    assert table.right.mean(axis=0).tolist() == [1.0, 0.0]
    assert table.features[0].tolist() == [11, 3, 0]
    with pytest.raises(DataError, match="expected labels among"):
        from_text_pipelines({"sure": says(0.9)}, texts, ["maybe"] * 8)
    with pytest.raises(DataError, match="as many texts as labels"):
        from_text_pipelines({"sure": says(0.9)}, texts, labels[:3])


def test_so_do_pipelines_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film"]))
    config = transformers.BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    pipeline = transformers.TextClassificationPipeline(
        model=transformers.BertForSequenceClassification(config).eval(),
        tokenizer=transformers.BertTokenizer(str(vocabulary)),
    )
    names = list(config.id2label.values())
    table = from_text_pipelines({"tiny": pipeline}, ["good film", "bad film"], [names[0], names[1]])
    assert table.logits["tiny"].shape == (2, 2)
    assert (table.paid > 0).all()
