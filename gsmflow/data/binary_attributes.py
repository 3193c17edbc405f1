"""Binary attributes of classes from a MATLAB file: which attribute each class has.

The file has ``attr (classes, a)``, of 0 and 1, with the classes in the order of the dataset. If it
has ``allclasses_names`` too, they are compared with the dataset's.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError
from gsmflow.data.formats.base import check_class_names
from gsmflow.data.formats.gbu import NAMES_FIELD, class_names_in
from gsmflow.data.formats.matlab import MatFile

__all__ = ["read_binary_attributes"]

_FIELD = "attr"


def read_binary_attributes(file: Path, class_names: Sequence[str]) -> FloatArray:
    """Whether each class has each attribute, 0 or 1, ``(classes, a)``.

    Parameters
    ----------
    file
        The file.
    class_names
        The names of the dataset's classes, in its order.

    Raises
    ------
    InputError
        If the file is missing or unreadable, is of other classes, or has other values.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file, expected the binary attributes of the classes")
    mat = MatFile(file, (_FIELD, NAMES_FIELD))
    where, values = mat.where(_FIELD), mat.matrix(_FIELD)
    if len(values) != len(class_names) or not values.shape[1]:
        raise InputError(
            f"{where}: found shape {values.shape}, expected a row for each of the "
            f"{len(class_names)} classes and a column for each attribute"
        )
    names = class_names_in(mat)
    if names is not None:
        check_class_names(mat.where(NAMES_FIELD), names, class_names, "the dataset")
    wrong = np.argwhere(~np.isin(values, (0, 1)))
    if len(wrong):
        row, column = map(int, wrong[0])
        found = values[row, column]
        missing = ", which in tables of attributes is a missing value," if found == -1 else ""
        raise InputError(
            f"{where}: found {found:g}{missing} in row {row + 1} and column {column + 1}, expected "
            "0 (the class does not have the attribute) or 1 (it has)"
        )
    return values
