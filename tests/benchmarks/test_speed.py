"""The speed benchmark: operation counts, records and a quick run; no test checks a timing."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from rich.console import Console

from benchmarks.speed import running
from benchmarks.speed.ceilings import make_copy, measure_ceilings
from benchmarks.speed.command import BenchOptions, main, run_bench
from benchmarks.speed.measure import (
    in_child,
    in_turn,
    make_product,
    native_precisions,
    power_law_exponent,
    watch,
)
from benchmarks.speed.page import check_page, record_tables, render_markdown, write_page
from benchmarks.speed.reading import WAYS, Format, measure_reading, write_made_up
from benchmarks.speed.record import (
    PARTS,
    PARTS_ON_A_GPU,
    REQUIRED,
    describe_machine,
    key_figures,
    merge_part,
    read_record,
    targets,
)
from benchmarks.speed.running import at_published_epochs, measure_run
from benchmarks.speed.sizes import (
    FULL,
    QUICK,
    flow_weights,
    made_up_dataset,
    made_up_model,
    made_up_problem,
    step_operations,
)
from benchmarks.speed.steps import (
    Way,
    describe_peak,
    describe_steps,
    measure_steps,
    profile_steps,
    ways_on,
)
from gsmflow.core.errors import InputError
from gsmflow.data.cache import load_cached
from gsmflow.data.checks import examine_dataset
from gsmflow.data.formats.files import load_dataset
from gsmflow.reports.stage_seconds import StageSeconds
from gsmflow.runs.job import Job

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]
PAGE = "# Speed\n\n<!-- bench: begin -->\nold\n<!-- bench: end -->\n\nThe end.\n"
GPU_PAGE = "<!-- bench on a GPU: begin -->\nto come\n<!-- bench on a GPU: end -->\n"
MACHINE: dict[str, Any] = {
    "cpu": "A CPU",
    "cores": 2,
    "threads": 2,
    "memory_gib": 24.0,
    "bf16_units": ["avx512_bf16"],
    "device": "cpu",
    "gpu": None,
    "torch": "2",
    "native_precisions": ["fp32", "bf16"],
}
STEP_RESULTS = {
    "AWA2": {
        "plain": 3.0,
        "ours": {
            "fp32": {"seconds": 1.5, "ratio": 2.0},
            "bf16": {"seconds": 1.0, "ratio": 3.0},
        },
        "timings": {},
    },
    "FLO": {
        "plain": 6.0,
        "ours": {"fp32": {"seconds": 4.0, "ratio": 1.5}},
        "timings": {},
    },
}


def make_part(results: Any, **changes: Any) -> dict[str, Any]:
    part = {
        "results": results,
        "settings": {},
        "repetitions": "once",
        "command": "python -m benchmarks.speed",
        "date": "2030-01-02",
        "commit": "0123456789abcdef+changes",
        "seconds": 1.0,
    }
    return part | changes


def usage(seconds: float, host: float, device: float = 0.0) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "host_mib": host,
        "device_mib": device,
        "synthesis": seconds / 4,
        "products": [1e9, 2e9],
    }


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The record and the page of a quick run of all parts."""
    folder = tmp_path_factory.mktemp("bench")
    out, page = folder / "out" / "bench.json", folder / "speed.md"
    page.write_text(PAGE)
    words = ["--quick", "--repetitions", "1", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        main([*words, "--out", str(out), "--into", str(page)])
    return json.loads(out.read_text()), page.read_text()


def test_quick_run_writes_every_section_of_the_record(quick: tuple[dict[str, Any], str]) -> None:
    record, _ = quick
    assert list(record["parts"]) == [*PARTS]
    assert record["quick"] is True
    native = record["machine"]["native_precisions"]
    for key in REQUIRED:
        expects_none = key.endswith("bf16") and "bf16" not in native
        assert key in record
        # A tiny job may take no memory at all.
        if key != "synthesis_memory_ratio":
            assert (record[key] is None) == expects_none, key
    for part in record["parts"].values():
        assert part["settings"]
        assert part["command"].startswith("python -m benchmarks.speed --quick --repetitions 1")


def test_quick_run_fills_its_page(quick: tuple[dict[str, Any], str]) -> None:
    record, page = quick
    before, after = PAGE.split("old")
    assert page.startswith(before)
    assert page.endswith(after)
    assert "old" not in page
    assert "--quick" in page
    assert record["machine"]["cpu"] in page
    for grid in record_tables(record):
        assert f"### {grid.title}\n" in page
        assert {len(row) for row in grid.rows} == {len(grid.columns)}


def test_whole_run_has_every_stage_and_the_published_epochs(
    quick: tuple[dict[str, Any], str],
) -> None:
    record, page = quick
    results = record["parts"]["run"]["results"]
    assert (results["epochs"], results["published_epochs"]) == (2, 500)
    stages = {stage["stage"]: stage for stage in results["stages"]}
    assert stages.keys() >= {
        *(
            "import and start",
            "starting the device",
            "reading the data",
            "validation training",
            "final training",
        ),
        *("validation synthesis and classifiers", "final synthesis and classifiers"),
        *("ESZSL: choosing settings", "Gaussian prototypes: choosing settings"),
        *("evaluation", "report", "other"),
    }
    for name, stage in stages.items():
        grows = name in ("validation training", "final training")
        assert (stage["published"] > stage["seconds"]) == grows, name
    total = sum(stage["published"] for stage in stages.values())
    assert record["run_minutes"] == pytest.approx(total / 60)
    choices = [s["published"] for name, s in stages.items() if name.endswith(": choosing settings")]
    assert record["run_choice_seconds"] == pytest.approx(sum(choices))
    assert f"| all, minutes | {sum(s['seconds'] for s in stages.values()) / 60:.2f} |" in page


def test_whole_run_has_the_recipe_of_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Job] = []

    class Started(Exception):  # noqa: N818
        pass

    def start(job: Job, console: Console) -> None:
        jobs.append(job)
        raise Started

    monkeypatch.setattr(running, "run_experiment", start)
    with pytest.raises(Started):
        measure_run(QUICK.sizes[0], 7, {}, "cpu")
    (job,) = jobs
    recipe, size = job.recipe, FULL.sizes[0]
    assert recipe.training.total_epochs == 7
    assert (recipe.calibrate, recipe.beside) == (True, ("eszsl", "gaussian-prototypes"))
    assert recipe.method == size.method
    assert recipe.trained_classifier == size.recipe.trained_classifier
    assert recipe.feature_scaling == "minmax"


