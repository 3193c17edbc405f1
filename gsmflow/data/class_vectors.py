"""Vectors of classes in memory: a mapping from each class, or a frame with a row for each."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gsmflow.core.errors import InputError
from gsmflow.core.nearest import first_names
from gsmflow.core.text_cells import is_number

__all__ = ["ClassVectors", "Frame", "as_mapping", "check_kind_of_keys"]


@runtime_checkable
class Frame(Protocol):
    """A pandas ``DataFrame``, or what has the same index, columns and values."""

    @property
    def index(self) -> Any:
        """The classes of the rows."""

    @property
    def columns(self) -> Any:
        """Names of the dimensions."""

    def to_numpy(self) -> NDArray[Any]:
        """The values, ``(classes, a)``."""


ClassVectors: TypeAlias = Mapping[Any, ArrayLike] | Frame


def as_mapping(semantics: ClassVectors | None) -> Mapping[Any, ArrayLike] | None:
    """The vector of each class; what is neither a mapping nor a frame is given back as it is.

    Raises
    ------
    InputError
        If a frame has a class twice, or a column that is not of numbers.
    """
    if isinstance(semantics, Mapping) or not isinstance(semantics, Frame):
        return semantics
    classes = list(semantics.index)
    twice = [str(c) for c, count in Counter(classes).items() if count > 1]
    if twice:
        raise InputError(
            f"semantics: found {first_names(twice)} twice in the index of the frame, expected each "
            "class once"
        )
    values = np.asarray(semantics.to_numpy())
    for name, column in zip(semantics.columns, values.T, strict=True):
        if any(isinstance(value, str) for value in column):
            raise InputError(
                f"semantics: found texts in the column {name!r} of the frame, expected numbers "
                f"alone, and the classes as its index; set_index({name!r}) makes them that"
            )
    return dict(zip(classes, values, strict=True))


def check_kind_of_keys(keys: Sequence[Any], labels: NDArray[Any]) -> None:
    """Refuse keys that are the labels' numbers as texts, or numbers where labels are such texts.

    Parameters
    ----------
    keys
        The classes that have vectors.
    labels
        The classes that have rows, ``(k,)``, one at least.

    Raises
    ------
    InputError
        If each label has such a key.
    """
    is_text = isinstance(labels[0], str)
    numbers = {float(k): k for k in keys if isinstance(k, str) != is_text and is_number(str(k))}
    texts = [str(label) for label in labels]
    if not numbers or not all(is_number(text) and float(text) in numbers for text in texts):
        return
    kinds = ("numbers", "texts of numbers") if is_text else ("texts of numbers", "numbers")
    first = numbers[float(texts[0])]
    raise InputError(
        f"semantics: found {kinds[0]} as keys (such as {first!r}) for labels that are {kinds[1]} "
        f"(such as {labels[:1].tolist()[0]!r}), expected keys of the labels' type"
    )
