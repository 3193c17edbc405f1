"""What a calibration factor can be chosen for."""

from typing import Literal, TypeAlias

__all__ = ["Balance"]

# The harmonic mean of U and S, the mean accuracy of all classes, or nothing: no calibration.
Balance: TypeAlias = Literal["harmonic", "overall", "none"]
