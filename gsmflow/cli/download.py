"""The command ``download``: fetch, verify and unpack benchmark archives.

For each archive, ``<data>/archives/`` has the zip file, which may be deleted after unpacking, and
a record ``<name>.json`` with the SHA-256 of the archive and of each unpacked file.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
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
from gsmflow.core.errors import InputError, writing
from gsmflow.core.files import digest_file, write_json
from gsmflow.core.folders import locked
from gsmflow.core.json_records import read_record
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

    An interrupted download continues when the command is given again. Files that exist already
    are verified and not fetched twice. An archive that was fetched by other means is taken from
    archives/NAME.zip below the folder --data.
    """

    names: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME...", help=_NAMES_HELP)
    ] = ()
    data: Path = Path("data")
    """The folder of datasets."""
    url: str | None = None
    """Another address of the archive, such as a mirror's; for a single archive."""
    sha256: str | None = None
    """Expected SHA-256 of the archive; None: that of the first download."""


@dataclass(frozen=True)
class _Record:
    """An archive that was downloaded or put into the folder.

    Attributes
    ----------
    url
        Its address; None if the user put the archive there.
    sha256
        SHA-256 of the archive.
    files
        ``folder/name`` of each unpacked file to its SHA-256.
    """

    url: str | None
    sha256: str
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Paths:
    """The paths that belong to one archive."""

    archive: Path
    record: Path
    part: Path
    unpacked: Path

    @classmethod
    def of(cls, folder: Path, name: str) -> "_Paths":
        """The paths of the archive of this name."""
        return cls(
            archive=folder / f"{name}.zip",
            record=folder / f"{name}.json",
            part=folder / f".{name}.zip.part",
            unpacked=folder / f".{name}.unpacked",
        )


def run_download(
    options: DownloadOptions, console: Console, patience: Patience | None = None
) -> None:
    """Fetch, verify and unpack archives; files that exist already are only verified.

    Parameters
    ----------
    options
        What to fetch, and where to write it.
    console
        For progress: a bar on a terminal, lines in a log.
    patience
        Timeouts and retries.

    Raises
    ------
    InputError
        If an option is wrong, or a file does not match its checksum.
    UnavailableError
        If a server does not deliver an archive.
    WriteError
        If a file cannot be written.
    """
    wanted = find_sources(options.names)
    _check_options(options, wanted)
    folder = options.data / _FOLDER
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            for one in wanted:
                paths = _Paths.of(folder, one.source.name)
                _Download(one, options, paths, console, patience or Patience()).run()


def _check_options(options: DownloadOptions, wanted: Sequence[Wanted]) -> None:
    for flag, value in (("--url", options.url), ("--sha256", options.sha256)):
        if value is not None and len(wanted) > 1:
            names = ", ".join(one.source.name for one in wanted)
            raise InputError(f"{flag}: found it with the archives {names}, expected one archive")
    if options.url is not None and not re.match(r"https?://[^/]", options.url):
        raise InputError(f"--url: found {options.url!r}, expected an address http:// or https://")
    if options.sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", options.sha256):
        raise InputError(f"--sha256: found {options.sha256!r}, expected 64 hexadecimal digits")


