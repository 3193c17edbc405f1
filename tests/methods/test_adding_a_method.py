"""The method of docs/contributing.md: one file and one line, and every command knows it.

Slow: the commands and the contract run in processes over a copy of the package.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.builders import make_dataset, write_gbu

ROOT = Path(__file__).resolve().parents[2]
NAME, LABEL = "nearest-mean", "Nearest mean"
COPIED = ("train_DIGITS.py", "model.py", "util.py", "classifier.py", "pyproject.toml")
BLOCK = re.compile(r"<!-- toy method -->\n```python\n(.*?)```\n", re.DOTALL)
LINE = re.compile(r'`("nearest-mean": "[\w.]+",)`')
FLAGS = [
    *("--model", NAME, "--epochs", "3", "--batch-size", "16"),
    *("--device", "cpu", "--out", "out", "--beside"),
]
COMMANDS = {
    "train": ["train", "data/TINY", *FLAGS, "--run", "toy"],
    "ablate": ["ablate", "data/TINY", *FLAGS, "--no-calibrate"],
    "sweep": ["sweep", "data/TINY", "--over", "noise", "0.1", "0.2", *FLAGS, "--no-calibrate"],
    "tune": [
        *("tune", "data/TINY", "--trials", "2", "--class-draws", "1"),
        *("--finalists", "1", "--finalist-seeds", "0", *FLAGS),
    ],
    "beside": ["train", "data/TINY", "--model", "eszsl", *FLAGS[6:], NAME, "--run", "beside"],
    "report": ["report", "out/TINY/toy"],
    "results": ["results", "out", "--into", "tables"],
    "predict": ["predict", "out/TINY/toy", "rows.npy", "--into", "answers.csv", "--device", "cpu"],
    "add-class": [
        *("add-class", "out/TINY/toy", "--name", "new", "--semantics", "new.npy"),
        *("--into", "grown", "--device", "cpu"),
    ],
    "published": ["train", "DIGITS", "--model", NAME, "--help"],
}
# Rendering pictures takes most of the time.
RUNNER = f"""
import json, sys
from contextlib import redirect_stdout
from pathlib import Path
from gsmflow.cli.main import main
from gsmflow.reports import figures
figures.save_figure = lambda figure, path, dpi=120: path.write_bytes(b"a stand-in for a picture")
codes = {{}}
for name, words in {COMMANDS!r}.items():
    codes[name] = 0
    with Path(f"{{name}}.txt").open("w") as out, redirect_stdout(out):
        try:
            main(words)
        except SystemExit as ended:
            codes[name] = ended.code or 0
Path("codes.json").write_text(json.dumps(codes))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package that has the method, with a dataset to run on."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("gsmflow", "tests"):
        shutil.copytree(ROOT / name, folder / name)
    for name in COPIED:
        shutil.copy(ROOT / name, folder / name)
    page = (ROOT / "docs" / "contributing.md").read_text()
    ((source,), (line,)) = BLOCK.findall(page), LINE.findall(page)
    (folder / "gsmflow" / "methods" / "nearest_mean.py").write_text(source)
    registry = folder / "gsmflow" / "methods" / "registry.py"
    first = '    "gsmflow": "gsmflow.methods.gsmflow",\n'
    assert first in registry.read_text()
    registry.write_text(registry.read_text().replace(first, f"{first}    {line}\n"))
    dataset = make_dataset()
    write_gbu(folder / "data" / "TINY", dataset)
    np.save(folder / "rows.npy", dataset.features[:5])
    np.save(folder / "new.npy", np.linspace(-1, 1, dataset.semantics.shape[1]))
    return folder


def run_in(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_every_command_knows_a_new_method(copy: Path) -> None:
    done = run_in(copy, "-c", RUNNER)
    assert done.returncode == 0, done.stderr
    assert json.loads((copy / "codes.json").read_text()) == dict.fromkeys(COMMANDS, 0), done.stderr

    runs = copy / "out" / "TINY"
    metrics = json.loads((runs / "toy" / "metrics.json").read_text())
    assert metrics["model"] == LABEL
    assert metrics["calibrated"] is not None
    assert [set(e) for e in json.loads((runs / "toy" / "history.json").read_text())] == [
        {"epoch", "distance"}
    ] * 3
    assert LABEL in (copy / "train.txt").read_text()
    (ablation,) = runs.glob("*/ablation.json")
    assert list(json.loads(ablation.read_text())["variants"]) == ["full", "no-noise", "cosine"]
    (sweep,) = runs.glob("*/sweep.json")
    assert json.loads(sweep.read_text())["model"] == LABEL
    assert len(json.loads(sweep.read_text())["points"]) == 2
    (chosen,) = runs.glob("tune-*/recipe.json")
    found = json.loads(chosen.read_text())
    assert found["method"] == NAME
    assert {"noise", "similarity", "epochs", "feature_scaling"} <= found["settings"].keys()
    beside = json.loads((runs / "beside" / "metrics.json").read_text())
    assert list(beside["baselines"]) == [LABEL]
    assert LABEL in (runs / "toy" / "report.html").read_text()
    assert LABEL in (copy / "tables" / "TINY.md").read_text()
    assert len((copy / "answers.csv").read_text().splitlines()) == 6
    assert json.loads((copy / "grown" / "metrics.json").read_text())["model"] == LABEL
    shown = (copy / "published.txt").read_text()
    assert re.search(r"--noise .*\(default: 0\.05\)", shown, re.DOTALL)
    assert "--latent-dim" not in shown


def test_contract_tests_include_a_new_method(copy: Path) -> None:
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/methods/test_contract.py")
    done = run_in(copy, *words, "-k", f"[{NAME}]")
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed.group(1)) >= 14
