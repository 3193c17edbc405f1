import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gsmflow.core.threads import SPIN_COUNT

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import json, os, sys
import {module}
names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
print(json.dumps([os.environ.get(name) for name in names]))
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [str(SPIN_COUNT), None]),
        ({"GOMP_SPINCOUNT": "7"}, ["7", None]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, [None, "ACTIVE"]),
    ],
)
@pytest.mark.parametrize("module", ["gsmflow", "benchmarks"])
def test_spinning_is_limited_unless_the_user_has_set_it(
    module: str, given: dict[str, str], expected: list[str | None]
) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module=module)],
        env=environment | given,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == expected


def test_package_is_imported_without_torch() -> None:
    program = "import sys, gsmflow; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"import json; {program}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"torch", "numpy", "sklearn", "scipy", "matplotlib"}


def test_help_of_a_script_imports_no_more_than_it_needs() -> None:
    program = (
        "import contextlib, io, json, runpy, sys\n"
        "sys.argv = ['train_FLO.py', '--help']\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    runpy.run_path('train_FLO.py', run_name='__main__')\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert "torch" in loaded
    slow = {"FrEIA", "scipy", "sklearn", "matplotlib", "h5py", "PIL", "pandas", "optuna", "ot"}
    assert not loaded & (slow | {"lightning_fabric", "requests"})