@dataclass(frozen=True)
class _Download:
    """The download of one archive, and what it needs.

    Attributes
    ----------
    wanted
        The archive and the datasets to take from it.
    options
        The options of the command.
    paths
        The paths that belong to the archive.
    console
        For progress.
    patience
        Timeouts and retries.
    """

    wanted: Wanted
    options: DownloadOptions
    paths: _Paths
    console: Console
    patience: Patience

    def run(self) -> None:
        """Verify what exists, and fetch and unpack the rest."""
        record = self._provide_archive(_read_record(self.paths.record))
        missing = self._missing_files(record)
        if missing:
            digests = unpack(self.paths.archive, missing, self.options.data, self.paths.unpacked)
            self._write_record(replace(record, files={**record.files, **digests}))
            for name in digests:
                self._print(f"{self.options.data / name} unpacked")
        for folder, name in self.wanted.files:
            if (folder, name) not in missing:
                self._print(f"{self.options.data / folder / name} verified")

    def _provide_archive(self, record: _Record | None) -> _Record:
        """Verify the archive, or fetch it if it is needed and absent; its record.

        Once all files are unpacked the archive may be deleted.
        """
        expected = self._expected_digest(record)
        missing = self._missing_files(record)
        if self.paths.archive.exists():
            digest = self._check_digest(self.paths.archive, expected, record)
            if record is None or record.sha256 != digest:
                check_archive(self.paths.archive)
                record = self._write_record(_Record(None, digest))
            self._print(f"{self.paths.archive} verified")
        elif missing or record is None or record.sha256 != expected:
            url = self.options.url or self.wanted.source.url
            digest = self._fetch(url, expected, record)
            files = record.files if record is not None and record.sha256 == digest else {}
            record = self._write_record(_Record(url, digest, files))
        return record

    def _expected_digest(self, record: _Record | None) -> str | None:
        if self.options.sha256:
            return self.options.sha256.lower()
        return None if record is None else record.sha256

    def _missing_files(self, record: _Record | None) -> list[tuple[str, str]]:
        """The wanted files that must be unpacked.

        Raises
        ------
        InputError
            If a file exists and has changed since it was unpacked.
        """
        missing = []
        for folder, name in self.wanted.files:
            expected = record.files.get(f"{folder}/{name}") if record is not None else None
            file = self.options.data / folder / name
            if expected is None or not file.exists():
                missing.append((folder, name))
            elif digest_file(file, hashlib.sha256) != expected:
                raise InputError(
                    f"{file}: found other content than was unpacked, expected SHA-256 {expected} "
                    f"as in {self.paths.record}; move it away to unpack it again"
                )
        return missing

    def _fetch(self, url: str, expected: str | None, record: _Record | None) -> str:
        """Fetch the archive and return its SHA-256.

        A download that is no intact archive, or not the expected one, is deleted.
        """
        archive, part = self.paths.archive, self.paths.part
        remedy = f"fetch it by other means and put it at {archive}, from where it is taken"
        self._print(f"fetching {url}")
        with _progress(self.wanted.source.name, self.console) as show:
            fetch(url, part, remedy, show=show, log=self._print, patience=self.patience)
        try:
            digest = self._check_digest(part, expected, record)
            check_archive(part)
        except InputError as error:
            discard(part)
            text = str(error).removeprefix(f"{part}")
            raise InputError(f"{url}{text}; the download was deleted") from error
        part.replace(archive)
        discard(part)
        self._print(f"{archive} has SHA-256 {digest}")
        return digest

    def _check_digest(self, archive: Path, expected: str | None, record: _Record | None) -> str:
        digest = digest_file(archive, hashlib.sha256)
        if expected is None or digest == expected:
            return digest
        if record is not None and expected == record.sha256:
            raise InputError(
                f"{archive}: found SHA-256 {digest}, expected {expected} as of the first download; "
                f"if a new version of the archive was published, delete {self.paths.record}"
            )
        raise InputError(f"{archive}: found SHA-256 {digest}, expected {expected} as of --sha256")

    def _write_record(self, record: _Record) -> _Record:
        write_json(self.paths.record, asdict(record))
        return record

    def _print(self, line: str) -> None:
        self.console.print(f"{self.wanted.source.name}: {line}", soft_wrap=True)


def _read_record(path: Path) -> _Record | None:
    if not path.exists():
        return None
    try:
        return read_record(path, _Record)
    except InputError as error:
        raise InputError(f"{error}; delete it to fetch the archive again") from error


@contextmanager
def _progress(name: str, console: Console) -> Iterator[Show]:
    """Progress as a bar on a terminal, elsewhere as a line for each tenth or each 100 MiB."""
    if not console.is_terminal:
        yield _line_printer(name, console)
        return
    columns: tuple[Any, ...] = (
        *(TextColumn(name), BarColumn(), DownloadColumn(binary_units=True)),
        *(TransferSpeedColumn(), TimeRemainingColumn(compact=True)),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name, total=None)
        yield lambda received, length: progress.update(task, completed=received, total=length)


def _line_printer(name: str, console: Console) -> Show:
    printed_steps = 0

    def show(received: int, length: int | None) -> None:
        nonlocal printed_steps
        step = max(1, length // 10 if length else 100 * MEBIBYTE)
        if received // step > printed_steps:
            of = f" of {length / MEBIBYTE:,.1f}" if length else ""
            console.print(f"{name}: {received / MEBIBYTE:,.1f}{of} MiB")
        printed_steps = received // step

    return show


VERB = Verb(DownloadOptions, lambda options, console, flags: run_download(options, console))
