from pathlib import Path

import numpy as np
import pytest

from gsmflow.core.errors import InputError
from gsmflow.data.extract.descriptions import read_descriptions

ATTRIBUTES = {
    "commas": "name,stripes,size\nzebra,1,0.5\npolar bear,0,1e2\n",
    "no header": "zebra,1,0.5\npolar bear,0,1e2\n",
    "semicolons": "class;a;b\r\nzebra;1;0.5\r\npolar bear;0;100\r\n",
    "tabs": "zebra\t1\t0.5\n\npolar bear\t 0\t100\n",
    "quotes": '"zebra",1,0.5\n"polar bear","0","100"\n',
    "byte order mark": "\ufeffzebra,1,.5\npolar bear,0,100",
}


@pytest.mark.parametrize("text", ATTRIBUTES.values(), ids=ATTRIBUTES.keys())
def test_attributes_are_read_in_every_notation(tmp_path: Path, text: str) -> None:
    file = tmp_path / "classes.csv"
    file.write_text(text, encoding="utf-8", newline="")
    found = read_descriptions(file)
    assert found.names == ("zebra", "polar bear")
    assert found.texts == ()
    assert found.attributes is not None
    assert found.attributes.dtype == np.float32
    np.testing.assert_array_equal(found.attributes, np.float32([[1, 0.5], [0, 100]]))


