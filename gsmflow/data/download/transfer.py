"""Resumable download of a large file over HTTP.

The bytes received so far are in a part file, which survives a lost connection and a killed
process. A JSON file beside it has the address, the length and the validator (``ETag`` or
``Last-Modified``) of the whole file. The rest is requested with ``Range`` and ``If-Range``, and is
appended only if the response is the rest of the same file (RFC 9110, sections 13 and 14). Without
a validator or a length the download starts again from the first byte.
"""

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import requests
from msgspec import Meta

from gsmflow.core.errors import InputError, UnavailableError, one_line
from gsmflow.core.files import write_json
from gsmflow.core.json_records import read_record

__all__ = ["MEBIBYTE", "Patience", "Show", "discard", "fetch"]

MEBIBYTE = 2**20

# Called with the number of bytes received and the length of the file; None if it is unknown.
Show: TypeAlias = Callable[[int, int | None], object]

# Responses that may be temporary: timeouts, too many requests, and all server errors.
_TEMPORARY = {408, 425, 429, *range(500, 600)}
# A lost connection loses at most this many bytes.
_CHUNK_BYTES = 2**16


@dataclass(frozen=True)
class Patience:
    """Timeouts and retries.

    Attributes
    ----------
    connect, stall
        Seconds without a connection, or without a byte, after which an attempt ends.
    attempts
        The download fails after this many attempts in a row without a new byte.
    wait
        Seconds before the second attempt; doubled for each further one.
    """

    connect: float = 15.0
    stall: float = 30.0
    attempts: int = 5
    wait: float = 1.0


@dataclass(frozen=True)
class _WholeFile:
    """The file that a part file belongs to, as the server described it."""

    url: str
    validator: str | None
    length: Annotated[int, Meta(ge=0)] | None


def fetch(
    url: str,
    part: Path,
    remedy: str,
    *,
    show: Show,
    log: Callable[[str], object],
    patience: Patience,
) -> None:
    """Download a file, continuing a part file of an earlier call.

    Parameters
    ----------
    url
        The address, ``http`` or ``https``; redirects are followed.
    part
        The part file; at the end it is the whole file.
    remedy
        What the user can do about a failure: the end of the error's sentence.
    show
        Called with the progress.
    log
        Called with one line for each attempt that failed.
    patience
        Timeouts and retries.

    Raises
    ------
    InputError
        If the address is not valid, or the disk has too little space.
    UnavailableError
        If the server has no such file or does not answer. The part file is kept.
    """
    most, failures = _size(part), 0
    with requests.Session() as session:
        while reason := _attempt(session, url, part, remedy, show, patience):
            received = _size(part)
            failures = 0 if received > most else failures + 1
            most = max(most, received)
            if failures == patience.attempts:
                raise UnavailableError(
                    f"{url}: found {failures} attempts in a row without progress ({reason}), "
                    f"expected the file; {remedy}"
                )
            pause = patience.wait * 2 ** max(failures - 1, 0)
            log(f"{reason} after {received / MEBIBYTE:,.1f} MiB; again in {pause:.0f} s")
            time.sleep(pause)


def discard(part: Path) -> None:
    """Delete a part file and the description of its whole file."""
    part.unlink(missing_ok=True)
    _whole_path(part).unlink(missing_ok=True)


def _attempt(
    session: requests.Session, url: str, part: Path, remedy: str, show: Show, patience: Patience
) -> str | None:
    """Try once to complete a part file.

    Returns None if the file is complete, or the reason for which another attempt is needed.
    """
    whole = _read_whole(part, url)
    start = _size(part) if whole else 0
    if whole and start == whole.length:
        return None
    headers = {"Accept-Encoding": "identity"}
    if start and whole and whole.validator and whole.length:
        headers |= {"Range": f"bytes={start}-", "If-Range": whole.validator}
    times = (patience.connect, patience.stall)
    try:
        with session.get(url, headers=headers, stream=True, timeout=times) as response:
            if response.status_code == 206 and whole and _is_rest(response, whole, start):
                return _receive(response, part, start, whole.length, show)
            if response.status_code == 200:
                whole = _WholeFile(url, _validator(response), _length(response))
                discard(part)
                write_json(_whole_path(part), asdict(whole))
                return _receive(response, part, 0, whole.length, show)
            if response.status_code in {206, 416}:
                discard(part)
                return "the file has changed"
            status = f"{response.status_code} {response.reason}"
            if response.status_code in _TEMPORARY:
                return f"the server answers {status}"
            raise UnavailableError(f"{url}: found {status}, expected the file; {remedy}")
    except (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
        requests.exceptions.ContentDecodingError,
    ) as error:
        return _reason(error)
    except InputError:
        raise
    except (requests.RequestException, ValueError) as error:
        # For an invalid address, also one that a redirect leads to, a ValueError is raised.
        kind = InputError if isinstance(error, ValueError) else UnavailableError
        raise kind(f"{url}: found {one_line(error)}, expected the file; {remedy}") from error


def _receive(
    response: requests.Response, part: Path, start: int, length: int | None, show: Show
) -> str | None:
    """Append a response body to the first ``start`` bytes of a file of this length.

    Returns None if the file is complete, or the reason why the body ended early.
    """
    free = shutil.disk_usage(part.parent).free
    if length is not None and length - start > free:
        raise InputError(
            f"{part.parent}: found {free / MEBIBYTE:,.0f} MiB free, expected at least "
            f"{(length - start) / MEBIBYTE:,.0f} MiB for {response.url}"
        )
    received = start
    with part.open("ab" if start else "wb") as file:
        show(received, length)
        for chunk in response.iter_content(_CHUNK_BYTES):
            file.write(chunk)
            received += len(chunk)
            show(received, length)
    return None if length in {None, received} else "the connection was closed"


def _is_rest(response: requests.Response, whole: _WholeFile, start: int) -> bool:
    """Whether a partial response is the rest of the same file, from ``start`` on."""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", ""))
    if match is None:
        return False
    first, last, length = map(int, match.groups())
    validator = _validator(response)
    same = validator is None or validator == whole.validator
    return same and (first, last + 1, length) == (start, whole.length, whole.length)


def _validator(response: requests.Response) -> str | None:
    """A validator for ``If-Range``: a strong entity tag, else a date, else None."""
    tag = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _length(response: requests.Response) -> int | None:
    """The length of the file on disk, if the server sends it."""
    length = response.headers.get("Content-Length", "")
    plain = response.headers.get("Content-Encoding", "identity") == "identity"
    return int(length) if plain and length.isdecimal() else None


def _reason(error: requests.RequestException) -> str:
    """Why a connection failed, from the innermost exception."""
    # requests raises a ConnectionError for a timeout while it reads a body.
    if isinstance(error, requests.Timeout) or "timed out" in str(error).lower():
        return "no answer in time"
    inner: BaseException = error
    while inner.__cause__ or inner.__context__:
        inner = inner.__cause__ or inner.__context__ or inner
    text = inner.strerror if isinstance(inner, OSError) else None
    return text or one_line(inner) or type(inner).__name__


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _whole_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_whole(part: Path, url: str) -> _WholeFile | None:
    """The whole file of a part file; None if it is unknown or has another address."""
    try:
        whole = read_record(_whole_path(part), _WholeFile)
    except InputError:
        return None
    return whole if whole.url == url else None
