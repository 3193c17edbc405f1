"""The command ``download``: benchmark archives fetched, verified, and unpacked for the scripts.

``<data>/archives/`` keeps, for each archive, the zip file, which may be deleted once it is
unpacked, and a record ``<name>.json`` with its SHA-256 and those of the files that came out of it.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from gsmflow.cli.verb import Verb
from gsmflow.core.errors import InputError
from gsmflow.core.files import digest_file, read_json, write_json
from gsmflow.data.download.archive import check_archive, unpack
from gsmflow.data.download.sources import SOURCES, Wanted, find_sources
from gsmflow.data.download.transfer import MEBIBYTE, Patience, Show, discard, fetch

__all__ = ["VERB", "DownloadOptions", "run_download"]

_FOLDER = "archives"
_NAMES_HELP = "What to fetch: a dataset, or all datasets of an archive: " + "; ".join(
    f"{source.name} ({source.what}: {', '.join(source.datasets)})" for source in SOURCES
)


@dataclass(frozen=True, kw_only=True)
class DownloadOptions:
    """Fetch benchmark datasets and put their files where the scripts look for them.

    An interrupted download goes on where it stopped when the command is given again. What is
    there already is verified and not fetched twice. An archive that was fetched by other means is
    taken from archives/NAME.zip below the folder --data.
    """

    names: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME...", help=_NAMES_HELP)
    ] = ()
    data: Path = Path("data")
    """The folder of datasets."""
    url: str | None = None
    """Another address of the archive, such as a mirror's; for a single archive."""
    sha256: str | None = None
    """What the archive's SHA-256 must be; None: what the first download had."""


@dataclass(frozen=True)
class _Record:
    """What is known of an archive that was here.

    Attributes
    ----------
    url
        Where it was fetched from; None if it was put here by hand.
    sha256
        Of the archive.
    files
        ``folder/name`` of what was unpacked to its SHA-256.
    """

    url: str | None
    sha256: str
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Places:
    """The files about one archive."""

    archive: Path
    record: Path
    part: Path
    unpacked: Path


def run_download(
    options: DownloadOptions, console: Console, patience: Patience | None = None
) -> None:
    """Fetch, verify and unpack what is asked for; what is there already is verified only.

    Parameters
    ----------
    options
        What to fetch, and where to put it.
    console
        For progress, as a bar on a terminal and as lines elsewhere.
    patience
        When to give up.

    Raises
    ------
    InputError
        If an option is wrong, or something does not match its checksum.
    UnavailableError
        If an archive cannot be had.
    """
    wanted = find_sources(options.names)
    for flag, value in (("--url", options.url), ("--sha256", options.sha256)):
        if value is not None and len(wanted) > 1:
            names = ", ".join(one.source.name for one in wanted)
            raise InputError(f"{flag}: found it with the archives {names}, expected one archive")
    if options.url is not None and not re.match(r"https?://[^/]", options.url):
        raise InputError(f"--url: found {options.url!r}, expected an address http:// or https://")
    if options.sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", options.sha256):
        raise InputError(f"--sha256: found {options.sha256!r}, expected 64 hexadecimal digits")
    folder = options.data / _FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock").acquire(timeout=0):
            for one in wanted:
                _provide(one, options, console, patience or Patience())
    except Timeout as error:
        raise InputError(
            f"{folder}: found another download at work there, expected it to end first"
        ) from error
    except OSError as error:
        raise InputError(
            f"{error.filename or folder}: found no way to write there ({error.strerror or error}), "
            "expected a folder with room"
        ) from error


def _provide(
    wanted: Wanted, options: DownloadOptions, console: Console, patience: Patience
) -> None:
    source, folder = wanted.source, options.data / _FOLDER
    places = _Places(
        archive=folder / f"{source.name}.zip",
        record=folder / f"{source.name}.json",
        part=folder / f".{source.name}.zip.part",
        unpacked=folder / f".{source.name}.unpacked",
    )
    record = _read_record(places.record)
    expected = options.sha256.lower() if options.sha256 else None
    if record is not None and expected is None:
        expected = record.sha256
    missing = _missing_files(wanted, options.data, places, record)
    if places.archive.exists():
        found = _check_digest(places.archive, expected, places, record)
        if record is None or record.sha256 != found:
            check_archive(places.archive)
            record = _keep_record(places, _Record(None, found))
        console.print(f"{source.name}: {places.archive} verified", soft_wrap=True)
    elif missing or record is None or record.sha256 != expected:
        url = options.url or source.url
        found = _fetch_archive(url, places, expected, record, source.name, console, patience)
        files = record.files if record is not None and record.sha256 == found else {}
        record = _keep_record(places, _Record(url, found, files))
    missing = _missing_files(wanted, options.data, places, record)
    if missing:
        digests = unpack(places.archive, missing, options.data, places.unpacked)
        _keep_record(places, replace(record, files={**record.files, **digests}))
        for name in digests:
            console.print(f"{source.name}: {options.data / name} unpacked", soft_wrap=True)
    for place in wanted.files:
        if place not in missing:
            console.print(
                f"{source.name}: {options.data.joinpath(*place)} verified", soft_wrap=True
            )