def test_epochs_alone_are_scaled_to_the_published_number() -> None:
    trained = StageSeconds("final training", 9.0, epochs=2, epoch_seconds=5.0)
    epoch_seconds = {"final training": 2.0}
    assert at_published_epochs(trained, 500, epoch_seconds) == 9 + 498 * 2
    assert at_published_epochs(StageSeconds("report", 3.0), 500, epoch_seconds) == 3


def test_made_up_dataset_is_usable_and_has_the_shares_of_awa2() -> None:
    for size in (*QUICK.sizes, replace(FULL.sizes[0], feature_dim=4)):
        dataset = made_up_dataset(size)
        assert not list(examine_dataset(dataset))
        assert (len(dataset.seen_classes), len(dataset.unseen_classes)) == (size.seen, size.unseen)
        assert len(dataset.trainval) == size.rows
    # Those of AWA2: 13 of 40 classes, 5,882 and 7,913 rows.
    assert len(set(dataset.labels[dataset.val].tolist())) == 13
    assert (len(dataset.test_seen), len(dataset.test_unseen)) == (5881, 7842)


def test_classes_of_the_made_up_dataset_can_be_told_apart() -> None:
    dataset = made_up_dataset(replace(FULL.sizes[0], rows=1000, feature_dim=256))
    train, test = dataset.trainval, dataset.test_seen
    means = np.stack(
        [dataset.features[train][dataset.labels[train] == c].mean(0) for c in range(40)]
    )
    distances = np.linalg.norm(dataset.features[test][:, None] - means, axis=2)
    assert (distances.argmin(axis=1) == dataset.labels[test]).mean() > 0.5


