"""Check downloaded zip archives and unpack the files of datasets from them."""

import errno
import hashlib
import os
import shutil
import stat
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from gsmflow.core.errors import InputError, one_line
from gsmflow.core.files import digest_file

__all__ = ["check_archive", "unpack"]

# No benchmark is this large; an archive that claims to be was made to fill a disk.
_LARGEST_BYTES = 2**36
_GIBIBYTE = 2**30


def check_archive(archive: Path) -> None:
    """Check that an archive is intact and safe to unpack.

    Raises
    ------
    InputError
        If it is no zip archive, does not match its checksums, has paths that lead outside the
        folder it is unpacked to, or is far too large when unpacked.
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
    """Unpack some files of an archive, all or none of them.

    Parameters
    ----------
    archive
        An archive that `check_archive` accepted.
    wanted
        Folder and name of each file, ``("CUB", "res101.mat")``. In the archive they may be below
        other folders.
    root
        Each file goes to ``<root>/<folder>/<name>``. If that file exists it must be the same.
    temporary
        A folder on the same file system, which is removed at the end. It must not exist, or it
        is left from a call that was killed.

    Returns
    -------
    dict
        ``folder/name`` to the SHA-256 of the file.

    Raises
    ------
    InputError
        If the archive lacks a file or has it twice, if the disk has too little space, or if
        another file exists at the target path.
    """
    shutil.rmtree(temporary, ignore_errors=True)
    digests = {}
    try:
        with _opened(archive) as content:
            members = {name: _find_member(archive, content, name) for name in wanted}
            _check_disk_space(archive, root, sum(m.file_size for m in members.values()))
            for (folder, name), member in members.items():
                file = temporary / folder / name
                _extract(content, member, file)
                digests[f"{folder}/{name}"] = digest_file(file, hashlib.sha256)
        present = [name for name in digests if (root / name).exists()]
        for name in present:
            if digest_file(root / name, hashlib.sha256) != digests[name]:
                raise InputError(
                    f"{root / name}: found another file than in {archive}, expected none or the "
                    "same; move it away to unpack the archive's"
                )
        for name in digests.keys() - set(present):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).replace(root / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return digests


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    """A context with an opened archive, whose paths and size are checked.

    Every exception that a damaged archive causes becomes an `InputError`.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            for member in content.infolist():
                _check_path(archive, member)
            size = sum(member.file_size for member in content.infolist())
            if size > _LARGEST_BYTES:
                raise InputError(
                    f"{archive}: found {size / _GIBIBYTE:,.0f} GiB when unpacked, expected no more "
                    f"than {_LARGEST_BYTES // _GIBIBYTE}"
                )
            yield content
    except InputError:
        raise
    except Exception as error:
        # A dozen unrelated types, depending on which byte is wrong; a disk's errors are not among
        # them, but that of a place before the file's start is.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise InputError(
            f"{archive}: found no intact zip archive ({one_line(error)}), expected one"
        ) from error


def _check_path(archive: Path, member: zipfile.ZipInfo) -> None:
    # On Windows, backslashes separate folders and a drive letter makes a path absolute.
    path = PurePosixPath(member.filename.replace("\\", "/"))
    outside = path.is_absolute() or ".." in path.parts or ":" in "".join(path.parts[:1])
    link = stat.S_ISLNK(member.external_attr >> 16)
    if outside or link:
        raise InputError(
            f"{archive}, member {member.filename!r}: found a {'link' if link else 'path'} that may "
            "lead outside, expected files below the archive's own folders"
        )


def _find_member(archive: Path, content: zipfile.ZipFile, name: tuple[str, str]) -> zipfile.ZipInfo:
    found = [
        member
        for member in content.infolist()
        if PurePosixPath(member.filename).parts[-2:] == name and not member.is_dir()
    ]
    if len(found) != 1:
        raise InputError(
            f"{archive}: found {len(found)} members that end in {'/'.join(name)}, expected one"
        )
    return found[0]


def _check_disk_space(archive: Path, root: Path, size: int) -> None:
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
