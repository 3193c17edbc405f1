"""Archives as they should be, and archives that were made to do harm."""

import shutil
import stat
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from gsmflow.core.errors import InputError
from gsmflow.data.download import archive as module
from gsmflow.data.download.archive import check_archive, unpack
from tests.zips import damage, write_zip

WANTED = [("CUB", "res101.mat"), ("CUB", "att_splits.mat")]
FILES = {
    "xlsa17/data/CUB/res101.mat": b"features " * 1000,
    "xlsa17/data/CUB/att_splits.mat": b"semantics",
    "xlsa17/data/SUN/res101.mat": b"others",
    "xlsa17/data/CUB/allclasses.txt": b"names",
    "__MACOSX/data/CUB/._res101.mat": b"junk",
    "xlsa17/README": b"text",
}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_zip(tmp_path / "a.zip", FILES)


def take(archive: Path) -> dict[str, str]:
    return unpack(archive, WANTED, archive.parent, archive.parent / ".tmp")


def refused(archive: Path, *words: str) -> None:
    before = sorted(archive.parent.rglob("*"))
    for act in (check_archive, take):
        with pytest.raises(InputError) as caught:
            act(archive)
        message = str(caught.value)
        for word in (str(archive), "found", "expected", *words):
            assert word in message
        assert "\n" not in message
    assert sorted(archive.parent.rglob("*")) == before


def test_only_what_is_wanted_comes_out(archive: Path) -> None:
    check_archive(archive)
    digests = take(archive)
    assert sorted(digests) == ["CUB/att_splits.mat", "CUB/res101.mat"]
    there = {str(p.relative_to(archive.parent)) for p in archive.parent.rglob("*")}
    assert there == {"a.zip", "CUB", "CUB/res101.mat", "CUB/att_splits.mat"}
    for name in digests:
        assert (archive.parent / name).read_bytes() == FILES[f"xlsa17/data/{name}"]


@pytest.mark.parametrize(
    "name",
    [
        "../evil.mat",
        "/etc/evil.mat",
        "data/../../CUB/res101.mat",
        "data\\..\\..\\evil.mat",
        "C:/evil.mat",
        "c:\\evil.mat",
        "\\\\host\\evil.mat",
    ],
)
def test_members_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    archive = write_zip(tmp_path / "a.zip", FILES | {name: b"evil"})
    refused(archive, "that may lead outside")


def test_a_link_is_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", FILES)
    with zipfile.ZipFile(archive, "a") as content:
        link = zipfile.ZipInfo("xlsa17/data/AWA1/res101.mat")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        content.writestr(link, "/etc/passwd")
    refused(archive, "found a link")


def test_an_absurd_size_is_refused(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGEST_BYTES", 8000)
    refused(archive, "when unpacked")


def test_a_member_that_is_larger_than_it_says_is_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", FILES)
    content = archive.read_bytes()
    # The size when unpacked stands twice: before the member, and in the list at the end.
    size = len(FILES["xlsa17/data/CUB/res101.mat"]).to_bytes(4, "little")
    assert content.count(size) == 2
    archive.write_bytes(content.replace(size, (100).to_bytes(4, "little")))
    refused(archive)


@pytest.mark.parametrize("kind", ["text", "empty", "cut", "bytes"])
def test_what_is_no_intact_archive_is_refused(archive: Path, kind: str) -> None:
    content = archive.read_bytes()
    archive.write_bytes(
        {
            "text": b"<html>Please log in</html>",
            "empty": b"",
            "cut": content[:-100],
            "bytes": damage(archive, "xlsa17/data/CUB/res101.mat"),
        }[kind]
    )
    refused(archive)


def test_damage_in_what_is_not_wanted_is_found_too(archive: Path) -> None:
    archive.write_bytes(damage(archive, "xlsa17/data/SUN/res101.mat"))
    with pytest.raises(InputError, match=r"xlsa17/data/SUN/res101.mat|no intact zip"):
        check_archive(archive)


def only_unpacking_refuses(archive: Path, *words: str) -> None:
    check_archive(archive)
    before = {p: p.read_bytes() for p in archive.parent.rglob("*") if p.is_file()}
    with pytest.raises(InputError) as caught:
        take(archive)
    for word in (*words, "expected"):
        assert word in str(caught.value)
    assert {p: p.read_bytes() for p in archive.parent.rglob("*") if p.is_file()} == before


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    del (files := dict(FILES))["xlsa17/data/CUB/att_splits.mat"]
    archive = write_zip(tmp_path / "a.zip", files)
    only_unpacking_refuses(archive, "found 0 members that end in CUB/att_splits.mat")


def test_two_members_for_one_place_are_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", FILES | {"old/CUB/res101.mat": b"old"})
    only_unpacking_refuses(archive, "found 2 members that end in CUB/res101.mat")


def test_another_file_in_its_place_is_left_alone(archive: Path) -> None:
    file = archive.parent / "CUB" / "att_splits.mat"
    file.parent.mkdir()
    file.write_bytes(b"my own")
    only_unpacking_refuses(archive, f"{file}: found a file that is not the one in", "move it away")


def test_the_same_file_in_its_place_stays(archive: Path) -> None:
    take(archive)
    (archive.parent / "CUB" / "res101.mat").unlink()
    (archive.parent / ".tmp" / "CUB").mkdir(parents=True)  # as a killed call leaves it
    (archive.parent / ".tmp" / "CUB" / "res101.mat").write_bytes(b"half")
    take(archive)
    assert (archive.parent / "CUB" / "res101.mat").read_bytes() == b"features " * 1000
    assert not (archive.parent / ".tmp").exists()


def test_too_little_room_is_said_before_anything_is_written(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=9000))
    only_unpacking_refuses(archive, f"{archive.parent}: found 0.0 GiB free", "to unpack")
