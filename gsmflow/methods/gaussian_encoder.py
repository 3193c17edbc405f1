"""The encoder of variational autoencoders: from inputs to a diagonal Gaussian over latents."""

import torch
from torch import Tensor, nn

from gsmflow.core.precision import at_least_float32
from gsmflow.core.rng import BatchRandom
from gsmflow.methods.layers import dense, dropout

__all__ = ["GaussianEncoder"]


class GaussianEncoder(nn.Module):
    """Two hidden layers with ReLU, the first with dropout, then means and log-variances.

    Parameters
    ----------
    input_dim
        Number of inputs.
    hidden
        Units of both hidden layers.
    latent_dim
        Length of the latent vectors.
    dropped
        Share of the first layer's units that are dropped in training, in [0, 1).
    """

    def __init__(
        self, input_dim: int, hidden: tuple[int, int], latent_dim: int, dropped: float = 0.0
    ) -> None:
        super().__init__()
        self.dropped = dropped
        self.first = dense(input_dim, hidden[0])
        self.second = dense(*hidden)
        self.mean = dense(hidden[1], latent_dim)
        self.log_variance = dense(hidden[1], latent_dim)

    def forward(self, inputs: Tensor, draws: BatchRandom | None = None) -> tuple[Tensor, Tensor]:
        """Means and log-variances, ``(n, latent_dim)`` each, of inputs ``(n, input_dim)``.

        Without ``draws``, no units are dropped.
        """
        first = dropout(torch.relu(self.first(inputs)), self.dropped, draws)
        hidden = torch.relu(self.second(first))
        return at_least_float32(self.mean(hidden)), at_least_float32(self.log_variance(hidden))
