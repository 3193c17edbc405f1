"""Taking files of datasets out of a zip archive from elsewhere."""

import hashlib
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from gsmflow.core.errors import InputError, one_line
from gsmflow.core.files import digest_file

__all__ = ["check_archive", "unpack"]

# No benchmark is near it; an archive that says so of itself was made to fill a disk.
_LARGEST_BYTES = 2**36
_GIBIBYTE = 2**30


def check_archive(archive: Path) -> None:
    """Check that an archive is whole and intact, and harmless to unpack.

    Raises
    ------
    InputError
        If it is no zip archive, does not match its own checksums, names places outside of the
        folder that it is unpacked in, or is absurdly large when unpacked.
    """
    with _opened(archive) as content:
        damaged = content.testzip()
        if damaged is not None:
            raise InputError(
                f"{archive}, member {damaged!r}: found content that does not match its checksum, "
                "expected an intact archive"
            )


def unpack(
    archive: Path, wanted: Iterable[tuple[str, str]], root: Path, temporary: Path
) -> dict[str, str]:
    """Take files out of an archive, all or none of them.

    Parameters
    ----------
    archive
        Checked by `check_archive` once.
    wanted
        Folder and name of each file, ``("CUB", "res101.mat")``; in the archive they may lie
        below other folders.
    root
        Each goes to ``<root>/<folder>/<name>``. A file that is there already must be the same.
    temporary
        A folder of the same file system that does not exist, or is left from a call that was
        killed; removed in the end.

    Returns
    -------
    dict
        ``folder/name`` to the SHA-256 of the file.

    Raises
    ------
    InputError
        If the archive lacks a file, has it twice, there is no room for it, or another file is in
        its place.
    """
    shutil.rmtree(temporary, ignore_errors=True)
    digests = {}
    try:
        with _opened(archive) as content:
            members = {place: _find_member(archive, content, place) for place in wanted}
            _check_room(archive, root, sum(member.file_size for member in members.values()))
            for place, member in members.items():
                file = temporary.joinpath(*place)
                _extract(content, member, file)
                digests["/".join(place)] = digest_file(file, hashlib.sha256)
        present = [name for name in digests if (root / name).exists()]
        for name in present:
            if digest_file(root / name, hashlib.sha256) != digests[name]:
                raise InputError(
                    f"{root / name}: found a file that is not the one in {archive}, expected none "
                    "or the same; move it away to have that one in its place"
                )
        for name in digests.keys() - set(present):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).replace(root / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return digests


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    """An archive whose members name no place outside, are no links, and are not absurdly large.

    Whatever a damaged archive makes of the reading becomes an `InputError`.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            for member in content.infolist():
                _check_place(archive, member)
            size = sum(member.file_size for member in content.infolist())
            if size > _LARGEST_BYTES:
                raise InputError(
                    f"{archive}: found {size / _GIBIBYTE:,.0f} GiB when unpacked, expected no more "
                    f"than {_LARGEST_BYTES // _GIBIBYTE}"
                )
            yield content
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"{archive}: found no intact zip archive ({one_line(error)}), expected one"
        ) from error


def _check_place(archive: Path, member: zipfile.ZipInfo) -> None:
    # Backslashes part folders on Windows, where a drive makes a path absolute too.
    path = PurePosixPath(member.filename.replace("\\", "/"))
    outside = path.is_absolute() or ".." in path.parts or ":" in "".join(path.parts[:1])
    link = stat.S_ISLNK(member.external_attr >> 16)
    if outside or link:
        raise InputError(
            f"{archive}, member {member.filename!r}: found a {'link' if link else 'path'} that may "
            "lead outside, expected files below the archive's own folders"
        )


def _find_member(
    archive: Path, content: zipfile.ZipFile, place: tuple[str, str]
) -> zipfile.ZipInfo:
    found = [
        member
        for member in content.infolist()
        if PurePosixPath(member.filename).parts[-2:] == place and not member.is_dir()
    ]
    if len(found) != 1:
        raise InputError(
            f"{archive}: found {len(found)} members that end in {'/'.join(place)}, expected one"
        )
    return found[0]


def _check_room(archive: Path, root: Path, size: int) -> None:
    free = shutil.disk_usage(root).free
    if size > free:
        raise InputError(
            f"{root}: found {free / _GIBIBYTE:,.1f} GiB free, expected at least "
            f"{size / _GIBIBYTE:,.1f} GiB to unpack {archive}"
        )


def _extract(content: zipfile.ZipFile, member: zipfile.ZipInfo, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with content.open(member) as source, file.open("wb") as target:
        shutil.copyfileobj(source, target, 2**20)
        target.flush()
        os.fsync(target.fileno())
