import os
import subprocess
import sys

import pytest

from gsmflow.core.console import ending, make_console
from gsmflow.core.errors import InputError, UnavailableError


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
        (KeyboardInterrupt(), 130, "interrupted; kept\n"),
    ],
)
def test_error_ends_the_program_with_its_code_and_sentence(
    error: BaseException,
    code: int,
    message: str,
    quiet: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    console = make_console()
    console.quiet = quiet
    with pytest.raises(SystemExit) as ended, ending(console, "interrupted; kept"):
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
