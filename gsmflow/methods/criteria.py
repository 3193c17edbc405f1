"""The criteria by which a closed form's settings are chosen on the validation classes.

T1, H and calibrated H have different best settings. Choosing them separately for each makes a
method that costs seconds as strong as possible.
"""

from typing import Literal, TypeAlias, get_args

from gsmflow.evaluation.protocol import Outcome

__all__ = ["CRITERIA", "Criterion", "criterion_values"]

Criterion: TypeAlias = Literal["T1", "H", "calibrated_H"]

CRITERIA: tuple[Criterion, ...] = get_args(Criterion)


def criterion_values(outcome: Outcome) -> tuple[float, dict[Criterion, float]]:
    """The calibration factor gamma of best H, and the value of each criterion."""
    calibration = outcome.curve().best_gamma()
    return calibration, {
        "T1": outcome.t1,
        "H": outcome.harmonic_mean,
        "calibrated_H": outcome.calibrated(calibration).H,
    }
