"""ReViSE against loops, autograd and finite differences."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gsmflow.core.rng import BatchRandom
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.learning.feed import Scaled
from gsmflow.learning.trainer import Trainer, TrainingConfig
from gsmflow.methods.layers import draw_weights
from gsmflow.methods.revise import (
    FeatureEncoder,
    RankingName,
    ReViSE,
    ReViSEConfig,
)
from tests.builders import generators, make_dataset, scaled_of, seeded
from tests.methods.gradients import assert_gradients
from tests.methods.test_mean_discrepancy import looped_discrepancy

SMALL = ReViSEConfig(hidden=9, code_dim=7, joint_dim=4)
TRAINING = TrainingConfig(epochs=6, batch_size=16, learning_rate=1e-2, weight_decay=0.0)


@pytest.fixture(scope="module")
def scaled() -> Scaled:
    return scaled_of(training_problem(check_dataset(make_dataset()), "test"))


def make_model(scaled: Scaled, **changes: Any) -> ReViSE:
    return ReViSE.for_problem(scaled, replace(SMALL, **changes), generators(0)).double()


def make_encoder() -> FeatureEncoder:
    encoder = FeatureEncoder(6, 9, 5)
    draw_weights(encoder, "torch", seeded(5))
    return encoder.double()


def batch_of(scaled: Scaled) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.arange(0, 56, 5)
    return scaled.feed.take(rows).double(), scaled.feed.labels[rows]


def draws() -> BatchRandom:
    return BatchRandom(seeded(2))


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


# --- the contractive term ------------------------------------------------------------------------


def test_products_with_the_jacobian_equal_autograd() -> None:
    encoder, x = make_encoder(), normal(4, 6, seed=0)
    v = normal(4, 5, seed=1)
    found = encoder.squared_products(encoder.activations(x), v)
    for row, vector, value in zip(x, v, found, strict=True):
        jacobian = torch.autograd.functional.jacobian(encoder, row[None]).reshape(5, 6)
        assert value.item() == pytest.approx((vector @ jacobian).square().sum().item(), rel=1e-5)


def test_contractive_term_is_the_squared_norm_of_the_jacobian() -> None:
    """The unit vectors give the norm exactly, and random vectors give it on average."""
    encoder, x = make_encoder(), normal(1, 6, seed=3)
    jacobian = torch.autograd.functional.jacobian(encoder, x).reshape(5, 6)
    expected = jacobian.square().sum().item()
    assert expected > 0
    rows, n = x.expand(5, -1), 20000
    exact = encoder.squared_products(encoder.activations(rows), torch.eye(5).double()).sum()
    assert exact.item() == pytest.approx(expected, rel=1e-5)
    many = encoder.activations(x.expand(n, -1))
    drawn = encoder.squared_products(many, normal(n, 5, seed=4))
    assert drawn.mean().item() == pytest.approx(expected, abs=4 * drawn.std().item() / n**0.5)


# --- the losses ----------------------------------------------------------------------------------


def arrays(model: ReViSE) -> dict[str, NDArray[Any]]:
    return {name: p.detach().numpy() for name, p in model.named_parameters()}


def embedded(model: ReViSE, x: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Codes and embeddings of inputs and of all classes, in numpy."""
    w = arrays(model)

    def layer(name: str, values: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(values @ w[f"{name}.weight"].T + w[f"{name}.bias"])

    hidden = np.maximum(layer("feature_encoder.first", x), 0)
    codes = np.maximum(layer("feature_encoder.second", hidden), 0)
    class_codes = np.maximum(layer("semantics_encoder", model.semantics.numpy()), 0)
    decoded = layer("feature_decoder.2", np.maximum(layer("feature_decoder.0", codes), 0))
    return {
        "codes": codes,
        "class_codes": class_codes,
        "decoded": decoded,
        "class_decoded": layer("semantics_decoder", class_codes),
        "embeddings": np.tanh(layer("feature_embedding", codes)),
        "class_embeddings": np.tanh(layer("semantics_embedding", class_codes)),
    }


@pytest.mark.parametrize("ranking", ["largest", "summed"])
@pytest.mark.parametrize("aligned", ["codes", "embeddings"])
def test_losses_equal_loops(scaled: Scaled, ranking: RankingName, aligned: Any) -> None:
    model = make_model(
        scaled,
        ranking=ranking,
        aligned=aligned,
        sharpness=2.0,
        reconstruction_weight=0.7,
        contraction=0.01,
        alignment_weight=1.3,
        semantics_decay=0.2,
    )
    features, labels = batch_of(scaled)
    found = model.loss(features, labels, draws())
    x = np.sign(features.numpy()) * np.log(1 + np.abs(features.numpy()))
    of, seen = embedded(model, x), scaled.problem.seen_classes
    ranked = 0.0
    for e, y in zip(of["embeddings"], labels.tolist(), strict=True):
        score = {int(c): float(e @ of["class_embeddings"][c]) for c in seen}
        wrong = [max(0.0, 0.3 + score[c] - score[y]) for c in score if c != y]
        ranked += (max(wrong) if ranking == "largest" else sum(wrong)) / len(labels)
    parts = {
        "features": np.mean((of["decoded"] - x) ** 2),
        "semantics": np.mean((of["class_decoded"] - model.semantics.numpy())[seen] ** 2),
        "discrepancy": looped_discrepancy(of[aligned], of[f"class_{aligned}"][seen], 2.0),
        "ranking": ranked,
    }
    contraction = found.parts["contraction"].item()
    for name, value in parts.items():
        assert found.parts[name].item() == pytest.approx(value, rel=1e-4, abs=1e-6), name
    decay = sum((w**2).sum() for name, w in arrays(model).items() if name.startswith("semantics"))
    expected = parts["ranking"] + 1.3 * parts["discrepancy"] + 0.2 / 2 * decay
    expected += 0.7 * (parts["features"] + parts["semantics"] + 0.01 * contraction)
    assert found.total.item() == pytest.approx(expected, rel=1e-4)


def test_contractive_term_of_a_loss_is_the_mean_of_the_squared_norms(scaled: Scaled) -> None:
    """A draw gives the norm of each row's Jacobian on average."""
    model, (features, labels) = make_model(scaled), batch_of(scaled)
    inputs = features.sign() * features.abs().log1p()
    norms = [
        torch.autograd.functional.jacobian(model.feature_encoder, row[None]).square().sum()
        for row in inputs
    ]
    random = draws()
    drawn = torch.stack(
        [model.loss(features, labels, random).parts["contraction"].detach() for _ in range(800)]
    )
    error = drawn.std().item() / len(drawn) ** 0.5
    assert error < 0.05 * drawn.mean().item()
    assert drawn.mean().item() == pytest.approx(torch.stack(norms).mean().item(), abs=4 * error)


def test_gradients_equal_finite_differences(scaled: Scaled) -> None:
    model = make_model(scaled, sharpness=2.0, contraction=0.1)
    batch = batch_of(scaled)

    def loss() -> torch.Tensor:
        total: torch.Tensor = model.loss(*batch, draws()).total
        return total

    assert_gradients(model, loss, step=1e-4, relative=2e-2, absolute=1e-3)


def test_decay_of_the_semantics_is_adams_weight_decay(scaled: Scaled) -> None:
    """The first step equals that of an Adam with weight decay on these parameters alone."""
    penalised, plain = (
        make_model(scaled, semantics_decay=0.3),
        make_model(scaled, semantics_decay=0),
    )
    sides = [
        [p for name, p in plain.named_parameters() if name.startswith("semantics") == side]
        for side in (True, False)
    ]
    groups = [{"params": sides[0], "weight_decay": 0.3}, {"params": sides[1]}]
    of_plain = torch.optim.Adam(groups, lr=1e-2, eps=1e-3)
    of_penalised = torch.optim.Adam(penalised.parameters(), lr=1e-2, eps=1e-3)
    for model, adam in ((plain, of_plain), (penalised, of_penalised)):
        model.loss(*batch_of(scaled), draws()).total.backward()  # type: ignore[no-untyped-call]
        adam.step()
    for ours, theirs in zip(penalised.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_scores_are_dot_products_of_embeddings(scaled: Scaled) -> None:
    model = make_model(scaled, log_features=False)
    features = batch_of(scaled)[0]
    of = embedded(model, features.numpy())
    expected = of["embeddings"] @ of["class_embeddings"][scaled.problem.classes].T
    gzsl, zsl = model.class_scores(features)
    np.testing.assert_allclose(gzsl, expected)
    np.testing.assert_array_equal(zsl, gzsl[:, len(scaled.problem.seen_classes) :])


def test_sizes_and_initial_weights(scaled: Scaled) -> None:
    model = ReViSE.for_problem(scaled, ReViSEConfig(), generators(0))
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters() if n.endswith("weight")}
    assert shapes == {
        "feature_encoder.first.weight": (500, 6),
        "feature_encoder.second.weight": (100, 500),
        "feature_decoder.0.weight": (500, 100),
        "feature_decoder.2.weight": (6, 500),
        "feature_embedding.weight": (50, 100),
        "semantics_encoder.weight": (100, 5),
        "semantics_decoder.weight": (5, 100),
        "semantics_embedding.weight": (50, 100),
    }
    for layer in (model.feature_encoder.second, model.semantics_embedding):
        bound = layer.in_features**-0.5
        assert 0.98 * bound < layer.weight.abs().max().item() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)
    lengths = model.semantics.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_training_is_deterministic_and_lowers_the_losses(scaled: Scaled) -> None:
    models = [ReViSE.for_problem(scaled, SMALL, generators(0)) for _ in range(2)]
    histories = []
    for model in models:
        trainer = Trainer(model, scaled.feed, TRAINING, seeded(3))
        histories.append([trainer.run_epoch() for _ in range(6)])
    assert histories[0] == histories[1]
    for name in ("features", "ranking"):
        assert histories[0][-1][name] < histories[0][0][name]
    for name, tensor in models[0].state_dict().items():
        assert torch.equal(tensor, models[1].state_dict()[name]), name
