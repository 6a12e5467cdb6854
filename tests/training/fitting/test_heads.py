"""Claims about heads inside a fit: models that give their embedding get a new last layer, files stay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from selector import Selector
from selector.policies.constraint import Constraint
from selector.policies.pool import PoolPolicy
from tests.support.colours import colour_zoo, latency_table
from tests.support.world import COLOUR_SPLITS, colour_images, fit_colours
from tests.training.policies.test_pool import some_outcomes
from training.fitting.export import check_bundle, export_bundle
from training.fitting.fitted import Fitted, load_fit, save_fit
from training.fitting.one_file.write import write_one_file
from training.outcomes.outcomes import ALL_SPLITS, Outcomes, load_outcomes
from training.outcomes.profile import held_out_images, profile
from training.search.pools import Pools
from training.search.searched import search_key
from zoo.convert.head import add_embedding
from zoo.errors import ModelError
from zoo.models.zoo import Zoo


class Embedded:
    """A zoo whose models give their embeddings, profiled and fitted with heads alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.zoo: Zoo = colour_zoo(folder / "zoo")
        self.plain = self.zoo.card("tiny")
        for name in self.zoo.names:
            add_embedding(self.zoo, name)
        self.data = colour_images(250, seed=3)
        profile(self.zoo, self.data, folder / "profile", splits=COLOUR_SPLITS, progress=False)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Pools, "methods", lambda *_: ("head",))
            self.fitted: Fitted = fit_colours(
                folder / "profile",
                self.zoo,
                latency_table(self.zoo),
                only=lambda one: one.label == "log-opinion pool" and len(one.models) == 3,
                policy="cascade",
                precision=0.8,
            )


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Embedded:
    return Embedded(tmp_path_factory.mktemp("embedded"))


def outcomes_of(embedded: Embedded, *splits: str) -> Outcomes:
    return load_outcomes(embedded.folder / "profile", zoo=embedded.zoo, splits=splits or ALL_SPLITS)


def test_a_profile_keeps_what_models_give(embedded: Embedded) -> None:
    outcomes = outcomes_of(embedded)
    assert set(outcomes.embeddings) == {"tiny", "small", "full"}
    images = np.stack([embedded.data.image(embedded.data.ids.index(name)) for name in outcomes.ids[:20]])
    for name, kept in outcomes.embeddings.items():
        logits, embedding = embedded.zoo.model(name).embedded(images)
        assert kept[:20] == pytest.approx(embedding, abs=1e-5)
        assert (logits == embedded.zoo.model(name).logits(images)).all()
    part = outcomes.rows(np.arange(7))
    assert {len(values) for values in part.embeddings.values()} == {7}
    assert embedded.zoo.card("tiny").sha256 != embedded.plain.sha256
    assert add_embedding(embedded.zoo, "tiny") == embedded.zoo.card("tiny")


def test_an_embedding_that_is_too_wide_to_be_kept_is_named(
    embedded: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("training.outcomes.shards.MAX_EMBEDDING", 1)
    profile(embedded.zoo, embedded.data, tmp_path, splits=COLOUR_SPLITS, progress=False)
    said = capfd.readouterr().err
    assert "full: its embedding of" in said
    assert "fit tries no new last layer for it." in said
    assert not load_outcomes(tmp_path, zoo=embedded.zoo).embeddings


def test_a_device_does_as_simulated_with_refitted_heads(embedded: Embedded) -> None:
    fitted = embedded.fitted
    policy = fitted.policy.policy
    assert isinstance(policy, PoolPolicy)
    assert {stage.inputs for stage in policy.stages} == {"embedding"}
    save_fit(fitted, embedded.folder / "fit")
    assert load_fit(embedded.folder / "fit").record == fitted.record
    export_bundle(fitted, embedded.zoo, embedded.folder / "bundle")
    selector = Selector.load(embedded.folder / "bundle", watch=False)
    certificate = fitted.certificate(Constraint(kind="precision", level=0.8))
    assert certificate is not None
    test = outcomes_of(embedded, "test")
    images = held_out_images(embedded.folder / "profile", embedded.data)
    simulated = fitted.policy.simulate(test, certificate.threshold)
    answers = fitted.policy.answers(test, certificate.threshold)
    batch = [images.image(i) for i in range(len(test))]
    together = selector.predict_batch(batch, 0.8)
    for i, found in enumerate(together):
        assert found.model == fitted.policy.models[simulated.answered_by[i]]
        assert found.label == selector.classes[answers[i]]
        if i % 10 == 0:
            alone = selector.predict(batch[i], 0.8)
            assert (alone.label, alone.path) == (found.label, found.path)
            assert alone.probability == pytest.approx(found.probability, abs=1e-6)
    assert check_bundle(embedded.folder / "bundle", fitted, batch[:10], embedded.zoo) == 10
    file = embedded.folder / "selector.onnx"
    assert write_one_file(embedded.folder / "bundle", file, 0.8, images=batch[:100]).compared > len(
        batch[:100]
    )


def test_without_an_embedding_no_head_is_offered_and_none_can_be_used(
    embedded: Embedded, tmp_path: Path
) -> None:
    outcomes = outcomes_of(embedded, "fit", "tune")
    pools = Pools.of(outcomes, {"tiny": 0.1, "small": 0.3, "full": 1.0}, 0.0)
    assert pools.methods("small") == ("vector", "matrix", "head")
    some = replace(outcomes, embeddings={"tiny": outcomes.embeddings["tiny"]})
    assert Pools.of(some, pools.costs, 0.0).methods("small") == ("vector", "matrix")
    assert "head" not in Pools.of(some_outcomes(50, 3), {"a": 1.0}, 0.0).methods("a")
    plain = colour_zoo(tmp_path / "zoo")
    with pytest.raises(ModelError, match=r"expected a second output 'embedding', got logits alone"):
        plain.model("tiny").embedded(np.zeros((1, 4, 4, 3), np.uint8))


def test_a_search_with_other_embeddings_is_another_search(embedded: Embedded) -> None:
    outcomes = outcomes_of(embedded, "fit", "tune")
    table = latency_table(embedded.zoo)
    changed = {name: values + 1 for name, values in outcomes.embeddings.items()}
    keys = {
        search_key(one, embedded.zoo, table, kinds=("cascade",), grid=32, scout=False, seed=0, reference=None)
        for one in (outcomes, replace(outcomes, embeddings=changed), replace(outcomes, embeddings={}))
    }
    assert len(keys) == 3
