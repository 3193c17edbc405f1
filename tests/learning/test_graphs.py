"""Recorded steps against steps that run as they are: on a GPU as CUDA graphs, on a CPU as tapes."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gsmflow.core.graphs import CudaGraphs, Graph, Graphs
from gsmflow.core.precision import Precision
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.data.scaling import fit_feature_scaling
from gsmflow.learning.contract import Losses, RowsByEpoch, StepTrained, StreamedRows, Trainable
from gsmflow.learning.feed import Feed, MappedFeed, MemoryFeed, SelectedFeed, scale_problem
from gsmflow.learning.prototypes import PrototypesConfig
from gsmflow.learning.sampling import FeatureSampler, Reservoir
from gsmflow.learning.softmax import (
    SoftmaxConfig,
    SoftmaxPair,
    TrainedClassifierConfig,
    pair_from_rows,
)
from gsmflow.learning.trainer import Trainer, TrainingConfig
from gsmflow.methods.gates.boundary import BoundaryConfig, HypersphericalVAEs
from gsmflow.methods.registry import METHODS, find_method
from gsmflow.recipes.flags import published_recipe
from tests.builders import generators, make_dataset, make_recipe, scaled_of, small_recipe
from tests.learning.test_two_players import TwoPlayers, make_rows
from tests.tape import Tape

DATASET = check_dataset(make_dataset())
PROBLEM = training_problem(DATASET, "test")
CONFIG = TrainingConfig(
    epochs=10, batch_size=8, learning_rate=0.01, weight_decay=1e-3, lr_decay=0.5, lr_decay_every=3
)
FAST = replace(CONFIG, schedule="fast", fast_epochs=10, averaging=0.9)
TRAINED = [name for name in METHODS if find_method(name).trains]


class Watched:
    """Graphs that note how often they are used, and why some work is not recorded."""

    def __init__(self, make: Callable[[], Graph]) -> None:
        self._make = make
        self.graphs: list[Any] = []
        self.replays = 0
        self.reasons: list[str] = []

    def make(self) -> Graph:
        graph = self._make()
        self.graphs.append(graph)
        replay = graph.replay

        def counted() -> None:
            self.replays += 1
            replay()

        graph.replay = counted  # type: ignore[method-assign]
        return graph

    def refuse(self, reason: str) -> None:
        self.reasons.append(reason)

    def side_by_side(self, jobs: Sequence[Iterator[object]]) -> None:
        pending = list(jobs)
        while pending:
            pending = [job for job in pending if next(job, self) is not self]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture
def graphs(device: torch.device) -> Watched:
    if device.type == "cpu":
        return Watched(Tape)
    return Watched(CudaGraphs(device, pytest.fail).make)


def method_model(name: str) -> nn.Module:
    recipe = small_recipe(dataset="TINY", model=name)
    published = published_recipe(make_recipe(dataset="TINY"), name)
    scaled = scaled_of(PROBLEM, published.feature_scaling)
    model = find_method(name).model.for_problem(scaled, recipe.method, generators(0))
    assert isinstance(model, nn.Module)
    return model


def feed_on(device: torch.device, name: str = "none") -> Feed:
    return scale_problem(PROBLEM, name, device, "memory").feed  # type: ignore[arg-type]


def make_trainer(
    name: str,
    device: torch.device,
    graphs: Graphs | None,
    config: TrainingConfig = CONFIG,
    precision: Precision = "fp32",
) -> Trainer[Any]:
    model = (TwoPlayers() if name == "gan" else method_model(name)).to(device)
    if not getattr(model, "capturable", True):
        pytest.skip("its steps differ from each other")
    if name == "gan":
        rows = make_rows()
        feed: Feed = MemoryFeed(rows.features.to(device), rows.labels.to(device))
        config = replace(config, batch_size=4)
    else:
        feed = feed_on(device)
    generator = torch.Generator(device).manual_seed(3)
    return Trainer(model, feed, config, generator, precision=precision, graphs=graphs)


def assert_close(
    found: Sequence[Mapping[str, float]],
    expected: Sequence[Mapping[str, float]],
    relative: float = 1e-5,
) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=relative, abs=1e-6)


SETTINGS: dict[str, tuple[TrainingConfig, Precision]] = {
    "published": (CONFIG, "fp32"),
    "fast": (FAST, "fp32"),
    "amsgrad": (replace(CONFIG, amsgrad=True), "fp32"),
}


# Every method as published; the other optimizers with one of each kind of training.
OF_EACH_KIND = ("gsmflow", "ale", "tf-vaegan", "gan")
LOSSES = [(name, "published") for name in (*TRAINED, "gan")]
LOSSES += [(name, settings) for name in OF_EACH_KIND for settings in ("fast", "amsgrad")]


@pytest.mark.parametrize(("name", "settings"), LOSSES)
def test_recorded_training_has_the_losses_and_weights_of_an_eager_one(
    name: str, settings: str, device: torch.device, graphs: Watched
) -> None:
    config, precision = SETTINGS[settings]
    eager = make_trainer(name, device, None, config, precision)
    recorded = make_trainer(name, device, graphs, config, precision)
    expected = [eager.run_epoch() for _ in range(10)]
    found = [recorded.run_epoch() for _ in range(10)]
    steps = 10 * eager.steps_per_epoch
    assert steps >= 50
    assert (graphs.replays, graphs.reasons) == (steps - 3, [])
    # The rate of a recorded step is rounded to fp32, which players that follow each other amplify.
    factor = 10 if isinstance(eager.model, StepTrained) else 1
    assert_close(found, expected, 1e-5 * factor)
    for ours, theirs in zip(recorded.result.parameters(), eager.result.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3 * factor, atol=1e-4 * factor)
    assert torch.equal(recorded.generator.get_state(), eager.generator.get_state())


@pytest.mark.parametrize("name", [*TRAINED, "gan"])
def test_recorded_training_in_bf16_stays_near_an_eager_one(
    name: str, device: torch.device, graphs: Watched
) -> None:
    eager = make_trainer(name, device, None, precision="bf16")
    recorded = make_trainer(name, device, graphs, precision="bf16")
    # Players that follow each other amplify a rate that is rounded to fp32, in bf16 within epochs.
    epochs = 2 if isinstance(eager.model, StepTrained) else 4
    expected = [eager.run_epoch() for _ in range(epochs)]
    found = [recorded.run_epoch() for _ in range(epochs)]
    assert graphs.replays > 0
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=0.05, abs=0.02)


@pytest.mark.parametrize(("name", "settings"), [case for case in LOSSES if case[1] != "amsgrad"])
def test_resumed_recorded_training_continues_the_random_stream(
    name: str, settings: str, device: torch.device, graphs: Watched, tmp_path: Path
) -> None:
    config, _ = SETTINGS[settings]
    straight = make_trainer(name, device, graphs, config)
    expected = [straight.run_epoch() for _ in range(6)]
    killed = make_trainer(name, device, graphs, config)
    for _ in range(3):
        killed.run_epoch()
    killed.save(tmp_path / "state", {})
    killed.run_epoch()
    resumed = make_trainer(name, device, graphs, config)
    resumed.run_epoch()  # earlier training must not matter
    resumed.load(tmp_path / "state")
    found = [resumed.run_epoch() for _ in range(3)]
    assert_close(found, expected[3:])
    assert torch.equal(resumed.generator.get_state(), straight.generator.get_state())


def test_learning_rate_and_rows_of_each_step_reach_a_recorded_one(
    device: torch.device, graphs: Watched
) -> None:
    # With the rate of the recorded step for all, or its rows, the losses would differ at once.
    config = replace(CONFIG, learning_rate=0.05, lr_decay=0.1, lr_decay_every=1)
    eager = make_trainer("gsmflow", device, None, config)
    recorded = make_trainer("gsmflow", device, graphs, config)
    assert_close([recorded.run_epoch()], [eager.run_epoch()])
    for _ in range(9):
        assert_close([recorded.run_epoch()], [eager.run_epoch()])


class Unrecordable(Tape):
    """A graph whose recording fails, after the generator was used."""

    def record(self, function: Callable[[], object], generator: torch.Generator | None) -> None:
        if generator is not None:
            torch.rand(3, generator=generator, device=generator.device)
        raise RuntimeError("operation not permitted\nsome general advice")


def test_training_goes_on_eagerly_after_a_failed_recording() -> None:
    cpu, graphs = torch.device("cpu"), Watched(Unrecordable)
    eager, recorded = (make_trainer("gsmflow", cpu, g) for g in (None, graphs))
    expected = [eager.run_epoch() for _ in range(10)]
    assert_close([recorded.run_epoch() for _ in range(10)], expected)
    assert graphs.reasons == ["operation not permitted"]
    assert torch.equal(recorded.generator.get_state(), eager.generator.get_state())


class Reading(nn.Module):
    """A model that reads a value of its loss from the device in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(DATASET.features.shape[1], 1)

    def loss(self, features: Tensor, labels: Tensor, draws: Any) -> Any:
        loss = self.layer(features).square().mean()
        return Losses(loss if loss > 0.1 else 2 * loss, {"loss": loss})


