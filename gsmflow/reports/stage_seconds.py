"""The seconds of a run's stages, read from its log."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gsmflow.core.errors import InputError, one_line
from gsmflow.core.files import parse_json
from gsmflow.core.json_fields import Field

__all__ = ["OTHER", "STAGE_EVENT", "StageSeconds", "fold_stages", "read_stages", "seconds_line"]

# The event of a stage's records, and the name of the time that belongs to no stage.
STAGE_EVENT, OTHER = "stage", "other"
# Stages with a smaller share of a run are not shown.
_SMALLEST_SHARE = 0.01


@dataclass(frozen=True)
class StageSeconds:
    """The wall-clock time of a stage, without that of the stages inside it.

    Attributes
    ----------
    name
        The stage.
    seconds
        Its seconds, in all parts of a resumed run.
    epochs, epoch_seconds
        The epochs that were trained in it, and their seconds; 0 for a stage without epochs.
    """

    name: str
    seconds: float
    epochs: int = 0
    epoch_seconds: float = 0.0

    @property
    def label(self) -> str:
        """The name for readers; a section's is its key in ``metrics.json``."""
        return self.name.replace("_", "-")

    @property
    def seconds_per_epoch(self) -> float | None:
        """The mean seconds of an epoch; None for a stage without epochs."""
        return self.epoch_seconds / self.epochs if self.epochs else None


def read_stages(log: Path) -> list[StageSeconds]:
    """The stages of a run, the longest first and ``other`` last; none if its log has no records.

    Raises
    ------
    InputError
        If the log is damaged. A last line that was not finished is left out.
    """
    if not log.exists():
        return []
    try:
        lines = log.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
        records = [parse_json(line) for line in lines]
    except (OSError, ValueError) as error:
        raise InputError(
            f"{log}: not readable ({one_line(error)}), expected the log of a run"
        ) from error
    found: dict[str, StageSeconds] = {}
    for number, value in enumerate(records, start=1):
        record = Field(log, f"line {number}", value)
        if record["event"].value == STAGE_EVENT:
            stage = _stage_of(record)
            found[stage.name] = _add(found.get(stage.name, StageSeconds(stage.name, 0.0)), stage)
    return sorted(found.values(), key=lambda stage: (stage.name == OTHER, -stage.seconds))


def fold_stages(stages: Sequence[StageSeconds]) -> list[StageSeconds]:
    """The stages with at least a hundredth of all seconds; ``other`` has those of the rest."""
    total = sum(stage.seconds for stage in stages)
    kept = [s for s in stages if s.name != OTHER and s.seconds >= _SMALLEST_SHARE * total]
    return [*kept, StageSeconds(OTHER, total - sum(stage.seconds for stage in kept))]


def seconds_line(stages: Sequence[StageSeconds]) -> str:
    """The stages that `fold_stages` leaves, and the seconds of all, in one line."""
    parts = [f"{stage.label} {stage.seconds:.1f}" for stage in fold_stages(stages)]
    return f"seconds: {', '.join(parts)}; {sum(stage.seconds for stage in stages):.1f} in all"


def _stage_of(record: Field) -> StageSeconds:
    name, seconds = record["stage"].text(), record["seconds"].number()
    if record["epochs"].value is None:
        return StageSeconds(name, seconds)
    epochs, epoch_seconds = record["epochs"].number(), record["epoch_seconds"].number()
    return StageSeconds(name, seconds, int(epochs), epoch_seconds)


def _add(a: StageSeconds, b: StageSeconds) -> StageSeconds:
    """The sum of two records of one stage."""
    return StageSeconds(
        a.name, a.seconds + b.seconds, a.epochs + b.epochs, a.epoch_seconds + b.epoch_seconds
    )
