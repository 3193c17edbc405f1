"""The training loop against torch's Adam and StepLR, and its saved state."""

import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gsmflow.core.errors import InputError
from gsmflow.core.precision import Precision
from gsmflow.core.rng import BatchRandom
from gsmflow.core.settings import check_settings
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.learning.contract import Losses
from gsmflow.learning.feed import MemoryFeed
from gsmflow.learning.trainer import Trainer, TrainingConfig, learning_rate
from gsmflow.methods.gsmflow import GSMFlow, GSMFlowConfig
from tests.builders import feed_of, generators, make_dataset, scaled_of

CONFIG = TrainingConfig(
    batch_size=4, learning_rate=0.05, weight_decay=0.1, lr_decay=0.5, lr_decay_every=2
)


class Regression(nn.Module):
    """Linear regression on noisy features that records its batches."""

    def __init__(self, d: int = 3, noise: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(d, 1).double()
        with torch.no_grad():
            self.linear.weight.copy_(torch.linspace(-1, 1, d))
            self.linear.bias.zero_()
        self.noise = noise
        self.batches: list[tuple[Tensor, Tensor]] = []
        self.errors: list[float] = []

    def loss(self, features: Tensor, labels: Tensor, draws: BatchRandom) -> Losses:
        self.batches.append((features, labels))
        error = self.error(features + self.noise * draws.normal(features), labels)
        self.errors.append(error.item())
        return Losses(2 * error, {"error": error, "rows": torch.tensor(float(len(labels)))})

    def error(self, features: Tensor, labels: Tensor) -> Tensor:
        return (self.linear(features).squeeze(1) - labels).square().mean()


def make_rows(n: int = 14, d: int = 3) -> MemoryFeed:
    features = torch.randn(n, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return MemoryFeed(features, torch.arange(n))


def make_trainer(
    n: int = 14, config: TrainingConfig = CONFIG, seed: int = 0, **model: Any
) -> Trainer:
    generator = torch.Generator().manual_seed(seed)
    return Trainer(Regression(**model), make_rows(n), config, generator)


def make_gsmflow_trainer() -> Trainer:
    problem = training_problem(check_dataset(make_dataset()), "test")
    config = GSMFlowConfig(blocks=2, hidden=8, condition_dim=6, perturbation_dropout=0.5)
    feed = feed_of(problem)
    model = GSMFlow.for_problem(scaled_of(problem), config, generators(0))
    return Trainer(model, feed, CONFIG, torch.Generator().manual_seed(1))


def make_noisy_trainer() -> Trainer[Regression]:
    return make_trainer(noise=0.3)


def make_fast_trainer() -> Trainer[Regression]:
    return make_trainer(config=replace(CONFIG, schedule="fast", fast_epochs=5), noise=0.3)


def state_of(trainer: Trainer) -> dict[str, Tensor]:
    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    average = {f"result.{k}": value.clone() for k, value in trainer.result.state_dict().items()}
    return weights | average | {"generator": trainer.generator.get_state()}


def assert_same_state(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def rates(config: TrainingConfig, steps: int, n: int) -> list[float]:
    return [learning_rate(config, step, n) for step in range(steps)]


def scheduled(
    make: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler], steps: int
) -> list[float]:
    """Learning rates of one of torch's schedulers, which starts from 0.01."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01)
    scheduler = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(float(scheduler.get_last_lr()[0]))
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("field", "allowed", "refused"),
    [
        ("epochs", 1, 0),
        ("batch_size", 1, 0),
        ("learning_rate", 1e-9, 0.0),
        ("weight_decay", 0.0, -1e-9),
        ("lr_decay", 1e-9, 0.0),
        ("lr_decay", 1.0, 1.1),
        ("lr_decay_every", 1, 0),
        ("fast_epochs", 1, 0),
        ("fast_learning_rate", 1e-9, 0.0),
        ("averaging", 0.0, -0.1),
        ("averaging", 1.0, 1.1),
    ],
)
def test_settings_have_bounds(field: str, allowed: float, refused: float) -> None:
    changed: dict[str, Any] = {field: allowed}
    check_settings(replace(CONFIG, **changed))
    changed[field] = refused
    with pytest.raises(
        InputError, match=f"^--{field.replace('_', '-')}: found {refused}, expected"
    ):
        check_settings(replace(CONFIG, **changed))


DECAYS = [(0.8, 15), (0.5, 1), (1.0, 3)]


@pytest.mark.parametrize("n", [12, 14])
@pytest.mark.parametrize(("decay", "every"), DECAYS)
def test_learning_rate_by_epochs_equals_torch_step_lr(decay: float, every: int, n: int) -> None:
    config = TrainingConfig(
        learning_rate=0.01,
        lr_decay=decay,
        lr_decay_every=every,
        lr_decay_clock="epochs",
        batch_size=4,
    )
    step_lr = partial(torch.optim.lr_scheduler.StepLR, step_size=every * 3, gamma=decay)
    assert rates(config, 120, n) == pytest.approx(scheduled(step_lr, 120), rel=1e-12)


@pytest.mark.parametrize(("n", "interval"), [(12, 3), (14, 4), (3, 1)])
@pytest.mark.parametrize(("decay", "every"), DECAYS)
def test_learning_rate_equals_that_of_the_published_loop(
    decay: float, every: int, n: int, interval: int
) -> None:
    config = TrainingConfig(learning_rate=0.01, lr_decay=decay, lr_decay_every=every, batch_size=4)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=every, gamma=decay)
    expected = []
    for step in range(150):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        # The published code steps its scheduler after the first step and at every interval.
        if step % interval == 0:
            schedule.step()
    assert rates(config, 150, n) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("epochs", "per_epoch"), [(10, 8), (7, 3), (1, 1), (1, 2)])
def test_fast_learning_rate_equals_torch_warm_up_and_cosine(epochs: int, per_epoch: int) -> None:
    config = TrainingConfig(
        schedule="fast", fast_epochs=epochs, fast_learning_rate=0.01, batch_size=4
    )
    total = epochs * per_epoch
    warm_up = max(1, round(total / 10))

    def make(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        module = torch.optim.lr_scheduler
        rise = module.LinearLR(optimizer, 1 / warm_up, 1.0, total_iters=max(1, warm_up - 1))
        fall = module.CosineAnnealingLR(optimizer, max(1, total - warm_up))
        return module.SequentialLR(optimizer, [rise, fall], [warm_up])

    found = rates(config, total, 4 * per_epoch + 1)
    assert max(found) == pytest.approx(0.01)
    with warnings.catch_warnings():
        # SequentialLR itself steps with an argument that torch has deprecated.
        warnings.simplefilter("ignore")
        assert found == pytest.approx(scheduled(make, total), rel=1e-9, abs=1e-12)


def test_step_uses_the_scheduled_learning_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[float] = []
    adam_step = torch.optim.Adam.step

    def spy(self: torch.optim.Adam) -> None:
        met.append(float(self.param_groups[0]["lr"]))
        adam_step(self)

    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    config = replace(CONFIG, schedule="fast", fast_epochs=4)
    trainer = make_trainer(config=config)
    for _ in range(4):
        trainer.run_epoch()
    assert met == rates(config, 12, 14)


def test_fast_result_is_the_running_average_of_the_weights() -> None:
    config = replace(CONFIG, schedule="fast", fast_epochs=3, averaging=0.7)
    trainer = make_trainer(config=config)
    weights: list[Tensor] = []

    def keep() -> None:
        weights.append(trainer.model.linear.weight.detach().clone())

    # The average is taken after a step and before it is reported.
    for _ in range(3):
        trainer.run_epoch(keep)
    expected = weights[0]
    for weight in weights[1:]:
        expected = 0.7 * expected + 0.3 * weight
    torch.testing.assert_close(trainer.result.linear.weight.detach(), expected)
    assert not torch.equal(trainer.result.linear.weight, trainer.model.linear.weight)


def test_published_result_is_the_last_model() -> None:
    trainer = make_trainer()
    trainer.run_epoch()
    assert trainer.result is trainer.model


@pytest.mark.parametrize(
    ("n", "sizes"), [(14, [4, 4, 4]), (12, [4, 4, 4]), (4, [4]), (5, [4]), (3, [3]), (1, [1])]
)
def test_epoch_leaves_out_the_last_partial_batch(n: int, sizes: list[int]) -> None:
    trainer = make_trainer(n)
    calls: list[int] = []
    means = trainer.run_epoch(lambda: calls.append(len(trainer.model.batches)))
    assert trainer.steps_per_epoch == len(sizes)
    assert [len(labels) for _, labels in trainer.model.batches] == sizes
    assert calls == list(range(1, len(sizes) + 1))
    assert means["rows"] == sizes[0]
    assert trainer.epoch == 1


@pytest.mark.parametrize(("n", "steps"), [(14, 4), (12, 3), (3, 1)])
def test_drawn_batches_are_beginnings_of_permutations_of_their_own(n: int, steps: int) -> None:
    trainer = make_trainer(n, config=replace(CONFIG, batches="drawn"))
    assert trainer.steps_per_epoch == steps
    random = torch.Generator()
    for _ in range(3):
        trainer.model.batches.clear()
        random.set_state(trainer.generator.get_state())
        trainer.run_epoch()
        found = [labels.tolist() for _, labels in trainer.model.batches]
        # The labels are the rows' numbers.
        assert found == [torch.randperm(n, generator=random)[:4].tolist() for _ in range(steps)]


def test_epoch_visits_rows_once_with_their_labels_in_a_new_order() -> None:
    trainer = make_trainer(12)
    features = make_rows(12).features
    orders = []
    for _ in range(2):
        trainer.model.batches.clear()
        trainer.run_epoch()
        order = torch.cat([labels for _, labels in trainer.model.batches])
        assert sorted(order.tolist()) == list(range(12))
        assert torch.equal(torch.cat([x for x, _ in trainer.model.batches]), features[order])
        orders.append(order.tolist())
    assert orders[0] != orders[1]
    assert list(range(12)) not in orders


def test_every_row_is_visited_in_some_epoch() -> None:
    trainer = make_trainer(14)
    for _ in range(10):
        trainer.run_epoch()
    seen = torch.cat([labels for _, labels in trainer.model.batches])
    assert set(seen.tolist()) == set(range(14))


def test_training_equals_adam_with_step_lr() -> None:
    trainer = make_trainer(config=replace(CONFIG, lr_decay_clock="epochs"))
    reference = Regression()
    optimizer = torch.optim.Adam(
        reference.parameters(), lr=0.05, weight_decay=0.1, foreach=False, fused=False
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    for _ in range(5):
        trainer.model.batches.clear()
        trainer.run_epoch()
        # The same batches, replayed.
        for features, labels in trainer.model.batches:
            optimizer.zero_grad()
            (2 * reference.error(features, labels)).backward()
            optimizer.step()
        schedule.step()
        for ours, expected in zip(trainer.model.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)
    moved = reference.linear.weight - Regression().linear.weight
    assert (moved.abs() > 0.05).all()


def test_reported_losses_are_means_over_the_epochs_steps() -> None:
    trainer = make_trainer()
    for _ in range(2):
        trainer.model.errors.clear()
        means = trainer.run_epoch()
        assert set(means) == {"error", "rows"}
        assert means["error"] == pytest.approx(sum(trainer.model.errors) / 3, rel=1e-12)


def test_training_depends_on_the_generator_alone() -> None:
    before = torch.get_rng_state()
    states = []
    for seed in (0, 0, 1):
        trainer = make_trainer(seed=seed, noise=0.3)
        torch.set_rng_state(before)  # making a toy model drew from it
        trainer.run_epoch()
        assert torch.equal(torch.get_rng_state(), before)
        states.append(state_of(trainer))
    assert_same_state(states[0], states[1])
    assert not torch.equal(states[0]["linear.weight"], states[2]["linear.weight"])


@pytest.mark.parametrize("make", [make_noisy_trainer, make_fast_trainer, make_gsmflow_trainer])
def test_resumed_run_is_bit_identical(make: Callable[[], Trainer], tmp_path: Path) -> None:
    straight = make()
    straight_losses = [straight.run_epoch() for _ in range(5)]
    first = make()
    for _ in range(3):
        first.run_epoch()
    progress = {"history": [1.5, {"epoch": 2}], "note": "é"}
    first.save(tmp_path / "state", progress)
    second = make()
    second.run_epoch()  # earlier training must not matter
    assert second.load(tmp_path / "state") == progress
    assert second.epoch == 3
    losses = [second.run_epoch() for _ in range(2)]
    assert losses == straight_losses[3:]
    assert_same_state(state_of(second), state_of(straight))
    found = state_of(first)
    for name, value in load_prefixed(tmp_path / "state").items():
        assert torch.equal(found[name], value), name


def load_prefixed(path: Path) -> dict[str, Tensor]:
    tensors = load_file(path)
    weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    return weights | {"generator": tensors["generator"]}


def test_saving_does_not_change_the_run(tmp_path: Path) -> None:
    plain, saved = make_trainer(noise=0.3), make_trainer(noise=0.3)
    for _ in range(3):
        plain.run_epoch()
        saved.run_epoch()
        saved.save(tmp_path / "state", {})
    assert_same_state(state_of(plain), state_of(saved))
    assert os.listdir(tmp_path) == ["state"]  # noqa: PTH208


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def scramble_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[8:40] = b"\xff" * 32
    path.write_bytes(bytes(content))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_text(path: Path) -> None:
    path.write_text("not a state\n" * 20)


def drop_metadata(path: Path) -> None:
    save_file(load_file(path), path)


def drop_moments(path: Path) -> None:
    tensors = load_file(path)
    kept = {name: v for name, v in tensors.items() if not name.startswith("optimizer.loss.1")}
    assert len(kept) < len(tensors)
    with safe_open(path, framework="pt") as file:
        save_file(kept, path, file.metadata())


def replace_by_other_shapes(path: Path) -> None:
    generator = torch.Generator()
    other = Trainer(Regression(5), make_rows(8, 5), CONFIG, generator)
    other.run_epoch()
    other.save(path, {})


def replace_by_gsmflow(path: Path) -> None:
    other = make_gsmflow_trainer()
    other.run_epoch()
    other.save(path, {})


def delete(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        cut_header,
        scramble_header,
        empty,
        replace_by_text,
        drop_metadata,
        drop_moments,
        replace_by_other_shapes,
        replace_by_gsmflow,
        delete,
    ],
)
def test_file_that_is_no_state_of_this_run_is_refused(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "state.safetensors"
    trainer = make_trainer()
    trainer.run_epoch()
    trainer.save(path, {})
    damage(path)
    with pytest.raises(InputError, match=r"(?s)state\.safetensors: .*expected") as caught:
        make_trainer().load(path)
    assert str(path) in str(caught.value)


def fail(*_: object, **__: object) -> None:
    raise OSError("disk full")


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "replace")])
def test_failed_save_leaves_the_old_state(
    owner: object, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    trainer = make_trainer()
    trainer.run_epoch()
    trainer.save(path, {"kept": True})
    before = path.read_bytes()
    trainer.run_epoch()
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(OSError, match="disk full"):
            trainer.save(path, {"kept": False})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert make_trainer().load(path) == {"kept": True}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_step_computes_in_the_precision_asked_for(
    precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_gsmflow_trainer()
    trainer.precision = precision
    products: list[torch.dtype] = []
    linear = nn.functional.linear

    def spy(*arguments: Any) -> Tensor:
        products.append(linear(*arguments).dtype)
        return linear(*arguments)

    monkeypatch.setattr(nn.functional, "linear", spy)
    means = trainer.run_epoch()
    expected = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    assert set(products) == {expected}
    assert all(value.dtype == torch.float32 for value in trainer.model.parameters())
    reference = make_gsmflow_trainer().run_epoch()
    assert means == pytest.approx(reference, rel=0.2)
