"""Read descriptions of classes: attributes or texts, from a file or a folder."""

import re
from dataclasses import dataclass
from pathlib import Path

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError
from gsmflow.core.files import path_text
from gsmflow.core.text_cells import Header
from gsmflow.data.class_names import class_key
from gsmflow.data.class_table import EXPECTED, read_class_table, read_text

__all__ = ["Descriptions", "check_names", "read_descriptions"]


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
        The texts of each class: one or several, none where its name alone describes it. Empty if
        the classes have attributes.
    notes
        What is worth a warning, one sentence each.
    """

    source: Path
    names: tuple[str, ...]
    attributes: FloatArray | None = None
    texts: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()


def read_descriptions(
    source: Path, header: Header = "auto", *, names_alone: bool = False
) -> Descriptions:
    """Read attributes or texts; the content decides which.

    Parameters
    ----------
    source
        A folder with a ``.txt`` file for each class, named as the class, whose paragraphs are
        texts; or a text file with a line for each class, as `read_class_table` reads it: its name
        and its attributes, its name and a text, or its attributes alone with the names in
        ``classes.txt`` beside it.
    header
        Whether the first line of a table is a header; ``"auto"`` as of `has_header`.
    names_alone
        Whether a file of names, one on each line, is a description too.

    Raises
    ------
    InputError
        As of `read_class_table` and `check_names`, or if a file of a folder has no text.
    """
    if source.is_dir():
        described = _read_folder(source)
    else:
        described = _read_table(source, header, names_alone=names_alone)
    check_names(described)
    return described


def check_names(described: Descriptions) -> None:
    """Raise `InputError` for a class without a name, or one that occurs twice."""
    source, first = described.source, dict[str, str]()
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


def _read_table(file: Path, header: Header, *, names_alone: bool) -> Descriptions:
    table = read_class_table(file, header, names_alone=names_alone)
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
        paragraphs = [" ".join(p.split()) for p in re.split(r"\n\s*\n", read_text(file))]
        if not any(paragraphs):
            raise InputError(f"{path_text(file)}: found no text, expected a class's description")
        texts.append(tuple(text for text in paragraphs if text))
    return Descriptions(folder, tuple(file.stem for file in files), texts=tuple(texts))