def test_copy_counts_bytes_read_and_written() -> None:
    copy, moved = make_copy(3, CPU)
    copy()
    assert moved == 2 * 3 * 2**20


def test_ceilings_are_amounts_a_second() -> None:
    rounds: list[None] = []
    found = measure_ceilings(
        CPU, copy_mib=1, product_size=8, repetitions=3, on_round=lambda: rounds.append(None)
    )
    assert [*found] == ["copy", *native_precisions(CPU)]
    assert len(rounds) == 4
    for figures in found.values():
        assert figures["best"] >= figures["median"] > 0


def test_ways_of_a_cpu_are_its_precisions() -> None:
    assert [way.name for way in ways_on(CPU)] == native_precisions(CPU)
    assert Way("tf32", in_a_graph=True).name == "tf32 in a graph"
    assert Way("bf16", in_a_graph=True, compiled=True).name == "bf16 compiled in a graph"


@pytest.mark.gpu
def test_steps_in_every_way_of_a_gpu_are_timed_and_profiled() -> None:
    device = torch.device("cuda")
    seconds = measure_steps(
        QUICK.sizes[0],
        device,
        ways_on(device),
        baseline=True,
        product_size=64,
        steps=6,
        repetitions=2,
    )
    assert all(len(seconds[way.name]) == 2 for way in ways_on(device))
    assert (
        describe_peak(seconds, QUICK.sizes[0])["ours"].keys()
        == describe_steps(seconds)["ours"].keys()
    )
    found = profile_steps(QUICK.sizes[0], device, ways_on(device)[-1], steps=6, rows=5)
    assert found["busy"] > 0


def test_profile_has_the_longest_operators_of_the_steps() -> None:
    found = profile_steps(QUICK.sizes[0], CPU, Way("fp32"), steps=3, rows=5)
    assert found["steps"] == 3
    seconds = [row["seconds"] for row in found["rows"]]
    assert len(seconds) == 5
    assert seconds == sorted(seconds, reverse=True)
    assert 0 < sum(seconds) <= found["busy"]
    every = profile_steps(QUICK.sizes[0], CPU, Way("fp32"), steps=3, rows=1000)["rows"]
    calls = {row["name"]: row["calls"] for row in every}
    assert calls["aten::_fused_adam_"] == 3
    assert sum(row["seconds"] for row in every) > 0


def test_long_names_of_kernels_are_cut() -> None:
    name = (
        "void at::native::kernel<4, at::native::Functor<float>, std::array<char*, 3ul>>" + "x" * 99
    )
    rows = [
        {"name": name, "calls": 40, "seconds": 0.3},
        {"name": "gemm", "calls": 2, "seconds": 0.1},
    ]
    results = {"steps": 10, "seconds": 1.0, "busy": 0.5, "rows": rows}
    record = {
        "machine": MACHINE,
        "quick": False,
        "notes": [],
        "parts": {"profile": make_part(results)},
    }
    (grid,) = [grid for grid in record_tables(record) if grid.title.startswith("Profile")]
    assert [row[1:] for row in grid.rows] == [
        ("40", "60.0"),
        ("2", "20.0"),
        ("", "20.0"),
        ("", "50.0"),
    ]
    assert grid.rows[0][0].startswith("`at::native::kernel<4, ")
    assert len(grid.rows[0][0]) == 92