def test_step_that_reads_a_value_cannot_be_recorded(device: torch.device, graphs: Watched) -> None:
    torch.manual_seed(0)
    generator = torch.Generator(device).manual_seed(3)
    trainer = Trainer(Reading().to(device), feed_on(device), CONFIG, generator, graphs=graphs)
    losses = [trainer.run_epoch()["loss"] for _ in range(10)]
    assert losses[-1] < losses[0]
    assert len(graphs.reasons) == 1
    assert graphs.replays == 0


def test_model_that_says_so_is_not_recorded(graphs: Watched) -> None:
    scaled = scaled_of(PROBLEM, "l2")
    model = HypersphericalVAEs.for_problem(scaled, BoundaryConfig(hidden=8), generators(0))
    assert isinstance(model, Trainable)
    Trainer(model, scaled.feed, CONFIG, torch.Generator().manual_seed(3), graphs=graphs)
    assert graphs.reasons == ["the training steps of HypersphericalVAEs differ from each other"]
    assert not graphs.graphs


def test_features_outside_the_memory_are_not_recorded() -> None:
    graphs = Watched(Tape)
    rows = PROBLEM.train
    scaling = fit_feature_scaling(rows.features, "none")
    mapped = MappedFeed(rows, scaling, torch.from_numpy(rows.labels))
    model = method_model("gsmflow")
    generator = torch.Generator().manual_seed(3)
    found = Trainer(model, mapped, CONFIG, generator, graphs=graphs).run_epoch()
    assert graphs.reasons == ["the features are not in the memory of the device"]
    expected = make_trainer("gsmflow", torch.device("cpu"), None).run_epoch()
    assert found == expected


