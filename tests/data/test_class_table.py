"""Text tables of classes: which column has names, which line is a header, and malformed text."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gsmflow.core.errors import InputError
from gsmflow.core.text_cells import Header
from gsmflow.data.class_table import ClassTable, read_class_table, read_names, read_vector


def test_names_are_read_one_on_each_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("zebra\r\n\n polar bear \n")
    assert read_names(tmp_path / "a.txt") == ("zebra", "polar bear")
    (tmp_path / "b.txt").write_text("\n")
    with pytest.raises(InputError, match=r"b\.txt: found no name"):
        read_names(tmp_path / "b.txt")


def test_matrix_of_numbers_alone_has_no_names(tmp_path: Path) -> None:
    file = tmp_path / "m.txt"
    file.write_text("0.5 1\n0.5 2\n")
    table = read_class_table(file)
    assert table.names == ()
    np.testing.assert_array_equal(table.values, np.float32([[0.5, 1], [0.5, 2]]))
    (tmp_path / "classes.txt").write_text("1 a\n2 b\n3 c\n")
    with pytest.raises(InputError, match="found 3 names, expected 2, one for each row of"):
        read_class_table(file)


@pytest.mark.parametrize("title", ["", "name", "Class"])
def test_titles_that_count_the_columns_are_a_header(tmp_path: Path, title: str) -> None:
    (tmp_path / "a.csv").write_text(f"{title},0,1\nzebra,3,4\nbear,5,6\n")
    table = read_class_table(tmp_path / "a.csv")
    assert table.names == ("zebra", "bear")
    np.testing.assert_array_equal(table.values, [[3, 4], [5, 6]])


@pytest.mark.parametrize(
    ("line", "noted"), [("-1 20", True), ("-1 0.5", False), ("-2 20", False), ("0 20", False)]
)
def test_missing_values_of_awa_are_noted(tmp_path: Path, line: str, noted: bool) -> None:
    (tmp_path / "m.txt").write_text(f"a {line}\nb 1 0\n")
    assert bool(read_class_table(tmp_path / "m.txt").notes) == noted


def test_first_of_many_texts_is_a_row_beside_a_text_that_is_a_number(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("ox,Big\nbear,7\ncat,Small\ndog,Soft\n")
    table = read_class_table(file)
    assert dict(zip(table.names, table.texts, strict=True)) == {
        "ox": ("Big",),
        "bear": ("7",),
        "cat": ("Small",),
        "dog": ("Soft",),
    }


@pytest.mark.parametrize("content", ["name text\nox A beast\n", "title text\nox\n"])
def test_texts_without_a_delimiter_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(InputError, match=r"line 2: found (no text for ox|3 cells.* by a comma)"):
        read_class_table(tmp_path / "a.txt")


@pytest.mark.parametrize("cells", ["NA,1", "n/a,None", "-,?"])
def test_missing_numbers_are_no_texts(tmp_path: Path, cells: str) -> None:
    (tmp_path / "a.csv").write_text(f"name,a,b\nox,{cells}\nbear,{cells}\n")
    with pytest.raises(InputError, match=r"expected a (finite number|header or a row)"):
        read_class_table(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("header", "first", "names"),
    [
        ("auto", "Name", ("polar bear", "ox")),
        ("auto", "zebra", ("zebra", "polar bear", "ox")),
        ("no", "name", ("name", "polar bear", "ox")),
        ("yes", "zebra", ("polar bear", "ox")),
    ],
)
def test_header_above_names_alone(
    tmp_path: Path, header: Header, first: str, names: tuple[str, ...]
) -> None:
    (tmp_path / "a.txt").write_text(f"{first}\npolar  bear\n\nox\n")
    table = read_class_table(tmp_path / "a.txt", header, names_alone=True)
    assert (table.names, table.texts, table.values) == (names, ((),) * len(names), None)


@pytest.mark.parametrize(
    "content", ["1,2.5,3\n", "1\n2.5\n3", "1 2.5 3", "a;b;c\n1;2.5;3\n", "v\n1\n2.5\n3"]
)
def test_vector_is_a_line_or_a_column(tmp_path: Path, content: str) -> None:
    file = tmp_path / "a.csv"
    file.write_text(content)
    header: Header = "auto" if content[0] == "1" else "yes"
    np.testing.assert_array_equal(read_vector(file, header), np.float32([1, 2.5, 3]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "found no line, expected the attributes of one class"),
        ("1,2\n3,4\n", "found 2 lines, expected the attributes of one class on one line"),
        ("1\n2\nx\n", "line 3, column 1: found 'x', expected a finite number"),
        ("1,nan\n", "line 1, column 2: found 'nan', expected a finite number"),
    ],
)
def test_bad_vector_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_vector(tmp_path / "a.csv")


def table_or_sentence(file: Path, names_alone: bool) -> ClassTable | str:
    try:
        return read_class_table(file, names_alone=names_alone)
    except InputError as error:
        return str(error)


CELLS = st.one_of(
    st.floats().map(repr),
    st.integers().map(str),
    st.text(max_size=4),
    st.sampled_from(["", "zebra", '"', "nan", "1e999", "\x00", "\u2028"]),
)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
TABLES = st.tuples(st.sampled_from([",", ";", "\t", " "]), st.lists(st.lists(CELLS, max_size=4)))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    content=st.one_of(
        st.binary(max_size=60),
        TABLES.map(lambda t: "\n".join(t[0].join(cells) for cells in t[1]).encode()),
    ),
    listed=st.one_of(st.none(), st.binary(max_size=20), st.just(b"1 a\n2 b\n")),
    names_alone=st.booleans(),
)
@example(content=b"1 2\n", listed=b"1" * 5000 + b" a", names_alone=False)
@example(content=b"1" * 5000 + b",2\n3,4", listed=None, names_alone=False)
@example(content=b'"a\nb",1\n"a\nb"', listed=None, names_alone=False)
@example(content=b"\xef\xbb\xbf,\n", listed=None, names_alone=False)
def test_any_text_is_a_table_or_one_sentence(
    tmp_path: Path, content: bytes, listed: bytes | None, names_alone: bool
) -> None:
    file, names = tmp_path / "table.csv", tmp_path / "classes.txt"
    file.write_bytes(content)
    names.unlink(missing_ok=True)
    if listed is not None:
        names.write_bytes(listed)
    read = table_or_sentence(file, names_alone)
    if isinstance(read, str):
        assert "expected" in read
        assert len(read.splitlines()) == 1
        return
    table = read
    if table.values is None:
        assert len(table.texts) == len(table.names)
    else:
        assert np.isfinite(table.values).all()
        assert len(table.names) in (0, len(table.values))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=5))
def test_numbers_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[float, float]]
) -> None:
    file = tmp_path_factory.mktemp("table") / "a.csv"
    file.write_text("".join(f"class{c},{x!r},{y!r}\n" for c, (x, y) in enumerate(values)))
    table = read_class_table(file)
    np.testing.assert_array_equal(table.values, np.float32(values))
