"""Models with several optimizers, by a small Wasserstein GAN against a loop written by hand."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gsmflow.core.distributed import Group
from gsmflow.core.errors import InputError
from gsmflow.core.precision import Precision
from gsmflow.core.rng import BatchRandom
from gsmflow.learning.contract import (
    Batch,
    LossTrained,
    Optimizer,
    ParameterGroup,
    StepTrained,
    Trainable,
    minimize_together,
)
from gsmflow.learning.feed import MemoryFeed
from gsmflow.learning.trainer import Trainer, TrainingConfig, learning_rate

ROWS, DIM, NOISE, CRITIC_STEPS = 22, 3, 2, 5
CONFIG = TrainingConfig(
    epochs=6,
    batch_size=4,
    learning_rate=0.02,
    weight_decay=0.1,
    lr_decay=0.5,
    lr_decay_every=2,
    lr_decay_clock="epochs",
)
BETAS = (0.5, 0.999)


class TwoPlayers(nn.Module):
    """A WGAN-GP of two Gaussian blobs whose penalty weight adapts, so that it has a buffer."""

    penalty_weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.generator = nn.Sequential(nn.Linear(NOISE + 1, 8), nn.ReLU(), nn.Linear(8, DIM))
        self.critic = nn.Sequential(nn.Linear(DIM + 1, 8), nn.LeakyReLU(), nn.Linear(8, 1))
        for parameter in self.parameters():
            with torch.no_grad():
                parameter.normal_(0, 0.3, generator=generator)
        self.register_buffer("penalty_weight", torch.tensor(10.0))
        self.met: list[Batch] = []

    def batches_per_step(self) -> int:
        return CRITIC_STEPS

    def parameter_groups(self) -> dict[str, ParameterGroup]:
        return {
            "critic": ParameterGroup(list(self.critic.parameters()), BETAS),
            "generator": ParameterGroup(list(self.generator.parameters()), BETAS, 0.3),
        }

    def training_step(
        self, batches: Iterator[Batch], random: BatchRandom, optimizers: Mapping[str, Optimizer]
    ) -> dict[str, Tensor]:
        for _ in range(CRITIC_STEPS):
            batch = next(batches)
            self.met.append(batch)
            distance, penalty = self.critic_losses(batch, random)
            optimizers["critic"].minimize(distance + self.penalty_weight * penalty)
        self.penalty_weight *= torch.where(penalty.detach() > 0.05, 1.1, 0.9)
        loss = self.generator_loss(batch, random)
        optimizers["generator"].minimize(loss)
        return {"critic": distance, "penalty": penalty, "generator": loss}

    def synthesize(self, batch: Batch, random: BatchRandom) -> Tensor:
        noise = random.normal(batch.features[:, :NOISE])
        made: Tensor = self.generator(torch.cat([noise, batch.labels[:, None]], 1))
        return made

    def score(self, features: Tensor, batch: Batch) -> Tensor:
        scores: Tensor = self.critic(torch.cat([features, batch.labels[:, None]], 1))
        return scores.squeeze(1)

    def critic_losses(self, batch: Batch, random: BatchRandom) -> tuple[Tensor, Tensor]:
        made = self.synthesize(batch, random).detach().float()
        distance = self.score(made, batch).mean() - self.score(batch.features, batch).mean()
        share = random.uniform(len(made))[:, None]
        between = torch.lerp(made, batch.features, share).requires_grad_()
        scores = self.score(between, batch).sum()
        (slope,) = torch.autograd.grad(scores, between, create_graph=True)
        return distance, (slope.norm(dim=1) - 1).square().mean()

    def generator_loss(self, batch: Batch, random: BatchRandom) -> Tensor:
        return -self.score(self.synthesize(batch, random), batch).mean()


def make_rows() -> MemoryFeed:
    labels = torch.arange(ROWS) % 2
    noise = torch.randn(ROWS, DIM, generator=torch.Generator().manual_seed(1))
    return MemoryFeed(noise + 3.0 * labels[:, None], labels)


def make_trainer(
    config: TrainingConfig = CONFIG, precision: Precision = "fp32"
) -> Trainer[TwoPlayers]:
    generator = torch.Generator().manual_seed(2)
    return Trainer(TwoPlayers(), make_rows(), config, generator, precision=precision)


def make_fast_trainer() -> Trainer[TwoPlayers]:
    return make_trainer(replace(CONFIG, schedule="fast", fast_epochs=6))


def make_amsgrad_trainer() -> Trainer[TwoPlayers]:
    return make_trainer(replace(CONFIG, amsgrad=True))


def make_bf16_trainer() -> Trainer[TwoPlayers]:
    return make_trainer(precision="bf16")


def state_of(trainer: Trainer[TwoPlayers]) -> dict[str, Tensor]:
    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    result = {f"result.{k}": value.clone() for k, value in trainer.result.state_dict().items()}
    return weights | result | {"random": trainer.generator.get_state()}


def assert_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_gan_is_trainable_by_its_step_alone() -> None:
    assert isinstance(TwoPlayers(), Trainable)
    assert issubclass(TwoPlayers, Trainable)
    assert isinstance(TwoPlayers(), StepTrained)
    assert not isinstance(TwoPlayers(), LossTrained)
    assert not isinstance(nn.Linear(1, 1), Trainable)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_equals_a_loop_with_two_adams(precision: Precision) -> None:
    trainer = make_trainer(precision=precision)
    model, rows, random = TwoPlayers(), make_rows(), torch.Generator().manual_seed(2)
    critic, generator = (
        torch.optim.Adam(part.parameters(), lr=1.0, betas=BETAS, weight_decay=0.1, fused=True)
        for part in (model.critic, model.generator)
    )
    numbers = BatchRandom(random)

    def forward() -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")

    for epoch in range(4):
        trainer.run_epoch()
        rate = 0.02 * 0.5 ** (epoch // 2)
        critic.param_groups[0]["lr"], generator.param_groups[0]["lr"] = rate, rate * 0.3
        orders = [torch.randperm(ROWS, generator=random) for _ in range(CRITIC_STEPS)]
        batches = iter(torch.cat([order[: ROWS // 4 * 4] for order in orders]).split(4))
        for _ in range(ROWS // 4):
            for _ in range(CRITIC_STEPS):
                batch_rows = next(batches)
                batch = Batch(rows.features[batch_rows], rows.labels[batch_rows])
                with forward():
                    distance, penalty = model.critic_losses(batch, numbers)
                    loss = distance + model.penalty_weight * penalty
                critic.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                critic.step()
            model.penalty_weight *= 1.1 if penalty > 0.05 else 0.9
            with forward():
                loss = model.generator_loss(batch, numbers)
            generator.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            generator.step()
        assert_same(trainer.model.state_dict(), model.state_dict())
        assert torch.equal(trainer.generator.get_state(), random.get_state())
    start = TwoPlayers().state_dict()
    assert all(not torch.equal(value, start[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["critic", "generator"])
def test_optimizer_changes_its_parameters_alone(name: str) -> None:
    trainer = make_trainer()
    optimized = {"critic": trainer.model.critic, "generator": trainer.model.generator}
    seen: list[bool] = []

    def step(
        batches: Iterator[Batch], random: BatchRandom, optimizers: Mapping[str, Optimizer]
    ) -> dict[str, Tensor]:
        before = {k: v.clone() for k, v in trainer.model.named_parameters()}
        loss = trainer.model.generator_loss([*batches][-1], random)
        optimizers[name].minimize(loss)
        for k, value in trainer.model.named_parameters():
            changed = not torch.equal(value, before[k])
            assert changed == k.startswith(name), k
            assert (value.grad is not None) == k.startswith(name), k
            seen.append(changed)
        return {"generator": loss}

    trainer = make_stepping(trainer.model, step)
    trainer.run_epoch()
    assert sum(seen) == 5 * len(list(optimized[name].parameters()))


def test_several_optimizers_take_a_step_on_one_loss_after_one_backward_pass() -> None:
    def loss_of(model: TwoPlayers) -> Tensor:
        batch = Batch(make_rows().features, make_rows().labels)
        return model.generator_loss(batch, BatchRandom(torch.Generator().manual_seed(4)))

    def step(
        batches: Iterator[Batch], random: BatchRandom, optimizers: Mapping[str, Optimizer]
    ) -> dict[str, Tensor]:
        list(batches)
        loss = loss_of(trainer.model)
        minimize_together(loss, [optimizers["generator"], optimizers["critic"]])
        return {"generator": loss}

    trainer = make_stepping(TwoPlayers(), step)
    expected = TwoPlayers()
    adams = [
        torch.optim.Adam(part.parameters(), lr=rate, betas=BETAS, weight_decay=0.1, fused=True)
        for part, rate in ((expected.critic, 0.02), (expected.generator, 0.006))
    ]
    trainer.run_epoch()
    for _ in range(5):
        expected.zero_grad()
        loss_of(expected).backward()  # type: ignore[no-untyped-call]
        for adam in adams:
            adam.step()
    assert_same(trainer.model.state_dict(), expected.state_dict())


def test_parameters_outside_of_a_loss_stay_as_they_are() -> None:
    def step(
        batches: Iterator[Batch], random: BatchRandom, optimizers: Mapping[str, Optimizer]
    ) -> dict[str, Tensor]:
        made = trainer.model.synthesize([*batches][-1], random)
        minimize_together(made.square().sum(), [*optimizers.values()])
        return {}

    trainer, start = make_stepping(TwoPlayers(), step), TwoPlayers().state_dict()
    trainer.run_epoch()
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, start[name]) == (not name.startswith("generator")), name


def make_stepping(
    model: TwoPlayers, step: Callable[..., Mapping[str, Tensor]]
) -> Trainer[TwoPlayers]:
    """A trainer of a model with another training step."""
    model.training_step = step  # type: ignore[method-assign, assignment]
    return Trainer(model, make_rows(), CONFIG, torch.Generator().manual_seed(2))


def test_epoch_has_as_many_steps_as_a_pass_has_batches() -> None:
    trainer = make_trainer()
    calls: list[int] = []
    trainer.run_epoch(lambda: calls.append(len(trainer.model.met)))
    assert calls == [5, 10, 15, 20, 25]
    passes = [trainer.model.met[i : i + 5] for i in range(0, 25, 5)]
    features = make_rows().features
    orders = []
    for batches in passes:
        assert [len(batch.labels) for batch in batches] == [4] * 5
        taken = torch.cat([batch.features for batch in batches])
        where = [int((features == row).all(1).nonzero()) for row in taken]
        assert len(set(where)) == 20
        orders.append(where)
    assert len({tuple(order) for order in orders}) == 5


@pytest.mark.parametrize(
    "make", [make_trainer, make_fast_trainer, make_amsgrad_trainer, make_bf16_trainer]
)
def test_killed_training_resumes_to_the_same_bits(
    make: Callable[[], Trainer[TwoPlayers]], tmp_path: Path
) -> None:
    undisturbed = make()
    expected = [undisturbed.run_epoch() for _ in range(6)]
    killed = make()
    for _ in range(3):
        killed.run_epoch()
    killed.save(tmp_path / "state", {"note": 1})

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed.run_epoch(die)
    resumed = make()
    resumed.run_epoch()  # earlier training must not matter
    assert resumed.load(tmp_path / "state") == {"note": 1}
    assert [resumed.run_epoch() for _ in range(3)] == expected[3:]
    assert_same(state_of(resumed), state_of(undisturbed))


@pytest.mark.parametrize(("taken", "found"), [(4, "fewer"), (6, "more")])
def test_step_with_another_number_of_batches_is_refused(taken: int, found: str) -> None:
    def step(
        batches: Iterator[Batch], random: BatchRandom, optimizers: Mapping[str, Optimizer]
    ) -> dict[str, Tensor]:
        for _ in range(taken):
            next(batches)
        return {}

    with pytest.raises(ValueError, match=f"found {found} batches taken, expected the 5"):
        make_stepping(TwoPlayers(), step).run_epoch()


def test_optimizer_without_steps_resumes(tmp_path: Path) -> None:
    def step(
        batches: Iterator[Batch], random: BatchRandom, optimizers: Mapping[str, Optimizer]
    ) -> dict[str, Tensor]:
        loss = model.generator_loss([*batches][-1], random)
        optimizers["generator"].minimize(loss)
        return {"generator": loss}

    model = TwoPlayers()
    trainer = make_stepping(model, step)
    trainer.run_epoch()
    trainer.save(tmp_path / "state", {})
    resumed = make_trainer()
    resumed.run_epoch()
    resumed.load(tmp_path / "state")
    trainer.model.training_step = TwoPlayers.training_step.__get__(model)  # type: ignore[method-assign]
    straight = Trainer(model, make_rows(), CONFIG, torch.Generator())
    straight.load(tmp_path / "state")
    assert straight.run_epoch() == resumed.run_epoch()
    assert_same(state_of(straight), state_of(resumed))


def test_loss_parts_are_means_over_the_steps_that_have_them() -> None:
    values: dict[str, list[float]] = {"critic": [], "penalty": [], "generator": []}

    def step(
        batches: Iterator[Batch], random: BatchRandom, optimizers: Mapping[str, Optimizer]
    ) -> dict[str, Tensor]:
        parts = TwoPlayers.training_step(model, batches, random, optimizers)
        if len(values["critic"]) % 2:
            del parts["generator"]
        for name, value in parts.items():
            values[name].append(value.item())
        return parts

    model = TwoPlayers()
    found = make_stepping(model, step).run_epoch()
    assert list(found) == ["critic", "penalty", "generator"]
    assert {name: len(step_values) for name, step_values in values.items()} == {
        "critic": 5,
        "penalty": 5,
        "generator": 3,
    }
    for name, step_values in values.items():
        assert found[name] == pytest.approx(sum(step_values) / len(step_values), rel=1e-6)


@pytest.mark.parametrize("schedule", ["published", "fast"])
def test_every_learning_rate_follows_the_schedule(
    schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: dict[int, list[float]] = {}
    adam_step = torch.optim.Adam.step

    def spy(self: torch.optim.Adam) -> None:
        group = self.param_groups[0]
        assert group["betas"] == BETAS
        met.setdefault(id(group["params"][0]), []).append(float(group["lr"]))
        adam_step(self)

    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    config = replace(CONFIG, schedule=schedule, epochs=4, fast_epochs=4)
    trainer = make_trainer(config)
    for _ in range(4):
        trainer.run_epoch()
    rates = [learning_rate(config, step, ROWS) for step in range(20)]
    critic, generator = (
        met[id(next(part.parameters()))] for part in (trainer.model.critic, trainer.model.generator)
    )
    assert critic == [rate for rate in rates for _ in range(CRITIC_STEPS)]
    assert generator == pytest.approx([0.3 * rate for rate in rates], rel=1e-12)
    assert len(set(rates)) > 1


def test_fast_result_is_the_running_average_over_steps() -> None:
    trainer = make_fast_trainer()
    weights: list[Tensor] = []
    for _ in range(2):
        trainer.run_epoch(
            lambda: weights.append(trainer.model.generator[0].weight.detach().clone())
        )
    expected = weights[0]
    for weight in weights[1:]:
        expected = CONFIG.averaging * expected + (1 - CONFIG.averaging) * weight
    torch.testing.assert_close(trainer.result.generator[0].weight.detach(), expected)
    assert torch.equal(trainer.result.penalty_weight, trainer.model.penalty_weight)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def without(prefix: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        tensors = load_file(path)
        kept = {name: v for name, v in tensors.items() if not name.startswith(prefix)}
        assert len(kept) < len(tensors)
        with safe_open(path, framework="pt") as file:
            save_file(kept, path, file.metadata())

    return damage


def give_moments_another_shape(path: Path) -> None:
    tensors = load_file(path)
    tensors["optimizer.critic.0.exp_avg"] = torch.zeros(3, 3)
    with safe_open(path, framework="pt") as file:
        save_file(tensors, path, file.metadata())


def rename_an_optimizer(path: Path) -> None:
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        state = file.metadata()["state"]
    renamed = {
        k.replace("optimizer.critic", "optimizer.discriminator"): v for k, v in tensors.items()
    }
    save_file(
        renamed, path, {"state": state.replace("optimizer.critic", "optimizer.discriminator")}
    )


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        without("optimizer.critic"),
        without("optimizer.generator.2.exp_avg_sq"),
        without("model.penalty_weight"),
        give_moments_another_shape,
        rename_an_optimizer,
    ],
)
def test_damaged_state_is_refused_in_one_sentence(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "two.state.safetensors"
    trainer = make_trainer()
    trainer.run_epoch()
    trainer.save(path, {})
    damage(path)
    with pytest.raises(InputError, match=r"two\.state\.safetensors: .*expected") as caught:
        make_trainer().load(path)
    assert "\n" not in str(caught.value)


class TwoProcesses(Group):
    """A distributed group that reports two processes."""

    @property
    def size(self) -> int:
        return 2


def test_several_processes_are_refused() -> None:
    with pytest.raises(InputError, match="--devices: found 2 processes, expected 1"):
        Trainer(TwoPlayers(), make_rows(), CONFIG, torch.Generator(), group=TwoProcesses())


def test_generator_learns_the_blobs() -> None:
    config = replace(CONFIG, learning_rate=0.01, weight_decay=0.0, lr_decay=1.0, batch_size=11)
    trainer = make_trainer(config)
    rows, labels = make_rows().features, make_rows().labels

    def distance() -> float:
        random = BatchRandom(torch.Generator().manual_seed(0))
        with torch.no_grad():
            made = trainer.model.synthesize(Batch(rows, labels), random)
        gaps = [(made[labels == c].mean(0) - rows[labels == c].mean(0)).norm() for c in (0, 1)]
        return float(sum(gaps))

    before = distance()
    for _ in range(150):
        trainer.run_epoch()
    assert distance() < before / 3
