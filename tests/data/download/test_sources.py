import re
from pathlib import Path

import pytest

from gsmflow.core.errors import InputError
from gsmflow.data.download.sources import SOURCES, find_sources
from gsmflow.data.formats.files import dataset_files


def found_datasets(*names: str) -> dict[str, tuple[str, ...]]:
    return {one.source.name: one.datasets for one in find_sources(names)}


def test_name_of_archive_gives_all_its_datasets() -> None:
    assert found_datasets("xlsa17") == {"xlsa17": ("AWA1", "AWA2", "APY", "CUB", "SUN")}


def test_name_of_dataset_gives_every_archive_that_has_it() -> None:
    assert found_datasets("CUB", "FLO") == {
        "xlsa17": ("CUB",),
        "cvpr18xian": ("FLO",),
        "cub-sentences": ("CUB",),
    }
    assert found_datasets("awa2", "sun", "AWA2") == {"xlsa17": ("AWA2", "SUN")}


def test_dataset_named_twice_is_given_once() -> None:
    assert found_datasets("xlsa17", "CUB", "cub-sentences")["xlsa17"] == SOURCES[0].datasets


@pytest.mark.parametrize("names", [(), ("CIFAR",), ("CUB", "")])
def test_unknown_name_is_refused_with_the_known_ones(names: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"^NAME: found .*, expected one or more of xlsa17, .*FLO"):
        find_sources(names)


def test_sources_have_addresses_and_unique_names() -> None:
    for source in SOURCES:
        assert re.fullmatch(r"https?://\S+\.zip", source.url)
        assert re.fullmatch(r"https://\S+", source.page)
    names = [source.name for source in SOURCES]
    datasets = {name for source in SOURCES for name in source.datasets}
    assert len(set(names)) == len(names)
    assert not {name.lower() for name in datasets} & set(names)


@pytest.mark.parametrize("name", sorted({name for s in SOURCES for name in s.datasets}))
def test_files_of_every_dataset_are_a_readable_layout(name: str, tmp_path: Path) -> None:
    for one in find_sources([name]):
        for folder, file in one.files:
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / file).touch()
    feature_file, split_file = dataset_files(tmp_path, name, features="res101", semantics="att")
    assert (feature_file.name, split_file.name) == ("res101.mat", "att_splits.mat")


def test_data_page_lists_all_sources() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "data.md").read_text()
    for source in SOURCES:
        assert f"| `{source.name}` | {', '.join(source.datasets)} |" in page
        assert f"]({source.page})" in page
