"""The cache of datasets: what it gives back, when it is taken, and what it survives."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from gsmflow.core.errors import InputError
from gsmflow.data import cache
from gsmflow.data.cache import load_cached
from gsmflow.data.dataset import Dataset
from gsmflow.data.formats.files import load_dataset
from tests.builders import gbu_fields, make_dataset, write_epgn, write_gbu

ROOT = Path(__file__).resolve().parents[2]
WRITERS = {"GBU": write_gbu, "E-PGN": write_epgn}
NAMES = {"features": "res101", "semantics": "att"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of datasets with one in it."""
    write_gbu(tmp_path / "data" / "TINY", make_dataset())
    return tmp_path / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of caches; the entries lie in its folder TINY."""
    return tmp_path / "cache"


def load(root: Path, folder: Path) -> Dataset:
    return load_cached(root, "TINY", **NAMES, cache=folder)


def direct(root: Path) -> Dataset:
    return load_dataset(root, "TINY", **NAMES)


def entry_of(folder: Path) -> Path:
    (entry,) = (folder / "TINY").iterdir()
    return entry


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the files had last been changed long ago."""
    monkeypatch.setattr(cache, "_SETTLED_NS", 0)
    time.sleep(0.01)


def assert_same(found: Dataset, expected: Dataset) -> None:
    for field in fields(Dataset):
        ours, theirs = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(theirs, np.ndarray):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs, err_msg=field.name)
        elif field.name != "from_cache":
            assert ours == theirs, field.name


# --- what it gives back --------------------------------------------------------------------------


@pytest.mark.parametrize("v73", [False, True], ids=["v5", "v7.3"])
@pytest.mark.parametrize("layout", WRITERS)
def test_cached_dataset_equals_the_one_in_the_files(
    tmp_path: Path, folder: Path, layout: str, v73: bool
) -> None:
    # With validation rows that reach into the test rows, so that there are notes to give back.
    source = make_dataset()
    source = replace(source, train=np.concatenate([source.train, source.test_seen[:3]]))
    WRITERS[layout](tmp_path / "data" / "TINY", source, v73=v73)
    expected = direct(tmp_path / "data")
    assert expected.notes
    for from_cache in (False, True):
        found = load(tmp_path / "data", folder)
        assert_same(found, expected)
        assert found.from_cache == from_cache
        assert isinstance(found.features, np.memmap)
        assert not found.features.flags.writeable
        assert found.features.flags.c_contiguous


def test_another_file_of_names_makes_another_entry(root: Path, folder: Path) -> None:
    write_gbu(root / "TINY", make_dataset(), allclasses_names=None)
    assert load(root, folder).class_names[0] == "class 1"
    for names in ("abcdefghij", "ABCDEFGHIJ"):
        (root / "TINY" / "class_names.txt").write_text("\n".join(names))
        for from_cache in (False, True):
            found = load(root, folder)
            assert_same(found, direct(root))
            assert (found.class_names, found.from_cache) == (tuple(names), from_cache)


def test_class_names_with_any_unicode_are_kept(root: Path, folder: Path) -> None:
    names = np.array([[f"Käfer {c} \u2603 \U0001f642"] for c in range(10)], dtype=object)
    write_gbu(root / "TINY", make_dataset(), v73=True, allclasses_names=names)
    load(root, folder)
    assert load(root, folder).class_names == tuple(name for (name,) in names)


def test_moved_files_hit_the_cache_and_messages_name_their_new_path(
    tmp_path: Path, folder: Path, root: Path
) -> None:
    source = make_dataset()
    write_gbu(root / "TINY", source, train_loc=np.append(source.train, source.test_seen[0]) + 1)
    load(root, folder)
    root.rename(tmp_path / "moved")
    found = load(tmp_path / "moved", folder)
    assert found.from_cache
    assert_same(found, direct(tmp_path / "moved"))
    assert str(tmp_path / "moved") in found.notes[0]


