"""Pictures and descriptions are matched by the names of classes."""

from pathlib import Path

import numpy as np
import pytest

from gsmflow.core.errors import InputError
from gsmflow.data.extract.descriptions import read_descriptions
from gsmflow.data.extract.plan import plan_pictures


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """Folders of pictures, and the attributes of their classes in CUB's layout."""
    for name in ("001.Black_footed_Albatross", "003.auk"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "1.jpg").touch()
    (tmp_path / "attributes").mkdir()
    (tmp_path / "attributes" / "continuous.txt").write_text("1.5 0.0\n0.0 2.5\n3.5 1.0\n")
    (tmp_path / "classes.txt").write_text(
        "1 001.Black_footed_Albatross\n2 002.Crested Auklet\n3 003.Auk\n"
    )
    return tmp_path


def test_official_attributes_are_matched_with_the_folders(official: Path) -> None:
    unseen = official / "unseen.txt"
    unseen.write_text("2 002.crested_auklet\n003.Auk\n")
    described = read_descriptions(official / "attributes" / "continuous.txt")
    plan = plan_pictures(official / "images", described, unseen)
    names = ("001.Black_footed_Albatross", "002.Crested Auklet", "003.Auk")
    assert plan.described.names == names
    np.testing.assert_array_equal(plan.described.attributes, [[1.5, 0], [0, 2.5], [3.5, 1]])
    assert plan.labels.tolist() == [0, 2]
    assert plan.unseen == (frozenset({1, 2}), unseen)


def test_folder_and_unseen_class_without_a_line_are_refused(official: Path) -> None:
    described = read_descriptions(official / "attributes" / "continuous.txt")
    unseen = official / "unseen.txt"
    unseen.write_text("4 004.Gull\n")
    with pytest.raises(InputError, match=r"unseen\.txt: found 4 004\.Gull, expected the name"):
        plan_pictures(official / "images", described, unseen)
    (official / "images" / "004.Gull").mkdir()
    (official / "images" / "004.Gull" / "1.jpg").touch()
    with pytest.raises(InputError, match=r"found no description of 004\.Gull, expected one"):
        plan_pictures(official / "images", described, None)
