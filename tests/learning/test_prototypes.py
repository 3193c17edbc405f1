"""The prototype classifier against loops, torch's plain Adam, and what its log-priors must do."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gsmflow.data.dataset import Problem, Rows
from gsmflow.learning.contract import RowsByEpoch, StreamedRows
from gsmflow.learning.feed import Feed, MemoryFeed, join
from gsmflow.learning.prototypes import PrototypesConfig, log_priors
from gsmflow.learning.sampling import FeatureSampler, Reservoir
from gsmflow.learning.softmax import (
    ClassifierTask,
    SoftmaxClassifier,
    SoftmaxPair,
    fit_softmax_by_epoch,
    pair_from_rows,
)
from tests.builders import seeded
from tests.methods.gradients import assert_gradients

D, A = 6, 4
# Neither contiguous nor, within either side, all of equal size.
SEEN, UNSEEN = np.array([1, 4, 6]), np.array([0, 7])
CLASSES = np.concatenate([SEEN, UNSEEN])
COUNTS = {1: 40, 4: 8, 6: 12, 0: 5, 7: 5}
CONFIG = PrototypesConfig(hidden=16, lr=5e-3, batch_size=20, epochs=12, lr_decay_every=5)


PROBLEM = Problem(
    split="test",
    train=Rows(np.zeros((1, D), dtype=np.float32), SEEN[:1]),
    semantics=np.random.default_rng(3).normal(size=(8, A)).astype(np.float32),
    class_names=tuple("abcdefgh"),
    seen_classes=SEEN,
    unseen_classes=UNSEEN,
)
MEANS = torch.randn(8, D, generator=seeded(1))


def rows_of(classes: Any, *, noise: float = 0.8, times: int = 1, seed: int = 0) -> MemoryFeed:
    """Rows around the mean of each class."""
    labels = torch.tensor([c for c in map(int, classes) for _ in range(times * COUNTS[c])])
    features = MEANS[labels] + noise * torch.randn(len(labels), D, generator=seeded(seed))
    return MemoryFeed(features, labels)


def pair_of(config: PrototypesConfig, rows: Feed, unseen: Feed, **options: Any) -> SoftmaxPair:
    given = RowsByEpoch(lambda: rows, lambda: unseen)
    random = seeded(5), seeded(6)
    return pair_from_rows(given, PROBLEM, lambda features: features, config, random, **options)


def plain_network(random: torch.Generator, dtype: torch.dtype) -> nn.Sequential:
    """The network of the paper, with its initial weights."""
    network = nn.Sequential(nn.Linear(A, 16), nn.LeakyReLU(0.2), nn.Linear(16, D)).to(dtype)
    for layer in (network[0], network[2]):
        assert isinstance(layer, nn.Linear)
        nn.init.normal_(layer.weight, 0, 0.02, generator=random)
        nn.init.zeros_(layer.bias)
    return network


def looped_logits(network: nn.Module, features: Tensor, classes: Any) -> Tensor:
    """Cosine similarities over the temperature, one by one."""
    logits = []
    for x in features:
        for c in classes:
            semantics = torch.tensor(PROBLEM.semantics[c]).to(features)
            prototype = network(semantics / semantics.norm())
            logits.append(x @ prototype / (x.norm() * prototype.norm() * 0.04))
    return torch.stack(logits).view(len(features), len(classes))


def looped_priors(ratio: float) -> list[float]:
    """The log-priors of `CLASSES`, as the paper writes them."""
    total = sum(COUNTS[c] for c in SEEN)
    p_seen = 1 / (1 + 1 / ratio)
    return [math.log(COUNTS[c] / total) + math.log(p_seen) for c in SEEN] + [
        math.log(1 / len(UNSEEN)) + math.log(1 - p_seen) for _ in UNSEEN
    ]


@pytest.mark.parametrize("ratio", [None, 1.0, 30.0])
def test_log_priors_are_those_of_the_paper(ratio: float | None) -> None:
    counts = torch.tensor([COUNTS[c] for c in CLASSES])
    is_seen = torch.tensor([c in SEEN for c in CLASSES])
    found = log_priors(counts, is_seen, ratio)
    # There are 60 rows of seen and 10 of unseen classes.
    expected = torch.tensor(looped_priors(ratio or 6.0), dtype=torch.float64)
    torch.testing.assert_close(found, expected)
    assert found.exp().sum().item() == pytest.approx(1)


@pytest.mark.parametrize("classes", [SEEN, UNSEEN])
def test_log_priors_of_one_side_are_finite(classes: Any) -> None:
    counts = torch.tensor([COUNTS[c] for c in classes])
    found = log_priors(counts, torch.tensor([c in SEEN for c in classes]), None)
    torch.testing.assert_close(found.exp(), counts.double() / counts.sum())


def test_training_logits_and_scores_equal_loops() -> None:
    config = replace(CONFIG, prior_ratio=30.0)
    counts = torch.tensor([COUNTS[c] for c in CLASSES])
    head = config.head(
        ClassifierTask(CLASSES, counts, torch.empty(0, D, dtype=torch.float64), PROBLEM), seeded(2)
    )
    network = plain_network(seeded(2), torch.float64)
    features = torch.randn(7, D, generator=seeded(3), dtype=torch.float64)
    expected = looped_logits(network, features, CLASSES)
    priors = torch.tensor(looped_priors(30.0), dtype=torch.float64)
    torch.testing.assert_close(head.logits(features), expected + priors)
    torch.testing.assert_close(head.classifier().logits(features), expected.detach())


def test_gradients_equal_finite_differences() -> None:
    counts = torch.tensor([COUNTS[c] for c in CLASSES])
    like = torch.empty(0, D, dtype=torch.float64)
    head = CONFIG.head(ClassifierTask(CLASSES, counts, like, PROBLEM), seeded(2))
    features = torch.randn(9, D, generator=seeded(3), dtype=torch.float64)
    columns = torch.randint(len(CLASSES), (9,), generator=seeded(4))
    network: nn.Module = head._network  # type: ignore[attr-defined]
    assert_gradients(
        network,
        lambda: nn.functional.cross_entropy(head.logits(features), columns),
        step=1e-6,
        relative=1e-4,
        absolute=1e-6,
    )


def test_full_batch_steps_equal_adam_with_a_falling_learning_rate() -> None:
    rows = rows_of(CLASSES)
    feed = MemoryFeed(rows.features.double(), rows.labels)
    config = replace(CONFIG, batch_size=1000, prior_ratio=30.0, weight_decay=1e-2)
    found = fit_softmax_by_epoch(lambda: feed, CLASSES, config, seeded(7), problem=PROBLEM)
    network = plain_network(seeded(7), torch.float64)
    adam = torch.optim.Adam(
        network.parameters(), 5e-3, (0.5, 0.999), weight_decay=1e-2, foreach=False, fused=False
    )
    schedule = torch.optim.lr_scheduler.StepLR(adam, 5, 0.5)
    targets = torch.from_numpy((feed.labels.numpy()[:, None] == CLASSES).argmax(axis=1))
    priors = torch.tensor(looped_priors(30.0), dtype=torch.float64)
    for _ in range(config.epochs):
        adam.zero_grad()
        logits = looped_logits(network, feed.features, CLASSES) + priors
        nn.functional.cross_entropy(logits, targets).backward()
        adam.step()
        schedule.step()
    expected = looped_logits(network, feed.features, CLASSES).detach()
    # The learning rate is kept in fp32.
    torch.testing.assert_close(found.logits(feed.features), expected, rtol=1e-5, atol=1e-5)


def test_scores_have_no_log_prior() -> None:
    rows, unseen = rows_of(CLASSES), rows_of(UNSEEN)
    untrained = replace(CONFIG, lr=1e-30, epochs=1)
    features = rows.features.numpy()
    scores = {
        ratio: (
            pair_of(replace(untrained, prior_ratio=ratio), rows, unseen).gzsl_scores(features),
            pair_of(replace(CONFIG, prior_ratio=ratio), rows, unseen).gzsl_scores(features),
        )
        for ratio in (1e-6, 1e6)
    }
    # Before training, the ratio has no effect: no log-prior is added to a score.
    np.testing.assert_array_equal(scores[1e-6][0], scores[1e6][0])
    is_seen = np.isin(CLASSES, SEEN)
    lead = {
        ratio: (trained[:, ~is_seen].max(axis=1) - trained[:, is_seen].max(axis=1)).mean()
        for ratio, (_, trained) in scores.items()
    }
    # A class that is likely a priori needs a smaller logit.
    assert lead[1e6] > lead[1e-6] + 5
    bound = 1 / CONFIG.temperature + 1e-3
    assert all(np.abs(trained).max() <= bound for _, trained in scores.values())


def test_scores_do_not_depend_on_the_length_of_a_row() -> None:
    pair = pair_of(CONFIG, rows_of(CLASSES), rows_of(UNSEEN))
    features = rows_of(CLASSES).features.numpy()
    for scores in (pair.gzsl_scores, pair.zsl_scores):
        np.testing.assert_allclose(scores(3 * features), scores(features), rtol=1e-5, atol=1e-5)
    assert np.isfinite(pair.gzsl_scores(0 * features)).all()


def test_classes_are_recognised() -> None:
    rows, unseen = rows_of(CLASSES, noise=0.3), rows_of(UNSEEN, noise=0.3)
    pair = pair_of(replace(CONFIG, epochs=60, lr_decay_every=100), rows, unseen)
    fresh = rows_of(CLASSES, noise=0.3, seed=1)
    answers = CLASSES[pair.gzsl_scores(fresh.features.numpy()).argmax(axis=1)]
    assert (answers == fresh.labels.numpy()).mean() > 0.95
    of_unseen = rows_of(UNSEEN, noise=0.3, seed=1)
    answers = UNSEEN[pair.zsl_scores(of_unseen.features.numpy()).argmax(axis=1)]
    assert (answers == of_unseen.labels.numpy()).all()


def test_t1_has_the_prototypes_of_the_unseen_classes() -> None:
    kept: dict[str, list[SoftmaxClassifier]] = {"gzsl": [], "zsl": []}
    pair = pair_of(
        CONFIG,
        rows_of(CLASSES),
        rows_of(UNSEEN),
        on_epoch=lambda which, classifier: kept[which].append(classifier),
    )
    features = rows_of(CLASSES).features.numpy()
    columns = [list(pair.gzsl.classes).index(c) for c in UNSEEN]
    expected = pair.gzsl_scores(features)[:, columns]
    np.testing.assert_allclose(pair.zsl_scores(features), expected, rtol=1e-5, atol=1e-5)
    assert pair.zsl.classes.tolist() == UNSEEN.tolist()
    assert [len(classifiers) for classifiers in kept.values()] == [CONFIG.epochs] * 2
    for gzsl, zsl in zip(*kept.values(), strict=True):
        assert torch.equal(gzsl.weight[columns], zsl.weight)
    # Each is what it was in its epoch.
    assert not torch.equal(kept["zsl"][0].weight, kept["zsl"][-1].weight)


class Means:
    """Draws rows around the means of the classes."""

    def sampler(self, classes: Tensor) -> FeatureSampler:
        return lambda positions, generator: (
            MEANS[classes[positions]] + 0.3 * torch.randn(len(positions), D, generator=generator)
        )


def test_priors_of_streamed_rows_count_all_that_are_synthesized(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tasks: list[ClassifierTask] = []
    plain = PrototypesConfig.head

    def watched(config: PrototypesConfig, task: ClassifierTask, random: torch.Generator) -> Any:
        tasks.append(task)
        return plain(config, task, random)

    monkeypatch.setattr(PrototypesConfig, "head", watched)
    unseen = torch.from_numpy(UNSEEN)
    reservoir = Reservoir(Means(), unseen, 50, capacity=20, generator=seeded(8))
    assert reservoir.streams
    pair = pair_from_rows(
        StreamedRows(join(rows_of(SEEN), rows_of([7])), reservoir),
        PROBLEM,
        lambda features: features,
        CONFIG,
        (seeded(5), seeded(6)),
    )
    (counts,) = (task.counts.tolist() for task in tasks)
    assert counts == [*(COUNTS[c] for c in SEEN), 50, 55]
    features = rows_of(UNSEEN, noise=0.3).features.numpy()
    answers = UNSEEN[pair.zsl_scores(features).argmax(axis=1)]
    assert (answers == rows_of(UNSEEN).labels.numpy()).mean() > 0.9


def test_classifiers_are_restored_from_their_tensors() -> None:
    pair = pair_of(CONFIG, rows_of(CLASSES), rows_of(UNSEEN))
    restored = SoftmaxPair.from_tensors(lambda features: features, pair.tensors())
    features = rows_of(CLASSES).features.numpy()
    np.testing.assert_array_equal(restored.gzsl_scores(features), pair.gzsl_scores(features))
    np.testing.assert_array_equal(restored.zsl_scores(features), pair.zsl_scores(features))


def test_training_depends_on_the_generator_alone() -> None:
    torch.manual_seed(1)
    first = pair_of(CONFIG, rows_of(CLASSES), rows_of(UNSEEN))
    torch.manual_seed(2)
    again = pair_of(CONFIG, rows_of(CLASSES), rows_of(UNSEEN))
    for a, b in zip(first.tensors().values(), again.tensors().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("epoch", "rate"), [(0, 1e-4), (29, 1e-4), (30, 5e-5), (60, 2.5e-5)])
def test_learning_rate_halves_every_thirty_epochs(epoch: int, rate: float) -> None:
    assert PrototypesConfig().lr_of(epoch) == pytest.approx(rate)
