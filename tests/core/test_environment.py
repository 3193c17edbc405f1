import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from gsmflow.core.environment import describe_environment

CPU = torch.device("cpu")


def test_environment_is_json_with_versions_hardware_and_seed() -> None:
    environment = describe_environment(CPU, 7)
    assert json.loads(json.dumps(environment)) == environment
    assert set(environment) == {
        "gsmflow",
        "git_commit",
        "python",
        "platform",
        "packages",
        "device",
        "device_name",
        "threads",
        "seed",
    }
    assert environment["seed"] == 7
    assert environment["device"] == "cpu"
    assert environment["device_name"]
    assert environment["threads"] == torch.get_num_threads()
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["packages"]["numpy"] == np.__version__
    assert all(environment["packages"].values())


def test_environment_has_the_commit_of_the_checkout() -> None:
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    commit = describe_environment(CPU, 0)["git_commit"]
    if process.returncode:
        assert commit is None
    else:
        assert commit.removesuffix("+changes") == process.stdout.strip()
