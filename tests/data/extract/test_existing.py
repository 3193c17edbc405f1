"""Pictures matched by the ends of their paths, against a plain search."""

from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsmflow.core.errors import InputError
from gsmflow.data.extract.existing import keep_nothing, match_pictures, read_existing

NAMES = st.sampled_from(["a", "b", "\u00e9", "c d", "1.jpg"])
ENDS = st.lists(st.tuples(NAMES, NAMES), unique=True, max_size=12)


@given(ENDS, ENDS, st.data())
def test_pictures_are_those_whose_last_two_components_are_equal(
    wanted: list[tuple[str, str]], found: list[tuple[str, str]], data: st.DataObject
) -> None:
    front = st.sampled_from(["/x/y/", "C:\\data\\", "", "a/"])
    listed = [data.draw(front) + "/".join(end) for end in wanted]
    there = [data.draw(front) + "/".join(end) for end in found]
    expected = [found.index(end) if end in found else -1 for end in wanted]
    np.testing.assert_array_equal(match_pictures(listed, "w", there, "f"), expected)


@given(st.permutations([f"{i}.jpg" for i in range(6)]))
def test_names_of_files_alone_are_matched_by_the_last_component(names: list[str]) -> None:
    there = [f"/in/jpg/{i}.jpg" for i in range(7)]
    found = match_pictures(names, "w", there, "f")
    assert [PurePosixPath(there[i]).name for i in found] == names


def test_forms_of_a_letter_and_signs_of_systems_are_the_same() -> None:
    found = match_pictures(["e\u0301t\u00e9\\1.jpg"], "w", ["/a/\u00e9te\u0301/1.jpg"], "f")
    assert found.tolist() == [0]


def test_pictures_that_end_alike_are_refused_only_where_they_matter() -> None:
    with pytest.raises(InputError, match="w: found 2 pictures that end in a/b, expected one"):
        match_pictures(["x/a/b", "y/a/b"], "w", [], "f")
    with pytest.raises(InputError, match="f: found 2 pictures that end in a/b, expected one"):
        match_pictures(["x/a/b"], "w", ["1/a/b", "c/d", "2/a/b"], "f")
    assert match_pictures(["x/c/d"], "w", ["1/a/b", "c/d", "2/a/b"], "f").tolist() == [1]


def test_folder_without_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--like: found no dataset in"):
        read_existing(tmp_path, "--like", keep_nothing)
    with pytest.raises(InputError, match="--like: found no dataset in"):
        read_existing(tmp_path / "nowhere", "--like", keep_nothing)
