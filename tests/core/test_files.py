"""Generators, devices, atomic files and the description of the environment."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from gsmflow.core.console import make_console
from gsmflow.core.devices import pick_device
from gsmflow.core.environment import describe_environment
from gsmflow.core.errors import InputError
from gsmflow.core.files import write_bytes, write_json, write_tensors
from gsmflow.core.rng import BatchRandom, make_generator

CPU = torch.device("cpu")


def draws(seed: int, *purpose: str) -> list[float]:
    generator = make_generator(CPU, seed, *purpose)
    return torch.rand(8, generator=generator, dtype=torch.float64).tolist()


def test_the_same_seed_and_purpose_give_the_same_numbers() -> None:
    assert draws(3, "test", "synthesis") == draws(3, "test", "synthesis")


def test_seeds_and_purposes_give_numbers_of_their_own() -> None:
    purposes = [(), ("test",), ("test", "synthesis"), ("synthesis", "test"), ("testsynthesis",)]
    uses = [(seed, *purpose) for seed in (0, 1, 2**31, 2**40) for purpose in purposes]
    first = [draws(*use)[0] for use in uses]
    assert len(set(first)) == len(uses)


def test_neighbouring_seeds_are_not_correlated() -> None:
    rows = np.array([draws(seed, "batches") for seed in range(500)])
    correlation = np.corrcoef(rows[:-1, 0], rows[1:, 0])[0, 1]
    assert abs(correlation) < 0.2
    assert rows.mean() == pytest.approx(0.5, abs=0.03)


def test_making_a_generator_leaves_the_global_ones_alone() -> None:
    before = torch.get_rng_state()
    draws(3, "test")
    assert torch.equal(torch.get_rng_state(), before)


def pretend(patch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False) -> None:
    patch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    patch.setattr(torch.cuda, "device_count", lambda: cuda)
    patch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(0, False, "cpu"), (0, True, "mps"), (2, False, "cuda"), (1, True, "cuda")],
)
def test_auto_takes_the_fastest_device(
    cuda: int, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, cuda=cuda, mps=mps)
    assert pick_device("auto").type == expected


def test_a_device_is_taken_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_device("cpu") == CPU
    pretend(monkeypatch, cuda=2)
    assert pick_device("cpu") == CPU
    assert pick_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "gpu", "CPU", "", "meta"])
def test_an_unavailable_device_is_named_with_those_there_are(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch)
    with pytest.raises(InputError, match=f"--device: found {name}, expected .*cpu"):
        pick_device(name)


def test_a_cuda_device_beyond_the_last_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=2)
    with pytest.raises(InputError, match=r"found cuda:2, expected .*cuda:1"):
        pick_device("cuda:2")


def write_some_bytes(path: Path) -> None:
    write_bytes(path, b"new")


def write_some_json(path: Path) -> None:
    write_json(path, {"new": 1})


def write_some_tensors(path: Path) -> None:
    write_tensors(path, {"new": torch.ones(2)}, {})


WRITERS = [write_some_bytes, write_some_json, write_some_tensors]


@pytest.mark.parametrize("write", WRITERS)
def test_writing_makes_folders_and_replaces_a_file(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "a" / "b" / "file"
    write(path)
    content = path.read_bytes()
    path.write_bytes(b"old" * 1000)
    write(path)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def fail(*_: object, **__: object) -> None:
    raise OSError("disk full")


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "replace")])
@pytest.mark.parametrize("old", [b"old", None])
@pytest.mark.parametrize("write", WRITERS)
def test_a_failed_write_leaves_what_was_there_and_nothing_else(
    write: Callable[[Path], None],
    old: bytes | None,
    owner: object,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(OSError, match="disk full"):
            write(path)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if old is None else [old])


def test_the_target_is_whole_until_the_new_content_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen: list[bytes] = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append(path.read_bytes()), sync(fd)))
    write_bytes(path, b"new")
    assert seen == [b"old"]
    assert path.read_bytes() == b"new"


def test_json_is_readable_and_takes_paths(tmp_path: Path) -> None:
    write_json(tmp_path / "file", {"path": Path("a/b"), "x": [1.5, None, True], "text": "é"})
    text = (tmp_path / "file").read_text()
    assert json.loads(text) == {"path": "a/b", "x": [1.5, None, True], "text": "é"}
    assert text.endswith("}\n")
    assert len(text.splitlines()) > 3


def test_a_value_that_is_no_json_writes_nothing(tmp_path: Path) -> None:
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="Circular"):
        write_json(tmp_path / "file", circle)
    assert list(tmp_path.iterdir()) == []


def test_tensors_survive_the_file_with_their_metadata(tmp_path: Path) -> None:
    tensors = {
        "a.weight": torch.randn(3, 4, dtype=torch.float64, requires_grad=True),
        "transposed": torch.arange(6).reshape(2, 3).T,
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "state": torch.get_rng_state(),
    }
    write_tensors(tmp_path / "file", tensors, {"note": "é"})
    with safe_open(tmp_path / "file", framework="pt") as file:
        assert file.metadata() == {"note": "é"}
        assert set(file.keys()) == set(tensors)
        for name, expected in tensors.items():
            found = file.get_tensor(name)
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)


def test_the_environment_is_json_with_what_a_figure_depends_on() -> None:
    facts = describe_environment(CPU, 7)
    assert json.loads(json.dumps(facts)) == facts
    assert set(facts) == {
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
    assert facts["seed"] == 7
    assert facts["device"] == "cpu"
    assert facts["device_name"]
    assert facts["threads"] == torch.get_num_threads()
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["packages"]["numpy"] == np.__version__
    assert all(facts["packages"].values())


def test_the_environment_names_the_commit() -> None:
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    commit = describe_environment(CPU, 0)["git_commit"]
    if answer.returncode:
        assert commit is None
    else:
        assert commit.removesuffix("+changes") == answer.stdout.strip()


def test_a_console_in_a_log_file_leaves_lines_of_120_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_console(stderr=True).print("x" * 120)
    assert capsys.readouterr().err == "x" * 120 + "\n"


def test_shares_of_a_batch_meet_its_numbers_between_them() -> None:
    rows = torch.zeros(12, 3, dtype=torch.float64)
    whole = BatchRandom(torch.Generator().manual_seed(1))
    parts = [BatchRandom(torch.Generator().manual_seed(1), share, 4) for share in range(4)]
    for _ in range(2):
        expected = whole.normal(rows)
        assert expected.dtype == rows.dtype
        assert torch.equal(torch.cat([part.normal(rows[:3]) for part in parts]), expected)
        for draw in (lambda d: d.uniform(5), lambda d: d.subset(3, 9)):
            numbers = draw(whole)
            assert all(torch.equal(draw(part), numbers) for part in parts)


def test_a_subset_has_distinct_numbers_each_equally_often() -> None:
    draws = BatchRandom(torch.Generator().manual_seed(1))
    subsets = [draws.subset(4, 10) for _ in range(3000)]
    assert all(len(subset.unique()) == 4 for subset in subsets)
    counts = torch.bincount(torch.cat(subsets), minlength=10)
    # Six standard deviations of a binomial with mean 1200.
    assert (counts - 1200).abs().max() < 6 * (3000 * 0.4 * 0.6) ** 0.5
