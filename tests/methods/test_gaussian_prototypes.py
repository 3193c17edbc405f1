"""Gaussians around ridge prototypes, against scikit-learn, explicit refits and plain moments."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import HeldOut, Problem, Rows, open_held_out, training_problem
from gsmflow.evaluation.protocol import evaluate
from gsmflow.learning.feed import Scaled, scale_problem
from gsmflow.learning.sampling import synthesize
from gsmflow.learning.softmax import SoftmaxConfig, SoftmaxPair
from gsmflow.methods.gaussian_prototypes import (
    ClassGaussians,
    GaussianChoice,
    GaussianPrototypesConfig,
    PrototypeSolver,
    choose_gaussian,
    classify_gaussian,
)
from gsmflow.methods.mean_regression import shrink
from tests.builders import make_dataset, seeded

CPU = torch.device("cpu")
RIDGES = [0.003, 0.1, 3.0]


def standardised(problem: Problem) -> Scaled:
    return scale_problem(problem, "standardised", CPU, "memory")


def classified(
    scaled: Scaled, gaussian: ClassGaussians, lr: float, generator: torch.Generator
) -> SoftmaxPair:
    """Classifiers of the method's batches, epochs and samples."""
    config = SoftmaxConfig(lr=lr, batch_size=500, epochs=7)
    return classify_gaussian(scaled, gaussian, config, 1000, generator)


def uneven(*, a: int = 5, d: int = 6, seed: int = 0) -> Problem:
    """Seen classes with 1 to 8 rows, with gaps in their numbers."""
    dataset = make_dataset(classes=14, a=a, d=d, seed=seed)
    problem = training_problem(check_dataset(dataset), "test")
    rng, labels = np.random.default_rng(seed), problem.train.labels
    kept = np.concatenate(
        [np.flatnonzero(labels == c)[: 1 + rng.integers(8)] for c in np.unique(labels) if c != 3]
    )
    train = problem.train.select(rng.permutation(kept))
    return replace(problem, train=train, seen_classes=np.unique(train.labels))


@pytest.fixture(params=[3, 40], ids=["short semantics", "long semantics"])
def problem(request: pytest.FixtureRequest) -> Problem:
    return uneven(a=request.param)


def plain_parts(problem: Problem) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Standardised rows, the seen classes' means of them, and semantics of all classes of which
    the seen ones lie at a mean squared distance of 1 from their mean."""
    x = StandardScaler().fit_transform(problem.train.features.astype(np.float64))
    means = np.stack([x[problem.train.labels == c].mean(axis=0) for c in problem.seen_classes])
    semantics = problem.semantics.astype(np.float64)
    seen = semantics[problem.seen_classes]
    return x, means, semantics / np.sqrt(seen.var(axis=0).sum())


def refitted(problem: Problem, ridge: float) -> NDArray[Any]:
    """Each seen class's mean, predicted by a regression on all others."""
    _, means, semantics = plain_parts(problem)
    seen = semantics[problem.seen_classes]
    return np.stack(
        [
            Ridge(alpha=ridge)
            .fit(np.delete(seen, i, axis=0), np.delete(means, i, axis=0))
            .predict(seen[i : i + 1])[0]
            for i in range(len(seen))
        ]
    )


def plain_covariance(problem: Problem, ridge: float) -> NDArray[Any]:
    """Second moments of rows around refitted means, every class with the same weight."""
    x, _, _ = plain_parts(problem)
    columns = np.searchsorted(problem.seen_classes, problem.train.labels)
    residuals = x - refitted(problem, ridge)[columns]
    weights = 1 / np.bincount(columns)[columns]
    mean = np.average(residuals, axis=0, weights=weights)
    around_mean = np.cov(residuals.T, aweights=weights, ddof=0)
    return np.asarray(around_mean + np.outer(mean, mean))


