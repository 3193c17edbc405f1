import re
from pathlib import Path

import pytest

from gsmflow.core.errors import InputError
from gsmflow.data.download.sources import SOURCES, find_sources
from gsmflow.data.formats.files import dataset_files


def asked(*names: str) -> dict[str, tuple[str, ...]]:
    return {one.source.name: one.datasets for one in find_sources(names)}


def test_an_archive_is_all_of_its_datasets() -> None:
    assert asked("xlsa17") == {"xlsa17": ("AWA1", "AWA2", "APY", "CUB", "SUN")}


def test_a_dataset_is_its_part_of_each_archive_that_has_one() -> None:
    assert asked("CUB", "FLO") == {
        "xlsa17": ("CUB",),
        "cvpr18xian": ("FLO",),
        "cub-sentences": ("CUB",),
    }
    assert asked("awa2", "sun", "AWA2") == {"xlsa17": ("AWA2", "SUN")}


def test_what_is_asked_for_twice_is_had_once() -> None:
    assert asked("xlsa17", "CUB", "cub-sentences")["xlsa17"] == SOURCES[0].datasets


@pytest.mark.parametrize("names", [(), ("CIFAR",), ("CUB", "")])
def test_an_unknown_name_is_refused_with_those_that_are_known(names: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"^NAME: found .*, expected one or more of xlsa17, .*FLO"):
        find_sources(names)


def test_the_table_is_complete() -> None:
    for source in SOURCES:
        assert re.fullmatch(r"https?://\S+\.zip", source.url)
        assert re.fullmatch(r"https://\S+", source.page)
    names = [source.name for source in SOURCES]
    datasets = {name for source in SOURCES for name in source.datasets}
    assert len(set(names)) == len(names)
    assert not {name.lower() for name in datasets} & set(names)


@pytest.mark.parametrize("name", sorted({name for s in SOURCES for name in s.datasets}))
def test_what_a_dataset_has_in_the_table_is_a_layout_that_is_read(
    name: str, tmp_path: Path
) -> None:
    for one in find_sources([name]):
        for place in one.files:
            (tmp_path.joinpath(*place)).parent.mkdir(exist_ok=True)
            (tmp_path.joinpath(*place)).touch()
    feature_file, split_file = dataset_files(tmp_path, name, features="res101", semantics="att")
    assert (feature_file.name, split_file.name) == ("res101.mat", "att_splits.mat")


def test_the_page_on_data_has_the_table() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "data.md").read_text()
    for source in SOURCES:
        assert f"| `{source.name}` | {', '.join(source.datasets)} |" in page
        assert f"]({source.page})" in page
