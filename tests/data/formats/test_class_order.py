from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gsmflow.core.errors import InputError
from gsmflow.data.dataset import Dataset
from gsmflow.data.examine import examine
from gsmflow.data.formats.class_order import check_folders, check_order, rows_to_look_at
from gsmflow.data.formats.files import load_dataset
from tests.builders import gbu_fields, make_dataset, write_gbu, write_mat

ANIMALS = ("ant", "bee", "cow", "dog", "elk", "fox", "gnu", "hen", "ibex", "jay")
MOVED = ("ant", "bee", "dog", "cow", *ANIMALS[4:])


@pytest.fixture(params=[False, True], ids=["v5", "v7.3"])
def v73(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "TINY"


def cells(texts: Any) -> NDArray[Any]:
    return np.array([[text] for text in texts], dtype=object)


def write(folder: Path, v73: bool, pattern: str = "", **changes: Any) -> None:
    """The dataset of animals; with a pattern, its feature file lists a picture of each row."""
    names = {"allclasses_names": cells(ANIMALS), **changes}
    write_gbu(folder, make_dataset(), v73=v73, **names)
    if pattern:
        fields, _ = gbu_fields(make_dataset())
        files = [pattern.format(ANIMALS[c], row) for row, c in enumerate(make_dataset().labels)]
        write_mat(folder / "res101.mat", {**fields, "image_files": cells(files)}, v73=v73)


def load(folder: Path) -> Dataset:
    return load_dataset(folder.parent, folder.name, features="res101", semantics="att")


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load(folder)
    sentences = [
        f.sentence for f in examine(folder, "res101", "att").findings if f.level == "error"
    ]
    assert sentences == [str(caught.value)]
    return sentences[0]


def test_another_split_file_in_another_order_is_refused(folder: Path, v73: bool) -> None:
    write(folder, v73)
    _, splits = gbu_fields(make_dataset())
    other = folder / "sent_splits.mat"
    write_mat(other, {**splits, "allclasses_names": cells(map(str.upper, ANIMALS))}, v73=v73)
    assert load(folder).class_names == ANIMALS
    write_mat(other, {**splits, "allclasses_names": cells(MOVED)}, v73=v73)
    found = "found 'dog' as class 3, expected 'cow' as in "
    assert refusal(folder).startswith(f"{other}, field 'allclasses_names': {found}{folder}")


@pytest.mark.parametrize("content", [b"damaged", None])
def test_other_split_files_that_name_no_such_classes_are_not_compared(
    folder: Path, v73: bool, content: bytes | None
) -> None:
    write(folder, v73)
    other = folder / "sent_splits.mat"
    if content is None:
        write_mat(other, {"allclasses_names": cells(["x", *ANIMALS[1:]])}, v73=v73)
    else:
        other.write_bytes(content)
    assert load(folder).class_names == ANIMALS


def test_file_of_names_in_another_order_is_refused(folder: Path, v73: bool) -> None:
    write(folder, v73)
    (folder / "class_names.txt").write_text("\n".join(MOVED))
    assert refusal(folder).startswith(f"{folder / 'class_names.txt'}: found 'dog' as class 3")


PATHS = ("/x/JPEGImages/{}/{}.jpg", "C:\\images\\001.{}\\{}.jpg", "{}/{}.jpg")


@pytest.mark.parametrize("pattern", PATHS)
def test_names_in_another_order_than_the_folders_are_refused(
    folder: Path, v73: bool, pattern: str
) -> None:
    write(folder, v73, pattern)
    assert load(folder).class_names == ANIMALS
    write(folder, v73, pattern, allclasses_names=cells(MOVED))
    assert "'image_files': found pictures of class 3 in the folder '" in refusal(folder)
    assert "cow', expected 'dog', its name in " in refusal(folder)


@pytest.mark.parametrize("pattern", ["jpg/image_{1}.jpg", "{1}.jpg", "test/{0}{1}.jpg"])
def test_folders_that_name_no_classes_are_not_compared(
    folder: Path, v73: bool, pattern: str
) -> None:
    write(folder, v73, pattern, allclasses_names=cells(MOVED))
    assert load(folder).class_names == MOVED


def test_folders_of_nested_classes_are_joined() -> None:
    names = ("bar", "bar_outdoor", "outdoor", "zoo")
    folders = ("b/bar/1", "b/bar/outdoor/1", "o/outdoor/1", "z/zoo/1")
    check_folders(names, "names", dict(enumerate([[f] for f in folders])), "pictures")
    swapped = ("bar", "zoo", "outdoor", "bar_outdoor")
    with pytest.raises(InputError, match="class 2 in the folder 'outdoor', expected 'zoo'"):
        check_folders(swapped, "names", dict(enumerate([[f] for f in folders])), "pictures")


@given(st.permutations(range(6)))
def test_any_other_order_is_refused(order: list[int]) -> None:
    names = [f"name {'abcdef'[c]}" for c in range(6)]
    others = [names[c].upper() for c in order]
    files = {c: [f"/pictures/{others[c]}/{i}.jpg" for i in range(2)] for c in range(6)}
    checks: list[Callable[[], None]] = [
        lambda: check_order(names, "a", others, "b"),
        lambda: check_folders(names, "a", files, "b"),
    ]
    for check in checks:
        if order == sorted(order):
            check()
        else:
            first = next(c for c in range(6) if order[c] != c) + 1
            with pytest.raises(InputError, match=rf"class {first}\b"):
                check()


@given(st.lists(st.integers(0, 4), max_size=30))
def test_rows_to_look_at_are_of_their_classes(labels: list[int]) -> None:
    rows = rows_to_look_at(np.array(labels, dtype=np.int64))
    assert rows.keys() == set(labels)
    for c, own in rows.items():
        assert 1 <= len(own) <= 3
        assert all(labels[row] == c for row in own)


# --- semantics with a class per row --------------------------------------------------------------


def test_semantics_with_a_row_per_name_are_refused(folder: Path, v73: bool) -> None:
    write(folder, v73, att=make_dataset().semantics)
    assert refusal(folder).endswith("a class per row, not per column; transpose them")


@pytest.mark.parametrize("a", [5, 20])
def test_semantics_with_a_row_per_label_are_refused(folder: Path, v73: bool, a: int) -> None:
    att = np.random.default_rng(0).normal(size=(10, a))
    write(folder, v73, att=att, allclasses_names=None)
    found = f"found {a} columns and 10 rows for 10 classes, expected a column each"
    assert found in refusal(folder)


@pytest.mark.parametrize(
    ("shape", "names", "words"),
    [
        ((10, 10), ANIMALS, "found as many rows as columns (10)"),
        ((5, 10), None, "found more columns (10) than rows (5), and no names of classes"),
    ],
)
def test_semantics_of_either_orientation_are_noted(
    folder: Path, v73: bool, shape: tuple[int, int], names: tuple[str, ...] | None, words: str
) -> None:
    att = np.random.default_rng(0).normal(size=shape)
    write(folder, v73, att=att, allclasses_names=names and cells(names))
    (note,) = load(folder).notes
    assert words in note
    (finding,) = examine(folder, "res101", "att").findings
    assert (finding.level, finding.about, finding.sentence) == ("warning", "semantics", note)