def _missing_files(
    wanted: Wanted, data: Path, places: _Places, record: _Record | None
) -> list[tuple[str, str]]:
    """The wanted files that are not there as they were unpacked.

    Raises
    ------
    InputError
        If one is there and has changed since.
    """
    missing = []
    for place in wanted.files:
        known = record.files.get("/".join(place)) if record is not None else None
        file = data.joinpath(*place)
        if known is None or not file.exists():
            missing.append(place)
        elif digest_file(file, hashlib.sha256) != known:
            raise InputError(
                f"{file}: found other content than was unpacked, expected SHA-256 {known} as in "
                f"{places.record}; move it away to have it unpacked again"
            )
    return missing


def _fetch_archive(
    url: str,
    places: _Places,
    expected: str | None,
    record: _Record | None,
    name: str,
    console: Console,
    patience: Patience,
) -> str:
    """Fetch an archive to its place, and give its SHA-256.

    What is no intact archive, or not the expected one, is thrown away.
    """
    remedy = f"fetch it by other means and put it at {places.archive}, from where it is taken"
    console.print(f"{name}: fetching {url}", soft_wrap=True)
    with _progress(name, console) as show:
        fetch(
            url,
            places.part,
            remedy,
            show=show,
            tell=lambda line: console.print(f"{name}: {line}", soft_wrap=True),
            patience=patience,
        )
    try:
        found = _check_digest(places.part, expected, places, record)
        check_archive(places.part)
    except InputError as error:
        discard(places.part)
        text = str(error).removeprefix(f"{places.part}")
        raise InputError(f"{url}{text}; what came was thrown away") from error
    places.part.replace(places.archive)
    discard(places.part)
    console.print(f"{name}: {places.archive} has SHA-256 {found}", soft_wrap=True)
    return found


def _check_digest(
    archive: Path, expected: str | None, places: _Places, record: _Record | None
) -> str:
    found = digest_file(archive, hashlib.sha256)
    if expected is None or found == expected:
        return found
    if record is not None and expected == record.sha256:
        raise InputError(
            f"{archive}: found SHA-256 {found}, expected {expected} as of the first download; if "
            f"the archive was changed for good, delete {places.record}"
        )
    raise InputError(f"{archive}: found SHA-256 {found}, expected {expected} as of --sha256")


def _read_record(path: Path) -> _Record | None:
    if not path.exists():
        return None
    value = read_json(path)
    try:
        record = _Record(**value)
        whole = isinstance(record.sha256, str) and isinstance(record.files, dict)
    except TypeError:
        whole = False
    if not whole:
        raise InputError(
            f"{path}: found no record of a download, expected one that this command wrote; "
            "delete it to have the archive fetched again"
        )
    return record


def _keep_record(places: _Places, record: _Record) -> _Record:
    write_json(places.record, asdict(record))
    return record


@contextmanager
def _progress(name: str, console: Console) -> Iterator[Show]:
    """Progress as a bar on a terminal, elsewhere as a line for each tenth or each 100 MiB."""
    if not console.is_terminal:
        yield _lines(name, console)
        return
    columns: tuple[Any, ...] = (
        *(TextColumn(name), BarColumn(), DownloadColumn(binary_units=True)),
        *(TransferSpeedColumn(), TimeRemainingColumn(compact=True)),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name, total=None)
        yield lambda there, length: progress.update(task, completed=there, total=length)


def _lines(name: str, console: Console) -> Show:
    told = 0

    def show(there: int, length: int | None) -> None:
        nonlocal told
        step = max(1, length // 10 if length else 100 * MEBIBYTE)
        if there // step > told:
            of = f" of {length / MEBIBYTE:,.1f}" if length else ""
            console.print(f"{name}: {there / MEBIBYTE:,.1f}{of} MiB")
        told = there // step

    return show


VERB = Verb(DownloadOptions, lambda options, console, flags: run_download(options, console))
