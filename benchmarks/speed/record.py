"""The record of a benchmark: results of its parts, key figures and targets."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import psutil
import torch

from benchmarks.speed.measure import native_precisions
from gsmflow.core.environment import describe_environment
from gsmflow.core.errors import InputError
from gsmflow.core.files import read_json, write_json
from gsmflow.runs.stages import CHOICE_STAGE, classifiers_stage

__all__ = [
    "PARTS",
    "PARTS_ON_A_GPU",
    "REQUIRED",
    "Record",
    "Target",
    "describe_machine",
    "key_figures",
    "merge_part",
    "read_record",
    "targets",
]

Record: TypeAlias = dict[str, Any]

PARTS = ("step", "peak", "gan", "synthesis", "growth", "reading", "run", "ceilings", "profile")
# Parts that are measured on a GPU if none are named; the others are of memory and reading.
PARTS_ON_A_GPU = ("step", "peak", "gan", "run", "ceilings", "profile")
REQUIRED = (
    "step_ratio_fp32",
    "step_ratio_bf16",
    "peak_fraction_fp32",
    "synthesis_ratio",
    "synthesis_memory_ratio",
)
_BF16_UNITS = ("avx512_bf16", "amx_bf16")


@dataclass(frozen=True)
class Target:
    """A key figure and its target.

    Attributes
    ----------
    key, text
        Name of the figure, and its description.
    bound
        The target; None if there is none.
    at_least
        Whether the bound is a lower bound.
    """

    key: str
    text: str
    bound: float | None = None
    at_least: bool = True

    def met(self, figure: float | None) -> bool | None:
        """Whether a figure meets the target; None if there is no figure or no target."""
        if figure is None or self.bound is None:
            return None
        return figure >= self.bound if self.at_least else figure <= self.bound


def targets(machine: Mapping[str, Any]) -> list[Target]:
    """The key figures and their targets on a machine, in the order of the table."""
    run = ("run_minutes", "train_AWA2.py with its published epochs, minutes")
    if machine["device"] != "cpu":
        return [
            Target(
                "step_ratio_bf16 compiled in a graph",
                "training step, baseline / ours in bf16 compiled in a graph",
                12.0,
            ),
            Target(
                "step_ratio_tf32 in a graph",
                "training step, baseline / ours in tf32, in a graph",
                7.0,
            ),
            Target(
                "gan_ratio_bf16 in a graph",
                "training step of f-CLSWGAN, baseline / ours in bf16, in a graph",
                5.0,
            ),
            Target(
                "run_classifiers_seconds",
                "synthesis and both classifiers, seconds",
                4.0,
                at_least=False,
            ),
            Target(
                "run_choice_seconds",
                "both baselines' choice of settings, seconds",
                3.0,
                at_least=False,
            ),
            Target(*run, 3.0, at_least=False),
        ]
    bf16_step = 3.0 if "amx_bf16" in machine["bf16_units"] else 2.0
    return [
        Target("step_ratio_fp32", "training step, baseline / ours in fp32", 1.8),
        Target("step_ratio_bf16", "training step, baseline / ours in bf16", bf16_step),
        Target("peak_fraction_fp32", "our step's FLOP/s / best matrix product, fp32", 0.7),
        Target("gan_ratio_fp32", "training step of f-CLSWGAN, baseline / ours in fp32", 1.5),
        Target("synthesis_ratio", "synthesis and classifiers, baseline / ours in fp32", 1.5),
        Target(
            "synthesis_ratio_bf16",
            "synthesis and classifiers, baseline / ours in bf16",
            2.0,
        ),
        Target("synthesis_memory_ratio", "their peak memory, baseline / ours in fp32", 4.0),
        Target(
            "step_growth",
            "slowest / fastest step as the seen classes grow, 50 prototypes a step",
            1.1,
            at_least=False,
        ),
        Target(
            "memory_growth",
            "synthesis, highest peak memory / that at the fewest streamed samples",
            1.1,
            at_least=False,
        ),
        Target(*run, at_least=False),
    ]


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Everything that the results depend on besides the code."""
    capabilities = torch.cpu.get_capabilities()
    gpu = describe_environment(device, 0)["device_name"] if device.type == "cuda" else None
    return {
        "cpu": describe_environment(torch.device("cpu"), 0)["device_name"],
        "cores": psutil.cpu_count(logical=False) or psutil.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "bf16_units": [name for name in _BF16_UNITS if capabilities.get(name, False)],
        "device": str(device),
        "gpu": gpu,
        "torch": version("torch"),
        "native_precisions": list(native_precisions(device)),
    }


