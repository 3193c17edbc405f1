"""The cells of a grid: which there are, their recipes, and what their folders are named by."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gsmflow.core.errors import InputError
from gsmflow.learning.method import PresetName
from gsmflow.methods.registry import METHODS, find_method
from gsmflow.runs.grid import (
    Cell,
    DataChoice,
    MethodChoice,
    find_unfit,
    make_cells,
    open_data,
    read_data_choice,
    read_method_choices,
)
from tests.builders import make_dataset, make_joint_dataset, write_gbu


def cells_of(
    folder: Path,
    *methods: str,
    seeds: int = 2,
    preset: PresetName = "published",
    flags: tuple[str, ...] = (),
) -> list[Cell]:
    words = ["--out", str(folder / "out"), *flags]
    choices = read_method_choices(methods)
    data = open_data(DataChoice(folder / "data" / "TINY"), choices[0], words, "test")
    return make_cells(
        choices,
        [data],
        range(seeds),
        preset,
        words,
        folder / "out" / "runs",
        "test",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_gbu(tmp_path / "data" / "TINY", make_dataset())
    return tmp_path


def test_all_are_all_methods_once() -> None:
    assert [choice.key for choice in read_method_choices(["all"])] == list(METHODS)
    twice = read_method_choices(["ale", "all", "ale", "gsmflow:prototypes"])
    assert [choice.key for choice in twice].count("ale") == 1
    assert twice[0] == MethodChoice("ale")
    assert twice[-1] == MethodChoice("gsmflow", "prototypes")


def test_method_that_does_not_fit_is_left_out_of_all_and_kept_by_its_name(folder: Path) -> None:
    words = ["--out", str(folder / "out")]
    write_gbu(folder / "data" / "JOINT", make_joint_dataset())
    write_gbu(folder / "data" / "LONG", make_dataset(d=3))

    def unfit(*methods: str) -> dict[tuple[str, str], str]:
        choices = read_method_choices(methods)
        data = [
            open_data(DataChoice(folder / "data" / name), choices[0], words, "test")
            for name in ("TINY", "JOINT", "LONG")
        ]
        found = find_unfit(choices, data)
        cells = make_cells(choices, data, [0], "short", words, folder, "test", unfit=found)
        assert len(cells) == 3 * len(choices) - len(found)
        assert {(cell.method.key, cell.data.key) for cell in cells}.isdisjoint(found)
        return found

    tiny, long = ("clip-prompts", "TINY:res101:att"), ("clip-prompts", "LONG:res101:att")
    found = unfit("all")
    assert found.keys() == {tiny, long, ("izf", "LONG:res101:att")}
    assert "found features of 6 dimensions and semantics of 5, expected" in found[tiny]
    assert unfit("clip-prompts", "all").keys() == {("izf", "LONG:res101:att")}
    assert unfit("all", "clip-prompts").keys() == {("izf", "LONG:res101:att")}
    assert unfit("eszsl", "izf") == {}


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("nothing", "found 'nothing', expected all or some of"),
        ("gsmflow:nothing", "one of softmax, prototypes, bayes"),
        ("ale:softmax", "scores classes without a classifier"),
    ],
)
def test_unknown_method_or_classifier_is_refused(word: str, part: str) -> None:
    with pytest.raises(InputError, match=part):
        read_method_choices([word])


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("data/CUB", DataChoice(Path("data/CUB"))),
        ("data/CUB:vgg_fc7", DataChoice(Path("data/CUB"), "vgg_fc7")),
        ("data/CUB:vgg_fc7:att", DataChoice(Path("data/CUB"), "vgg_fc7", "att")),
        ("train_CUB.py::sent", DataChoice(Path("train_CUB.py"), "", "sent")),
        ("C:/data/CUB:vgg_fc7", DataChoice(Path("C:/data/CUB"), "vgg_fc7")),
        ("C:\\data\\CUB", DataChoice(Path("C:\\data\\CUB"))),
        ("DIGITS", DataChoice(Path("DIGITS"))),
        ("data/CUB:vgg:a/v.npy", DataChoice(Path("data/CUB"), "vgg", "a/v.npy")),
        ("data/CUB::att+a/v.mat", DataChoice(Path("data/CUB"), "", "att+a/v.mat")),
        ("C:/data/CUB:vgg:v.csv", DataChoice(Path("C:/data/CUB"), "vgg", "v.csv")),
    ],
)
def test_dataset_is_a_path_with_features_and_semantics(word: str, expected: DataChoice) -> None:
    assert read_data_choice(word) == expected


@pytest.mark.parametrize("word", ["", ":res101", "data/CUB:a:b:c", "data/CUB:v.npy"])
def test_malformed_dataset_is_refused(word: str) -> None:
    with pytest.raises(InputError, match="--datasets"):
        read_data_choice(word)


def test_cells_have_the_settings_of_the_method_and_the_flags(folder: Path) -> None:
    cells = cells_of(folder, "ale", "gsmflow", "eszsl", preset="short", flags=("--device", "cpu"))
    ale, gsmflow, eszsl = (cell.recipe for cell in cells)
    assert [ale.model, gsmflow.model, eszsl.model] == ["ale", "gsmflow", "eszsl"]
    assert gsmflow.training.schedule == find_method("gsmflow").short[""]["schedule"]
    for cell in cells:
        assert cell.recipe.device == "cpu"
        assert cell.recipe.beside == ()
        assert cell.recipe.seeds == 1
    assert [cell.seeds for cell in cells] == [(0, 1), (0, 1), (0,)]


def test_folder_is_named_by_what_is_computed(folder: Path) -> None:
    (first,) = cells_of(folder, "ale")
    (more_seeds,) = cells_of(folder, "ale", seeds=5)
    assert more_seeds.folder == first.folder
    assert more_seeds.seeds == (0, 1, 2, 3, 4)
    (other_setting,) = cells_of(folder, "ale", flags=("--epochs", "3"))
    assert other_setting.folder != first.folder
    for of_a_machine in (("--device", "cpu"), ("--cuda-graphs", "on"), ("--compile", "off")):
        (elsewhere,) = cells_of(folder, "ale", flags=of_a_machine)
        assert elsewhere.folder == first.folder
    (folder / "data").rename(folder / "moved")
    words = ["--out", str(folder / "out")]
    ale = MethodChoice("ale")
    data = open_data(DataChoice(folder / "moved" / "TINY"), ale, words, "test")
    moved = make_cells([ale], [data], [0], "published", words, folder / "out" / "runs", "test")
    assert moved[0].folder == first.folder


def test_cell_knows_what_a_file_of_vectors_holds(folder: Path) -> None:
    words, ale = ["--out", str(folder / "out")], MethodChoice("ale")
    file = folder / "vectors.npy"

    def cell_of(values: np.ndarray) -> Cell:
        np.save(file, values)
        data = open_data(
            DataChoice(folder / "data" / "TINY", "", f"att+{file}"), ale, words, "test"
        )
        (cell,) = make_cells([ale], [data], [0], "published", words, folder / "runs", "test")
        return cell

    values = np.random.default_rng(0).normal(size=(10, 3))
    first, other, again = cell_of(values), cell_of(values + 1), cell_of(values)
    assert first.data.key == "TINY:res101:att+vectors.npy"
    assert first.folder.parent == folder / "runs" / "TINY-res101-att+vectors.npy"
    assert first.folder == again.folder != other.folder


def test_folder_of_other_data_is_another(folder: Path) -> None:
    (first,) = cells_of(folder, "ale")
    dataset = make_dataset()
    write_gbu(folder / "data" / "TINY", replace(dataset, features=dataset.features + 1))
    (other,) = cells_of(folder, "ale")
    assert other.folder != first.folder


def test_dataset_with_too_few_classes_to_choose_on_is_refused(tmp_path: Path) -> None:
    none = np.empty(0, dtype=np.int64)
    dataset = replace(make_dataset(classes=3, unseen=1, val=0), train=none, val=none)
    folder = write_gbu(tmp_path / "data" / "TINY", dataset)
    words = ["--out", str(tmp_path)]
    with pytest.raises(
        InputError, match="'train_loc': found rows of 1 classes, expected at least 2"
    ):
        open_data(DataChoice(folder), MethodChoice("ale"), words, "test")
