from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from gsmflow.core.errors import InputError
from gsmflow.data.dataset import Problem, Rows
from gsmflow.data.scaling import fit_feature_scaling
from gsmflow.learning.contract import RowsByEpoch, rows_with
from gsmflow.learning.feed import MemoryFeed, Scaled, join, scale_problem
from gsmflow.learning.sampling import FeatureSampler, Reservoir, synthesize
from gsmflow.learning.softmax import (
    SoftmaxClassifier,
    SoftmaxConfig,
    SoftmaxPair,
    fit_softmax,
    fit_softmax_by_epoch,
    fit_softmax_streamed,
    pair_from_rows,
)

CLASSES = np.array([9, 2, 5])  # neither contiguous nor sorted


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(spread: float, rows: int = 150) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows in the plane around three centres, with the classes of `CLASSES`."""
    centres = [[4.0, 0.0], [-4.0, 0.0], [0.0, 5.0]]
    features, columns = make_blobs(rows, centers=centres, cluster_std=spread, random_state=4)
    return features, CLASSES[columns]


def fit(
    features: NDArray[Any], labels: NDArray[Any], *, seed: int = 0, **settings: Any
) -> SoftmaxClassifier:
    rows, targets = torch.from_numpy(features), torch.from_numpy(labels)
    feed, config = MemoryFeed(rows, targets), SoftmaxConfig(**settings)
    return fit_softmax(feed, CLASSES, config, generator(seed))


def answers(classifier: SoftmaxClassifier, features: NDArray[Any]) -> NDArray[Any]:
    return classifier.classes[classifier.scores(features).argmax(axis=1)]


def test_separable_blobs_are_classified() -> None:
    features, labels = blobs(spread=0.5)
    classifier = fit(features, labels, lr=0.1, batch_size=32)
    assert (answers(classifier, features) == labels).all()


def test_converged_training_equals_logistic_regression() -> None:
    features, labels = blobs(spread=2.5)  # overlapping: the optimum is finite
    classifier = fit(features, labels, lr=0.05, epochs=1500)
    reference = LogisticRegression(C=1e6, tol=1e-8).fit(features, labels)
    logits = torch.from_numpy(classifier.scores(features))
    probabilities = logits.softmax(dim=1).numpy()[:, CLASSES.argsort()]
    np.testing.assert_allclose(probabilities, reference.predict_proba(features), atol=2e-3)
    assert (answers(classifier, features) == reference.predict(features)).mean() > 0.99


def test_weight_decay_equals_ridge_on_the_weights_alone() -> None:
    features, labels = blobs(spread=0.5)
    features, decay = features + 1, 0.05  # separable and off the origin: decay and bias matter
    classifier = fit(features, labels, lr=0.05, epochs=1500, weight_decay=decay)
    # scikit-learn adds half the squared weights to C times the summed loss, ours to the mean.
    reference = LogisticRegression(C=1 / (len(labels) * decay), tol=1e-8).fit(features, labels)
    ours = classifier.weight.numpy()[CLASSES.argsort()]
    np.testing.assert_allclose(ours, reference.coef_, atol=2e-3)
    bias = classifier.bias.numpy()[CLASSES.argsort()]
    np.testing.assert_allclose(bias - bias.mean(), reference.intercept_, atol=5e-3)


def linear(rows: int) -> tuple[SoftmaxClassifier, NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(3, 4)), rng.normal(size=3)
    tensors = [torch.from_numpy(values.astype(np.float32)) for values in (weight, bias)]
    return SoftmaxClassifier(*tensors, CLASSES), rng.normal(size=(rows, 4)).astype(np.float32)


@pytest.mark.parametrize("chunk", [1, 7, 20, 100])
def test_scores_are_linear_for_any_chunk_size(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsmflow.learning.softmax._SCORING_CHUNK", chunk)
    classifier, features = linear(rows=20)
    scores = classifier.scores(features)
    assert scores.dtype == np.float32
    expected = features @ classifier.weight.numpy().T + classifier.bias.numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_pair_scales_features_before_scoring() -> None:
    (gzsl, features), (zsl, _) = linear(rows=9), linear(rows=1)
    features = 3 * features + 1
    pair = SoftmaxPair(fit_feature_scaling(features, "standardised"), gzsl, zsl)
    scaled = ((features - features.mean(axis=0)) / features.std(axis=0)).astype(np.float32)
    np.testing.assert_allclose(pair.gzsl_scores(features), gzsl.scores(scaled), atol=1e-5)
    np.testing.assert_allclose(pair.zsl_scores(features), zsl.scores(scaled), atol=1e-5)


@pytest.mark.parametrize(
    # A normal distribution has 68.3 % within one deviation, a uniform one 57.7 %.
    ("settings", "gain", "share"),
    [
        ({}, 1.0, 0.683),
        ({"initial_gain": 3.0}, 3.0, 0.683),
        ({"initial_weights": "xavier-uniform", "initial_gain": 0.5}, 0.5, 0.577),
    ],
)
def test_initial_weights_are_xaviers(settings: dict[str, Any], gain: float, share: float) -> None:
    d, k = 200, 300
    feed = MemoryFeed(torch.zeros(1, d), torch.zeros(1, dtype=torch.int64))
    config = SoftmaxConfig(epochs=1, lr=1e-30, **settings)
    classifier = fit_softmax(feed, np.arange(k), config, generator())
    weight = classifier.weight.numpy()
    std = gain * np.sqrt(2 / (d + k))
    assert weight.shape == (k, d)
    assert weight.std() == pytest.approx(std, rel=0.02)
    assert (np.abs(weight) < std).mean() == pytest.approx(share, abs=0.01)
    assert classifier.bias.abs().max() <= 1e-30


def test_columns_follow_the_class_order() -> None:
    features, labels = blobs(spread=0.5)
    classifier = fit(features, labels, lr=0.1, batch_size=32)
    assert classifier.classes.tolist() == CLASSES.tolist()
    scores = classifier.scores(features)
    for column, c in enumerate(CLASSES):
        assert (scores[labels == c].argmax(axis=1) == column).all()


def test_class_without_rows_keeps_its_column() -> None:
    features, labels = blobs(spread=0.5)
    present = labels != 2
    classifier = fit(features[present], labels[present], lr=0.1)
    assert classifier.weight.shape == (3, 2)
    assert set(answers(classifier, features[present])) <= {9, 5}


def test_training_depends_on_the_generator_alone() -> None:
    features, labels = blobs(spread=2.5)
    settings = {"batch_size": 40, "epochs": 3}
    torch.manual_seed(1)
    first = fit(features, labels, **settings)
    torch.manual_seed(2)
    again, other = fit(features, labels, **settings), fit(features, labels, seed=1, **settings)
    assert torch.equal(first.weight, again.weight)
    assert torch.equal(first.bias, again.bias)
    assert not torch.equal(first.weight, other.weight)


def adam_steps(
    start: SoftmaxClassifier,
    features: Tensor,
    targets: Tensor,
    betas: tuple[float, float],
    steps: int,
) -> nn.Linear:
    """Full-batch steps of torch's plain Adam from a classifier's weights."""
    layer = nn.Linear(features.shape[1], len(CLASSES), dtype=features.dtype)
    with torch.no_grad():
        layer.weight.copy_(start.weight)
        layer.bias.copy_(start.bias)
    adam = torch.optim.Adam(layer.parameters(), lr=0.01, betas=betas, foreach=False, fused=False)
    for _ in range(steps):
        adam.zero_grad()
        # Mean negative log-likelihood of the true class, written out.
        log_probabilities = layer(features).log_softmax(dim=1)
        (-log_probabilities[torch.arange(len(targets)), targets].mean()).backward()
        adam.step()
    return layer


@pytest.mark.parametrize("steps", [1, 5])
def test_full_batch_steps_equal_adam(steps: int) -> None:
    features, labels = blobs(spread=2.5)
    settings = {"lr": 0.01, "batch_size": len(labels)}
    start = fit(features, labels, epochs=1, **{**settings, "lr": 1e-30})
    found = fit(features, labels, epochs=steps, **settings)
    targets = torch.from_numpy((labels[:, None] == CLASSES).argmax(axis=1))
    rows = torch.from_numpy(features)
    expected = adam_steps(start, rows, targets, (0.5, 0.999), steps)
    torch.testing.assert_close(found.weight, expected.weight.detach(), rtol=0, atol=1e-10)
    torch.testing.assert_close(found.bias, expected.bias.detach(), rtol=0, atol=1e-10)
    if steps > 1:  # the first step does not depend on the betas
        usual = adam_steps(start, rows, targets, (0.9, 0.999), steps)
        assert not torch.allclose(found.weight, usual.weight, rtol=0, atol=1e-5)


def batches_of(
    monkeypatch: pytest.MonkeyPatch, rows: int, *, renewed: bool = False, **settings: Any
) -> list[list[int]]:
    """The row numbers of every batch of a training on ``rows`` rows."""
    met: list[list[int]] = []
    plain = nn.functional.linear

    def spy(rows: Tensor, *parameters: Tensor) -> Tensor:
        met.append([int(number) for number in rows[:, 0]])
        return plain(rows, *parameters)

    monkeypatch.setattr(nn.functional, "linear", spy)
    numbers = torch.arange(rows, dtype=torch.float64)
    labels = torch.from_numpy(CLASSES[np.arange(rows) % 3])

    def feed() -> MemoryFeed:
        return MemoryFeed(torch.stack([numbers, torch.ones_like(numbers)], dim=1), labels)

    same = feed()
    fit_softmax_by_epoch(
        feed if renewed else lambda: same, CLASSES, SoftmaxConfig(**settings), generator()
    )
    return met


class PublishedBatches:
    """Batches of row numbers as the published classifier of GSMFlow takes them."""

    def __init__(self, n: int, random: torch.Generator) -> None:
        # The initial weights are drawn first.
        torch.randn(len(CLASSES), 2, generator=random, dtype=torch.float64)
        self.n, self.random, self.position = n, random, 0
        self.order = self.shuffled()

    def shuffled(self) -> list[int]:
        return [int(row) for row in torch.randperm(self.n, generator=self.random)]

    def take(self, size: int) -> list[int]:
        batch: list[int] = []
        for _ in range(size):
            if self.position == self.n:
                self.order, self.position = self.shuffled(), 0
            batch.append(self.order[self.position])
            self.position += 1
        return batch


@pytest.mark.parametrize("renewed", [False, True])
@pytest.mark.parametrize(
    ("rows", "size", "steps"), [(10, 4, 3), (12, 4, 3), (10, 7, 2), (5, 5, 1), (9, 1, 9)]
)
def test_next_pass_fills_the_last_batch(
    rows: int, size: int, steps: int, renewed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = batches_of(monkeypatch, rows, renewed=renewed, batch_size=size, epochs=3)
    published = PublishedBatches(rows, generator())
    assert found == [published.take(size) for _ in range(3 * steps)]


def test_rows_fewer_than_a_batch_are_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    found = batches_of(monkeypatch, 5, batch_size=64, epochs=3)
    assert [sorted(batch) for batch in found] == [[0, 1, 2, 3, 4]] * 3


def test_last_batch_may_be_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    found = batches_of(monkeypatch, 11, batch_size=4, epochs=3, last_batch="dropped")
    assert [len(batch) for batch in found] == [4] * 6
    passes = [found[start] + found[start + 1] for start in (0, 2, 4)]
    assert all(len(set(rows)) == 8 for rows in passes)
    assert len(set(map(tuple, passes))) == 3


def test_classifier_of_t1_has_epochs_of_its_own_and_wraps() -> None:
    config = SoftmaxConfig(epochs=5, zsl_epochs=2, last_batch="dropped")
    assert (config.for_zsl.epochs, config.for_zsl.last_batch) == (2, "wrapped")
    assert replace(config, zsl_epochs=None).for_zsl.epochs == 5
    scaled = scaled_blobs(spread=0.5)
    unseen = MemoryFeed(torch.zeros(9, 2), torch.from_numpy(UNSEEN).repeat(3))
    calls: list[str] = []
    pair_from_rows(
        RowsByEpoch(lambda: join(scaled.feed, unseen), lambda: unseen),
        scaled.problem,
        scaled.scaling,
        config,
        (generator(2), generator(3)),
        lambda which, classifier: calls.append(which),
    )
    assert calls == ["gzsl"] * 5 + ["zsl"] * 2


@pytest.mark.parametrize(
    ("count", "epochs", "zsl_epochs"),
    [(1, 34, 46), (2, 39, 31), (4, 39, 31), (5, 64, 73), (10, 85, 67), (20, 85, 67)],
)
def test_labelled_rows_have_epochs_of_their_own(count: int, epochs: int, zsl_epochs: int) -> None:
    config = SoftmaxConfig(
        few_shot_epochs=(34, 39, 64, 85), few_shot_zsl_epochs=(46, 31, 73, 67)
    ).for_shots(count)
    assert (config.epochs, config.for_zsl.epochs) == (epochs, zsl_epochs)
    assert SoftmaxConfig().for_shots(count) == SoftmaxConfig()


@pytest.mark.parametrize("epochs", [(1, 2, 3), (1, 2, 3, 4, 5), (0, 1, 2, 3)])
def test_epochs_of_labelled_rows_are_none_or_complete(epochs: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"^--classifier-few-shot-epochs: found .*, expected 4 w"):
        SoftmaxConfig(few_shot_epochs=epochs)


SEEN, UNSEEN = np.array([4, 1]), np.array([7, 0, 2])
CENTRES = {4: (4.0, 0.0), 1: (-4.0, 0.0), 7: (0.0, 5.0), 0: (0.0, -5.0), 2: (4.0, 5.0)}


class Blobs:
    """Draws Gaussian blobs and records all draws."""

    def __init__(self, spread: float) -> None:
        self.spread = spread
        self.drawn: list[Tensor] = []
        self.labels: list[Tensor] = []

    def sampler(self, classes: Tensor) -> FeatureSampler:
        centres = torch.tensor([CENTRES[int(c)] for c in classes], dtype=torch.float64)

        def draw(positions: Tensor, generator: torch.Generator) -> Tensor:
            noise = torch.randn(len(positions), 2, generator=generator, dtype=torch.float64)
            self.labels.append(classes[positions])
            self.drawn.append(centres[positions] + self.spread * noise)
            return self.drawn[-1]

        return draw


def real_rows(n: int, spread: float) -> MemoryFeed:
    labels = torch.from_numpy(SEEN)[torch.arange(n) % 2]
    centres = torch.tensor([CENTRES[int(c)] for c in labels], dtype=torch.float64)
    noise = torch.randn(n, 2, generator=generator(9), dtype=torch.float64)
    return MemoryFeed(centres + spread * noise, labels)


def stream(
    feed: MemoryFeed,
    blobs: Blobs,
    *,
    per_class: int,
    capacity: int,
    seed: int = 0,
    on_epoch: Any = lambda which, classifier: None,
    **settings: Any,
) -> tuple[SoftmaxClassifier, SoftmaxClassifier]:
    unseen = torch.from_numpy(UNSEEN)
    reservoir = Reservoir(blobs, unseen, per_class, capacity=capacity, generator=generator(seed))
    return fit_softmax_streamed(
        feed,
        reservoir,
        (np.concatenate([SEEN, UNSEEN]), UNSEEN),
        SoftmaxConfig(**settings),
        (generator(seed + 1), generator(seed + 2)),
        on_epoch,
    )


def test_streamed_training_equals_logistic_regression_on_all_drawn_rows() -> None:
    feed, blobs_ = real_rows(400, spread=2.5), Blobs(spread=2.5)
    settings = {"lr": 0.01, "batch_size": 300, "epochs": 300}
    pair = stream(feed, blobs_, per_class=1000, capacity=600, **settings)
    made, made_labels = torch.cat(blobs_.drawn).numpy(), torch.cat(blobs_.labels).numpy()
    assert len(made) == 3000
    every = np.concatenate([feed.features.numpy(), made])
    every_label = np.concatenate([feed.labels.numpy(), made_labels])
    for classifier, x, y in zip(pair, (every, made), (every_label, made_labels), strict=True):
        reference = LogisticRegression(C=1e6, tol=1e-8).fit(x, y)
        probabilities = torch.from_numpy(classifier.scores(x)).softmax(dim=1).numpy()
        columns = classifier.classes.argsort()
        difference = probabilities[:, columns] - reference.predict_proba(x)
        assert np.abs(difference).mean() < 0.02
        agree = classifier.classes[probabilities.argmax(axis=1)] == reference.predict(x)
        assert agree.mean() > 0.97


def test_streamed_batches_have_real_and_synthesized_rows_in_proportion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches: list[Tensor] = []
    plain = nn.functional.linear

    def spy(rows: Tensor, *parameters: Tensor) -> Tensor:
        batches.append(rows)
        return plain(rows, *parameters)

    monkeypatch.setattr(nn.functional, "linear", spy)
    monkeypatch.setattr("gsmflow.learning.sampling._CHUNK", 12)
    feed, blobs_ = real_rows(40, spread=1.0), Blobs(spread=1.0)
    epochs: list[tuple[str, int]] = []
    stream(
        feed,
        blobs_,
        per_class=60,
        capacity=45,
        on_epoch=lambda which, classifier: epochs.append((which, len(batches))),
        batch_size=16,
        epochs=6,
    )
    real = {tuple(row) for row in feed.features.tolist()}
    made = {tuple(row) for row in torch.cat(blobs_.drawn).tolist()}
    assert len(made) == 180
    steps = 6 * 14  # passes times ceil((40 + 180) / 16)
    # The ZSL classifier takes its step first.
    assert epochs == [(w, 28 * (i + 1) - (w == "zsl")) for i in range(6) for w in ("zsl", "gzsl")]
    zsl, gzsl = batches[::2], batches[1::2]
    assert len(zsl) == len(gzsl) == steps
    met = []
    for unseen, batch in zip(zsl, gzsl, strict=True):
        rows = [tuple(row) for row in batch.tolist()]
        assert len(rows) == 16
        count = sum(row in real for row in rows)
        assert abs(count - 16 * 40 / 220) < 1
        assert torch.equal(batch[count:], unseen)
        assert all(row in made for row in rows[count:])
        met += rows[:count]
    # In each pass, every forty real rows are all real rows.
    for start in range(0, len(met) - 39, 40):
        assert set(met[start : start + 40]) == real
    assert len(met) == int(steps * 16 * 40 / 220)
    # On average, every sample is used as often as in that many passes.
    uses = steps * 16 - len(met)
    assert uses / 180 == pytest.approx(6, rel=0.03)
    assert len({tuple(row) for batch in zsl for row in batch.tolist()}) > 160


@pytest.mark.parametrize(("epochs", "zsl_epochs"), [(2, 5), (5, 2)])
def test_streamed_classifiers_have_epochs_of_their_own(epochs: int, zsl_epochs: int) -> None:
    settings = {"per_class": 60, "capacity": 45, "batch_size": 16, "epochs": epochs}
    calls: list[str] = []
    stream(
        real_rows(40, spread=1.0),
        Blobs(spread=1.0),
        on_epoch=lambda which, classifier: calls.append(which),
        zsl_epochs=zsl_epochs,
        **settings,
    )
    assert (calls.count("gzsl"), calls.count("zsl")) == (epochs, zsl_epochs)


def test_streamed_training_depends_on_the_generator_alone() -> None:
    feed = real_rows(30, spread=1.0)
    settings = {"per_class": 40, "capacity": 30, "batch_size": 16}
    first, same, other = (stream(feed, Blobs(1.0), seed=s, **settings) for s in (0, 0, 1))
    for a, b, c in zip(first, same, other, strict=True):
        assert torch.equal(a.weight, b.weight)
        assert not torch.equal(a.weight, c.weight)


def scaled_blobs(spread: float) -> Scaled:
    """A problem of blobs, its features shifted and stretched before they are scaled."""
    feed = real_rows(200, spread)
    problem = Problem(
        split="test",
        train=Rows(feed.features.float().numpy(), feed.labels.numpy()),
        semantics=np.zeros((8, 3), dtype=np.float32),
        class_names=tuple("abcdefgh"),
        seen_classes=np.sort(SEEN),
        unseen_classes=np.sort(UNSEEN),
    )
    return scale_problem(problem, "centred", torch.device("cpu"), "memory")


class ScaledBlobs(Blobs):
    """Draws what `Blobs` draws, scaled as a problem is."""

    def __init__(self, spread: float, scaled: Scaled) -> None:
        super().__init__(spread)
        self.scaled = scaled

    def sampler(self, classes: Tensor) -> FeatureSampler:
        plain = super().sampler(classes)

        def draw(positions: Tensor, generator: torch.Generator) -> Tensor:
            return torch.from_numpy(self.scaled.scaling(plain(positions, generator).numpy()))

        return draw


@pytest.mark.parametrize(("capacity", "streams"), [(600, False), (150, True)])
def test_pair_learns_from_real_seen_and_synthesized_unseen_rows(
    capacity: int, streams: bool
) -> None:
    scaled = scaled_blobs(spread=0.4)
    unseen = torch.from_numpy(scaled.problem.unseen_classes)
    sampler = ScaledBlobs(0.4, scaled)
    reservoir = Reservoir(sampler, unseen, 200, capacity=capacity, generator=generator(1))
    assert reservoir.streams is streams
    config = SoftmaxConfig(lr=0.05, batch_size=50)
    rows_given = rows_with(scaled.feed, reservoir)
    generators = generator(2), generator(3)
    pair = pair_from_rows(rows_given, scaled.problem, scaled.scaling, config, generators)
    rng = np.random.default_rng(0)
    for classes, scores in (
        (scaled.problem.classes, pair.gzsl_scores),
        (scaled.problem.unseen_classes, pair.zsl_scores),
    ):
        labels = rng.choice(classes, size=300)
        rows = np.array([CENTRES[int(c)] for c in labels]) + 0.4 * rng.normal(size=(300, 2))
        assert (classes[scores(rows.astype(np.float32)).argmax(axis=1)] == labels).all()


def test_reservoir_with_all_rows_equals_given_rows() -> None:
    scaled = scaled_blobs(spread=2.0)
    unseen, sampler = torch.from_numpy(UNSEEN), ScaledBlobs(2.0, scaled)
    reservoir = Reservoir(sampler, unseen, 90, capacity=1000, generator=generator(1))
    rows = MemoryFeed(*synthesize(sampler, unseen, 90, generator(1)))
    both = join(scaled.feed, rows)
    config = SoftmaxConfig(epochs=3, batch_size=64)
    first, second = (
        pair_from_rows(given, scaled.problem, scaled.scaling, config, (generator(2), generator(3)))
        for given in (
            rows_with(scaled.feed, reservoir),
            RowsByEpoch(lambda: both, lambda: rows),
        )
    )
    assert torch.equal(first.gzsl.weight, second.gzsl.weight)
    assert torch.equal(first.zsl.weight, second.zsl.weight)
