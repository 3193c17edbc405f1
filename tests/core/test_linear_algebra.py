"""Double precision: NumPy's bits on the CPU; on a GPU, the equations that define the results."""

import numpy as np
import pytest
import torch

from gsmflow.core.linear_algebra import (
    cholesky,
    double_device,
    inverse_of_lower,
    product,
    symmetric_eigen,
)

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(60, 40))
POSITIVE = ROWS.T @ ROWS + np.eye(40)

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]


def test_results_on_the_cpu_are_those_of_numpy_bit_by_bit() -> None:
    rows, positive = torch.from_numpy(ROWS), torch.from_numpy(POSITIVE)
    np.testing.assert_array_equal(product(rows.T, rows), ROWS.T @ ROWS)
    np.testing.assert_array_equal(cholesky(positive), np.linalg.cholesky(POSITIVE))
    for found, expected in zip(symmetric_eigen(positive), np.linalg.eigh(POSITIVE), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("device", DEVICES)
def test_results_solve_their_equations(device: str) -> None:
    rows, positive = (torch.from_numpy(values).to(device) for values in (ROWS, POSITIVE))
    by_einsum = torch.einsum("ik,il->kl", rows, rows)
    torch.testing.assert_close(product(rows.T, rows), by_einsum)
    factor = cholesky(positive)
    assert not factor.triu(1).any()
    torch.testing.assert_close(factor @ factor.T, positive)
    values, vectors = symmetric_eigen(positive)
    assert (values.diff() >= 0).all()
    torch.testing.assert_close((vectors * values) @ vectors.T, positive)
    inverse = inverse_of_lower(factor)
    assert not inverse.triu(1).any()
    torch.testing.assert_close(inverse @ factor, torch.eye(40).to(factor))
    for result in (factor, inverse, values, vectors):
        assert result.device == positive.device


def test_double_precision_is_on_cuda_and_the_cpu_alone() -> None:
    expected = {"cpu": "cpu", "mps": "cpu", "cuda:1": "cuda:1"}
    assert {name: str(double_device(torch.device(name))) for name in expected} == expected
