"""The command ``download`` with a local server."""

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from rich.console import Console

from gsmflow.cli.download import DownloadOptions, run_download
from gsmflow.cli.main import main
from gsmflow.core.errors import InputError, UnavailableError, WriteError
from gsmflow.data.download.transfer import Patience
from gsmflow.data.formats.files import load_dataset
from tests.builders import make_dataset, write_gbu
from tests.http_server import Answer, Handler, Site, changing, corrupt, cut, proper, serving, status
from tests.zips import write_zip

ROOT = Path(__file__).resolve().parents[2]
QUICK = Patience(connect=2, stall=1, attempts=3, wait=0.001)
NAMES = ("AWA1", "AWA2", "APY", "CUB", "SUN")


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An archive like xlsa17, of small datasets."""
    root = tmp_path_factory.mktemp("made")
    files: dict[str, bytes] = {"xlsa17/README.md": b"text" * 1000}
    for seed, name in enumerate(NAMES):
        folder = write_gbu(root / name, make_dataset(seed=seed, d=600))
        for file in folder.iterdir():
            files[f"xlsa17/data/{name}/{file.name}"] = file.read_bytes()
        files[f"xlsa17/data/{name}/allclasses.txt"] = b"names"
    return write_zip(root / "xlsa17.zip", files).read_bytes()


@pytest.fixture
def site(content: bytes) -> Iterator[Site]:
    with serving(content) as site:
        yield site


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def archive_of(data: Path) -> Path:
    return data / "archives" / "xlsa17.zip"


def record_of(data: Path) -> dict[str, object]:
    record = json.loads(archive_of(data).with_suffix(".json").read_text())
    assert isinstance(record, dict)
    return record


def download(data: Path, site: Site, *names: str, sha256: str | None = None) -> str:
    """Download, and return what is printed outside a terminal."""
    console = Console(width=100, record=True, quiet=False, file=Path(os.devnull).open("w"))  # noqa: SIM115
    options = DownloadOptions(names=names or ("xlsa17",), data=data, url=site.url, sha256=sha256)
    with console.file:
        run_download(options, console, QUICK)
    return console.export_text()


def refused(data: Path, site: Site, *words: str, sha256: str | None = None) -> None:
    with pytest.raises((InputError, UnavailableError)) as caught:
        download(data, site, sha256=sha256)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def files_in(data: Path) -> set[str]:
    files = (path for path in data.rglob("*") if path.is_file())
    return {str(path.relative_to(data)) for path in files} - {"archives/.lock"}


ARCHIVE = {"archives/xlsa17.zip", "archives/xlsa17.json"}


def files_of(*names: str) -> set[str]:
    return {f"{name}/{file}" for name in names for file in ("res101.mat", "att_splits.mat")}


def test_downloaded_archive_becomes_readable_datasets(data: Path, site: Site) -> None:
    text = download(data, site)
    assert files_in(data) == ARCHIVE | files_of(*NAMES)
    for name in NAMES:
        dataset = load_dataset(data, name, features="res101", semantics="att")
        assert dataset.features.shape == (120, 600)
    digest = hashlib.sha256(site.content).hexdigest()
    record = record_of(data)
    assert (record["url"], record["sha256"]) == (site.url, digest)
    assert digest in text
    assert f"fetching {site.url}" in text


def test_log_has_a_plain_line_for_each_tenth(data: Path, site: Site) -> None:
    lines = download(data, site).splitlines()
    size = f"{len(site.content) / 2**20:.1f} MiB"
    assert 8 <= sum(line.endswith(f" of {size}") for line in lines) <= 11
    assert not any("\x1b" in line or "\r" in line for line in lines)


def test_second_call_only_verifies(data: Path, site: Site) -> None:
    download(data, site)
    text = download(data, site)
    assert len(site.asked) == 1
    assert text.count("verified") == 1 + 2 * len(NAMES)
    archive_of(data).unlink()  # the user may delete it after unpacking
    assert download(data, site).count("verified") == 2 * len(NAMES)
    assert len(site.asked) == 1


def test_datasets_are_unpacked_one_at_a_time_from_one_download(data: Path, site: Site) -> None:
    for number in (1, 2):
        download(data, site, *("AWA1", "APY")[:number])
        assert files_in(data) == ARCHIVE | files_of(*("AWA1", "APY")[:number])
    assert len(site.asked) == 1


def test_deleted_file_is_unpacked_again(data: Path, site: Site) -> None:
    download(data, site)
    (data / "SUN" / "res101.mat").unlink()
    download(data, site)
    assert files_in(data) == ARCHIVE | files_of(*NAMES)
    assert len(site.asked) == 1
    (data / "SUN" / "res101.mat").unlink()
    archive_of(data).unlink()
    download(data, site)
    assert files_in(data) == ARCHIVE | files_of(*NAMES)
    assert len(site.asked) == 2


def test_changed_file_is_refused_and_kept(data: Path, site: Site) -> None:
    download(data, site)
    file = data / "CUB" / "res101.mat"
    file.write_bytes(b"my own features")
    refused(data, site, f"{file}: found other content", "expected SHA-256", "move it away")
    assert file.read_bytes() == b"my own features"


def test_changed_archive_is_refused(data: Path, site: Site) -> None:
    download(data, site)
    archive_of(data).write_bytes(site.content[:-1])
    refused(data, site, f"{archive_of(data)}: found SHA-256", "of the first download")


def test_another_archive_at_the_same_address_is_refused(
    data: Path, site: Site, tmp_path: Path
) -> None:
    download(data, site, "SUN")
    archive_of(data).unlink()
    site.content = write_zip(tmp_path / "b.zip", {"a/AWA1/res101.mat": b"x"}).read_bytes()
    refused(data, site, f"{site.url}: found SHA-256", "xlsa17.json", "the download was deleted")
    assert files_in(data) == {"archives/xlsa17.json"} | files_of("SUN")


def test_archive_provided_by_the_user_is_used(data: Path, site: Site) -> None:
    archive_of(data).parent.mkdir(parents=True)
    archive_of(data).write_bytes(site.content)
    download(data, site)
    assert site.asked == []
    assert files_in(data) == ARCHIVE | files_of(*NAMES)
    assert record_of(data)["url"] is None
    download(data, site)


def test_damaged_archive_provided_by_the_user_is_refused_and_kept(data: Path, site: Site) -> None:
    archive_of(data).parent.mkdir(parents=True)
    archive_of(data).write_bytes(site.content[:-1000])
    refused(data, site, f"{archive_of(data)}: found no intact zip archive")
    assert files_in(data) == {"archives/xlsa17.zip"}


def test_download_survives_lost_connections_and_server_errors(data: Path, site: Site) -> None:
    half = len(site.content) // 2
    site.odd = [status(503), cut(half), status(500)]
    text = download(data, site)
    assert files_in(data) == ARCHIVE | files_of(*NAMES)
    assert "the server answers 503" in text
    assert text.count("; again in ") == 3
    assert record_of(data)["sha256"] == hashlib.sha256(site.content).hexdigest()


@pytest.mark.parametrize(
    "answer",
    [changing(b"<html>Please log in</html>", proper), corrupt(200_000)],
    ids=["error page", "corrupted"],
)
def test_download_that_is_no_intact_archive_is_deleted(
    data: Path, site: Site, answer: Answer
) -> None:
    content = site.content
    site.odd = [answer]
    refused(data, site, f"{site.url}", "found ", "the download was deleted")
    assert files_in(data) == set()
    site.content = content
    download(data, site)
    assert files_in(data) == ARCHIVE | files_of(*NAMES)


def test_archive_without_the_files_is_refused(data: Path, site: Site, tmp_path: Path) -> None:
    site.content = write_zip(tmp_path / "b.zip", {"a/AWA1/res101.mat": b"x"}).read_bytes()
    refused(data, site, "found 0 members that end in AWA1/att_splits.mat, expected one")
    assert files_in(data) == ARCHIVE


def test_given_checksum_is_checked(data: Path, site: Site) -> None:
    right = hashlib.sha256(site.content).hexdigest()
    refused(data, site, "found SHA-256 " + right, "as of --sha256", sha256="0" * 64)
    assert files_in(data) == set()
    download(data, site, sha256=right.upper())
    refused(data, site, f"{archive_of(data)}: found SHA-256 {right}", sha256="0" * 64)


def test_given_checksum_replaces_the_recorded_one(data: Path, site: Site, tmp_path: Path) -> None:
    download(data, site, "SUN")
    archive_of(data).unlink()
    made = write_gbu(tmp_path / "made", make_dataset(seed=9))
    files = {f"x/SUN/{file.name}": file.read_bytes() for file in made.iterdir()}
    site.content = write_zip(tmp_path / "b.zip", files).read_bytes()
    digest = hashlib.sha256(site.content).hexdigest()
    with pytest.raises(InputError, match=r"SUN/.*found another file than in"):
        download(data, site, "SUN", sha256=digest)
    for file in (data / "SUN").iterdir():
        file.unlink()
    download(data, site, "SUN", sha256=digest)
    assert record_of(data)["sha256"] == digest
    assert (data / "SUN" / "res101.mat").read_bytes() == files["x/SUN/res101.mat"]


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"url": "a", "sha256": 3}'])
def test_damaged_record_is_refused(data: Path, site: Site, text: str) -> None:
    download(data, site)
    archive_of(data).with_suffix(".json").write_text(text)
    refused(data, site, str(archive_of(data).with_suffix(".json")), "expected")


def test_two_downloads_into_one_folder_are_refused(data: Path, site: Site) -> None:
    (data / "archives").mkdir(parents=True)
    with FileLock(data / "archives" / ".lock"):
        refused(data, site, "found another process that writes to it")


def test_file_instead_of_the_data_folder_is_refused(data: Path, site: Site) -> None:
    data.write_text("not a folder")
    with pytest.raises(WriteError, match=f"{data}.* expected a path through folders") as caught:
        download(data, site)
    assert caught.value.is_mistake


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "NAME: found none, expected one or more of xlsa17"),
        (["CIFAR"], "NAME: found 'CIFAR', expected one or more of xlsa17"),
        (["xlsa17", "FLO", "--url", "http://a/b"], "--url: found it with the archives xlsa17, cv"),
        (["CUB", "--sha256", "0" * 64], "--sha256: found it with the archives xlsa17, cub-"),
        (["FLO", "--url", "ftp://a/b"], "--url: found 'ftp://a/b', expected an address http://"),
        (["FLO", "--url", "b.zip"], "--url: found 'b.zip', expected an address http://"),
        (["FLO", "--sha256", "abc"], "--sha256: found 'abc', expected 64 hexadecimal digits"),
    ],
)
def test_wrong_command_line_ends_with_code_2(
    data: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["download", *words, "--data", str(data)])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not data.exists()


def test_absent_archive_ends_with_code_1(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(b"") as site:
        site.odd = [status(404)]
        with pytest.raises(SystemExit) as ended:
            main(["download", "xlsa17", "--data", str(data), "--url", site.url])
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"error: {site.url}: found 404 Not Found, expected the file; fetch it by other means and "
        f"put it at {archive_of(data)}, from where it is taken"
    )


def test_interrupted_download_is_resumed_by_the_next_call(
    data: Path, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    part = data / "archives" / ".xlsa17.zip.part"

    def interrupt(handler: Handler, site: Site) -> None:
        cut(len(site.content) // 2)(handler, site)
        deadline = time.monotonic() + 10
        while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        site.gate.wait(10)

    site.odd = [interrupt]
    # As in a shell script's background jobs; the command heeds it all the same.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit) as ended:
            main(["download", "xlsa17", "--data", str(data), "--url", site.url])
    finally:
        signal.signal(signal.SIGINT, before)
        site.gate.set()
    assert ended.value.code == 130
    assert capsys.readouterr().err.startswith("interrupted; this continues it: ")
    assert files_in(data) == {"archives/.xlsa17.zip.part", "archives/.xlsa17.zip.part.json"}
    download(data, site)
    assert "Range" in site.asked[-1]
    assert files_in(data) == ARCHIVE | files_of(*NAMES)


@pytest.mark.parametrize(
    ("started", "name"),
    [
        ("/usr/bin/gsmflow", "gsmflow"),
        ("gsmflow.exe", "gsmflow"),
        ("/site-packages/gsmflow/__main__.py", "python -m gsmflow"),
    ],
)
def test_usage_names_the_program_as_it_was_started(
    started: str, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert '[project.scripts]\ngsmflow = "gsmflow.__main__:main"' in text
    monkeypatch.setattr(sys, "argv", [started, "--help"])
    main()
    assert capsys.readouterr().out.startswith(f"usage: {name} VERB ")