def test_step_of_awa2_size_has_89_gflop() -> None:
    awa2, flo = FULL.sizes
    assert (awa2.name, flo.name) == ("AWA2", "FLO")
    # Two subnets a block: (1024 + 1024) x 2048 and 2048 x (2 * 1024) weights.
    weights = 3 * 2 * (2048 * 2048 + 2048 * 2048)
    assert step_operations(awa2) == 2 * 3 * weights * (256 + 40)
    assert round(step_operations(awa2) / 1e9) == 89
    assert step_operations(flo) == 2 * 3 * (weights // 3 * 5) * (256 + 82)


@pytest.mark.parametrize("size", [*QUICK.sizes, QUICK.stream])
def test_flow_weights_equal_those_of_the_model(size: Any) -> None:
    model = made_up_model(size, made_up_problem(size))
    assert flow_weights(size) == sum(p.numel() for p in model.flow.parameters() if p.dim() == 2)


@pytest.mark.parametrize("kind", ["v5", "v7.3"])
def test_random_dataset_is_readable_in_every_way(tmp_path: Path, kind: Format) -> None:
    mib = write_made_up(tmp_path, kind, 6, 500)
    assert mib == (tmp_path / "MADE_UP" / "res101.mat").stat().st_size / 2**20
    assert h5py.is_hdf5(tmp_path / "MADE_UP" / "res101.mat") == (kind == "v7.3")
    reads = {way: measure_reading(tmp_path, way, 2) for way in WAYS}
    assert [len(found) for found in reads.values()] == [2, 1, 2]
    dataset = load_dataset(tmp_path, "MADE_UP", features="res101", semantics="att")
    assert dataset.features.shape == (500, 6)
    assert (len(dataset.seen_classes), len(dataset.unseen_classes)) == (40, 10)
    names = {"features": "res101", "semantics": "att"}
    assert load_cached(tmp_path, "MADE_UP", **names, cache=tmp_path / "cache").from_cache


def test_random_problem_has_rows_of_every_seen_class() -> None:
    for size in (*QUICK.sizes, QUICK.stream):
        problem = made_up_problem(size)
        assert set(problem.train.labels.tolist()) == set(problem.seen_classes.tolist())
        assert problem.train.features.shape == (size.rows, size.feature_dim)
        assert len(problem.classes) == len(problem.semantics) == size.seen + size.unseen


@pytest.mark.parametrize("exponent", [-0.5, 0.0, 1.0, 2.5])
def test_exponent_of_a_power_law_is_found(exponent: float) -> None:
    sizes = [50, 500, 5000, 70000]
    values = [0.3 * n**exponent for n in sizes]
    found = power_law_exponent(sizes, values)
    assert found == pytest.approx(exponent, abs=1e-9)


def test_exponent_is_the_least_squares_slope_of_the_logarithms() -> None:
    sizes, values = [1.0, math.e, math.e**2], [1.0, math.e**2, math.e**2]
    # Logarithms 0, 1, 2 and 0, 2, 2: the slope is the covariance over the variance, 2 / 2.
    assert power_law_exponent(sizes, values) == pytest.approx(1.0)


def test_power_law_of_a_zero_value_has_no_exponent() -> None:
    assert power_law_exponent([1, 10], [0.0, 3.0]) is None


def test_functions_are_timed_in_turn_after_a_warm_up() -> None:
    calls: list[str] = []
    rounds: list[int] = []

    def function(name: str) -> tuple[str, Callable[[], object]]:
        return name, lambda: calls.append(name)

    seconds = in_turn(
        [function("a"), function("b"), function("a")],
        2,
        CPU,
        lambda: rounds.append(len(calls)),
    )
    assert calls == ["a", "b", "a"] * 3
    assert rounds == [3, 6, 9]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 4, "b": 2}


def test_memory_of_a_job_is_measured() -> None:
    held: list[torch.Tensor] = []
    # 256 MiB of ones; memory that is only reserved would not be resident.
    found = watch(lambda: held.append(torch.ones(64 * 2**20)), CPU)
    assert found.host_mib == pytest.approx(256, rel=0.1)
    assert found.device_mib == 0


def test_matrix_product_has_2_n_cubed_operations() -> None:
    product, operations = make_product(8, "fp32", CPU)
    product()
    assert operations == 2 * 8**3


def test_child_process_returns_its_result_and_a_killed_one_is_reported() -> None:
    assert in_child(math.hypot, 3.0, 4.0) == 5.0
    with pytest.raises(InputError, match="found the process of abort killed"):
        in_child(os.abort)


def test_steps_and_peak_are_described_by_medians() -> None:
    size = FULL.sizes[0]
    seconds = {
        "plain": [4.0, 9.0, 5.0],
        "fp32": [1.0, 2.0, 8.0],
        "product fp32": [1e-12, 2e-12, 4e-12, 4e-12, 9e-12],
    }
    assert describe_steps(seconds)["ours"] == {"fp32": {"seconds": 2.0, "ratio": 2.5}}
    row = describe_peak(seconds, size)["ours"]["fp32"]
    achieved = step_operations(size) / 2.0
    assert row["achieved"] == achieved
    assert row["fraction"] == pytest.approx(achieved / 1e12)
    assert row["fraction_of_median"] == pytest.approx(achieved / 0.25e12)


