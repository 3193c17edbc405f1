"""Intact, damaged and malicious archives."""

import shutil
import stat
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gsmflow.core.errors import InputError
from gsmflow.data.download import archive as module
from gsmflow.data.download.archive import check_archive, unpack
from tests.fuzz import mutations, read_or_refused
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


def unpack_wanted(archive: Path) -> dict[str, str]:
    return unpack(archive, WANTED, archive.parent, archive.parent / ".tmp")


def refused(archive: Path, *words: str) -> None:
    before = sorted(archive.parent.rglob("*"))
    for check in (check_archive, unpack_wanted):
        with pytest.raises(InputError) as caught:
            check(archive)
        message = str(caught.value)
        for word in (str(archive), "found", "expected", *words):
            assert word in message
        assert "\n" not in message
    assert sorted(archive.parent.rglob("*")) == before


def test_unpack_writes_only_the_wanted_files(archive: Path) -> None:
    check_archive(archive)
    digests = unpack_wanted(archive)
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
def test_paths_outside_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    archive = write_zip(tmp_path / "a.zip", FILES | {name: b"evil"})
    refused(archive, "that may lead outside")


def test_link_is_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", FILES)
    with zipfile.ZipFile(archive, "a") as content:
        link = zipfile.ZipInfo("xlsa17/data/AWA1/res101.mat")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        content.writestr(link, "/etc/passwd")
    refused(archive, "found a link")


def test_too_large_archive_is_refused(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGEST_BYTES", 8000)
    refused(archive, "when unpacked")


def test_member_with_a_wrong_size_is_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", FILES)
    content = archive.read_bytes()
    # The archive has the size twice: before the member, and in its directory at the end.
    size = len(FILES["xlsa17/data/CUB/res101.mat"]).to_bytes(4, "little")
    assert content.count(size) == 2
    archive.write_bytes(content.replace(size, (100).to_bytes(4, "little")))
    refused(archive)


@pytest.mark.parametrize("kind", ["text", "empty", "cut", "bytes"])
def test_file_that_is_no_intact_archive_is_refused(archive: Path, kind: str) -> None:
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


def test_damaged_file_that_is_not_wanted_is_refused(archive: Path) -> None:
    archive.write_bytes(damage(archive, "xlsa17/data/SUN/res101.mat"))
    with pytest.raises(InputError, match=r"xlsa17/data/SUN/res101.mat|no intact zip"):
        check_archive(archive)


def refused_by_unpack(archive: Path, *words: str) -> None:
    check_archive(archive)
    before = {p: p.read_bytes() for p in archive.parent.rglob("*") if p.is_file()}
    with pytest.raises(InputError) as caught:
        unpack_wanted(archive)
    for word in (*words, "expected"):
        assert word in str(caught.value)
    assert {p: p.read_bytes() for p in archive.parent.rglob("*") if p.is_file()} == before


def test_missing_member_is_refused(tmp_path: Path) -> None:
    del (files := dict(FILES))["xlsa17/data/CUB/att_splits.mat"]
    archive = write_zip(tmp_path / "a.zip", files)
    refused_by_unpack(archive, "found 0 members that end in CUB/att_splits.mat")


def test_two_members_for_one_file_are_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", FILES | {"old/CUB/res101.mat": b"old"})
    refused_by_unpack(archive, "found 2 members that end in CUB/res101.mat")


def test_different_existing_file_is_refused_and_kept(archive: Path) -> None:
    file = archive.parent / "CUB" / "att_splits.mat"
    file.parent.mkdir()
    file.write_bytes(b"my own")
    refused_by_unpack(archive, f"{file}: found another file than in", "move it away")


def test_same_existing_file_is_accepted(archive: Path) -> None:
    unpack_wanted(archive)
    (archive.parent / "CUB" / "res101.mat").unlink()
    (archive.parent / ".tmp" / "CUB").mkdir(parents=True)  # as a killed call leaves it
    (archive.parent / ".tmp" / "CUB" / "res101.mat").write_bytes(b"half")
    unpack_wanted(archive)
    assert (archive.parent / "CUB" / "res101.mat").read_bytes() == b"features " * 1000
    assert not (archive.parent / ".tmp").exists()


def test_too_little_disk_space_is_refused_before_writing(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=9000))
    refused_by_unpack(archive, f"{archive.parent}: found 0.0 GiB free", "to unpack")


def test_name_that_claims_utf_8_and_is_not_is_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", FILES | {"Ö/readme": b"text"})
    content, name = archive.read_bytes(), "Ö".encode()
    for count in (1, 2):  # in the member's own header, then in the directory too
        archive.write_bytes(content.replace(name, b"\xff\xfe", count))
        with pytest.raises(InputError, match="found no intact zip archive"):
            check_archive(archive)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_damage_of_an_archive_is_refused_or_unpacked(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("fuzzed")
    archive = write_zip(folder / "a.zip", FILES)
    archive.write_bytes(data.draw(mutations(archive.read_bytes())))
    read_or_refused(lambda: check_archive(archive))
    read_or_refused(lambda: unpack_wanted(archive))
