"""Fetching from a server on this machine that does what servers and networks do at their worst."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gsmflow.core.errors import InputError, UnavailableError
from gsmflow.data.download.transfer import Patience, discard, fetch
from tests.http_server import (
    Answer,
    Site,
    changing,
    corrupt,
    cut,
    heedless_of_conditions,
    proper,
    redirect,
    serving,
    stall,
    status,
    without_length,
)

ROOT = Path(__file__).resolve().parents[3]
QUICK = Patience(connect=2, stall=1, attempts=3, wait=0.001)
RNG = np.random.default_rng(0)
CONTENT, OTHER = RNG.bytes(400_000), RNG.bytes(400_000)
CHUNK = 2**16


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(CONTENT) as site:
        yield site


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / ".file.part"


def get(site: Site, part: Path, url: str = "") -> list[str]:
    """Fetch the file, and give the lines that were told on the way."""
    lines: list[str] = []
    fetch(
        url or site.url,
        part,
        "put it there by hand",
        show=lambda there, length: None,
        tell=lines.append,
        patience=QUICK,
    )
    return lines


def refused(
    site: Site,
    part: Path,
    *words: str,
    url: str = "",
    kind: type[Exception] = UnavailableError,
) -> None:
    with pytest.raises(kind) as caught:
        get(site, part, url)
    message = str(caught.value)
    for word in (*words, "expected"):
        assert word in message
    assert "\n" not in message


def ranges(site: Site) -> list[str | None]:
    return [asked.get("Range") for asked in site.asked]


def test_a_file_is_fetched_in_one_request_and_not_again(site: Site, part: Path) -> None:
    assert get(site, part) == []
    assert part.read_bytes() == CONTENT
    assert get(site, part) == []
    assert len(site.asked) == 1
    discard(part)
    assert list(part.parent.iterdir()) == []


def test_after_a_cut_only_the_rest_is_asked_for(site: Site, part: Path) -> None:
    site.odd = [cut(100_000), cut(250_000)]
    lines = get(site, part)
    assert part.read_bytes() == CONTENT
    first, second, third = ranges(site)
    assert first is None
    # What came before the cut is lost for a piece of 64 KiB at most.
    for asked, at in ((second, 100_000), (third, 250_000)):
        assert asked is not None
        assert at - CHUNK <= int(asked.removeprefix("bytes=").rstrip("-")) <= at
    assert all(asked["Accept-Encoding"] == "identity" for asked in site.asked)
    assert len(lines) == 2
    assert "again in" in lines[0]


def test_a_stalled_connection_is_given_up_and_taken_up_again(site: Site, part: Path) -> None:
    site.odd = [stall(200_000)]
    (line,) = get(site, part)
    assert line.startswith("no answer in time after 0.2 MiB")
    assert part.read_bytes() == CONTENT
    assert ranges(site)[1] is not None


def test_a_file_that_is_dated_but_not_tagged_is_continued(site: Site, part: Path) -> None:
    site.tag, site.date = False, True
    site.odd = [cut(200_000)]
    get(site, part)
    assert part.read_bytes() == CONTENT
    assert site.asked[1]["If-Range"].endswith("GMT")


def test_without_a_validator_a_part_is_not_trusted(site: Site, part: Path) -> None:
    site.tag = False
    site.odd = [cut(200_000), changing(OTHER, proper)]
    get(site, part)
    assert part.read_bytes() == OTHER
    assert ranges(site) == [None, None]


@pytest.mark.parametrize("other", [OTHER, OTHER[:300_000], OTHER[:50], CONTENT + OTHER], ids=len)
def test_a_file_that_changed_between_two_attempts_is_not_spliced(
    site: Site, part: Path, other: bytes
) -> None:
    site.odd = [cut(200_000), changing(other, proper)]
    get(site, part)
    assert part.read_bytes() == other


def test_a_server_that_ignores_the_condition_is_seen_through(site: Site, part: Path) -> None:
    site.odd = [cut(200_000), changing(OTHER, heedless_of_conditions)]
    lines = get(site, part)
    assert part.read_bytes() == OTHER
    assert lines[1].startswith("the file has changed")


def test_a_server_that_ignores_ranges_sends_all_again(site: Site, part: Path) -> None:
    site.ranges = False
    site.odd = [cut(300_000)]
    get(site, part)
    assert part.read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_and_always_cuts_is_given_up(site: Site, part: Path) -> None:
    site.ranges = False
    site.odd = [cut(200_000)] * 20
    refused(site, part, site.url, "found 3 attempts in a row", "put it there by hand")
    assert len(site.asked) == 4  # one that brought something, and three that brought no more


@pytest.mark.parametrize("code", [416, 206])
def test_an_answer_about_other_bytes_starts_anew(site: Site, part: Path, code: int) -> None:
    site.odd = [cut(200_000), status(code)]
    get(site, part)
    assert part.read_bytes() == CONTENT
    assert ranges(site)[2] is None


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_without_a_length(site: Site, part: Path, chunked: bool) -> None:
    site.odd = [without_length(chunked=chunked)]
    get(site, part)
    assert part.read_bytes() == CONTENT


def test_a_cut_is_seen_in_chunks_without_a_length(site: Site, part: Path) -> None:
    site.odd = [without_length(200_000, chunked=True)]
    assert len(get(site, part)) == 1
    assert part.read_bytes() == CONTENT
    assert ranges(site) == [None, None]


def test_redirects_are_followed_and_the_rest_is_asked_for_at_the_first_address(
    site: Site, part: Path
) -> None:
    there = f"{site.address}/elsewhere.zip"
    site.odd = [redirect(there), cut(200_000), redirect(there)]
    get(site, part)
    assert part.read_bytes() == CONTENT
    paths = [asked["path"] for asked in site.asked]
    assert paths == ["/file.zip", "/elsewhere.zip", "/file.zip", "/elsewhere.zip"]
    assert ranges(site)[3] is not None


def test_redirects_in_a_circle_are_refused(site: Site, part: Path) -> None:
    site.odd = [redirect("/file.zip")] * 40
    refused(site, part, site.url, "Exceeded 30 redirects", "put it there by hand")


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_file_that_is_not_there_is_not_asked_for_twice(site: Site, part: Path, code: int) -> None:
    site.odd = [status(code)]
    refused(site, part, f"{site.url}: found {code} ", "put it there by hand")
    assert len(site.asked) == 1
    assert list(part.parent.iterdir()) == []


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(site: Site, part: Path, code: int) -> None:
    site.odd = [status(code), status(code)]
    lines = get(site, part)
    assert part.read_bytes() == CONTENT
    assert [line.partition(" after")[0][:22] for line in lines] == [
        f"the server answers {code}"
    ] * 2


def test_a_server_in_lasting_trouble_is_given_up_and_the_part_kept(site: Site, part: Path) -> None:
    site.odd = [cut(200_000), *[status(500)] * 3]
    refused(
        site,
        part,
        "3 attempts in a row without progress (the server answers 500",
        "put it there by hand",
    )
    assert get(site, part) == []
    assert part.read_bytes() == CONTENT
    assert ranges(site)[-1] is not None


def test_without_a_server_there_is_one_sentence(tmp_path: Path, part: Path) -> None:
    with serving(CONTENT) as site:
        pass
    refused(site, part, site.url, "refused", "put it there by hand")
    refused(site, part, "put it there by hand", url="http://no-such-host.invalid/file.zip")


def test_an_address_that_is_none_is_the_users_mistake(site: Site, part: Path) -> None:
    refused(site, part, "http://[", url="http://[/file.zip", kind=InputError)


def test_a_part_of_another_address_is_not_continued(site: Site, part: Path) -> None:
    site.odd = [cut(200_000), *[status(500)] * 3]
    refused(site, part, "500")
    get(site, part, f"{site.address}/mirror.zip")
    assert part.read_bytes() == CONTENT
    assert ranges(site)[-1] is None


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"url": 3}', "{"])
def test_a_damaged_note_about_the_part_starts_anew(site: Site, part: Path, text: str) -> None:
    part.write_bytes(OTHER[:200_000])
    part.with_name(f"{part.name}.json").write_text(text)
    get(site, part)
    assert part.read_bytes() == CONTENT


def test_too_little_room_is_said_before_anything_comes(
    site: Site, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=len(CONTENT) - 1))
    refused(site, part, f"{part.parent}: found 0 MiB free", "0 MiB for", kind=InputError)
    assert not part.exists()


def test_corruption_under_way_is_left_to_the_checksum(site: Site, part: Path) -> None:
    site.odd = [corrupt(1000)]
    get(site, part)
    assert len(part.read_bytes()) == len(CONTENT)
    assert part.read_bytes() != CONTENT


ODD = st.one_of(
    st.integers(1, len(CONTENT)).map(cut),
    st.sampled_from([status(500), status(503), status(416), without_length(100_000, chunked=True)]),
    st.integers(1, len(CONTENT)).map(lambda at: changing(OTHER, cut(at))),
    st.integers(1, len(CONTENT)).map(lambda at: changing(CONTENT, cut(at))),
)


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(odd=st.lists(ODD, max_size=6), tag=st.booleans(), ranges=st.booleans())
def test_what_arrives_is_what_lies_there_last(
    odd: list[Answer], tag: bool, ranges: bool, part: Path
) -> None:
    discard(part)
    with serving(CONTENT) as site:
        site.odd, site.tag, site.ranges, site.date = list(odd), tag, ranges, False
        patience = Patience(connect=2, stall=2, attempts=10, wait=0)
        show = []
        fetch(site.url, part, "", show=lambda *at: show.append(at), tell=str, patience=patience)
        assert part.read_bytes() == site.content
        assert show[-1] == (len(site.content), len(site.content))


def test_a_killed_process_leaves_what_the_next_continues(site: Site, part: Path) -> None:
    site.odd = [stall(300_000)]
    program = (
        "import sys; from pathlib import Path\n"
        "from gsmflow.data.download.transfer import Patience, fetch\n"
        "fetch(sys.argv[1], Path(sys.argv[2]), '', show=print, tell=print, patience=Patience())"
    )
    words = [sys.executable, "-c", program, site.url, str(part)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    # What was written may still be in the process's own buffer when it is killed.
    while not (part.exists() and part.stat().st_size >= 2 * CHUNK):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < part.stat().st_size < len(CONTENT)
    get(site, part)
    assert part.read_bytes() == CONTENT
    assert ranges(site)[1] is not None