@pytest.mark.parametrize("ridge", RIDGES)
def test_predicted_means_equal_scikit_learn(problem: Problem, ridge: float) -> None:
    _, means, semantics = plain_parts(problem)
    reference = Ridge(alpha=ridge).fit(semantics[problem.seen_classes], means)
    found = PrototypeSolver(standardised(problem)).means(ridge)
    np.testing.assert_allclose(found, reference.predict(semantics), rtol=0, atol=1e-5)


@pytest.mark.parametrize("ridge", RIDGES)
def test_cross_fitted_means_equal_explicit_refits(problem: Problem, ridge: float) -> None:
    found = PrototypeSolver(standardised(problem)).cross_fitted(ridge)
    expected = refitted(problem, ridge)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("ridge", RIDGES)
def test_covariance_equals_numpy(problem: Problem, ridge: float) -> None:
    expected = plain_covariance(problem, ridge)
    found = PrototypeSolver(standardised(problem)).covariance(ridge)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.max())


@pytest.mark.parametrize("ridge", RIDGES)
@pytest.mark.parametrize("shrinkage", [0.05, 0.3, 1.0])
def test_factor_is_that_of_the_shrunk_covariance(
    problem: Problem, ridge: float, shrinkage: float
) -> None:
    expected = plain_covariance(problem, ridge)
    expected = (1 - shrinkage) * expected + shrinkage * np.diag(np.diag(expected))
    factor = PrototypeSolver(standardised(problem)).solve(ridge, shrinkage).factor.double()
    assert not factor.triu(1).any()
    np.testing.assert_allclose(factor @ factor.T, expected, rtol=0, atol=1e-5 * expected.max())


def test_drawn_features_have_the_means_and_the_covariance(problem: Problem) -> None:
    solver = PrototypeSolver(standardised(problem))
    gaussian = solver.solve(0.3, 0.1)
    classes, n = torch.tensor([12, 0, 5]), 60_000
    features, labels = synthesize(gaussian, classes, n, seeded(0))
    covariance = plain_covariance(problem, 0.3) * (0.9 + 0.1 * np.eye(6))
    deviations = np.sqrt(np.diag(covariance))
    _, means, semantics = plain_parts(problem)
    reference = Ridge(alpha=0.3).fit(semantics[problem.seen_classes], means)
    for c in classes.tolist():
        drawn = features[labels == c].double().numpy()
        mean_error = (drawn.mean(axis=0) - reference.predict(semantics[c : c + 1])[0]) / deviations
        assert np.abs(mean_error).max() < 5 / np.sqrt(n)
        error = (np.cov(drawn.T) - covariance) / deviations / deviations[:, None]
        # A sample correlation deviates by at most sqrt(2 / n).
        assert np.abs(error).max() < 5 * np.sqrt(2 / n)


def test_covariance_is_that_of_unseen_rows_around_their_predictions() -> None:
    dataset = check_dataset(make_dataset(classes=300, unseen=100, val=2, a=150, d=8, noise=0.2))
    problem, ridge = training_problem(dataset, "test"), 0.1
    scaled = standardised(problem)
    solver, unseen = PrototypeSolver(scaled), open_held_out(dataset, "test").unseen

    def spread(rows: Rows) -> float:
        residuals = scaled.scaling(rows.features) - solver.means(ridge)[rows.labels]
        return float(np.square(residuals).sum(axis=1).mean())

    found = np.trace(solver.covariance(ridge))
    assert found == pytest.approx(spread(unseen), rel=0.1)
    # Seen classes are nearer to predictions that were fitted on them.
    assert spread(problem.train) < 0.6 * found


def test_scale_and_the_origin_of_the_semantics_do_not_matter(problem: Problem) -> None:
    moved = replace(problem, semantics=np.float32(20) * problem.semantics + np.float32(3))
    first, second = (PrototypeSolver(standardised(p)) for p in (problem, moved))
    np.testing.assert_allclose(first.means(0.1), second.means(0.1), rtol=0, atol=1e-4)
    np.testing.assert_allclose(first.cross_fitted(0.1), second.cross_fitted(0.1), rtol=0, atol=1e-4)