CLASSIFIERS: dict[str, TrainedClassifierConfig] = {
    "softmax": SoftmaxConfig(lr=0.02, batch_size=7, epochs=5),
    "prototypes": PrototypesConfig(hidden=8, lr=0.02, batch_size=7, epochs=5, lr_decay_every=2),
}


def drawn_labels(random: torch.Generator) -> Tensor:
    """Labels of 40 rows of seen and unseen classes."""
    classes = torch.from_numpy(np.concatenate([PROBLEM.seen_classes, PROBLEM.unseen_classes]))
    return classes[torch.randint(len(classes), (40,), generator=random)]


def fit_pair(
    device: torch.device,
    graphs: Graphs | None,
    classifier: str = "softmax",
    *,
    renewed: bool = False,
    repeated: bool = False,
) -> tuple[SoftmaxPair, list[str]]:
    """Both classifiers, of the same rows in each epoch, of renewed rows, or of repeated rows."""
    seen, unseen = PROBLEM.seen_classes, PROBLEM.unseen_classes
    random = torch.Generator().manual_seed(5)
    classes = torch.from_numpy(np.concatenate([seen, unseen]))
    labels = drawn_labels(random)
    means = torch.randn(int(classes.max()) + 1, 6, generator=random)

    def rows(of: Tensor) -> Feed:
        chosen = labels[torch.isin(labels, of)]
        noise = torch.randn(len(chosen), 6, generator=random)
        feed: Feed = MemoryFeed((means[chosen] + noise).to(device), chosen.to(device))
        if repeated:
            feed = SelectedFeed(feed, torch.arange(2 * len(chosen), device=device) // 2)
        return feed

    def give(of: Tensor) -> Callable[[], Feed]:
        if renewed:
            return lambda: rows(of)
        fixed = rows(of)
        return lambda: fixed

    calls: list[str] = []
    gzsl, zsl = give(classes), give(torch.from_numpy(unseen))
    pair = pair_from_rows(
        RowsByEpoch(gzsl, zsl),
        PROBLEM,
        lambda features: features,
        CLASSIFIERS[classifier],
        tuple(torch.Generator(device).manual_seed(i) for i in (1, 2)),  # type: ignore[arg-type]
        lambda which, classifier: calls.append(which),
        graphs,
    )
    return pair, calls


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("repeated", [False, True])
def test_recorded_classifiers_equal_eager_ones(
    device: torch.device, graphs: Watched, repeated: bool, classifier: str
) -> None:
    expected, _ = fit_pair(device, None, classifier, repeated=repeated)
    found, calls = fit_pair(device, graphs, classifier, repeated=repeated)
    for name, tensor in expected.tensors().items():
        torch.testing.assert_close(found.tensors()[name], tensor, rtol=1e-4, atol=1e-5)
    # Three steps of each classifier warm up; every other one is a replay, as all batches are whole.
    labels = drawn_labels(torch.Generator().manual_seed(5))
    unseen = int(torch.isin(labels, torch.from_numpy(PROBLEM.unseen_classes)).sum())
    # The prototypes of the unseen classes are not trained apart.
    trained = (len(labels), unseen) if classifier == "softmax" else (len(labels),)
    sizes = [(1 + repeated) * n for n in trained]
    assert (len(graphs.graphs), graphs.reasons) == (len(sizes), [])
    assert graphs.replays == sum(5 * math.ceil(n / 7) - 3 for n in sizes)
    assert calls == ["gzsl", "zsl"] * 5


def test_renewed_rows_are_recorded_anew(device: torch.device, graphs: Watched) -> None:
    found, _ = fit_pair(device, graphs, renewed=True)
    assert len(graphs.graphs) == 2 * 5
    assert graphs.reasons == []
    assert all(torch.isfinite(tensor).all() for tensor in found.tensors().values())


def test_classifiers_are_trained_eagerly_after_a_failed_recording() -> None:
    graphs, cpu = Watched(Unrecordable), torch.device("cpu")
    expected, _ = fit_pair(cpu, None)
    found, _ = fit_pair(cpu, graphs)
    for name, tensor in expected.tensors().items():
        assert torch.equal(found.tensors()[name], tensor)
    assert graphs.reasons == ["operation not permitted"] * 2


def test_streamed_rows_are_not_recorded() -> None:
    class Constant:
        def sampler(self, classes: Tensor) -> FeatureSampler:
            return lambda positions, generator: classes[positions, None].float().expand(-1, 6)

    graphs, unseen = Watched(Tape), torch.from_numpy(PROBLEM.unseen_classes)
    random = torch.Generator().manual_seed(5)
    reservoir = Reservoir(Constant(), unseen, 20, capacity=10, generator=random)
    labels = torch.from_numpy(PROBLEM.seen_classes)
    real = MemoryFeed(torch.randn(len(labels), 6, generator=random), labels)
    pair = pair_from_rows(
        StreamedRows(real, reservoir),
        PROBLEM,
        lambda features: features,
        CLASSIFIERS["softmax"],
        (random, random),
        graphs=graphs,
    )
    assert torch.isfinite(pair.gzsl.weight).all()
    assert [reason.split(";")[0] for reason in graphs.reasons] == [
        "the synthesized rows are streamed to the classifiers"
    ]


@pytest.mark.gpu
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_cuda_graphs_train_both_classifiers_side_by_side(classifier: str) -> None:
    device = torch.device("cuda")
    expected, _ = fit_pair(device, None, classifier)
    found, _ = fit_pair(device, CudaGraphs(device, pytest.fail), classifier)
    for name, tensor in expected.tensors().items():
        torch.testing.assert_close(found.tensors()[name], tensor, rtol=1e-4, atol=1e-5)