def test_spaces_separate_cells_if_there_is_no_other_delimiter(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("zebra  1 0.5\npolar_bear -3\t4\n".replace("\t", " "))
    found = read_descriptions(file)
    assert found.names == ("zebra", "polar_bear")
    np.testing.assert_array_equal(found.attributes, np.float32([[1, 0.5], [-3, 4]]))


TEXTS = {
    "header": 'name,text\nzebra,"A horse, with\nstripes."\ného,é 🦓\n',
    "description": 'class;Description\nzebra;"A horse, with stripes."\ného;é 🦓\n',
    "none": "zebra\tA horse, with stripes.\ného\té 🦓\n",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_texts_are_read_in_every_notation(tmp_path: Path, text: str) -> None:
    file = tmp_path / "classes.csv"
    file.write_text(text, encoding="utf-8")
    found = read_descriptions(file)
    assert found.attributes is None
    assert found.names == ("zebra", "ého")
    assert found.texts == (("A horse, with stripes.",), ("é 🦓",))


def test_folder_of_texts_is_read(tmp_path: Path) -> None:
    (tmp_path / "zebra.txt").write_text("A horse\nwith stripes. \n")
    (tmp_path / "Dr. Bear.txt").write_text("1\n", encoding="utf-8-sig")
    (tmp_path / ".hidden.txt").write_text("")
    (tmp_path / "notes.md").write_text("")
    found = read_descriptions(tmp_path)
    assert found.names == ("Dr. Bear", "zebra")
    assert found.texts == (("1",), ("A horse with stripes.",))


def test_several_texts_of_a_class_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('name,text\nzebra,Striped.\nbear,"Big, brown."\nzebra,"1, 2 or 3 m"\nbear,7\n')
    expected = (("Striped.", "1, 2 or 3 m"), ("Big, brown.", "7"))
    found = read_descriptions(file)
    assert (found.names, found.texts) == (("zebra", "bear"), expected)
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "zebra.txt").write_bytes(b"Striped.\r\n \r\n1, 2\nor 3 m\n")
    (folder / "bear.txt").write_text("\n\nBig, brown.\n\n\n7")
    found = read_descriptions(folder)
    assert dict(zip(found.names, found.texts, strict=True)) == dict(
        zip(("zebra", "bear"), expected, strict=True)
    )


def test_names_are_descriptions_only_where_they_may_be(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("name\npolar bear\nzebra\n")
    found = read_descriptions(file, names_alone=True)
    assert (found.names, found.texts) == (("polar bear", "zebra"), ((), ()))
    with pytest.raises(InputError, match="found name and nothing more"):
        read_descriptions(file)
    file.write_text("bear 1 0\nzebra 0 1\n")
    assert read_descriptions(file, names_alone=True).attributes is not None


def test_long_text_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,text\nzebra," + "stripes " * 50_000 + "\n")
    assert len(read_descriptions(tmp_path / "a.csv").texts[0][0]) == 399_999


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ": found no line, expected a line for each class"),
        ("zebra,1,2\nbear,1\n", ", line 2: found 2 cells, expected 3 as in line 1"),
        ("name,x,y\nzebra,1,2\nbear,1,yes\n", ", line 3, column 3: found 'yes' for bear, expected"),
        ("zebra;1;2\nbear;0,5;2\n", ", line 2, column 2: found '0,5' for bear"),
        ("zebra,1,nan\nbear,1,2\n", ", line 1, column 3: found 'nan' for zebra"),
        ("zebra,1,1e39\nbear,1,2\n", ", line 1, column 3: found '1e39' for zebra"),
        ("zebra,1,\nbear,1,2\n", ", line 1, column 3: found '' for zebra"),
        ("zebra,1\nZebra,2\n", ": found the class Zebra twice (first as zebra)"),
        ("zebra,1\nzebra,2\n", ": found the class zebra twice (first as zebra)"),
        ("z,1\nz,2\n", ": found the class z twice (first as z)"),
        ("1.5,1\n2,2\n", ": found numbers alone, and no classes.txt"),
        (",1\nbear,2\n", ": found a class without a name"),
        ("name,text\nzebra,a\nZebra,b\n", ": found the class Zebra twice (first as zebra)"),
        (
            "name,text\nbear,Big.\nox,A beast, brown.\n",
            ", line 3: found 3 cells, expected a name and a text: quote the text, as it has a",
        ),
        ("bear;Big.\nox;No; 1\nzebra;Odd.\n", ", line 2: found 3 cells, expected a name and a"),
        ("ox,Tall, brown\nbear,A beast, big\n", ", line 1: found 3 cells, expected a name"),
        ("zebra\nbear\n", ", line 1: found zebra and nothing more"),
        ("name,text\nzebra,\nbear,x\n", ", line 2: found no text for zebra"),
        ('zebra,"a\nbear,b', ": not readable as CSV"),
        (b"z\xe9bre,1\n", ": found bytes that are not UTF-8 (the first at 1)"),
    ],
)
def test_bad_table_is_refused_with_its_place(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        read_descriptions(file)
    assert str(caught.value).startswith(f"{file}{message}")
    assert "\n" not in str(caught.value)


def test_bad_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found no \.txt file"):
        read_descriptions(tmp_path)
    (tmp_path / "zebra.txt").write_text(" \n")
    with pytest.raises(InputError, match=r"zebra\.txt: found no text"):
        read_descriptions(tmp_path)
    with pytest.raises(InputError, match="nowhere: not readable"):
        read_descriptions(tmp_path / "nowhere")


def test_official_matrix_takes_its_names_from_the_list_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "predicate-matrix-continuous.txt"
    file.write_text(" -1.00  12.34   0.00\n  0.00  55.10  -1.00\n")
    (tmp_path / "classes.txt").write_text("       1\tantelope\n       2\tgrizzly+bear\n")
    found = read_descriptions(file)
    assert found.names == ("antelope", "grizzly+bear")
    np.testing.assert_array_equal(found.attributes, np.float32([[-1, 12.34, 0], [0, 55.1, -1]]))
    (note,) = found.notes
    assert note.startswith(f"{file}: found -1 in 2 of 6 cells")


def test_different_whole_numbers_are_names_where_there_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("10,0.5\n11,0.25\n")
    found = read_descriptions(tmp_path / "a.csv")
    assert found.names == ("10", "11")
    np.testing.assert_array_equal(found.attributes, np.float32([[0.5], [0.25]]))