def test_key_figures_are_baseline_divided_by_ours() -> None:
    growth = {
        "step": {"50": {"seconds": [2.0, 1.0, 1.5]}, "256": {"seconds": [1.0, 9.0]}},
        "samples": {"sizes": [10, 100, 1000], "mib": [1.0, 4.0, 5.0], "capacity": 50},
    }
    figures = key_figures(
        {
            "step": make_part(STEP_RESULTS),
            "synthesis": make_part(
                {"plain": usage(9.0, 80.0), "ours": {"fp32": usage(3.0, 10.0, 6.0)}}
            ),
            "growth": make_part(growth),
            "reading": make_part(
                {"v7.3": {"ways": {"from the cache": [{"seconds": s} for s in (3, 2, 9)]}}}
            ),
        }
    )
    assert figures == {
        "step_ratio_fp32": 2.0,
        "step_ratio_bf16": 3.0,
        "step_ratio_fp32_flo": 1.5,
        "peak_fraction_fp32": None,
        "synthesis_ratio": 3.0,
        "synthesis_memory_ratio": 5.0,
        "step_growth": 2.0,
        "memory_growth": 1.25,
        "reading_seconds_v7_3_from_the_cache": 3,
    }


def test_parts_of_separate_runs_are_merged(tmp_path: Path) -> None:
    path = tmp_path / "new" / "bench.json"
    synthesis = make_part({"plain": usage(9.0, 8.0), "ours": {"fp32": usage(3.0, 2.0)}})
    merge_part(path, "synthesis", synthesis, machine=MACHINE, quick=False)
    merge_part(path, "step", make_part(STEP_RESULTS), machine=MACHINE, quick=False)
    record = read_record(path)
    assert list(record["parts"]) == ["step", "synthesis"]
    assert (record["step_ratio_fp32"], record["synthesis_ratio"]) == (2.0, 3.0)
    assert set(REQUIRED) <= set(record)
    again = make_part({"plain": usage(6.0, 8.0), "ours": {"fp32": usage(3.0, 2.0)}})
    merge_part(path, "synthesis", again, machine=MACHINE, quick=False)
    assert read_record(path)["synthesis_ratio"] == 2.0
    assert read_record(path)["step_ratio_fp32"] == 2.0


