"""Random generators: one for each purpose, and shared batches of random numbers."""

import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["BatchRandom", "Generators", "make_generator"]

_CPU = torch.device("cpu")


def make_generator(device: torch.device, seed: int, *purpose: str) -> torch.Generator:
    """Make a random generator for one purpose, independent of those for other purposes.

    Parameters
    ----------
    device
        Where the numbers are drawn.
    seed
        The run's seed, ``>= 0``.
    purpose
        Words that name the purpose, such as ``"test", "synthesis"``.
    """
    entropy = [seed, *(zlib.crc32(word.encode()) for word in purpose)]
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


@dataclass(frozen=True)
class Generators:
    """The generators of one stage of a run, one for each purpose.

    Attributes
    ----------
    seed
        The run's seed, ``>= 0``.
    stage
        The stage, such as ``"validation"`` or ``"test"``.
    device
        Where the stage computes.
    """

    seed: int
    stage: str
    device: torch.device

    def on_cpu(self, purpose: str) -> torch.Generator:
        """The generator of a purpose, on the CPU."""
        return make_generator(_CPU, self.seed, self.stage, purpose)

    def on_device(self, purpose: str) -> torch.Generator:
        """The generator of a purpose, where the stage computes."""
        return make_generator(self.device, self.seed, self.stage, purpose)


class BatchRandom(NamedTuple):
    """Random numbers for the rows of a batch, or for one process's share of a batch.

    Processes that share a batch have generators in the same state. Each draws the numbers of the
    whole batch and keeps those of its own rows. A batch therefore gets the same numbers for any
    number of processes.

    Attributes
    ----------
    generator
        The generator, on the device of the rows.
    share, shares
        Index of this process's share, and the number of equal shares of a batch.
    """

    generator: torch.Generator
    share: int = 0
    shares: int = 1

    def normal(self, rows: Tensor) -> Tensor:
        """Standard normal numbers ``(n, d)`` for rows ``(n, d)``."""
        n = len(rows)
        shape = (self.shares * n, *rows.shape[1:])
        numbers = torch.randn(shape, generator=self.generator, device=rows.device, dtype=rows.dtype)
        return numbers[self.share * n : (self.share + 1) * n]

    def shared_normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers in the shape of a tensor, the same for every share."""
        return torch.randn(
            like.shape, generator=self.generator, device=like.device, dtype=like.dtype
        )

    def uniform(self, count: int) -> Tensor:
        """Numbers ``(count,)`` in [0, 1), the same for every share."""
        return torch.rand(count, generator=self.generator, device=self.generator.device)

    def uniform_like(self, rows: Tensor) -> Tensor:
        """Numbers ``(n, d)`` in [0, 1) for rows ``(n, d)``, in fp32 whatever the rows are in."""
        n = len(rows)
        shape = (self.shares * n, *rows.shape[1:])
        numbers = torch.rand(shape, generator=self.generator, device=rows.device)
        return numbers[self.share * n : (self.share + 1) * n]

    def subset(self, size: int, total: int) -> Tensor:
        """Distinct numbers ``(size,)`` below ``total``, the same for every share."""
        device = self.generator.device
        return torch.randperm(total, generator=self.generator, device=device)[:size]
