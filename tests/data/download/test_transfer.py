"""Downloads from a local server that fails in every way that servers and networks do."""

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


def download(site: Site, part: Path, url: str = "") -> list[str]:
    """Fetch the file and return the lines that were logged."""
    lines: list[str] = []
    fetch(
        url or site.url,
        part,
        "put it there by hand",
        show=lambda received, length: None,
        log=lines.append,
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
        download(site, part, url)
    message = str(caught.value)
    for word in (*words, "expected"):
        assert word in message
    assert "\n" not in message


def ranges(site: Site) -> list[str | None]:
    return [request.get("Range") for request in site.asked]


def test_file_is_fetched_once_with_one_request(site: Site, part: Path) -> None:
    assert download(site, part) == []
    assert part.read_bytes() == CONTENT
    assert download(site, part) == []
    assert len(site.asked) == 1
    discard(part)
    assert list(part.parent.iterdir()) == []


def test_only_the_rest_is_requested_after_a_lost_connection(site: Site, part: Path) -> None:
    site.odd = [cut(100_000), cut(250_000)]
    lines = download(site, part)
    assert part.read_bytes() == CONTENT
    first, second, third = ranges(site)
    assert first is None
    # A lost connection loses at most 64 KiB.
    for requested, at in ((second, 100_000), (third, 250_000)):
        assert requested is not None
        assert at - CHUNK <= int(requested.removeprefix("bytes=").rstrip("-")) <= at
    assert all(request["Accept-Encoding"] == "identity" for request in site.asked)
    assert len(lines) == 2
    assert "again in" in lines[0]


def test_stalled_connection_times_out_and_is_resumed(site: Site, part: Path) -> None:
    site.odd = [stall(200_000)]
    (line,) = download(site, part)
    assert line.startswith("no answer in time after 0.2 MiB")
    assert part.read_bytes() == CONTENT
    assert ranges(site)[1] is not None


def test_download_is_resumed_by_date_without_an_entity_tag(site: Site, part: Path) -> None:
    site.tag, site.date = False, True
    site.odd = [cut(200_000)]
    download(site, part)
    assert part.read_bytes() == CONTENT
    assert site.asked[1]["If-Range"].endswith("GMT")


def test_download_without_a_validator_starts_again(site: Site, part: Path) -> None:
    site.tag = False
    site.odd = [cut(200_000), changing(OTHER, proper)]
    download(site, part)
    assert part.read_bytes() == OTHER
    assert ranges(site) == [None, None]


@pytest.mark.parametrize("other", [OTHER, OTHER[:300_000], OTHER[:50], CONTENT + OTHER], ids=len)
def test_file_that_changed_between_attempts_is_fetched_whole(
    site: Site, part: Path, other: bytes
) -> None:
    site.odd = [cut(200_000), changing(other, proper)]
    download(site, part)
    assert part.read_bytes() == other


def test_changed_file_is_found_if_server_ignores_if_range(site: Site, part: Path) -> None:
    site.odd = [cut(200_000), changing(OTHER, heedless_of_conditions)]
    lines = download(site, part)
    assert part.read_bytes() == OTHER
    assert lines[1].startswith("the file has changed")


def test_whole_file_is_fetched_if_server_ignores_range(site: Site, part: Path) -> None:
    site.ranges = False
    site.odd = [cut(300_000)]
    download(site, part)
    assert part.read_bytes() == CONTENT


def test_download_fails_after_attempts_without_progress(site: Site, part: Path) -> None:
    site.ranges = False
    site.odd = [cut(200_000)] * 20
    refused(site, part, site.url, "found 3 attempts in a row", "put it there by hand")
    assert len(site.asked) == 4  # one with new bytes and three without


@pytest.mark.parametrize("code", [416, 206])
def test_response_with_other_bytes_starts_again(site: Site, part: Path, code: int) -> None:
    site.odd = [cut(200_000), status(code)]
    download(site, part)
    assert part.read_bytes() == CONTENT
    assert ranges(site)[2] is None


@pytest.mark.parametrize("chunked", [False, True])
def test_body_without_a_length_is_received(site: Site, part: Path, chunked: bool) -> None:
    site.odd = [without_length(chunked=chunked)]
    download(site, part)
    assert part.read_bytes() == CONTENT


def test_lost_connection_is_noticed_in_a_chunked_body(site: Site, part: Path) -> None:
    site.odd = [without_length(200_000, chunked=True)]
    assert len(download(site, part)) == 1
    assert part.read_bytes() == CONTENT
    assert ranges(site) == [None, None]


def test_redirects_are_followed_and_resuming_starts_at_the_first_address(
    site: Site, part: Path
) -> None:
    target = f"{site.address}/elsewhere.zip"
    site.odd = [redirect(target), cut(200_000), redirect(target)]
    download(site, part)
    assert part.read_bytes() == CONTENT
    paths = [request["path"] for request in site.asked]
    assert paths == ["/file.zip", "/elsewhere.zip", "/file.zip", "/elsewhere.zip"]
    assert ranges(site)[3] is not None


@pytest.mark.parametrize(
    "address",
    [
        "http://[::1/file.zip",
        "http://.example.com/",
        f"http://{'a' * 70}.com/",
        "http://host:99999999/",
        "ftp://host/file.zip",
        "http://\x01/",
    ],
)
def test_redirects_to_malformed_addresses_are_refused(address: str, site: Site, part: Path) -> None:
    site.odd = [redirect(address)]
    with pytest.raises(InputError, match=r"file\.zip: found .*, expected the file"):
        download(site, part)
    download(site, part)  # which nothing keeps from going on
    assert part.read_bytes() == CONTENT


def test_endless_redirects_are_refused(site: Site, part: Path) -> None:
    site.odd = [redirect("/file.zip")] * 40
    refused(site, part, site.url, "Exceeded 30 redirects", "put it there by hand")


@pytest.mark.parametrize("code", [403, 404])
def test_absent_file_is_requested_once(site: Site, part: Path, code: int) -> None:
    site.odd = [status(code)]
    refused(site, part, f"{site.url}: found {code} ", "put it there by hand")
    assert len(site.asked) == 1
    assert list(part.parent.iterdir()) == []


@pytest.mark.parametrize("code", [429, 500, 503])
def test_temporary_server_error_is_retried(site: Site, part: Path, code: int) -> None:
    site.odd = [status(code), status(code)]
    lines = download(site, part)
    assert part.read_bytes() == CONTENT
    assert [line.partition(" after")[0][:22] for line in lines] == [
        f"the server answers {code}"
    ] * 2


def test_permanent_server_error_ends_the_download_and_keeps_the_part_file(
    site: Site, part: Path
) -> None:
    site.odd = [cut(200_000), *[status(500)] * 3]
    refused(
        site,
        part,
        "3 attempts in a row without progress (the server answers 500",
        "put it there by hand",
    )
    assert download(site, part) == []
    assert part.read_bytes() == CONTENT
    assert ranges(site)[-1] is not None


def test_unreachable_server_gives_one_sentence(tmp_path: Path, part: Path) -> None:
    with serving(CONTENT) as site:
        pass
    refused(site, part, site.url, "refused", "put it there by hand")
    refused(site, part, "put it there by hand", url="http://no-such-host.invalid/file.zip")


def test_invalid_address_is_an_input_error(site: Site, part: Path) -> None:
    refused(site, part, "http://[", url="http://[/file.zip", kind=InputError)


def test_part_file_of_another_address_is_not_resumed(site: Site, part: Path) -> None:
    site.odd = [cut(200_000), *[status(500)] * 3]
    refused(site, part, "500")
    download(site, part, f"{site.address}/mirror.zip")
    assert part.read_bytes() == CONTENT
    assert ranges(site)[-1] is None


@pytest.mark.parametrize("text", ["{}", "[1]", "{"])
def test_damaged_description_of_the_part_file_starts_again(
    site: Site, part: Path, text: str
) -> None:
    part.write_bytes(OTHER[:200_000])
    part.with_name(f"{part.name}.json").write_text(text)
    download(site, part)
    assert part.read_bytes() == CONTENT


def test_too_little_disk_space_is_refused_before_the_download(
    site: Site, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=len(CONTENT) - 1))
    refused(site, part, f"{part.parent}: found 0 MiB free", "0 MiB for", kind=InputError)
    assert not part.exists()


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
def test_any_sequence_of_failures_ends_with_the_last_file(
    odd: list[Answer], tag: bool, ranges: bool, part: Path
) -> None:
    discard(part)
    with serving(CONTENT) as site:
        site.odd, site.tag, site.ranges, site.date = list(odd), tag, ranges, False
        patience = Patience(connect=2, stall=2, attempts=10, wait=0)
        shown: list[tuple[int, int | None]] = []
        fetch(
            site.url,
            part,
            "",
            show=lambda *progress: shown.append(progress),
            log=str,
            patience=patience,
        )
        assert part.read_bytes() == site.content
        assert shown[-1] == (len(site.content), len(site.content))


def test_download_of_a_killed_process_is_resumed(site: Site, part: Path) -> None:
    site.odd = [stall(300_000)]
    program = (
        "import sys; from pathlib import Path\n"
        "from gsmflow.data.download.transfer import Patience, fetch\n"
        "fetch(sys.argv[1], Path(sys.argv[2]), '', show=print, log=print, patience=Patience())"
    )
    words = [sys.executable, "-c", program, site.url, str(part)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    # A killed process loses what is still in its write buffer.
    while not (part.exists() and part.stat().st_size >= 2 * CHUNK):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < part.stat().st_size < len(CONTENT)
    download(site, part)
    assert part.read_bytes() == CONTENT
    assert ranges(site)[1] is not None
