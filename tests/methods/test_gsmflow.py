"""GSMFlow's losses, perturbation, sampling and density against direct formulas."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor
from torch.distributions import MultivariateNormal

from gsmflow.core.precision import autocast
from gsmflow.core.rng import BatchRandom
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Problem, training_problem
from gsmflow.learning.trainer import Trainer, TrainingConfig
from gsmflow.methods.gsmflow import GSMFlow, GSMFlowConfig
from tests.builders import feed_of, generators, make_dataset, scaled_of, seeded

SEEN = [1, 3, 4, 6, 7]
UNSEEN = [0, 2, 5]


def make_problem(d: int = 4) -> Problem:
    """Seen and unseen class numbers interleave, so that a class number is not its row number."""
    dataset = make_dataset(classes=8, unseen=3, val=2, per_class=9, d=d, a=5)
    number = np.array([4, 1, 6, 3, 7, 0, 2, 5])  # the new number of each class
    semantics = np.empty_like(dataset.semantics)
    semantics[number] = dataset.semantics
    shuffled = replace(dataset, labels=number[dataset.labels], semantics=semantics)
    problem = training_problem(check_dataset(shuffled), "test")
    assert problem.seen_classes.tolist() == SEEN
    assert problem.unseen_classes.tolist() == UNSEEN
    return problem


def make_model(problem: Problem | None = None, **changes: Any) -> GSMFlow:
    """A small model whose weights are large enough that the flow is far from the identity."""
    settings: dict[str, Any] = {"blocks": 2, "hidden": 8, "condition_dim": 6, "semantics_norm": 2.0}
    config = GSMFlowConfig(**(settings | changes))
    problem = problem or make_problem()
    model = GSMFlow.for_problem(scaled_of(problem), config, generators(0))
    with torch.no_grad():
        for parameter in model.flow.parameters():
            parameter.mul_(30)
    return model


def make_batch(problem: Problem) -> tuple[Tensor, Tensor]:
    rows = torch.randperm(len(problem.train), generator=seeded(5))[:13]
    features = torch.from_numpy(problem.train.features)
    return features[rows].double(), torch.from_numpy(problem.train.labels)[rows]


def latents(model: GSMFlow, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """``z`` and the log-determinant, row by row, each row with the condition of its class."""
    only = torch.tensor([0])
    pairs = [
        model.flow(x[None], model.flow.offsets(model.condition(c[None])), only)
        for x, c in zip(features, labels, strict=True)
    ]
    return torch.cat([z for z, _ in pairs]), torch.cat([j for _, j in pairs])


SWITCHES = [
    {},
    {"condition_blocks": "first"},
    {"relative_positioning": False},
    {"anchors": "all", "semantics_scaling": "standardised"},
]


@pytest.mark.parametrize("switches", SWITCHES)
def test_likelihood_loss_equals_its_formula(switches: dict[str, Any]) -> None:
    problem = make_problem()
    model = make_model(problem, perturbation=False, **switches).double()
    features, labels = make_batch(problem)
    z, log_det = (v.detach().numpy() for v in latents(model, features, labels))
    expected = np.mean(z**2) / 2 - np.mean(log_det) / 4
    parts = model.loss(features, labels, BatchRandom(seeded(0))).parts
    assert parts["likelihood"].item() == pytest.approx(expected, rel=1e-10)


def test_likelihood_loss_is_the_negative_log_density_per_dimension() -> None:
    problem = make_problem()
    model = make_model(problem, perturbation=False).double()
    features, labels = make_batch(problem)
    likelihood = model.loss(features, labels, BatchRandom(seeded(0))).parts["likelihood"]
    log_prob = model.log_prob(features, labels).mean()
    expected = -log_prob / 4 - math.log(2 * math.pi) / 2
    torch.testing.assert_close(likelihood.detach(), expected)


@pytest.mark.parametrize("c", [3, 5])
def test_log_prob_is_the_change_of_variables(c: int) -> None:
    model = make_model().double()
    x = torch.randn(4, generator=seeded(1), dtype=torch.float64)
    condition = model.condition(torch.tensor([c]))

    def encode(v: Tensor) -> Tensor:
        z: Tensor = model.flow(v[None], model.flow.offsets(condition), torch.tensor([0]))[0][0]
        return z

    _, log_det = torch.linalg.slogdet(torch.autograd.functional.jacobian(encode, x))
    base = MultivariateNormal(torch.zeros(4).double(), torch.eye(4).double())
    expected = base.log_prob(encode(x)) + log_det
    found = model.log_prob(x[None], torch.tensor([c]))[0]
    torch.testing.assert_close(found, expected.detach())


def test_log_prob_takes_rows_of_mixed_classes() -> None:
    problem = make_problem()
    model = make_model(problem).double()
    features = make_batch(problem)[0][:8]
    classes = torch.tensor([5, 1, 7, 0, 1, 5, 3, 2])
    alone = [model.log_prob(features[i : i + 1], classes[i : i + 1]) for i in range(8)]
    torch.testing.assert_close(model.log_prob(features, classes), torch.cat(alone))


@pytest.mark.parametrize("c", [1, 2])
def test_density_integrates_to_one(c: int) -> None:
    model = make_model(make_problem(d=2)).double()
    step = 0.05
    axis = torch.arange(-15, 15, step, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    density = model.log_prob(grid, torch.full((len(grid),), c)).exp()
    assert float(density.sum()) * step**2 == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("switches", SWITCHES)
def test_prototype_loss_equals_its_formula(switches: dict[str, Any]) -> None:
    problem = make_problem()
    model = make_model(problem, prototype_weight=2.5, **switches).double()
    errors = []
    for c in SEEN:
        rows = problem.train.features[problem.train.labels == c]
        offsets = model.flow.offsets(model.condition(torch.tensor([c])))
        centre = model.flow.inverse(torch.zeros(1, 4).double(), offsets)
        errors.append((centre[0].detach().numpy() - rows.astype(np.float64).mean(axis=0)) ** 2)
    total, parts = model.loss(*make_batch(problem), BatchRandom(seeded(0)))
    # The stored means are rounded to float32.
    assert parts["prototype"].item() == pytest.approx(np.mean(errors), rel=1e-5)
    expected = parts["likelihood"] + 2.5 * parts["prototype"]
    torch.testing.assert_close(total, expected)


@pytest.mark.parametrize("trains_condition", [False, True])
def test_prototype_loss_of_a_subset_is_unbiased(trains_condition: bool) -> None:
    problem = make_problem()
    switches = {"perturbation": False, "prototype_trains_condition": trains_condition}
    every = make_model(problem, **switches).double()
    some = make_model(problem, prototype_classes=1, **switches).double()
    batch, draws = make_batch(problem), BatchRandom(seeded(0))
    expected = gradients(every, every.loss(*batch, draws).parts["prototype"])
    # Each of the five seen classes is drawn equally often.
    values, sums = [], {name: torch.zeros_like(g) for name, g in expected.items()}
    for chosen in range(5):
        draw = Chosen(torch.tensor([chosen]))
        parts = some.loss(*batch, draw).parts  # type: ignore[arg-type]
        assert draw.asked == (1, 5)
        values.append(parts["prototype"].item())
        for name, gradient in gradients(some, parts["prototype"]).items():
            sums[name] += gradient / 5
    assert np.ptp(values) > 0
    mean = every.loss(*batch, draws).parts["prototype"].item()
    assert np.mean(values) == pytest.approx(mean, rel=1e-10)
    for name, gradient in expected.items():
        torch.testing.assert_close(sums[name], gradient)


class Chosen:
    """Gives a subset that was chosen beforehand."""

    def __init__(self, subset: Tensor) -> None:
        self._subset = subset
        self.asked = (0, 0)

    def subset(self, size: int, total: int) -> Tensor:
        self.asked = (size, total)
        return self._subset

    def shared_normal(self, like: Tensor) -> Tensor:
        raise AssertionError("no noise on the semantics was asked for")


def test_batch_smaller_than_the_seen_classes_has_the_same_loss() -> None:
    problem = make_problem()
    model = make_model(problem, perturbation=False).double()
    features, labels = make_batch(problem)
    # Three rows at a time, fewer than the five classes, against all thirteen at once.
    whole = model.loss(features, labels, BatchRandom(seeded(0))).parts["likelihood"]
    parts = [
        len(rows)
        * model.loss(features[rows], labels[rows], BatchRandom(seeded(0))).parts["likelihood"]
        for rows in torch.arange(13).split(3)
    ]
    torch.testing.assert_close(torch.stack(parts).sum() / 13, whole)
    for name, gradient in gradients(model, torch.stack(parts).sum() / 13).items():
        torch.testing.assert_close(gradient, gradients(model, whole)[name])


def test_bf16_losses_equal_fp32_up_to_rounding_and_gradients_are_fp32() -> None:
    problem = make_problem()
    model = make_model(problem, perturbation=False)
    features, labels = make_batch(problem)
    exact = model.loss(features.float(), labels, BatchRandom(seeded(0)))
    with autocast("bf16", torch.device("cpu")):
        rounded = model.loss(features.float(), labels, BatchRandom(seeded(0)))
    for name, value in rounded.parts.items():
        assert value.dtype == torch.float32
        assert value.item() != exact.parts[name].item()
        assert value.item() == pytest.approx(exact.parts[name].item(), rel=0.02, abs=0.02)
    expected = gradients(model, exact.total)
    for name, gradient in gradients(model, rounded.total).items():
        assert gradient.dtype == torch.float32
        difference = (gradient - expected[name]).norm()
        assert difference < 0.1 * expected[name].norm(), name


def gradients(model: GSMFlow, value: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for name, parameter, gradient in zip(names, parameters, found, strict=True)
    }


@pytest.mark.parametrize("trains_condition", [False, True])
def test_prototype_loss_trains_the_positioning_only_if_set(trains_condition: bool) -> None:
    problem = make_problem()
    model = make_model(problem, prototype_trains_condition=trains_condition).double()
    total, parts = model.loss(*make_batch(problem), BatchRandom(seeded(0)))
    prototype, likelihood = (gradients(model, parts[part]) for part in ("prototype", "likelihood"))
    for name, gradient in gradients(model, total).items():
        torch.testing.assert_close(gradient, likelihood[name] + prototype[name])
        if name.startswith("positioning"):
            assert likelihood[name].any()
            assert bool(prototype[name].any()) == trains_condition
        if name.startswith("flow.projections"):
            assert prototype[name].any()


def test_gradient_of_the_loss_equals_finite_differences() -> None:
    problem = make_problem()
    model = make_model(problem, prototype_trains_condition=True).double()
    features, labels = make_batch(problem)
    exact = gradients(model, model.loss(features, labels, BatchRandom(seeded(0))).total)
    step = 1e-6
    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, generator=seeded(9), dtype=torch.float64)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(sign * step * direction)
                values.append(model.loss(features, labels, BatchRandom(seeded(0))).total.item())
                parameter.sub_(sign * step * direction)
        slope = (values[0] - values[1]) / (2 * step)
        assert slope == pytest.approx(float((exact[name] * direction).sum()), rel=1e-4, abs=1e-7)


def test_prototype_weight_zero_removes_the_prototype_loss() -> None:
    problem = make_problem()
    total, parts = (
        make_model(problem, prototype_weight=0.0)
        .double()
        .loss(*make_batch(problem), BatchRandom(seeded(0)))
    )
    assert set(parts) == {"likelihood"}
    assert torch.equal(total, parts["likelihood"])


def test_noise_is_gaussian_with_standard_deviation_pi() -> None:
    model = make_model(pi=0.3)
    features = torch.full((20_000, 4), 7.0)
    noise = (model.perturb(features, BatchRandom(seeded(0))) - features).double().numpy()
    assert kstest(noise.flatten() / 0.3, "norm").pvalue > 1e-3
    np.testing.assert_allclose(np.cov(noise.T), 0.3**2 * np.eye(4), atol=0.005)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.015)


def test_dropout_removes_noise_from_whole_dimensions_and_keeps_its_size() -> None:
    model = make_model(pi=0.3, perturbation_dropout=0.25)
    draws = BatchRandom(seeded(0))
    features = torch.zeros(200, 2000)
    noises = [model.perturb(features, draws) for _ in range(2)]
    for noise in noises:
        free = (noise == 0).all(dim=0)
        assert (noise[:, ~free] != 0).all()
        assert float(free.double().mean()) == pytest.approx(0.25, abs=0.05)
        assert float(noise[:, ~free].std()) == pytest.approx(0.3, rel=0.01)
    assert ((noises[0][0] == 0) != (noises[1][0] == 0)).any()


def test_full_dropout_removes_noise_from_every_dimension() -> None:
    features = torch.randn(5, 300, generator=seeded(1))
    model = make_model(perturbation_dropout=1.0)
    assert torch.equal(model.perturb(features, BatchRandom(seeded(0))), features)


def test_perturbation_depends_on_the_generator_alone() -> None:
    model, features = make_model(perturbation_dropout=0.5), torch.zeros(6, 40)
    before = torch.get_rng_state()
    first, same, other = (model.perturb(features, BatchRandom(seeded(s))) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert not features.any()


def test_loss_with_perturbation_is_the_loss_of_perturbed_features() -> None:
    problem = make_problem()
    noisy, plain = (make_model(problem, pi=0.5, perturbation=on).double() for on in (True, False))
    features, labels = make_batch(problem)
    expected = plain.loss(
        noisy.perturb(features, BatchRandom(seeded(3))), labels, BatchRandom(seeded(0))
    ).total
    found = noisy.loss(features, labels, BatchRandom(seeded(3))).total
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, plain.loss(features, labels, BatchRandom(seeded(0))).total)


def test_loss_without_perturbation_does_not_depend_on_the_generator() -> None:
    problem = make_problem()
    model = make_model(problem, perturbation=False).double()
    first, second = (model.loss(*make_batch(problem), BatchRandom(seeded(s))).total for s in (0, 1))
    assert torch.equal(first, second)


def test_without_relative_positioning_the_condition_is_the_semantics() -> None:
    problem = make_problem()
    model = make_model(problem, relative_positioning=False, semantics_scaling="none")
    classes = torch.tensor([6, 0, 6, 3])
    expected = problem.semantics[[6, 0, 6, 3]]
    np.testing.assert_array_equal(model.condition(classes).numpy(), expected)
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"flow"}


def test_with_relative_positioning_equal_semantics_have_equal_conditions() -> None:
    problem = make_problem()
    problem.semantics[2] = problem.semantics[6]
    condition = make_model(problem).condition(torch.tensor([2, 6, 1]))
    assert condition.shape == (3, 6)
    torch.testing.assert_close(condition[0], condition[1])
    assert not torch.allclose(condition[0], condition[2])


def test_noise_on_the_semantics_is_a_share_of_their_standard_deviation() -> None:
    problem = make_problem()
    settings: dict[str, Any] = {"relative_positioning": False, "semantics_scaling": "none"}
    model = make_model(problem, semantics_noise=0.4, **settings)
    classes, draws = torch.tensor(SEEN), BatchRandom(seeded(0))
    clean = model.condition(classes)
    noise = torch.stack(
        [model.condition(classes, draws.shared_normal) - clean for _ in range(4000)]
    )
    seen = problem.semantics[SEEN].astype(np.float64)
    spread = np.sqrt(((seen - seen.mean(axis=0)) ** 2).mean())
    np.testing.assert_allclose(noise.std(dim=0).numpy(), 0.4 * spread, rtol=0.06)
    np.testing.assert_allclose(noise.mean(dim=0).numpy(), 0, atol=0.05 * spread)


@pytest.mark.parametrize("batch", [4, 13])  # fewer rows than seen classes, and more
def test_noise_on_the_semantics_is_for_training_alone(batch: int) -> None:
    problem = make_problem()
    features, labels = (part[:batch] for part in make_batch(problem))
    clean, noisy = (
        make_model(problem, perturbation=False, semantics_noise=level).double() for level in (0, 1)
    )
    losses = [
        model.loss(features, labels, BatchRandom(seeded(s))).total.item()
        for model, s in ((clean, 0), (clean, 1), (noisy, 0), (noisy, 1))
    ]
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3
    classes = torch.tensor(UNSEEN)
    assert torch.equal(clean.condition(classes), noisy.condition(classes))
    samples = [model.sample(classes, seeded(0)) for model in (clean, noisy)]
    assert torch.equal(*samples)


def test_anchors_are_chosen_among_the_set_classes() -> None:
    problem = make_problem()
    # The unseen class 2 points away from all others: its sum of similarities is the smallest.
    problem.semantics[:] = np.abs(problem.semantics)
    problem.semantics[2] = -problem.semantics[SEEN].sum(axis=0)
    seen, every = (make_model(problem, anchors=pool) for pool in ("seen", "all"))
    assert seen.positioning is not None
    assert every.positioning is not None
    assert torch.equal(every.positioning.anchors[0], every.semantics[2])
    for anchor in seen.positioning.anchors:
        assert any(torch.equal(anchor, seen.semantics[c]) for c in SEEN)


def test_class_means_are_those_of_the_training_rows() -> None:
    problem = make_problem()
    model = make_model(problem)
    assert model.seen_classes.tolist() == SEEN
    for mean, c in zip(model.class_means.numpy(), SEEN, strict=True):
        rows = problem.train.features[problem.train.labels == c].astype(np.float64)
        assert len(rows) == 6
        np.testing.assert_allclose(mean, rows.mean(axis=0), atol=1e-6)


def test_semantics_are_scaled_by_the_seen_classes() -> None:
    problem = make_problem()
    lengths = make_model(problem, semantics_norm=3.0).semantics.norm(dim=1)
    assert float(lengths[SEEN].mean()) == pytest.approx(3.0, rel=1e-5)


@pytest.mark.parametrize("switches", SWITCHES)
def test_sample_of_mixed_classes_gives_each_row_its_class(switches: dict[str, Any]) -> None:
    model = make_model(**switches)
    classes = torch.tensor([5, 1, 7, 0, 1, 5, 3, 2])  # seen and unseen, in no order
    found = model.sample(classes, seeded(2))
    assert found.shape == (8, 4)
    for i, c in enumerate(classes.tolist()):
        expected = model.sample(torch.full((8,), c), seeded(2))
        torch.testing.assert_close(found[i], expected[i])
    # Rows of one class differ, and so do classes at the same noise.
    assert not torch.allclose(found[1], found[4])
    assert not torch.allclose(found, model.sample(classes.flip(0), seeded(2)))


@pytest.mark.parametrize("c", [4, 5])
def test_samples_are_the_inverse_of_standard_gaussian_noise(c: int) -> None:
    model = make_model()
    classes = torch.full((4000,), c)
    samples = model.sample(classes, seeded(2))
    z, _ = model.flow(
        samples, model.flow.offsets(model.condition(classes[:1])), torch.zeros_like(classes)
    )
    z = z.detach().double().numpy()
    assert kstest(z.flatten(), "norm").pvalue > 1e-3
    np.testing.assert_allclose(np.cov(z.T), np.eye(4), atol=0.1)


def test_sampling_depends_on_the_generator_alone() -> None:
    model, classes = make_model(), torch.tensor([1, 2, 2])
    before = torch.get_rng_state()
    first, same, other = (model.sample(classes, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert not first.requires_grad


def test_initial_weights_depend_on_the_generator_alone() -> None:
    config, problem = GSMFlowConfig(blocks=2, hidden=8, condition_dim=6), make_problem()
    models = [GSMFlow.for_problem(scaled_of(problem), config, generators(s)) for s in (0, 0, 1)]
    first, same, other = (torch.nn.utils.parameters_to_vector(m.parameters()) for m in models)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_trained_model_has_its_prototypes_nearer_the_class_means() -> None:
    problem = make_problem()
    config = GSMFlowConfig(blocks=2, hidden=16, condition_dim=8, semantics_norm=2.0)
    model = GSMFlow.for_problem(scaled_of(problem), config, generators(0))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    means = model.class_means.clone()
    settings = TrainingConfig(batch_size=10, learning_rate=1e-2)
    trainer = Trainer(model, feed_of(problem), settings, seeded(1))
    losses = [trainer.run_epoch() for _ in range(30)]
    assert losses[-1]["prototype"] < losses[0]["prototype"] / 2
    assert losses[-1]["likelihood"] < losses[0]["likelihood"]
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert torch.equal(model.class_means, means)


@pytest.mark.parametrize("switches", SWITCHES)
def test_model_is_restored_from_its_description_and_state(switches: dict[str, Any]) -> None:
    problem = make_problem()
    model = make_model(problem, **switches)
    description = json.loads(json.dumps(model.describe()))
    restored = GSMFlow.from_state(description, model.state_dict())
    assert restored.config == model.config
    assert restored.describe() == model.describe()
    classes = torch.tensor([7, 0, 5, 1])
    samples = model.sample(classes, seeded(0))
    assert torch.equal(restored.sample(classes, seeded(0)), samples)
    assert torch.equal(restored.log_prob(samples, classes), model.log_prob(samples, classes))
    batch = (samples, torch.tensor([1, 3, 4, 6]))
    expected = model.loss(*batch, BatchRandom(seeded(0))).total
    assert torch.equal(restored.loss(*batch, BatchRandom(seeded(0))).total, expected)


@pytest.mark.parametrize("scaling", ["none", "norm"])
def test_loading_a_state_does_not_change_the_problem(scaling: str) -> None:
    problem = make_problem()
    semantics, seen = problem.semantics.copy(), problem.seen_classes.copy()
    model = make_model(problem, semantics_scaling=scaling)
    model.load_state_dict({name: v + 1 for name, v in model.state_dict().items()})
    np.testing.assert_array_equal(problem.semantics, semantics)
    np.testing.assert_array_equal(problem.seen_classes, seen)
