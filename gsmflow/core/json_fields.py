"""Values of a run's JSON files that can name their place when they are not what was expected."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsmflow.core.errors import InputError
from gsmflow.core.tables import MeanStd

__all__ = ["Field"]


@dataclass(frozen=True)
class Field:
    """A value in a JSON file; None where it is absent.

    Attributes
    ----------
    file
        Where it was read.
    name
        Its place in the file, such as ``baselines.ESZSL.U``; empty for the file as a whole.
    value
        As read.

    Raises
    ------
    InputError
        By every method: if the value is not what the method is for.
    """

    file: Path
    name: str
    value: Any

    def __getitem__(self, name: str) -> "Field":
        """A value inside an object."""
        place = f"{self.name}.{name}" if self.name else name
        return Field(self.file, place, self.object().get(name))

    def object(self) -> dict[str, Any]:
        """An object."""
        if not isinstance(self.value, dict):
            raise self.refused("an object")
        return self.value

    def items(self) -> "list[Field]":
        """The values in a list."""
        if not isinstance(self.value, list):
            raise self.refused("a list")
        return [Field(self.file, f"{self.name}[{i}]", value) for i, value in enumerate(self.value)]

    def text(self) -> str:
        """A text that is not empty, in one line."""
        if not isinstance(self.value, str) or not self.value.strip():
            raise self.refused("a text")
        return " ".join(self.value.split())

    def number(self) -> float:
        """A finite number."""
        if not self._is_number() or not abs(self.value) < float("inf"):
            raise self.refused("a finite number")
        return float(self.value)

    def percent(self) -> float:
        """A fraction of 1, in percent."""
        if not self._is_number() or not 0 <= self.value <= 1 + 1e-9:  # an area may round up
            raise self.refused("a fraction from 0 to 1")
        return 100 * float(self.value)

    def mean_std(self) -> MeanStd:
        """A single run's fraction, or the mean and standard deviation over seeds, in percent."""
        if not isinstance(self.value, dict):
            return MeanStd(self.percent())
        std = self["std"]
        return MeanStd(self["mean"].percent(), None if std.value is None else std.percent())

    def records(self) -> list[dict[str, float]]:
        """A list of objects of finite numbers, each with an ``epoch``."""
        told = self.items()
        for own in told:
            own["epoch"].number()
        return [{name: own[name].number() for name in own.object()} for own in told]

    def _is_number(self) -> bool:
        return isinstance(self.value, (int, float)) and not isinstance(self.value, bool)

    def refused(self, expected: str) -> InputError:
        """The error of a value that is not what was expected."""
        plain = isinstance(self.value, (str, int, float))
        kind = "nothing" if self.value is None else type(self.value).__name__
        place = f"{self.file}, field '{self.name}'" if self.name else f"{self.file}"
        return InputError(
            f"{place}: found {repr(self.value) if plain else kind}, expected {expected}"
        )
