"""Read descriptions of classes: attributes or texts, from a file or a folder."""

from dataclasses import dataclass
from pathlib import Path

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError
from gsmflow.core.files import path_text
from gsmflow.data.class_names import class_key
from gsmflow.data.class_table import EXPECTED, read_class_table, read_text

__all__ = ["Descriptions", "read_descriptions"]


@dataclass(frozen=True, eq=False)
class Descriptions:
    """Attributes or texts of classes.

    Attributes
    ----------
    source
        The file or folder.
    names
        The classes in the order of the file; ascending for a folder.
    attributes
        Attributes ``(classes, a)``; None if the classes have texts.
    texts
        One text for each class; empty if the classes have attributes.
    notes
        What is worth a warning, one sentence each.
    """

    source: Path
    names: tuple[str, ...]
    attributes: FloatArray | None = None
    texts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_descriptions(source: Path) -> Descriptions:
    """Read attributes or texts; the content decides which.

    Parameters
    ----------
    source
        A folder with a ``.txt`` file for each class, named as the class; or a text file with a
        line for each class, as `read_class_table` reads it: its name and its attributes, its name
        and a text, or its attributes alone with the names in ``classes.txt`` beside it.

    Raises
    ------
    InputError
        If it is unreadable, a class has no name or occurs twice, a cell is no finite number, lines
        differ in length, or a text is empty.
    """
    described = _read_folder(source) if source.is_dir() else _read_table(source)
    first: dict[str, str] = {}
    for name in described.names:
        if not class_key(name):
            raise InputError(f"{source}: found a class without a name, expected {EXPECTED}")
        if class_key(name) in first:
            raise InputError(
                f"{source}: found the class {name} twice (first as {first[class_key(name)]}), "
                "expected it once; names that differ only in case, spaces or underscores are the "
                "same"
            )
        first[class_key(name)] = name
    return described


def _read_table(file: Path) -> Descriptions:
    table = read_class_table(file)
    if not table.names:
        raise InputError(
            f"{file}: found numbers alone, and no classes.txt with the names of the classes beside "
            f"it, expected that, or {EXPECTED}"
        )
    return Descriptions(file, table.names, table.values, table.texts, table.notes)


def _read_folder(folder: Path) -> Descriptions:
    files = sorted(
        path for path in folder.iterdir() if path.suffix == ".txt" and not path.name.startswith(".")
    )
    if not files:
        raise InputError(f"{folder}: found no .txt file, expected one for each class")
    texts = []
    for file in files:
        text = " ".join(read_text(file).split())
        if not text:
            raise InputError(f"{path_text(file)}: found no text, expected a class's description")
        texts.append(text)
    return Descriptions(folder, tuple(file.stem for file in files), texts=tuple(texts))
