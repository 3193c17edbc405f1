"""Measure a whole run of ``train_AWA2.py`` stage by stage, on made-up data in memory."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console

from benchmarks.speed.measure import watch
from benchmarks.speed.sizes import Size, made_up_dataset
from gsmflow.core.devices import pick_device, synchronize
from gsmflow.core.run_files import LOG_FILE
from gsmflow.reports.stage_seconds import StageSeconds, read_stages
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job
from gsmflow.runs.script import read_script
from gsmflow.runs.stages import training_stage

__all__ = ["IMPORTS", "at_published_epochs", "measure_run", "time_imports"]

# The row of the imports among the stages.
IMPORTS = "import and start"
_ROOT = Path(__file__).resolve().parents[2]
_SCRIPT, _FEATURES = _ROOT / "train_AWA2.py", "res101"
_STARTED = "import torch, FrEIA.framework, gsmflow.runs.experiment, gsmflow.runs.seeds"


def time_imports(repetitions: int) -> float:
    """Median seconds in which a new process starts and imports what a run needs."""
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", _STARTED], cwd=_ROOT, check=True)
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def measure_run(
    size: Size, epochs: int, settings: Mapping[str, Any], device_name: str
) -> dict[str, Any]:
    """Run the script's recipe with few epochs; validation and both baselines are included.

    Parameters
    ----------
    size
        Size of the made-up data.
    epochs
        Epochs of each training, in place of the published number.
    settings
        Further settings that replace those of the script, by their flat names.
    device_name
        A name that `pick_device` accepts.

    Returns
    -------
    dict
        ``epochs`` and ``published_epochs``; ``stages``, each with its ``stage``, ``seconds``, and
        ``published``, the seconds at the published number of epochs; ``host_mib`` and
        ``device_mib``, peak memory besides the data.
    """
    script = read_script(_SCRIPT)
    published = script.recipes[_FEATURES]
    dataset, device = made_up_dataset(size), pick_device(device_name)
    # Before `watch`, which uses the device, too.
    start = _start_device(device)
    with TemporaryDirectory() as name:
        where = {"dataset": size.name, "device": device_name, "out": Path(name), "run": "run"}
        recipe = published.replace(**settings, **where, epochs=epochs)
        job = Job(recipe, script.model_class, dataset)
        usage = watch(lambda: run_experiment(job, Console(quiet=True)), device)
        log = Path(name) / size.name / "run" / LOG_FILE
        stages, epoch_seconds = read_stages(log), _epoch_seconds(log)
    published_epochs = published.training.total_epochs
    stages.insert(0, StageSeconds("starting the device", start))
    return {
        "epochs": epochs,
        "published_epochs": published_epochs,
        "stages": [
            {
                "stage": stage.label,
                "seconds": stage.seconds,
                "published": at_published_epochs(stage, published_epochs, epoch_seconds),
            }
            for stage in stages
        ],
        "host_mib": usage.host_mib,
        "device_mib": usage.device_mib,
    }


def _start_device(device: torch.device) -> float:
    """The seconds of a device's first use, which makes a GPU ready."""
    start = time.perf_counter()
    torch.empty(1, device=device)
    synchronize(device)
    return time.perf_counter() - start


def at_published_epochs(
    stage: StageSeconds, epochs: int, epoch_seconds: Mapping[str, float]
) -> float:
    """The seconds of a stage if each of its trainings had this number of epochs.

    Parameters
    ----------
    stage
        The measured stage. What it takes besides its epochs, such as the start of a GPU's
        libraries, is taken once.
    epochs
        The number of epochs.
    epoch_seconds
        The seconds of one further epoch, by the name of the stage.
    """
    if not stage.epochs:
        return stage.seconds
    return stage.seconds + (epochs - stage.epochs) * epoch_seconds[stage.name]


def _epoch_seconds(log: Path) -> dict[str, float]:
    """The median seconds of an epoch, by stage; the first epochs of a process are slower."""
    found: dict[str, list[float]] = {}
    for record in map(json.loads, log.read_text().splitlines()):
        if record["event"] == "epoch":
            found.setdefault(training_stage(record["split"]), []).append(record["seconds"])
    return {stage: median(seconds) for stage, seconds in found.items()}
