"""CSV files of rows: what the csv module writes is read back, with names and labels."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsmflow.core.errors import InputError
from gsmflow.data.csv_rows import csv_labels, csv_layout, csv_pieces
from tests.fuzz import examples

WORDS = st.text(st.sampled_from('ab ",ü'), min_size=1, max_size=6).map(str.strip).filter(bool)


@examples(100)
@given(
    features=st.lists(
        st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), min_size=1, max_size=5
    ),
    names=st.none() | st.lists(WORDS, min_size=5, max_size=5),
    labels=st.none() | st.lists(WORDS, min_size=5, max_size=5),
    header=st.booleans(),
)
def test_written_rows_are_read(
    features: list[list[float]],
    names: list[str] | None,
    labels: list[str] | None,
    header: bool,
    tmp_path: Path,
) -> None:
    header = header or labels is not None  # which the header alone tells of
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if header:
            heads = ["id"] * (names is not None) + ["label"] * (labels is not None)
            writer.writerow([*heads, "f0", "f1", "f2"])
        for i, row in enumerate(features):
            own = [texts[i] for texts in (names, labels) if texts is not None]
            writer.writerow([*own, *map(repr, row)])
    layout = csv_layout(tmp_path / "a.csv", 3)
    assert (layout.header, layout.named, layout.dimension) == (header, names is not None, 3)
    pieces = [*csv_pieces(layout, 3, "as here")]
    np.testing.assert_array_equal(np.concatenate([p.features for p in pieces]), features)
    if names is not None:
        assert [name for p in pieces for name in p.names or ()] == names[: len(features)]
    if labels is not None:
        assert csv_labels(layout).tolist() == labels[: len(features)]


@pytest.mark.parametrize(
    ("text", "named", "label", "dimension", "rows"),
    [
        (",0,1\n0,5,6\n1,7,8\n", True, None, 2, 2),  # a data frame's
        (",label,0,1\na,fox,5,6\n", True, 1, 2, 1),
        ("0,1,2,3\n5,6,7,8\n", False, None, 4, 1),
        ("a;b\n5;6\n", False, None, 2, 1),
        ("x\t5\t6\ny\t7\t8\n", True, None, 2, 2),
        ("f0,f1,class\n1,2,fox\n3,4,owl\n", False, 2, 2, 2),
        ("1,3\n3,4\n", False, None, 2, 2),
    ],
)
def test_layouts(
    text: str, named: bool, label: int | None, dimension: int, rows: int, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(text)
    layout = csv_layout(tmp_path / "a.csv", None)
    assert (layout.named, layout.label_column, layout.dimension) == (named, label, dimension)
    assert sum(len(p.features) for p in csv_pieces(layout, dimension, "as here")) == rows


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NA,,\n1,2,3\n", "line 1, column 1: found 'NA', expected a number"),
        ("name,a,b\n,1,2\n", "line 2: found no name in column 1"),
        ("name,a,b\nx,,\n", "line 2: found no numbers"),
        ('name,a,b\n"x,1,2\n', "line 2: not CSV"),
        ("name,a,b\nx,1\n", "line 2: found 1 cells of numbers, expected 2"),
        ("name,a,b\nx,1,y\n", "line 2, column 3: found 'y', expected a number"),
        ("a,b\n", "found no line below the header"),
        ("\n", "found no line, expected rows of d numbers"),
    ],
)
def test_faults_name_the_line(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)

    def read() -> None:
        layout = csv_layout(tmp_path / "a.csv", None)
        list(csv_pieces(layout, layout.dimension, "as in the first line"))

    with pytest.raises(InputError) as refused:
        read()
    assert expected in str(refused.value)
