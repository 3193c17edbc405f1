"""Headers of text tables: every reader of one takes a line for the same, and none drops a row."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from gsmflow.core.errors import InputError
from gsmflow.core.text_cells import has_header, is_missing
from gsmflow.data.extract.descriptions import read_descriptions
from gsmflow.data.formats.files import load_dataset
from gsmflow.data.formats.plain import FORMAT
from gsmflow.data.new_classes import read_new_classes
from gsmflow.data.new_rows import open_rows
from tests.builders import SPLITS, make_dataset
from tests.fuzz import mutations, read_or_refused


def rows_of(file: Path) -> np.ndarray:
    return np.concatenate([piece.features for piece in open_rows(file, 4).pieces()])


def semantics_of(file: Path) -> np.ndarray:
    folder = file.parent
    file.rename(folder / "semantics.csv")
    (folder / "features.csv").write_text("1,5\n")  # which makes a dataset of the folder
    return FORMAT.read_semantics(folder, "features", "semantics").values


def check_finite(semantics: np.ndarray) -> None:
    """The check of a dataset, which its reader leaves to others: NaN is a number to it."""
    bad = np.argwhere(~np.isfinite(semantics))
    assert len(semantics) == 3
    if len(bad):
        raise InputError(f"semantics: found NaN in row {bad[0, 0] + 1}, expected finite numbers")


# How each verb reads a table whose first cell may be a name, and one without names.
NAMED: dict[str, Callable[[Path], Any]] = {
    "add-class": lambda file: read_new_classes(file, None).attributes,
    "extract": lambda file: read_descriptions(file).attributes,
    "train": semantics_of,
}
PLAIN: dict[str, Callable[[Path], Any]] = {"predict": rows_of, "train": semantics_of}
NUMBERS = "1,2,0,4", "5,6,7,8"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "MINE").mkdir()
    return tmp_path / "MINE" / "rows.csv"


def write(file: Path, first: str, *, named: bool) -> None:
    names = ("", "zebra,", "horse,") if named else ("", "", "")
    lines = [name + line for name, line in zip(names, (first, *NUMBERS), strict=True)]
    file.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("cells", [",,,", "NA,NA,NA,NA", "nan,NaN,,null", "-,?,.,n/a"])
@pytest.mark.parametrize("verb", [*PLAIN, *(f"{verb} names" for verb in NAMED)])
def test_first_row_of_missing_cells_is_not_dropped(verb: str, cells: str, file: Path) -> None:
    named = verb.endswith("names")
    write(file, f"okapi,{cells}" if named else cells, named=named)
    with pytest.raises(InputError, match=r"(line 1|row 1|class okapi|semantics).*expected"):
        check_finite((NAMED if named else PLAIN)[verb.split()[0]](file))


@pytest.mark.parametrize("verb", [*PLAIN, *(f"{verb} names" for verb in NAMED)])
@pytest.mark.parametrize("header", ["a,b,c,d", "0,1,2,3", "1,2,3,4", None])
def test_header_is_recognised(verb: str, header: str | None, file: Path) -> None:
    named = verb.endswith("names")
    lines = [(f"{name}," if named else "") + row for name, row in zip("zh", NUMBERS, strict=True)]
    above = [] if header is None else [f"name,{header}" if named else header]
    file.write_text("\n".join([*above, *lines]) + "\n")
    found = (NAMED if named else PLAIN)[verb.split()[0]](file)
    np.testing.assert_array_equal(found, [[1, 2, 0, 4], [5, 6, 7, 8]])


@pytest.mark.parametrize("cells", ["a,,c,d", "NA,b,,d"])
@pytest.mark.parametrize("verb", ["predict", "add-class", "extract"])
def test_unclear_first_line_asks(verb: str, cells: str, file: Path) -> None:
    named = verb != "predict"
    write(file, f"name,{cells}" if named else cells, named=named)
    with pytest.raises(InputError, match=r"rows\.csv: found no number .* --header yes or"):
        (NAMED if named else PLAIN)[verb](file)


def test_answer_of_the_user_is_followed(file: Path) -> None:
    file.write_text("a,,c,d\n1,2,0,4\n")
    (piece,) = open_rows(file, 4, header="yes").pieces()
    np.testing.assert_array_equal(piece.features, [[1, 2, 0, 4]])
    file.write_text("name,a,,c,d\nzebra,1,2,0,4\n")
    assert read_new_classes(file, None, "yes").names == ("zebra",)
    assert read_descriptions(file, "yes").names == ("zebra",)
    file.write_text("0,1,2,3\n5,6,7,8\n")
    assert len(next(iter(open_rows(file, 4, header="no").pieces())).features) == 2


def test_few_counted_columns_are_asked_about() -> None:
    assert not has_header("f", ["0", "2"], "say which")
    with pytest.raises(InputError, match=r"found 0 to 2 in the first line, .*; say which"):
        has_header("f", ["0", "1", "2"], "say which")


def test_row_of_tabs_is_a_row(file: Path) -> None:
    file.write_text("1\t2\t3\t5\n\t\t\t\n1\t2\t3\t4\n")
    with pytest.raises(InputError, match="line 2, column 1: found '', expected a number"):
        rows_of(file)


def test_class_without_a_name_is_refused(file: Path) -> None:
    file.write_text("zebra,1,2\n,3,4\n")
    with pytest.raises(InputError, match="line 2: found no name"):
        semantics_of(file)


def test_first_label_that_is_missing_is_no_header(tmp_path: Path) -> None:
    folder, dataset = tmp_path / "MINE", make_dataset()
    folder.mkdir()
    for field in ("features", "semantics", *SPLITS):
        np.save(folder / f"{field}.npy", getattr(dataset, field))
    (folder / "labels.csv").write_text("\n".join(["NA", *map(str, dataset.labels)]))
    with pytest.raises(InputError, match=r"labels\.csv: found"):
        load_dataset(tmp_path, "MINE", features="features", semantics="semantics")


def test_missing_cells() -> None:
    assert all(map(is_missing, ["", " ", "NaN", "na", "N/A", "#N/A", "None", "NULL", "?", "-"]))
    assert not any(map(is_missing, ["0", "inf", "a", "nanny", "--"]))


TABLES = (b"name,a,b,c,d\nzebra,1,2,0.5,4\nhorse,5,6,7,8\n", b"1,2,0.5,4\n5,6,7,8\n9,0,1,2\n")


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=mutations(TABLES[0]) | mutations(TABLES[1]))
def test_any_damage_of_csv_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp() / "FUZZED"
    folder.mkdir(exist_ok=True)
    file = folder / "semantics.csv"
    file.write_bytes(content)
    (folder / "features.csv").write_bytes(content)
    read_or_refused(lambda: rows_of(file))
    read_or_refused(lambda: read_new_classes(file, None))
    read_or_refused(lambda: read_new_classes(file, "new"))
    read_or_refused(lambda: read_descriptions(file))
    read_or_refused(lambda: FORMAT.read_semantics(folder, "features", "semantics"))