# --- when it is taken ----------------------------------------------------------------------------


def test_files_with_unchanged_status_are_not_read(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    load(root, folder)
    for name in ("digest_file", "load_dataset"):
        monkeypatch.setattr(cache, name, None)
    assert load(root, folder).from_cache


def test_touched_files_are_hashed_once(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    load(root, folder)
    os.utime(root / "TINY" / "res101.mat")
    time.sleep(0.01)
    monkeypatch.setattr(cache, "load_dataset", None)
    assert load(root, folder).from_cache
    monkeypatch.setattr(cache, "digest_file", None)
    assert load(root, folder).from_cache


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("file", ["res101.mat", "att_splits.mat"])
def test_change_is_noticed_at_equal_size_and_time(
    root: Path, folder: Path, file: str, settled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Uncompressed, so that values can be changed in place.
    for name, content in zip(("res101", "att_splits"), gbu_fields(make_dataset()), strict=True):
        scipy.io.savemat(root / "TINY" / f"{name}.mat", content)
    if settled:
        settle(monkeypatch)
    first = load(root, folder)
    path = root / "TINY" / file
    before = path.stat()
    changed = bytearray(path.read_bytes())
    field = {"res101.mat": "features", "att_splits.mat": "semantics"}[file]
    values = getattr(make_dataset(), field)
    wide = values if field == "features" else values.astype(np.float64)
    at = changed.index(wide.tobytes())
    changed[at : at + wide.nbytes] = (2 * wide).tobytes()
    path.write_bytes(changed)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_ino) == (before.st_size, before.st_ino)
    assert after.st_mtime_ns == before.st_mtime_ns
    found = load(root, folder)
    assert not found.from_cache
    np.testing.assert_array_equal(getattr(found, field), 2 * getattr(first, field))


def test_each_pair_of_features_and_semantics_has_its_entry(root: Path, folder: Path) -> None:
    load(root, folder)
    for old, new in (("res101", "vit"), ("att_splits", "sent_splits")):
        content = (root / "TINY" / f"{old}.mat").read_bytes()
        (root / "TINY" / f"{new}.mat").write_bytes(content)
    found = load_cached(root, "TINY", features="vit", semantics="sent", cache=folder)
    assert (found.features_name, found.semantics_name) == ("vit", "sent")
    assert not found.from_cache
    assert len(list((folder / "TINY").iterdir())) == 2


# --- what it survives ----------------------------------------------------------------------------


def damage(entry: Path, kind: str) -> None:
    features, record = entry / "features.npy", entry / "dataset.json"
    content = features.read_bytes()
    stored = json.loads(record.read_text())
    if kind == "truncated features":
        features.write_bytes(content[:-1])
    elif kind == "empty features":
        features.write_bytes(b"")
    elif kind == "no features":
        features.unlink()
    elif kind == "foreign features":
        features.write_bytes(b"PK\x03\x04" + content)
    elif kind == "features of another shape":
        np.save(features, np.zeros((120, 5), np.float32))
    elif kind == "features of another type":
        np.save(features, np.zeros((120, 6), np.float64))
    elif kind == "truncated labels":
        (entry / "labels.npy").write_bytes((entry / "labels.npy").read_bytes()[:-1])
    elif kind == "no record":
        record.unlink()
    elif kind == "truncated record":
        record.write_bytes(record.read_bytes()[:-20])
    elif kind == "record of another kind":
        record.write_text("[1, 2]")
    elif kind == "record without a field":
        del stored["fields"]["class_names"]
        record.write_text(json.dumps(stored))
    elif kind == "record without an array":
        del stored["arrays"]["val"]
        record.write_text(json.dumps(stored))


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize(
    "kind",
    [
        "truncated features",
        "empty features",
        "no features",
        "foreign features",
        "features of another shape",
        "features of another type",
        "truncated labels",
        "no record",
        "truncated record",
        "record of another kind",
        "record without a field",
        "record without an array",
    ],
)
def test_damaged_entry_is_replaced(
    root: Path, folder: Path, kind: str, settled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if settled:
        settle(monkeypatch)
    load(root, folder)
    damage(entry_of(folder), kind)
    found = load(root, folder)
    assert not found.from_cache
    (note,) = found.notes
    assert str(entry_of(folder)) in note
    assert note.endswith("made anew")
    assert "\n" not in note
    assert_same(replace(found, notes=()), direct(root))
    again = load(root, folder)
    assert again.from_cache
    assert again.notes == ()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As if the disk had no room for a larger file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_full_disk_is_noted_and_the_dataset_is_read(root: Path, folder: Path) -> None:
    with files_of_at_most(1000):
        found = load(root, folder)
    (note,) = found.notes
    assert str(folder / "TINY") in note
    assert "cannot be kept there (File too large)" in note
    assert_same(replace(found, notes=()), direct(root))
    assert list((folder / "TINY").iterdir()) == []
    assert load(root, folder).notes == ()


def test_cache_that_cannot_be_written_is_noted(root: Path, folder: Path) -> None:
    folder.write_text("in the way")
    found = load(root, folder)
    assert "cannot be kept there (Not a directory)" in found.notes[0]
    assert not isinstance(found.features, np.memmap)
    assert_same(replace(found, notes=()), direct(root))


def test_files_that_change_while_they_are_read_make_no_entry(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change_and_load(*arguments: Any, **keywords: Any) -> Dataset:
        os.utime(root / "TINY" / "res101.mat", ns=(0, 0))
        return load_dataset(*arguments, **keywords)

    monkeypatch.setattr(cache, "load_dataset", change_and_load)
    assert "changed while they were read" in load(root, folder).notes[0]
    assert list((folder / "TINY").iterdir()) == []


def test_faulty_dataset_makes_no_entry(root: Path, folder: Path) -> None:
    features = make_dataset().features.T.copy()
    features[0, 0] = np.nan
    write_gbu(root / "TINY", make_dataset(), features=features)
    with pytest.raises(InputError, match="NaN"):
        load(root, folder)
    assert list((folder / "TINY").iterdir()) == []


def test_missing_files_are_refused_even_if_they_are_cached(root: Path, folder: Path) -> None:
    load(root, folder)
    (root / "TINY" / "res101.mat").unlink()
    with pytest.raises(InputError, match=r"res101\.mat: no such file"):
        load(root, folder)


def test_processes_that_make_the_same_entry_at_once_all_get_it(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(4, timeout=30)

    def read(*arguments: Any, **keywords: Any) -> Dataset:
        dataset = load_dataset(*arguments, **keywords)
        together.wait()  # each has written its entry by now, none has moved it to its path
        return dataset

    monkeypatch.setattr(cache, "load_dataset", read)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: load(root, folder), range(4)))
    for dataset in found:
        assert_same(dataset, direct(root))
    assert entry_of(folder).is_dir()


def test_killed_process_leaves_no_entry(root: Path, folder: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from gsmflow.data import cache\n"
        "cache.write_json = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        "cache.load_cached(Path(sys.argv[1]), 'TINY', features='res101', semantics='att',"
        " cache=Path(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", script, str(root), str(folder)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    left = entry_of(folder)
    assert left.name.endswith(".part")
    assert (left / "features.npy").stat().st_size > 4 * 120 * 6

    found = load(root, folder)
    assert not found.from_cache
    assert_same(found, direct(root))
    assert left.exists()  # for all that is known, its process may be at work

    # Once nobody has touched it for long, the next entry that is made sweeps it away.
    for path in (*left.iterdir(), left):
        os.utime(path, (0, 0))
    write_gbu(root / "TINY", make_dataset(seed=1))
    load(root, folder)
    assert not left.exists()
