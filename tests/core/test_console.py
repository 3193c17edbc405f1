import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gsmflow.core.console import TerminatedError, command_line, ending, importing, make_console
from gsmflow.core.errors import InputError, UnavailableError, WriteError


def test_console_keeps_lines_of_120_characters_in_a_log_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_console(stderr=True).print("x" * 120)
    assert capsys.readouterr().err == "x" * 120 + "\n"


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("a.mat: found x, expected y"), 2, "error: a.mat: found x, expected y\n"),
        (UnavailableError("found 404"), 1, "error: found 404\n"),
        (KeyboardInterrupt(), 130, "interrupted; this continues it: python a.py --resume\n"),
        (TerminatedError(), 143, "interrupted; this continues it: python a.py --resume\n"),
        (
            WriteError(Path("/nowhere/x"), OSError(errno.EROFS, "Read-only file system")),
            1,
            "error: /nowhere/x: cannot be written (Read-only file system), expected a folder with "
            "room that may be written to\n",
        ),
        (
            WriteError(Path("/a/b"), NotADirectoryError(errno.ENOTDIR, "Not a directory")),
            2,
            "error: /a/b: cannot be written (Not a directory), expected a path through folders\n",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "b.npy"),
            1,
            "error: b.npy: found No such file or directory, expected to read or write there\n",
        ),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", "b.npy"),
            2,
            "error: b.npy: found File name too long, expected to read or write there\n",
        ),
    ],
)
def test_error_ends_the_program_with_its_code_and_sentence(
    error: BaseException,
    code: int,
    message: str,
    quiet: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["a.py"])
    console = make_console()
    console.quiet = quiet
    with pytest.raises(SystemExit) as ended, ending(console, "--resume"):
        raise error
    assert ended.value.code == code
    assert capsys.readouterr().err == ("" if quiet else message)


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"]])
def test_a_reader_that_has_ended_prints_no_error(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "gsmflow", *words]
    try:
        process = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writing)
    assert (process.returncode, process.stderr) == (1, b"")


def test_table_is_printed_where_there_is_only_ascii() -> None:
    code = (
        "from rich.table import Table; from gsmflow.core.console import make_console;"
        "table = Table('method', 'H ±', title='FLO · percent'); table.add_row('Ö', '5 ±1');"
        "make_console().print(table)"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True
    )
    text = done.stdout.decode("ascii")
    assert "FLO | percent" in text
    assert "| ?      | 5 +-1 |" in text


def interrupt_myself(number: signal.Signals) -> None:
    with ending(make_console()):
        os.kill(os.getpid(), number)
        signal.pause()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_interrupt_where_they_were_ignored_and_are_ignored_again(
    number: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.signal(number, signal.SIG_IGN)  # as in a background job, under nohup or cron
    try:
        with pytest.raises(SystemExit) as ended:
            interrupt_myself(number)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert ended.value.code == code
    assert capsys.readouterr().err.startswith("interrupted; this continues it: ")


def test_full_output_is_one_sentence() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        command = [sys.executable, "-m", "gsmflow", "--help"]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"error: standard output: found No space left on device")
    assert ended.stderr.count(b"\n") == 1


def test_command_line_is_as_typed_with_a_flag_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/gsmflow/__main__.py", "train", "my data"])
    assert command_line("--resume") == "python -m gsmflow train 'my data' --resume"
    monkeypatch.setattr(sys, "argv", ["/bin/gsmflow", "train", "a", "--resume"])
    assert command_line("--resume") == "gsmflow train a --resume"


def test_ctrl_c_while_importing_ends_without_a_traceback() -> None:
    with pytest.raises(SystemExit) as ended, importing():
        raise KeyboardInterrupt
    assert ended.value.code == 130


def test_ctrl_c_before_the_command_line_is_there_ends_without_a_traceback() -> None:
    code = (
        "import os, signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'gsmflow.cli.main':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from gsmflow.__main__ import main\n"
        "main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, b"")


@pytest.mark.parametrize(("closed", "code"), [(">&-", 2), ("2>&-", 2), (">&- 2>&-", 2)])
def test_closed_output_changes_no_exit_code(closed: str, code: int, tmp_path: Path) -> None:
    words = f"{sys.executable} -m gsmflow check {tmp_path / 'missing'} {closed}"
    ended = subprocess.run(["sh", "-c", words], capture_output=True, text=True, check=False)
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