def test_solution_does_not_depend_on_row_order_and_slab_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = uneven()
    expected = PrototypeSolver(standardised(problem))
    order = np.random.default_rng(1).permutation(len(problem.train))
    monkeypatch.setattr("gsmflow.learning.feed._CHUNK", 7)
    found = PrototypeSolver(standardised(replace(problem, train=problem.train.select(order))))
    for a, b in zip(
        (expected.means(0.1), expected.covariance(0.1)),
        (found.means(0.1), found.covariance(0.1)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


# --- hard cases ----------------------------------------------------------------------------------


def chosen_rows(problem: Problem, per_class: int, classes: int | None = None) -> Problem:
    """The first rows of each of the first seen classes."""
    seen, labels = problem.seen_classes[:classes], problem.train.labels
    kept = np.concatenate([np.flatnonzero(labels == c)[:per_class] for c in seen])
    return replace(problem, train=problem.train.select(kept), seen_classes=seen)


def hard_case(name: str) -> Problem:
    dataset = make_dataset(d=40 if name == "more dimensions than rows" else 6)
    if name == "constant dimensions":
        dataset.features[:, [0, 4]] = 3
    if name == "equal semantics":
        dataset.semantics[:5] = dataset.semantics[0]
    problem = training_problem(check_dataset(dataset), "test")
    return {
        "two classes": chosen_rows(problem, 8, 2),
        "one row a class": chosen_rows(problem, 1),
        "one row of two classes": chosen_rows(problem, 1, 2),
        "more dimensions than rows": chosen_rows(problem, 2),
        "equal semantics": chosen_rows(problem, 8, 5),
    }.get(name, problem)


@pytest.mark.parametrize(
    "name",
    [
        "two classes",
        "one row a class",
        "one row of two classes",
        "more dimensions than rows",
        "constant dimensions",
        "equal semantics",
    ],
)
@pytest.mark.parametrize("ridge", [0.003, 3.0])
def test_degenerate_data_give_finite_features_and_scores(name: str, ridge: float) -> None:
    scaled = standardised(hard_case(name))
    solver = PrototypeSolver(scaled)
    gaussian = solver.solve(ridge, 0.05)
    covariance = shrink(solver.covariance(ridge).numpy(), 0.05)
    factor = gaussian.factor.double().numpy()
    np.testing.assert_allclose(factor @ factor.T, covariance, rtol=0, atol=1e-5 * covariance.max())
    classes = torch.from_numpy(scaled.problem.classes)
    features, _ = synthesize(gaussian, classes, 20, seeded(0))
    assert features.isfinite().all()
    pair = classified(scaled, gaussian, 3e-3, seeded(0))
    assert np.isfinite(pair.gzsl_scores(scaled.problem.train.features)).all()
    assert np.isfinite(pair.zsl_scores(scaled.problem.train.features)).all()


def test_of_two_classes_each_is_predicted_as_the_other() -> None:
    problem = hard_case("two classes")
    _, means, _ = plain_parts(problem)
    found = PrototypeSolver(standardised(problem)).cross_fitted(0.1)
    np.testing.assert_allclose(found, means[::-1], rtol=0, atol=1e-5)


def test_classes_with_equal_semantics_are_predicted_as_their_mean() -> None:
    problem = hard_case("equal semantics")
    x = StandardScaler().fit_transform(problem.train.features.astype(np.float64))
    found = PrototypeSolver(standardised(problem)).means(0.1)[problem.seen_classes]
    # Five classes of eight rows.
    np.testing.assert_allclose(found, np.tile(x.mean(axis=0), (5, 1)), rtol=0, atol=1e-5)


def test_constant_dimensions_stay_constant() -> None:
    scaled = standardised(hard_case("constant dimensions"))
    gaussian = PrototypeSolver(scaled).solve(0.1, 0.3)
    features, _ = synthesize(gaussian, torch.tensor([9, 0]), 50, seeded(0))
    assert not features[:, [0, 4]].any()
    assert (features[:, [1, 2, 3, 5]].std(dim=0) > 0.1).all()


# --- the classifiers -----------------------------------------------------------------------------


def linear_world() -> tuple[Scaled, HeldOut]:
    """Separated classes, ten of sixty unseen, with enough rows for the classifiers."""
    dataset = check_dataset(
        make_dataset(classes=60, unseen=10, val=8, d=30, a=15, noise=0.1, per_class=150)
    )
    return standardised(training_problem(dataset, "test")), open_held_out(dataset, "test")


def test_classes_linear_in_their_semantics_are_recognised() -> None:
    scaled, held_out = linear_world()
    gaussian = PrototypeSolver(scaled).solve(0.03, 0.1)
    pair = classified(scaled, gaussian, 1e-2, seeded(0))
    outcome = evaluate(pair, scaled.problem, held_out)
    plain = outcome.calibrated(0.0)
    assert outcome.t1 > 0.95  # a tenth by chance
    assert min(plain.U, plain.S) > 0.9  # a sixtieth by chance


@pytest.mark.parametrize("reservoir_bytes", [2**29, 2**12])
def test_samples_and_classifiers_depend_on_the_generator_alone(
    reservoir_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsmflow.methods.gaussian_prototypes._RESERVOIR_BYTES", reservoir_bytes)
    scaled = standardised(uneven())
    gaussian = PrototypeSolver(scaled).solve(0.1, 0.3)
    torch.manual_seed(1)
    first = classified(scaled, gaussian, 3e-3, seeded(0))
    torch.manual_seed(2)
    again, other = (classified(scaled, gaussian, 3e-3, seeded(s)) for s in (0, 1))
    for a, b, c in zip(
        (first.gzsl, first.zsl), (again.gzsl, again.zsl), (other.gzsl, other.zsl), strict=True
    ):
        assert torch.equal(a.weight, b.weight)
        assert not torch.equal(a.weight, c.weight)


def test_many_samples_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    scaled, held_out = linear_world()
    gaussian = PrototypeSolver(scaled).solve(0.03, 0.1)
    monkeypatch.setattr("gsmflow.methods.gaussian_prototypes._RESERVOIR_BYTES", 4 * 30 * 500)
    pair = classified(scaled, gaussian, 1e-2, seeded(0))
    outcome = evaluate(pair, scaled.problem, held_out)
    assert outcome.t1 > 0.95
    assert outcome.calibrated(0.0).H > 0.9


# --- the choice ----------------------------------------------------------------------------------


VALIDATIONS = {
    "a small ridge": {"classes": 30, "val": 8, "noise": 0.2, "a": 60, "d": 20, "seed": 2},
    "a large ridge": {"classes": 40, "val": 10, "noise": 1.0, "a": 8, "d": 30},
}


@pytest.fixture(scope="module", params=VALIDATIONS.values(), ids=VALIDATIONS.keys())
def validation(request: pytest.FixtureRequest) -> tuple[Scaled, HeldOut, GaussianChoice]:
    dataset = check_dataset(make_dataset(**request.param))
    scaled = standardised(training_problem(dataset, "validation"))
    held_out = open_held_out(dataset, "validation")
    return (
        scaled,
        held_out,
        choose_gaussian(scaled, held_out, GaussianPrototypesConfig(), seeded(5)),
    )


def mean_accuracy(labels: NDArray[Any], answers: NDArray[Any]) -> float:
    return float(np.mean([np.mean(answers[labels == c] == c) for c in np.unique(labels)]))


def best_value(
    scaled: Scaled, held_out: HeldOut, setting: GaussianChoice, gammas: list[float]
) -> float:
    """Mean of T1 and H of a setting, with the best of some gammas, from plain means."""
    problem = scaled.problem
    gaussian = PrototypeSolver(scaled).solve(setting.ridge, setting.shrinkage)
    pair = classified(scaled, gaussian, setting.classifier_lr, seeded(5))
    answers = pair.zsl_scores(held_out.unseen.features).argmax(axis=1)
    t1 = mean_accuracy(held_out.unseen.labels, problem.unseen_classes[answers])

    def h(calibration: float) -> float:
        sides = []
        for rows in (held_out.seen, held_out.unseen):
            shifted = pair.gzsl_scores(rows.features) - calibration * np.isin(
                problem.classes, problem.seen_classes
            )
            sides.append(mean_accuracy(rows.labels, problem.classes[shifted.argmax(axis=1)]))
        return 2 * sides[0] * sides[1] / sum(sides) if sum(sides) else 0.0

    return (t1 + max(map(h, gammas))) / 2


def test_choice_records_the_value_that_it_reaches(
    validation: tuple[Scaled, HeldOut, GaussianChoice],
) -> None:
    *data, choice = validation
    assert best_value(*data, choice, [choice.calibration]) == pytest.approx(choice.value)
    assert best_value(*data, choice, [*np.linspace(-4, 4, 81)]) <= choice.value + 1e-9


def test_settings_are_chosen_one_after_another_among_their_neighbours(
    validation: tuple[Scaled, HeldOut, GaussianChoice],
) -> None:
    *data, choice = validation
    assert choice.ridge != 0.1, "the search must change its start for this test to check anything"
    setting = GaussianChoice(0.1, 0.05, 3e-3, calibration=0.0, value=0.0)
    for name, grid in {
        "ridge": [0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0],
        "shrinkage": [0.05, 0.3],
        "classifier_lr": [1e-3, 3e-3, 1e-2, 3e-2, 1e-1],
    }.items():
        at = grid.index(getattr(choice, name))
        reached = {
            value: best_value(*data, replace(setting, **{name: value}), [*np.linspace(-4, 4, 321)])
            for value in grid[max(0, at - 1) : at + 2]
        }
        # A gamma between two of those tried may give a slightly higher value.
        assert reached[grid[at]] >= max(reached.values()) - 0.01
        setting = replace(setting, **{name: grid[at]})


def test_setting_that_is_set_is_not_chosen(
    validation: tuple[Scaled, HeldOut, GaussianChoice],
) -> None:
    scaled, held_out, free = validation
    config = GaussianPrototypesConfig(
        ridge=free.ridge, classifier_lr=free.classifier_lr, samples_per_class=50
    )
    choice = choose_gaussian(scaled, held_out, config, seeded(5))
    assert (choice.ridge, choice.classifier_lr) == (free.ridge, free.classifier_lr)
    assert choice.shrinkage in (0.05, 0.3)


@pytest.mark.parametrize("reservoir_bytes", [2**29, 2**13])
def test_settings_with_the_same_gaussians_are_evaluated_as_if_alone(
    validation: tuple[Scaled, HeldOut, GaussianChoice],
    reservoir_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Rows that are kept for the next learning rate, and rows that are streamed and cannot be.
    monkeypatch.setattr("gsmflow.methods.gaussian_prototypes._RESERVOIR_BYTES", reservoir_bytes)
    *data, _ = validation
    config = GaussianPrototypesConfig(ridge=0.1, shrinkage=0.3)
    found = choose_gaussian(*data, config, seeded(5))
    # Its neighbours are tried first to last with the same numbers; alone, each has the same value.
    alone = [
        choose_gaussian(*data, replace(config, classifier_lr=lr), seeded(5))
        for lr in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    ]
    assert found in alone
    [start] = [choice for choice in alone if choice.classifier_lr == 3e-3]
    assert found.value > start.value, "the search must go on from its start to check anything"
