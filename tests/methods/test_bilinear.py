"""The bilinear score and its losses against loops over rows and classes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gsmflow.core.rng import BatchRandom
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Problem, training_problem
from gsmflow.methods.ale import ALE, ALEConfig
from gsmflow.methods.ale_ce import ALECE, ALECEConfig
from gsmflow.methods.bilinear import (
    Bilinear,
    hinges,
    largest_hinge,
    random_class_hinge,
    rank_weighted_hinge,
    sampled_hinge,
    sampled_rank_hinge,
    summed_hinge,
)
from gsmflow.methods.devise import DeViSE, DeViSEConfig
from gsmflow.methods.latem import LATEM, LATEMConfig
from gsmflow.methods.sje import SJE, SJEConfig
from tests.builders import generators, make_dataset, scaled_of, seeded

ROWS, CLASSES, MARGIN = 40, 7, 0.8
REPEATS = 20_000


@pytest.fixture(scope="module")
def problem() -> Problem:
    return training_problem(check_dataset(make_dataset()), "test")


def make_scores() -> tuple[Tensor, Tensor]:
    """Scores ``(n, k)`` with every number of violations, and columns ``(n,)``."""
    scores = torch.randn(ROWS, CLASSES, generator=seeded(1), dtype=torch.float64)
    columns = torch.randint(CLASSES, (ROWS,), generator=seeded(2))
    scores[0, columns[0]] = 10.0  # no violation
    scores[1, columns[1]] = -10.0  # every class violates
    return scores.requires_grad_(), columns


def harmonic(rank: int) -> float:
    return sum(1 / j for j in range(1, rank + 1))


def loop_hinges(scores: Tensor, column: int) -> list[Tensor]:
    """The hinges of the wrong classes of one row ``(k,)``."""
    return [
        torch.clamp(MARGIN + scores[c] - scores[column], min=0)
        for c in range(CLASSES)
        if c != column
    ]


def loop_sum(violations: list[Tensor]) -> Tensor:
    return torch.stack(violations).sum()


def loop_largest(violations: list[Tensor]) -> Tensor:
    return torch.stack(violations).amax()


def loop_rank_weighted(violations: list[Tensor]) -> Tensor:
    # The rank as the position of the margin among the sorted scores.
    ordered = sorted((float(v.detach()) for v in violations), reverse=True)
    rank = next((i for i, value in enumerate(ordered) if value == 0), len(ordered))
    return harmonic(rank) / max(rank, 1) * loop_sum(violations)


@pytest.mark.parametrize(
    ("loss", "of_loop"),
    [
        (summed_hinge, loop_sum),
        (largest_hinge, loop_largest),
        (rank_weighted_hinge, loop_rank_weighted),
    ],
)
def test_loss_and_gradient_equal_a_loop_over_rows_and_classes(
    loss: Callable[[Tensor], Tensor], of_loop: Callable[[list[Tensor]], Tensor]
) -> None:
    scores, columns = make_scores()
    ours = loss(hinges(scores, columns, MARGIN))
    rows = zip(scores, columns.tolist(), strict=True)
    theirs = torch.stack([of_loop(loop_hinges(*row)) for row in rows])
    torch.testing.assert_close(ours, theirs)
    assert ours[0] == 0
    gradients = [torch.autograd.grad(value.sum(), scores)[0] for value in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_rank_weighted_loss_has_the_ranks_of_a_sort() -> None:
    scores, columns = make_scores()
    violations = hinges(scores, columns, MARGIN).detach()
    losses = rank_weighted_hinge(violations)
    for row, column in enumerate(columns.tolist()):
        shifted = scores[row].detach() + MARGIN
        shifted[column] = scores[row, column].detach()
        order = shifted.argsort(descending=True).tolist()
        rank = order.index(column)
        expected = harmonic(rank) / max(rank, 1) * violations[row].sum()
        assert float(losses[row]) == pytest.approx(float(expected))
    ranks = (violations > 0).sum(dim=1)
    assert int(ranks.min()) == 0
    assert int(ranks.max()) == CLASSES - 1


def repeated() -> tuple[Tensor, Tensor, Tensor]:
    """One row of hinges ``(REPEATS, 5)``, 0 at its own class 1 and at class 3; and columns."""
    violations = torch.tensor([0.5, 0.0, 2.0, 0.0, 1.0]).repeat(REPEATS, 1)
    return violations, torch.full((REPEATS,), 1), torch.tensor([0.5, 2.0, 1.0])


def test_first_violation_is_uniform_among_the_violations() -> None:
    violations, _, values = repeated()
    losses = sampled_hinge(violations, BatchRandom(seeded(3)))
    for value in values:
        assert float((losses == value).float().mean()) == pytest.approx(1 / 3, abs=0.015)
    assert not sampled_hinge(torch.zeros(4, 5), BatchRandom(seeded(3))).any()


def test_random_class_is_uniform_among_the_wrong_classes() -> None:
    violations, columns, values = repeated()
    losses = random_class_hinge(violations, columns, BatchRandom(seeded(3)))
    for value in (*values, torch.tensor(0.0)):
        assert float((losses == value).float().mean()) == pytest.approx(1 / 4, abs=0.015)


def test_sampled_ranks_have_the_distribution_of_the_published_search() -> None:
    violations, _, values = repeated()
    ours = sampled_rank_hinge(violations, BatchRandom(seeded(3)))
    random = np.random.default_rng(0)
    theirs = []
    for _ in range(REPEATS):
        for trial in range(1, 5):
            found = float(violations[0, random.choice([0, 2, 3, 4])])
            if found > 0:
                theirs.append(harmonic(4 // trial) * found)
                break
        else:
            theirs.append(0.0)
    possible = {harmonic(q) * float(value) for q in range(5) for value in values}
    for value in possible:
        near = (ours - value).abs() < 1e-5
        share = np.isclose(theirs, value).mean()
        assert float(near.float().mean()) == pytest.approx(share, abs=0.015)


def test_no_wrong_class_has_no_loss() -> None:
    assert not sampled_rank_hinge(torch.zeros(3, 1), BatchRandom(seeded(1))).any()


def test_sampled_ranks_are_finite_with_no_violation_and_with_all() -> None:
    none, every = torch.zeros(50, 5), torch.ones(50, 5).index_fill(1, torch.tensor([2]), 0.0)
    assert not sampled_rank_hinge(none, BatchRandom(seeded(1))).any()
    # Every draw violates, so the first does: rank 4.
    losses = sampled_rank_hinge(every, BatchRandom(seeded(1)))
    torch.testing.assert_close(losses, torch.full((50,), harmonic(4)))


def test_scores_equal_a_loop_over_maps_and_classes(problem: Problem) -> None:
    model = LATEM.for_problem(scaled_of(problem), LATEMConfig(maps=3), generators(0))
    features = torch.randn(5, problem.train.feature_dim, generator=seeded(1))
    gzsl, zsl = model.class_scores(features)
    semantics = problem.semantics / np.linalg.norm(problem.semantics, axis=1, keepdims=True)
    maps = model.maps.detach().numpy()
    for row, column in np.ndindex(gzsl.shape):
        s = semantics[problem.classes[column]]
        expected = max(float(features[row].numpy() @ one_map @ s) for one_map in maps)
        assert float(gzsl[row, column]) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    np.testing.assert_array_equal(zsl, gzsl[:, len(problem.seen_classes) :])


def test_only_the_winning_maps_learn_from_a_row(problem: Problem) -> None:
    """The published update of LATEM, written out for one row."""
    scaled = scaled_of(problem)
    model = LATEM.for_problem(scaled, LATEMConfig(maps=4, margin=50.0), generators(0))
    x, label = scaled.feed.take(torch.tensor([3])), scaled.feed.labels[3:4]
    model.loss(x, label, BatchRandom(seeded(5))).total.backward()  # type: ignore[no-untyped-call]
    column = torch.searchsorted(model.seen_classes, label)
    numbers = torch.arange(len(model.seen_classes), dtype=torch.float32)[None]
    drawn = int(random_class_hinge(numbers, column, BatchRandom(seeded(5))))
    semantics = model.semantics[model.seen_classes].double()
    maps = model.maps.detach().double()
    expected = torch.zeros_like(maps)
    for column_of, sign in ((drawn, 1), (int(column), -1)):
        s = semantics[column_of]
        best = max(range(4), key=lambda k: float(x[0].double() @ maps[k] @ s))
        expected[best] += sign * torch.outer(x[0].double(), s)
    assert model.maps.grad is not None
    torch.testing.assert_close(model.maps.grad.double(), expected, rtol=1e-4, atol=1e-5)


def test_one_map_of_latem_is_the_single_map_with_one_random_class(problem: Problem) -> None:
    scaled = scaled_of(problem)
    latem = LATEM.for_problem(scaled, LATEMConfig(maps=1), generators(0))
    single = ALE.for_problem(scaled, ALEConfig(), generators(0))
    assert torch.equal(latem.maps, single.maps)
    features, labels = scaled.feed.take(torch.arange(20)), scaled.feed.labels[:20]
    for ours, theirs in zip(
        latem.class_scores(features), single.class_scores(features), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    columns = torch.searchsorted(single.seen_classes, labels)
    violations = hinges(single.scores(features, single.seen_classes), columns, 1.0)
    expected = random_class_hinge(violations, columns, BatchRandom(seeded(1))).mean()
    assert torch.equal(latem.loss(features, labels, BatchRandom(seeded(1))).total, expected)


def test_maps_start_with_the_published_deviation() -> None:
    """``1 / sqrt(d)``, as ALE's and LATEM's do."""
    wide = training_problem(check_dataset(make_dataset(d=400)), "test")
    model = LATEM.for_problem(scaled_of(wide), LATEMConfig(), generators(0))
    assert model.maps.std().item() == pytest.approx(400**-0.5, rel=0.05)


@pytest.mark.parametrize(
    ("model", "config", "loss"),
    [
        (DeViSE, DeViSEConfig, lambda h, c, r: summed_hinge(h)),
        (
            DeViSE,
            partial(DeViSEConfig, first_violation=True),
            lambda h, c, r: sampled_hinge(h, r),
        ),
        (SJE, SJEConfig, lambda h, c, r: largest_hinge(h)),
        (ALE, ALEConfig, lambda h, c, r: rank_weighted_hinge(h)),
        (ALE, partial(ALEConfig, sampled_ranks=True), lambda h, c, r: sampled_rank_hinge(h, r)),
        (LATEM, LATEMConfig, random_class_hinge),
    ],
)
@pytest.mark.parametrize("margin", [1.0, 0.2])
def test_method_has_its_loss(
    problem: Problem,
    model: type[Bilinear],
    config: Callable[..., Any],
    loss: Callable[[Tensor, Tensor, BatchRandom], Tensor],
    margin: float,
) -> None:
    fitted = model.for_problem(scaled_of(problem), config(margin=margin), generators(0))
    scores, columns = make_scores()
    ours = fitted.row_losses(scores, columns, BatchRandom(seeded(4)))
    theirs = loss(hinges(scores, columns, margin), columns, BatchRandom(seeded(4)))
    assert torch.equal(ours, theirs)


def test_cross_entropy_is_that_of_a_softmax_with_a_bias(problem: Problem) -> None:
    scaled = scaled_of(problem)
    model = ALECE.for_problem(scaled, ALECEConfig(), generators(0))
    assert model.bias is not None
    with torch.no_grad():
        model.bias.normal_(generator=seeded(1))
    features, labels = scaled.feed.take(torch.arange(9)), scaled.feed.labels[:9]
    semantics = model.semantics[model.seen_classes]
    logits = ((features @ model.maps[0] + model.bias[0, 0]) @ semantics.T).detach()
    probabilities = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    own = [
        float(row[problem.seen_classes.tolist().index(int(label))].log())
        for row, label in zip(probabilities, labels, strict=True)
    ]
    total = model.loss(features, labels, BatchRandom(seeded(1))).total
    assert float(total.detach()) == pytest.approx(-np.mean(own), rel=1e-5)
