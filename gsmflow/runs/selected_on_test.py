"""A section of a run: the best figures on test, over the epochs of training and classifier.

Much of the published code reports such figures, so that a comparison needs them. They are figures
of early stopping by the test labels, which a method does not have. Nothing else in a run uses them.
"""

import shutil
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from gsmflow.core.files import write_tensors
from gsmflow.core.json_fields import Field
from gsmflow.data.dataset import HeldOut
from gsmflow.evaluation.measures import metrics_in
from gsmflow.evaluation.protocol import evaluate_all
from gsmflow.learning.contract import Encoding, Model
from gsmflow.learning.feed import Scaled
from gsmflow.learning.scorers import feature_map
from gsmflow.learning.softmax import SoftmaxClassifier, SoftmaxPair
from gsmflow.reports.section import RowKind, SectionReport, SectionRow
from gsmflow.reports.tables import figures_in_line
from gsmflow.runs.section import Evaluated, Section, SectionResult
from gsmflow.runs.stages import Fitted, Run, fit_classifiers

__all__ = ["SECTION", "drop_candidates", "keep_candidates", "select_on_test"]

_FOLDER = "candidates"
_ENCODER = "encoder."


def keep_candidates(run: Run, scaled: Scaled, model: Model, epoch: int) -> None:
    """Train classifiers on a model in training, and write their state after each of their epochs.

    The files are below the run directory. They include the model's encoder if it has one, as the
    classifiers are trained on encoded features. No test row is read.
    """
    states: dict[str, list[Tensor]] = {}

    def keep(which: Literal["gzsl", "zsl"], classifier: SoftmaxClassifier) -> None:
        for name, tensor in classifier.tensors(which).items():
            states.setdefault(name, []).append(tensor.to("cpu", copy=True))

    fit_classifiers(run, scaled, model, on_epoch=keep)
    file = run.directory / _FOLDER / f"{epoch:06}.safetensors"
    tensors = {name: torch.stack(by_epoch) for name, by_epoch in states.items()}
    if isinstance(model, Encoding):
        tensors |= {f"{_ENCODER}{name}": t for name, t in model.encoder.state_dict().items()}
    write_tensors(file, tensors, {})


def select_on_test(run: Run, fitted: Fitted, held_out: HeldOut) -> dict[str, Any]:
    """The best T1, and the best H with its U and S, among the candidates that were kept.

    Returns
    -------
    dict
        ``T1``, ``U``, ``S``, ``H``, fractions of 1; ``T1_at`` and ``H_at``: the training's
        ``epoch`` and the ``classifier_epoch`` of each; ``candidates``: how many there were.
    """
    problem, model = fitted.scaled.problem, deepcopy(fitted.model)
    space = feature_map(fitted.scaled.scaling, model, run.device)
    best: dict[str, Any] = {"T1": -1.0, "H": -1.0, "candidates": 0}
    for file in sorted((run.directory / _FOLDER).glob("*.safetensors")):
        kept = load_file(file)
        if isinstance(model, Encoding):
            encoder = {
                n.removeprefix(_ENCODER): t for n, t in kept.items() if n.startswith(_ENCODER)
            }
            model.encoder.load_state_dict(encoder)
        gzsl, zsl = (_classifiers(kept, which) for which in ("gzsl", "zsl"))
        # The classifier with fewer epochs stays at its last one.
        pairs = [
            SoftmaxPair(space, gzsl[min(i, len(gzsl) - 1)], zsl[min(i, len(zsl) - 1)])
            for i in range(max(len(gzsl), len(zsl)))
        ]
        best["candidates"] += len(pairs)
        for i, outcome in enumerate(evaluate_all(pairs, problem, held_out)):
            at = {"epoch": int(file.stem), "classifier_epoch": i + 1}
            if outcome.t1 > best["T1"]:
                best |= {"T1": outcome.t1, "T1_at": at}
            if outcome.harmonic_mean > best["H"]:
                u, s = outcome.unseen_accuracy, outcome.seen_accuracy
                best |= {"U": u, "S": s, "H": outcome.harmonic_mean, "H_at": at}
    return best


def _classifiers(kept: Mapping[str, Tensor], which: str) -> list[SoftmaxClassifier]:
    """The classifiers of one protocol that were kept, by their epochs."""
    stacked = {name: tensor for name, tensor in kept.items() if name.startswith(f"{which}.")}
    return [
        SoftmaxClassifier.from_tensors(which, {name: by[i] for name, by in stacked.items()})
        for i in range(len(stacked[f"{which}.weight"]))
    ]


def drop_candidates(run: Run) -> None:
    """Delete what `keep_candidates` wrote."""
    shutil.rmtree(run.directory / _FOLDER, ignore_errors=True)


def _measure(evaluated: Evaluated, fitted: None) -> SectionResult:
    return SectionResult(select_on_test(evaluated.run, evaluated.fitted, evaluated.held_out))


def _rows(metrics: Field) -> list[SectionRow]:
    model, selected = metrics["model"].text(), metrics["test_selected"]
    kind: RowKind = "selected on test"
    return [SectionRow(model, selected, kind, view="selected_on_test", in_table=False)]


def _lines(metrics: Field) -> list[str]:
    figures = figures_in_line(metrics["test_selected"], metrics_in("selected_on_test"))
    return [
        "SELECTED ON TEST (the best of the training's intervals and the classifier's epochs; to be "
        f"compared with figures selected likewise alone):  {figures}"
    ]


SECTION = Section(
    report=SectionReport(key="test_selected", rows=_rows, lines=_lines),
    wanted=lambda recipe: recipe.test_selected,
    at_interval=keep_candidates,
    measure=_measure,
    finish=drop_candidates,
)