@pytest.mark.parametrize("change", [{"quick": True}, {"machine": MACHINE | {"threads": 1}}])
def test_parts_that_are_not_comparable_are_removed(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "bench.json"
    how = {"machine": MACHINE, "quick": False}
    merge_part(path, "step", make_part(STEP_RESULTS), **how)
    merge_part(path, "reading", make_part({}), **how | change)
    assert list(read_record(path)["parts"]) == ["reading"]
    assert read_record(path)["step_ratio_fp32"] is None


def test_machine_without_bf16_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    machine = MACHINE | {"native_precisions": ["fp32"]}
    record = merge_part(path, "reading", make_part({}), machine=machine, quick=False)
    assert record["step_ratio_bf16"] is None
    assert "bf16" in record["notes"][0]
    assert "bf16 is left out" in render_markdown(record | {"parts": {}})


def test_targets_depend_on_the_machine() -> None:
    def bound(key: str, **changes: Any) -> float | None:
        return next(t.bound for t in targets(MACHINE | changes) if t.key == key)

    assert bound("step_ratio_bf16") == 2.0
    assert bound("step_ratio_bf16", bf16_units=["avx512_bf16", "amx_bf16"]) == 3.0
    on_gpu = [(target.key, target.bound) for target in targets(MACHINE | {"device": "cuda"})]
    assert on_gpu == [
        ("step_ratio_bf16 compiled in a graph", 12.0),
        ("step_ratio_tf32 in a graph", 7.0),
        ("gan_ratio_bf16 in a graph", 5.0),
        ("run_classifiers_seconds", 4.0),
        ("run_choice_seconds", 3.0),
        ("run_minutes", 3.0),
    ]
    assert describe_machine(CPU).keys() == MACHINE.keys()


def test_table_says_whether_a_target_is_met(tmp_path: Path) -> None:
    record = merge_part(
        tmp_path / "b.json", "step", make_part(STEP_RESULTS), machine=MACHINE, quick=False
    )
    text = render_markdown(record | {"step_growth": 1.2})
    assert "| training step, baseline / ours in fp32 | 2.000 | ≥ 1.8 | yes |" in text
    assert "seen classes grow, 50 prototypes a step | 1.200 | ≤ 1.1 | no |" in text
    assert "| not measured | ≥ 0.7 | - |" in text
    assert "| AWA2 | bf16 | 3000 | 1000 | 3.00 |" in text
    source = "`python -m benchmarks.speed`, once, 1 s in all, 2030-01-02, commit 0123456789 with"
    assert source in text
    assert "A CPU, 2 cores, 2 threads, avx512_bf16, 24.0 GiB; torch 2, device cpu" in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<!-- bench: begin -->\n",
        "<!-- bench: end -->\n<!-- bench: begin -->\n",
        PAGE + PAGE,
        "inside <!-- bench: begin -->\n<!-- bench: end -->\n",
    ],
)
def test_page_without_markers_is_refused_and_kept(tmp_path: Path, text: str) -> None:
    page = tmp_path / "speed.md"
    page.write_text(text)
    with pytest.raises(InputError, match=r"speed\.md: found the line .* expected each once"):
        write_page(page, {"machine": MACHINE})
    assert page.read_text() == text


@pytest.mark.parametrize(("device", "kept"), [("cpu", "to come"), ("cuda", "old")])
def test_section_of_the_other_device_is_kept(tmp_path: Path, device: str, kept: str) -> None:
    page = tmp_path / "speed.md"
    page.write_text(PAGE + GPU_PAGE)
    machine = MACHINE | {"device": device}
    record = merge_part(
        tmp_path / "b.json", "step", make_part(STEP_RESULTS), machine=machine, quick=False
    )
    write_page(page, record)
    text = page.read_text()
    assert {word for word in ("to come", "old") if word in text} == {kept}
    sections = text.split("The end.")
    filled = sections[device != "cpu"]
    assert f"device {device}." in filled
    assert "### A training step" in filled
    assert "### Targets" not in sections[device == "cpu"]


def test_speed_page_has_the_markers() -> None:
    for device in ("cpu", "cuda"):
        check_page(ROOT / "docs" / "speed.md", device)


def test_parts_on_a_gpu_are_those_of_its_section() -> None:
    assert [name for name in PARTS if name in PARTS_ON_A_GPU] == [*PARTS_ON_A_GPU]
    assert set(PARTS) - set(PARTS_ON_A_GPU) == {"synthesis", "growth", "reading"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": "step,stop"}, "--parts: found 'stop', expected one or more of step,peak,"),
        ({"parts": ""}, "--parts: found ''"),
        ({"repetitions": 0}, "--repetitions: found 0, expected a number of at least 1"),
        ({"samples_per_class": 0}, "--samples-per-class: found 0"),
        ({"device": "abacus"}, "--device: found abacus"),
        ({"into": Path("nowhere.md")}, "nowhere.md: not readable"),
    ],
)
def test_bad_options_are_refused_before_measuring(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    out = tmp_path / "bench.json"
    settings: dict[str, Any] = {"quick": True, "device": "cpu", "out": out} | change
    with pytest.raises(InputError) as caught:
        run_bench(BenchOptions(**settings), Console(quiet=True), "")
    assert str(caught.value).startswith(message)
    assert not out.exists()


@pytest.mark.parametrize("content", ["[]", "{", '{"parts": 3}'])
def test_file_that_is_no_record_is_refused(tmp_path: Path, content: str) -> None:
    out = tmp_path / "bench.json"
    out.write_text(content)
    with pytest.raises(InputError, match=r"bench\.json"):
        run_bench(BenchOptions(quick=True, out=out), Console(quiet=True), "")
    assert out.read_text() == content