def read_record(path: Path) -> Record:
    """Read the record in a file; an empty record if there is no file.

    Raises
    ------
    InputError
        If the file is no record.
    """
    if not path.exists():
        return {}
    record = read_json(path)
    if not isinstance(record, dict) or not isinstance(record.get("parts"), dict):
        raise InputError(f"{path}: found no parts in it, expected what the benchmark wrote")
    return record


def merge_part(
    path: Path, name: str, part: Mapping[str, Any], *, machine: Mapping[str, Any], quick: bool
) -> Record:
    """Write the results of a part into the record in a file, and return the record.

    They replace earlier results of the same part. Results from another machine, or of the other
    sizes (quick or full), are removed, so that all results in a record are comparable.
    """
    stored = read_record(path)
    parts: dict[str, Any] = {}
    if stored.get("machine") == machine and stored.get("quick") == quick:
        parts = stored["parts"]
    parts[name] = part
    ordered = {key: parts[key] for key in PARTS if key in parts}
    record = {
        **key_figures(ordered),
        "quick": quick,
        "notes": _notes(machine),
        "machine": machine,
        "parts": ordered,
    }
    write_json(path, record)
    return record


def _notes(machine: Mapping[str, Any]) -> list[str]:
    if "bf16" in machine["native_precisions"]:
        return []
    return [f"bf16 is left out: the device {machine['device']} does not multiply it natively"]


def key_figures(parts: Mapping[str, Any]) -> dict[str, float | None]:
    """The key figures of the measured parts; a required figure of a missing part is None.

    Figures of AWA2's size, which is measured first, have plain names. The names of figures of
    another size end in its name.
    """
    results = {name: part["results"] for name, part in parts.items()}
    return {
        **dict.fromkeys(REQUIRED),
        **_by_size(results.get("step", {}), "step_ratio", "ratio"),
        **_by_size(results.get("peak", {}), "peak_fraction", "fraction"),
        **_by_size(results.get("gan", {}), "gan_ratio", "ratio"),
        **(_synthesis_figures(results["synthesis"]) if "synthesis" in results else {}),
        **(_growth_figures(results["growth"]) if "growth" in results else {}),
        **_reading_figures(results.get("reading", {})),
        **(_run_figures(results["run"]) if "run" in results else {}),
    }


def _by_size(results: Mapping[str, Any], figure: str, key: str) -> dict[str, float | None]:
    return {
        f"{figure}_{precision}" + (f"_{size.lower()}" if i > 0 else ""): row[key]
        for i, (size, found) in enumerate(results.items())
        for precision, row in found["ours"].items()
    }


def _synthesis_figures(results: Mapping[str, Any]) -> dict[str, float | None]:
    plain = results["plain"]
    figures: dict[str, float | None] = {}
    for precision, ours in results["ours"].items():
        suffix = "" if precision == "fp32" else f"_{precision}"
        figures[f"synthesis_ratio{suffix}"] = plain["seconds"] / ours["seconds"]
        figures[f"synthesis_memory_ratio{suffix}"] = _ratio(_mib(plain), _mib(ours))
    return figures


def _growth_figures(results: Mapping[str, Any]) -> dict[str, float | None]:
    step = next(iter(results["step"].values()))
    samples = results["samples"]
    streamed = [
        mib
        for n, mib in zip(samples["sizes"], samples["mib"], strict=True)
        if n > samples["capacity"]
    ]
    return {
        "step_growth": max(step["seconds"]) / min(step["seconds"]),
        "memory_growth": _ratio(max(streamed), streamed[0]),
    }


def _reading_figures(results: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        f"reading_seconds_{kind} {way}".replace(".", "_").replace(" ", "_"): median(
            read["seconds"] for read in reads
        )
        for kind, found in results.items()
        for way, reads in found["ways"].items()
    }


def _run_figures(results: Mapping[str, Any]) -> dict[str, float | None]:
    """The minutes of a run with its published epochs, and the seconds of some of its stages."""
    seconds = {stage["stage"]: stage["published"] for stage in results["stages"]}
    return {
        "run_minutes": sum(seconds.values()) / 60,
        "run_classifiers_seconds": seconds[classifiers_stage("test")],
        "run_choice_seconds": sum(s for name, s in seconds.items() if name.endswith(CHOICE_STAGE)),
    }


def _ratio(above: float, below: float) -> float | None:
    """None if the memory of a tiny job is too small to measure."""
    return above / below if below > 0 else None


def _mib(usage: Mapping[str, float]) -> float:
    return usage["host_mib"] + usage["device_mib"]
