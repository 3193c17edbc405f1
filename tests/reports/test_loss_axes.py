"""Which axes loss parts are drawn on."""

import numpy as np
import pytest

from gsmflow.reports.loss_axes import LossAxis, loss_axes, loss_parts


def history(**parts: list[float]) -> list[dict[str, float]]:
    epochs = len(next(iter(parts.values())))
    return [{"epoch": i + 1, **{k: v[i] for k, v in parts.items()}} for i in range(epochs)]


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_gsmflow_has_a_linear_and_a_logarithmic_axis(shift: float) -> None:
    records = history(likelihood=[1 + shift, -2 + shift], prototype=[3.0, 0.01])
    assert loss_axes(records) == [
        LossAxis(("likelihood",), "likelihood loss, nats per dimension", False),
        LossAxis(("prototype",), "prototype loss, mean squared distance", True),
    ]


def test_positive_parts_of_like_size_share_a_logarithmic_axis() -> None:
    records = history(reconstruction=[500.0, 50.0], kl=[100.0, 0.5], distribution=[13.0, 0.2])
    (axis,) = loss_axes(records)
    assert axis == LossAxis(("reconstruction", "kl", "distribution"), "loss", True)


def test_part_that_hardly_changes_has_a_linear_axis() -> None:
    assert loss_axes(history(hinge=[2.0, 1.9])) == [LossAxis(("hinge",), "hinge loss", False)]


def test_negative_parts_are_apart_from_positive_ones() -> None:
    records = history(critic=[-3.0, -0.1], penalty=[0.5, 0.01], generator=[-1.0, 2.0])
    assert loss_axes(records) == [
        LossAxis(("critic", "generator"), "critic, generator loss", False),
        LossAxis(("penalty",), "penalty loss", True),
    ]


def test_parts_of_very_different_size_are_on_different_axes() -> None:
    records = history(small=[-1e-3, 2e-3], vae=[900.0, 800.0], critic=[-1.0, 1.0], mmd=[0.2, 0.1])
    assert [axis.parts for axis in loss_axes(records)] == [
        ("small",),
        ("vae",),
        ("critic",),
        ("mmd",),
    ]


def test_zero_part_has_no_separate_axis() -> None:
    (axis,) = loss_axes(history(off=[0.0, 0.0], critic=[-1.0, 1.0]))
    assert axis == LossAxis(("off", "critic"), "loss", False)


def test_parts_missing_in_some_epochs_have_an_axis() -> None:
    records: list[dict[str, float]] = [{"epoch": 1, "a": 1.0}, {"epoch": 2, "b": 2.0, "a": 0.5}]
    assert loss_parts(records) == ["a", "b"]
    assert loss_axes(records) == [LossAxis(("a", "b"), "loss", False)]
    assert loss_axes([]) == []


def test_every_part_is_on_exactly_one_axis_and_fills_a_share_of_it() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        parts = {
            f"p{i}": (10 ** rng.uniform(-4, 4) * (rng.normal(size=5) + rng.uniform(0, 4))).tolist()
            for i in range(rng.integers(1, 7))
        }
        axes = loss_axes(history(**parts))
        assert sorted(name for axis in axes for name in axis.parts) == sorted(parts)
        for axis in axes:
            assert list(axis.parts) == sorted(axis.parts)
            if axis.logarithmic:
                assert min(min(parts[name]) for name in axis.parts) > 0
