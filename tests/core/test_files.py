"""Files that are written atomically."""

import json
import os
import re
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from gsmflow.core.errors import InputError
from gsmflow.core.files import (
    cut_torn_line,
    path_text,
    read_json,
    replacing,
    write_bytes,
    write_json,
    write_tensors,
)
from tests.kills import killed_at, leftovers


def write_some_bytes(path: Path) -> None:
    write_bytes(path, b"new")


def write_some_json(path: Path) -> None:
    write_json(path, {"new": 1})


def write_some_tensors(path: Path) -> None:
    write_tensors(path, {"new": torch.ones(2)}, {})


WRITERS = [write_some_bytes, write_some_json, write_some_tensors]


@pytest.mark.parametrize("write", WRITERS)
def test_write_makes_folders_and_replaces_a_file(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "a" / "b" / "file"
    write(path)
    content = path.read_bytes()
    path.write_bytes(b"old" * 1000)
    write(path)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def fail(*_: object, **__: object) -> None:
    raise OSError("disk full")


@pytest.mark.parametrize(("module", "name"), [(os, "fsync"), (Path, "replace")])
@pytest.mark.parametrize("old", [b"old", None])
@pytest.mark.parametrize("write", WRITERS)
def test_failed_write_leaves_the_old_file_and_no_other(
    write: Callable[[Path], None],
    old: bytes | None,
    module: object,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, fail)
        with pytest.raises(OSError, match="disk full"):
            write(path)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if old is None else [old])


def test_old_content_stays_until_the_new_content_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    contents: list[bytes] = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (contents.append(path.read_bytes()), sync(fd)))
    write_bytes(path, b"new")
    assert contents == [b"old"]
    assert path.read_bytes() == b"new"


def test_json_is_indented_and_paths_become_strings(tmp_path: Path) -> None:
    write_json(tmp_path / "file", {"path": Path("a/b"), "x": [1.5, None, True], "text": "é"})
    text = (tmp_path / "file").read_text()
    assert json.loads(text) == {"path": "a/b", "x": [1.5, None, True], "text": "é"}
    assert text.endswith("}\n")
    assert len(text.splitlines()) > 3


def test_value_that_is_not_json_leaves_no_file(tmp_path: Path) -> None:
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="Circular"):
        write_json(tmp_path / "file", circle)
    assert list(tmp_path.iterdir()) == []


def test_tensors_and_metadata_are_read_back(tmp_path: Path) -> None:
    tensors = {
        "a.weight": torch.randn(3, 4, dtype=torch.float64, requires_grad=True),
        "transposed": torch.arange(6).reshape(2, 3).T,
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "state": torch.get_rng_state(),
    }
    write_tensors(tmp_path / "file", tensors, {"note": "é"})
    with safe_open(tmp_path / "file", framework="pt") as file:
        assert file.metadata() == {"note": "é"}
        assert set(file.keys()) == set(tensors)
        for name, expected in tensors.items():
            found = file.get_tensor(name)
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)


@pytest.mark.parametrize("content", [None, "{"])
def test_missing_or_damaged_json_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=r"a\.json: not readable .*, expected the JSON file"):
        read_json(tmp_path / "a.json")


def test_path_text_escapes_bytes_that_are_not_utf_8() -> None:
    assert path_text(Path(os.fsdecode(b"caf\xe9.jpg"))) == "caf\\udce9.jpg"
    assert path_text(Path("ü 🦓.jpg")) == "ü 🦓.jpg"


def test_equal_tensors_and_metadata_give_equal_bytes(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(3), "a": torch.ones(2, 2)}
    metadata = {name: f"{name} é" for name in "zyxwvutsrq"}
    contents = set()
    for number in range(8):
        write_tensors(
            tmp_path / "file", tensors, dict(sorted(metadata.items(), reverse=number % 2))
        )
        contents.add((tmp_path / "file").read_bytes())
    assert len(contents) == 1
    with safe_open(tmp_path / "file", framework="pt") as file:
        assert file.metadata() == metadata
        for name, tensor in tensors.items():
            assert torch.equal(file.get_tensor(name), tensor)


BEGINS = b'{"time":'


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b"", b""),
        (b'{"time": 1}\n', b'{"time": 1}\n'),
        (b'{"time": 1}\n{"ti', b'{"time": 1}\n'),
        (b'{"time": 1', b""),
        (b'{"t', b""),
    ],
)
def test_torn_line_is_cut(content: bytes, kept: bytes, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(content)
    cut_torn_line(tmp_path / "log", BEGINS)
    assert (tmp_path / "log").read_bytes() == kept


@pytest.mark.parametrize("content", [b"my notes", b"{}", b"\x00", b'{"op_code": 1'])
def test_foreign_file_without_a_line_is_refused_and_kept(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(content)
    with pytest.raises(InputError, match="log: found something else"):
        cut_torn_line(tmp_path / "log", BEGINS)
    assert (tmp_path / "log").read_bytes() == content


@pytest.mark.parametrize("kept", [False, True])
def test_the_file_that_a_link_leads_to_is_replaced(kept: bool, tmp_path: Path) -> None:
    target, link = tmp_path / "kept" / "target.json", tmp_path / "link.json"
    target.parent.mkdir()
    if kept:
        target.write_text("old")
    link.symlink_to(target)
    write_json(link, [1])
    assert link.is_symlink()
    assert json.loads(target.read_text()) == [1]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept", "link.json", "target.json"]


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_bytes(pipe, b"content")
    reader.join(timeout=10)
    assert read == [b"content"]
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def hold_open(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half")
        os.getppid()  # where a test kills it


def test_next_write_of_a_file_removes_what_a_killed_one_has_left(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for other in (path, tmp_path / "b.csv"):
        assert killed_at(os, "getppid", 1, partial(hold_open, other))
    of_a, of_b = leftovers(tmp_path)
    live = of_a.with_name(re.sub(r"\d+\.part$", f"{os.getppid()}.part", of_a.name))
    elsewhere = tmp_path / ".a.csv.00000000-999999.part"
    for kept in (live, elsewhere):
        kept.write_text("of a process that writes")
    write_bytes(path, b"new")
    assert leftovers(tmp_path) == sorted([live, elsewhere, of_b])
    assert path.read_bytes() == b"new"
