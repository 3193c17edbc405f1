"""Folders that one process writes to, and that are made whole or not at all."""

import os
from pathlib import Path

import pytest

from gsmflow.core.errors import WriteError
from gsmflow.core.folders import LOCK_FILE, BusyError, locked, remove_leftovers, whole_folder
from tests.kills import killed_at, leftovers


def hold(folder: Path) -> None:
    with locked(folder):
        os.getppid()  # where a test kills it


def test_second_process_is_refused_in_one_sentence_until_the_first_ends(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(BusyError, match=rf"^{tmp_path}: found another process that writes to"):
            hold(tmp_path)
        with pytest.raises(BusyError):
            locked(tmp_path, patience=0.05).__enter__()
    hold(tmp_path)


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    assert killed_at(os, "getppid", 1, lambda: hold(tmp_path))
    assert (tmp_path / LOCK_FILE).exists()
    hold(tmp_path)


def test_folder_in_the_place_of_the_lock_is_a_mistake(tmp_path: Path) -> None:
    lock = tmp_path / LOCK_FILE
    lock.mkdir()
    with pytest.raises(WriteError, match=rf"^{lock}: .*, expected no folder of this name$"):
        hold(tmp_path)


def make(folder: Path, text: str = "new") -> None:
    with whole_folder(folder) as temporary:
        (temporary / "below").mkdir()
        (temporary / "below" / "file").write_text(text)


def test_folder_appears_with_its_content(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "made"
    with whole_folder(folder) as temporary:
        (temporary / "file").write_text("x")
        assert not folder.exists()
    assert (folder / "file").read_text() == "x"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("name", ["mkdir", "write_text", "rename"])
def test_folder_of_a_killed_process_is_made_by_the_next(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "made"
    number = 2 if name == "mkdir" else 1  # the first makes the temporary folder
    assert killed_at(Path, name, number, lambda: make(folder, "old"))
    assert not folder.exists()
    assert len(leftovers(tmp_path)) == 1
    make(folder)
    assert (folder / "below" / "file").read_text() == "new"
    assert leftovers(tmp_path) == []


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        make(tmp_path / "made", text=3)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_two_processes_do_not_make_one_folder(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "made"), pytest.raises(BusyError):
        make(tmp_path / "made")
    assert (tmp_path / "made").is_dir()


def test_file_in_the_place_of_a_folder_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WriteError, match="Not a directory") as caught:
        make(tmp_path / "file" / "made")
    assert caught.value.is_mistake


def test_leftovers_are_files_and_folders_at_any_depth_but_no_other_process_s(
    tmp_path: Path,
) -> None:
    kept = [tmp_path / "a" / "file", tmp_path / "own" / ".x.2.part"]
    gone = [tmp_path / ".x.1.part", tmp_path / "a" / ".y.part", tmp_path / ".z.3.part" / "file"]
    for path in (*kept, *gone, tmp_path / "own" / LOCK_FILE, tmp_path / ".live.part" / "file"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    with locked(tmp_path), locked(tmp_path / ".live.part"):
        remove_leftovers(tmp_path)
    assert all(path.exists() for path in (*kept, tmp_path / ".live.part" / "file"))
    assert not any(path.exists() for path in gone)
    assert not (tmp_path / ".z.3.part").exists()


@pytest.mark.parametrize("kind", ["link", "dangling link", "file"])
def test_what_is_in_the_place_of_the_temporary_folder_is_replaced(
    kind: str, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("kept")
    temporary = tmp_path / ".made.part"
    if kind == "file":
        temporary.write_text("no folder")
    else:
        temporary.symlink_to(kept if kind == "link" else tmp_path / "nowhere")
    with whole_folder(tmp_path / "made") as folder:
        (folder / "new").write_text("new")
    assert (kept / "file").read_text() == "kept"
    assert not (tmp_path / "made").is_symlink()
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["new"]
