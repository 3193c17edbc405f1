"""Compiled losses against losses that run as they are."""

from functools import partial
from typing import Any

import pytest
import torch

from gsmflow.learning.contract import LossTrained
from gsmflow.learning.trainer import Trainer
from gsmflow.methods.registry import METHODS, find_method
from tests.learning.test_graphs import make_trainer

# Of torch's own code, while it compiles.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated.*:DeprecationWarning"),
]

CPU = torch.device("cpu")
WITH_A_LOSS = [name for name in METHODS if issubclass(find_method(name).model, LossTrained)]


@pytest.fixture
def quick_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of torch.compile but the generation of machine code, which takes half a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))


def state_of(trainer: Trainer[Any]) -> dict[str, torch.Tensor]:
    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    return weights | {"generator": trainer.generator.get_state()}


@pytest.mark.usefixtures("quick_compiler")
@pytest.mark.parametrize(
    ("name", "precision"),
    [*((name, "fp32") for name in WITH_A_LOSS), ("gsmflow", "bf16"), ("cada-vae", "bf16")],
)
def test_compiled_loss_trains_to_the_same_losses(name: str, precision: Any) -> None:
    eager, compiled = (make_trainer(name, CPU, None, precision=precision) for _ in range(2))
    before = state_of(compiled)
    assert compiled.compile_loss() is None
    after = state_of(compiled)
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert all(parameter.grad is None for parameter in compiled.model.parameters())
    tolerance = 1e-5 if precision == "fp32" else 0.05
    for _ in range(3):
        assert compiled.run_epoch() == pytest.approx(eager.run_epoch(), rel=tolerance, abs=1e-2)
    assert torch.equal(compiled.generator.get_state(), eager.generator.get_state())


def test_steps_run_the_compiled_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def backend(module: Any, inputs: Any) -> Any:
        def run(*arguments: Any) -> Any:
            calls.append("compiled")
            return module(*arguments)

        return run

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    trainer = make_trainer("gsmflow", CPU, None)
    assert trainer.compile_loss() is None
    parts = len(calls)  # the loss may be compiled in several parts
    assert parts > 0
    trainer.run_epoch()
    assert len(calls) == parts * (1 + trainer.steps_per_epoch)


def test_loss_that_cannot_be_compiled_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler\nin sight")

    eager, refused = (make_trainer("gsmflow", CPU, None) for _ in range(2))
    monkeypatch.setattr(torch, "compile", lambda function, **_: refuse)
    assert refused.compile_loss() == "no compiler in sight"
    assert refused.run_epoch() == eager.run_epoch()


def test_training_step_of_several_optimizers_is_not_compiled() -> None:
    reason = make_trainer("gan", CPU, None).compile_loss()
    assert reason == "the model has a training step in place of a loss"
