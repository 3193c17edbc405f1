"""Checked access to a run's JSON files: errors name the file and the field."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsmflow.core.errors import InputError
from gsmflow.core.tables import MeanStd

__all__ = ["Field"]


@dataclass(frozen=True)
class Field:
    """A value in a JSON file, or None if the field is absent.

    Attributes
    ----------
    file
        The file.
    name
        Path of the field in the file, such as ``baselines.ESZSL.U``; empty for the whole file.
    value
        The value as read.

    Raises
    ------
    InputError
        By every method, if the value is of another kind than the method returns.
    """

    file: Path
    name: str
    value: Any

    def __getitem__(self, name: str) -> "Field":
        """A field of an object."""
        path = f"{self.name}.{name}" if self.name else name
        return Field(self.file, path, self.object().get(name))

    def object(self) -> dict[str, Any]:
        """The value as an object."""
        if not isinstance(self.value, dict):
            raise self.refused("an object")
        return self.value

    def items(self) -> "list[Field]":
        """The entries of a list."""
        if not isinstance(self.value, list):
            raise self.refused("a list")
        return [Field(self.file, f"{self.name}[{i}]", value) for i, value in enumerate(self.value)]

    def text(self) -> str:
        """A non-empty text, in one line."""
        if not isinstance(self.value, str) or not self.value.strip():
            raise self.refused("a text")
        return " ".join(self.value.split())

    def number(self) -> float:
        """A finite number."""
        if not self._is_number() or not abs(self.value) < float("inf"):
            raise self.refused("a finite number")
        return float(self.value)

    def percent(self) -> float:
        """A fraction from 0 to 1, in percent."""
        if (
            not self._is_number() or not 0 <= self.value <= 1 + 1e-9
        ):  # rounding may lift an area above 1
            raise self.refused("a fraction from 0 to 1")
        return 100 * float(self.value)

    def mean_std(self) -> MeanStd:
        """A fraction of one run, or the mean over several runs with its spread, in percent.

        The ends of an interval may lie beyond 0 and 100.
        """
        if not isinstance(self.value, dict):
            return MeanStd(self.percent())
        std, interval = self["std"], None
        if self["interval"].value is not None:
            ends = self["interval"].items()
            if len(ends) != 2:
                raise self["interval"].refused("two numbers")
            interval = (100 * ends[0].number(), 100 * ends[1].number())
        return MeanStd(
            self["mean"].percent(), None if std.value is None else std.percent(), interval
        )

    def records(self) -> list[dict[str, float]]:
        """A list of objects of finite numbers, each with an ``epoch``."""
        records = self.items()
        for record in records:
            record["epoch"].number()
        return [{name: record[name].number() for name in record.object()} for record in records]

    def _is_number(self) -> bool:
        return isinstance(self.value, (int, float)) and not isinstance(self.value, bool)

    def refused(self, expected: str) -> InputError:
        """The error for a value that is not of the expected kind."""
        plain = isinstance(self.value, (str, int, float))
        kind = "nothing" if self.value is None else type(self.value).__name__
        where = f"{self.file}, field '{self.name}'" if self.name else f"{self.file}"
        return InputError(
            f"{where}: found {repr(self.value) if plain else kind}, expected {expected}"
        )
