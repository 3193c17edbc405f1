"""Numbers as texts, rounded the same way in tables, pictures, logs and pages."""

from decimal import ROUND_HALF_UP, Decimal

__all__ = ["fixed"]


def fixed(value: float, digits: int = 1) -> str:
    """A number with so many decimals, a half rounded away from zero.

    The value counts to six decimals, so that sums in another order give the same text. The pages'
    ``fixed`` in ``reports/web/base.js`` does the same.
    """
    exact = Decimal(f"{value:.6f}")
    if not exact.is_finite():
        return f"{value:.{digits}f}"
    rounded = exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return str(rounded if rounded else abs(rounded))
