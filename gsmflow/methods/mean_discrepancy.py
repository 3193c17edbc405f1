"""The maximum mean discrepancy of two samples, and kernels for it."""

from collections.abc import Callable

from torch import Tensor

from gsmflow.core.precision import at_least_float32, autocast

__all__ = ["gaussian_kernel", "inverse_multiquadric", "mean_discrepancy"]


def gaussian_kernel(sharpness: float) -> Callable[[Tensor], Tensor]:
    """The kernel ``exp(-sharpness ||u - v||^2)``, of squared distances; ``sharpness > 0``."""
    return lambda squares: (-sharpness * squares).exp()


def inverse_multiquadric(width: float) -> Callable[[Tensor], Tensor]:
    """The kernel ``width / (width + ||u - v||^2)``, of squared distances; ``width > 0``."""
    return lambda squares: width / (width + squares)


def mean_discrepancy(first: Tensor, second: Tensor, kernel: Callable[[Tensor], Tensor]) -> Tensor:
    """Unbiased estimate of the squared maximum mean discrepancy of two samples; it may be negative.

    Parameters
    ----------
    first, second
        Samples ``(n, k)`` and ``(m, k)`` of two distributions.
    kernel
        From squared distances to the kernel's values, such as `gaussian_kernel` gives it.
    """

    def values_of(left: Tensor, right: Tensor) -> Tensor:
        squares = left.square().sum(dim=1)[:, None] + right.square().sum(dim=1)
        return kernel((squares - 2 * left @ right.T).clamp_min(0))

    def within(sample: Tensor) -> Tensor:
        values, n = values_of(sample, sample), len(sample)
        return (values.sum() - values.diagonal().sum()) / max(n * (n - 1), 1)

    # A sharp kernel does not forgive distances from bf16 products.
    with autocast("fp32", first.device):
        u, v = (at_least_float32(sample) for sample in (first, second))
        return within(u) + within(v) - 2 * values_of(u, v).mean()
