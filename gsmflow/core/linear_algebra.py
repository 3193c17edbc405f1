"""Linear algebra in double precision: NumPy's on a CPU, torch's on a GPU.

The two libraries round differently. The same seed must give the same figures on a CPU in every
version of the package, and all of them had NumPy's. A GPU keeps the matrices where they are.
"""

import numpy as np
import torch
from torch import Tensor

__all__ = ["cholesky", "double_device", "inverse_of_lower", "product", "symmetric_eigen"]


def double_device(device: torch.device) -> torch.device:
    """The device itself if it is a CUDA GPU, else the CPU: others have no double precision."""
    return device if device.type == "cuda" else torch.device("cpu")


def product(left: Tensor, right: Tensor) -> Tensor:
    """The product ``(n, m)`` of matrices ``(n, k)`` and ``(k, m)``."""
    if left.is_cuda:
        return left @ right
    return torch.from_numpy(left.numpy() @ right.numpy())


def symmetric_eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Ascending eigenvalues ``(n,)`` and eigenvectors, in columns, of a symmetric ``(n, n)``."""
    if matrix.is_cuda:
        values, vectors = torch.linalg.eigh(matrix)
        return values, vectors
    values, vectors = map(torch.from_numpy, np.linalg.eigh(matrix.numpy()))
    return values, vectors


def cholesky(matrix: Tensor) -> Tensor:
    """The lower Cholesky factor ``(n, n)`` of a positive definite matrix ``(n, n)``."""
    if matrix.is_cuda:
        factor: Tensor = torch.linalg.cholesky(matrix)
        return factor
    return torch.from_numpy(np.linalg.cholesky(matrix.numpy()))


def inverse_of_lower(factor: Tensor) -> Tensor:
    """The inverse of a lower triangular matrix with no zero on its diagonal, both ``(n, n)``."""
    identity = torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return inverse
