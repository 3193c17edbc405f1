"""Fetching a large file over HTTP, so that neither a cut, a stall nor a kill loses what came.

What came so far is kept in a part file, beside it what was said of the whole: its address, its
length, and its validator (``ETag`` or ``Last-Modified``). The rest is asked for with ``Range`` and
``If-Range``, and joined to the part only where the answer is the rest of that same file (RFC 9110,
sections 13 and 14). Without a validator or a length nothing is joined: the file is fetched anew.
"""

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import requests

from gsmflow.core.errors import InputError, UnavailableError, one_line
from gsmflow.core.files import read_json, write_json

__all__ = ["MEBIBYTE", "Patience", "Show", "discard", "fetch"]

MEBIBYTE = 2**20

# Called with how many bytes are there, and of how many; None where that is not known.
Show: TypeAlias = Callable[[int, int | None], object]

# What the server may yet do: time-outs, too many requests, and all faults of its own.
_PASSING = {408, 425, 429, *range(500, 600)}
# So much is lost at most where a connection breaks.
_CHUNK_BYTES = 2**16


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server, and how often.

    Attributes
    ----------
    connect, stall
        Seconds without a connection, or without a byte, after which an attempt is given up.
    attempts
        How many attempts in a row may bring no more of the file than there was.
    wait
        Seconds before the second attempt; doubles with each further one.
    """

    connect: float = 15.0
    stall: float = 30.0
    attempts: int = 5
    wait: float = 1.0


@dataclass(frozen=True)
class _Whole:
    """What was said of the file that a part is of."""

    url: str
    validator: str | None
    length: int | None


def fetch(
    url: str,
    part: Path,
    remedy: str,
    *,
    show: Show,
    tell: Callable[[str], object],
    patience: Patience,
) -> None:
    """Complete a part file until it is the file at an address.

    Parameters
    ----------
    url
        The address, ``http`` or ``https``; redirects are followed.
    part
        The part file, new or as an earlier call left it.
    remedy
        What the user may do about a failure: the end of the sentence that names it.
    show
        Told the progress.
    tell
        Told, in a line, of each attempt that ended early.
    patience
        When to give up.

    Raises
    ------
    InputError
        If the address is none, or there is no room for the file.
    UnavailableError
        If there is no such file, or no answer. What came of it stays in ``part``.
    """
    furthest, failures = _size(part), 0
    with requests.Session() as session:
        while cut := _attempt(session, url, part, remedy, show, patience):
            reached = _size(part)
            failures = 0 if reached > furthest else failures + 1
            furthest = max(furthest, reached)
            if failures == patience.attempts:
                raise UnavailableError(
                    f"{url}: found {failures} attempts in a row without progress ({cut}), "
                    f"expected the file; {remedy}"
                )
            pause = patience.wait * 2 ** max(failures - 1, 0)
            tell(f"{cut} after {reached / MEBIBYTE:,.1f} MiB; again in {pause:.0f} s")
            time.sleep(pause)


def discard(part: Path) -> None:
    """Remove a part file and what is known of it."""
    part.unlink(missing_ok=True)
    _whole_file(part).unlink(missing_ok=True)


def _attempt(
    session: requests.Session, url: str, part: Path, remedy: str, show: Show, patience: Patience
) -> str | None:
    """Why an attempt ended early, where another may bring more; None if the file is complete."""
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
                whole = _Whole(url, _validator(response), _length(response))
                discard(part)
                write_json(_whole_file(part), asdict(whole))
                return _receive(response, part, 0, whole.length, show)
            if response.status_code in {206, 416}:
                discard(part)
                return "the file has changed"
            answer = f"{response.status_code} {response.reason}"
            if response.status_code in _PASSING:
                return f"the server answers {answer}"
            raise UnavailableError(f"{url}: found {answer}, expected the file; {remedy}")
    except (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
        requests.exceptions.ContentDecodingError,
    ) as error:
        return _reason(error)
    except requests.RequestException as error:
        # Of an address that is none, requests makes a ValueError.
        kind = InputError if isinstance(error, ValueError) else UnavailableError
        raise kind(f"{url}: found {one_line(error)}, expected the file; {remedy}") from error


def _receive(
    response: requests.Response, part: Path, start: int, length: int | None, show: Show
) -> str | None:
    """Add a body to the first ``start`` bytes of a file of this length; why it ended early."""
    free = shutil.disk_usage(part.parent).free
    if length is not None and length - start > free:
        raise InputError(
            f"{part.parent}: found {free / MEBIBYTE:,.0f} MiB free, expected at least "
            f"{(length - start) / MEBIBYTE:,.0f} MiB for {response.url}"
        )
    there = start
    with part.open("ab" if start else "wb") as file:
        show(there, length)
        for chunk in response.iter_content(_CHUNK_BYTES):
            file.write(chunk)
            there += len(chunk)
            show(there, length)
    return None if length in {None, there} else "the connection was closed"


def _is_rest(response: requests.Response, whole: _Whole, start: int) -> bool:
    """Whether a partial answer is the rest of the file that the part is of, from ``start`` on."""
    said = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", ""))
    if said is None:
        return False
    first, last, length = map(int, said.groups())
    validator = _validator(response)
    same = validator is None or validator == whole.validator
    return same and (first, last + 1, length) == (start, whole.length, whole.length)


def _validator(response: requests.Response) -> str | None:
    """What ``If-Range`` accepts: a strong entity tag, or else a date."""
    tag = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _length(response: requests.Response) -> int | None:
    """The length of the whole file as it will lie on disk, where the server says it."""
    length = response.headers.get("Content-Length", "")
    plain = response.headers.get("Content-Encoding", "identity") == "identity"
    return int(length) if plain and length.isdecimal() else None


def _reason(error: requests.RequestException) -> str:
    """Why a connection failed, without the layers of the libraries that raised it."""
    # A time-out inside a body comes as a ConnectionError.
    if isinstance(error, requests.Timeout) or "timed out" in str(error).lower():
        return "no answer in time"
    inner: BaseException = error
    while inner.__cause__ or inner.__context__:
        inner = inner.__cause__ or inner.__context__ or inner
    said = inner.strerror if isinstance(inner, OSError) else None
    return said or one_line(inner) or type(inner).__name__


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _whole_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_whole(part: Path, url: str) -> _Whole | None:
    """What is known of the file that a part is of; None where it is not of this address."""
    try:
        whole = _Whole(**read_json(_whole_file(part)))
    except (InputError, TypeError):
        return None
    return whole if whole.url == url else None
