"""A section of a run: train its gate and the classifier of the seen classes, and evaluate both.

No test row is read before the gate and its threshold are fixed. The gates `boundary`, `likelihood`
and `gaussian` are trained on four fifths of the training rows; the other fifth sets the threshold.
The gate `cosmo` is trained on scores of the validation rows.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from gsmflow.core.distributed import SINGLE_PROCESS
from gsmflow.core.errors import InputError
from gsmflow.core.extras import require
from gsmflow.core.json_fields import Field
from gsmflow.data.dataset import Dataset, HeldOut, Problem, hold_out
from gsmflow.data.splits import draw_fifth
from gsmflow.evaluation.measures import measure
from gsmflow.evaluation.metrics import BestAnswers, best_answers, class_columns
from gsmflow.evaluation.protocol import Outcome
from gsmflow.learning.contract import ClassifierRows, GivesRows, Model, Scorer, StreamedRows
from gsmflow.learning.feed import Feed, Scaled, SelectedFeed, scale_problem
from gsmflow.learning.scorers import feature_map
from gsmflow.learning.softmax import SoftmaxClassifier, fit_softmax_by_epoch
from gsmflow.learning.state import model_tensors
from gsmflow.learning.trainer import TrainingConfig
from gsmflow.methods.gates.base import Gated, accepting_threshold, measure_gate
from gsmflow.methods.gates.boundary import BoundaryConfig, HypersphericalVAEs, boundary_training
from gsmflow.methods.gates.cosmo import CosmoConfig, Smoothing, fit_smoothing
from gsmflow.methods.gates.gaussian import GaussianConfig, SemanticGaussians
from gsmflow.recipes.fit import rows_request
from gsmflow.recipes.recipe import Recipe
from gsmflow.reports.section import SectionReport, SectionRow
from gsmflow.runs.checkpoint import reading
from gsmflow.runs.gate_checkpoint import (
    GATE_FILE,
    GateParts,
    ModelNumber,
    gate_scaling,
    make_gated,
    seen_scores,
    shares_scores,
    write_gate,
)
from gsmflow.runs.section import Evaluated, Section, SectionResult
from gsmflow.runs.stages import Fitted, Run, train_module, training_stage
from gsmflow.runs.validation import AtEnd, Finding

__all__ = ["SECTION", "evaluate_gate", "find_scores", "fit_gate"]

_STAGE = "gate"
_FEWEST_CLASSES = 2


def find_scores(run: Run, problem: Problem, held_out: HeldOut) -> AtEnd:
    """A function that scores the validation rows with both experts; `cosmo` learns from the scores.

    The function is called at the end of the training on validation classes.
    """

    def find(scaled: Scaled, model: Model, scorer: Scorer) -> Finding:
        classifier = _fit_classifier(run, scaled, model, scorer)
        space = feature_map(scaled.scaling, model, run.device)
        seen = seen_scores(classifier, space, scorer, len(problem.seen_classes))
        both = (held_out.seen, held_out.unseen)
        slabs = [features for rows in both for _, features in rows.slabs()]
        labels = np.concatenate([rows.labels for rows in both])
        arrays = {
            "seen": np.concatenate([seen(features) for features in slabs]),
            "unseen": np.concatenate([scorer.zsl_scores(features) for features in slabs]),
            "columns": class_columns(labels, problem.classes),
        }
        return Finding(tensors={name: torch.from_numpy(array) for name, array in arrays.items()})

    return find


def fit_gate(
    run: Run, fitted: Fitted, scorer: Scorer, found: Finding | None = None
) -> Gated | None:
    """Train the gate of the recipe and the classifier of the seen classes; None without a gate.

    Writes them into the run directory, from where `gate_checkpoint.read_gate` reads them.

    Parameters
    ----------
    run
        The run.
    fitted
        The model, and the training rows.
    scorer
        Scores the unseen classes, and the seen classes too if it was not trained on rows.
    found
        The scores that `find_scores` found on the validation classes, for `cosmo`.

    Raises
    ------
    InputError
        If there are fewer than two seen classes, or none of them has a row to hold out.
    """
    name, problem = run.recipe.gate_name, fitted.scaled.problem
    if run.recipe.gate is None:
        return None
    if len(problem.seen_classes) < _FEWEST_CLASSES:
        raise InputError(
            f"--gate: found {name} with {len(problem.seen_classes)} seen class, expected at least "
            f"{_FEWEST_CLASSES}"
        )
    run.console.print(f"training the gate ({name}) and the classifier of the seen classes")
    learned, threshold = _learn(run, problem, found)
    classifier = _fit_classifier(run, fitted.scaled, fitted.model, scorer)
    gate_parts = GateParts(name, learned, threshold, classifier)
    write_gate(run.directory, gate_parts)
    (run.directory / f"{_STAGE}.state.safetensors").unlink(missing_ok=True)
    space = feature_map(fitted.scaled.scaling, fitted.model, run.device)
    return make_gated(gate_parts, space, scorer, len(problem.seen_classes))


def evaluate_gate(
    gated: Gated, held_out: HeldOut, outcome: Outcome
) -> tuple[dict[str, Any], Outcome]:
    """Evaluate a gate alone, and the predictions with it.

    Parameters
    ----------
    gated
        The gate and its experts.
    held_out
        The rows to evaluate on.
    outcome
        The outcome on the same rows without the gate.

    Returns
    -------
    tuple
        The metrics for ``metrics.json``, and the outcome with the gate.
    """
    numbers, parts = [], []
    for rows in (held_out.seen, held_out.unseen):
        for _, features in rows.slabs(len(outcome.classes)):
            of_rows, scores = gated.numbers_and_scores(features)
            numbers.append(of_rows)
            parts.append(best_answers(scores, outcome.classes, outcome.seen_classes))
    with_gate = replace(outcome, best=BestAnswers.joined(parts))
    threshold = gated.gate.threshold
    alone = measure_gate(np.concatenate(numbers), ~outcome.row_is_seen, threshold)
    facts = {"name": gated.name, **asdict(alone), "measures": measure(with_gate).as_json()}
    return facts, with_gate


def _measure(evaluated: Evaluated, gated: Gated) -> SectionResult:
    facts, with_gate = evaluate_gate(gated, evaluated.held_out, evaluated.outcome)
    return SectionResult(facts, curves={_label(evaluated.run.label, gated.name): (with_gate, None)})


def _check(recipe: Recipe, dataset: Dataset) -> None:
    if isinstance(recipe.gate, BoundaryConfig):
        require("ot", "--gate boundary")
    if not len(dataset.test_unseen):
        raise InputError(
            f"--gate: found {recipe.gate_name} with no rows of unseen classes in "
            f"{dataset.where('test_unseen')}, expected none: there are no test rows for a gate"
        )


def _scores_for_cosmo(run: Run, problem: Problem, held_out: HeldOut) -> AtEnd:
    if isinstance(run.recipe.gate, CosmoConfig):
        return find_scores(run, problem, held_out)
    return lambda scaled, model, scorer: Finding()


def _learn(
    run: Run, problem: Problem, found: Finding | None
) -> tuple[ModelNumber | Smoothing, float]:
    """Train the gate: the function that gives its numbers, and its threshold."""
    recipe, gate = run.recipe, run.recipe.gate
    if isinstance(gate, CosmoConfig):
        assert found is not None
        return _learn_smoothing(found, gate.share)
    if isinstance(gate, BoundaryConfig):
        return _learn_model(run, problem, HypersphericalVAEs, gate, boundary_training(gate))
    if isinstance(gate, GaussianConfig):
        return _learn_model(run, problem, SemanticGaussians, gate, None)
    # Rows of unseen classes have a low density under a model like the run's.
    return _learn_model(run, problem, run.model_class, recipe.method, recipe.training)


def _learn_smoothing(found: Finding, share: float) -> tuple[Smoothing, float]:
    """Learn `cosmo` from scores of validation rows; a held-out fifth sets the threshold."""
    seen, unseen, columns = (found.tensors[name].numpy() for name in ("seen", "unseen", "columns"))
    held = draw_fifth(columns)
    smoothing = fit_smoothing(seen[~held], unseen[~held], columns[~held])
    accepted = held & (columns < seen.shape[1])
    odds = smoothing.log_odds(seen[accepted], unseen[accepted])
    return smoothing, accepting_threshold(odds, share)


def _learn_model(
    run: Run,
    problem: Problem,
    model_class: type[HypersphericalVAEs] | type[SemanticGaussians] | type[Model],
    config: Any,
    training: TrainingConfig | None,
) -> tuple[ModelNumber, float]:
    """Train a model on four fifths of the rows; the other fifth sets the threshold.

    Without training settings, the model is fitted where it is made.
    """
    rest, held = hold_out(problem)
    recipe = run.recipe
    scaled = scale_problem(rest, gate_scaling(recipe), run.device, recipe.features_in)
    generators = run.generators(_STAGE)
    if training is None:
        with run.clock.stage(training_stage(_STAGE)):
            trained = model_class.for_problem(scaled, config, generators).to(run.device)
    else:
        model = model_class.for_problem(scaled, config, generators)
        trained = _train(run, model, scaled.feed, training)
    number = ModelNumber(trained, scaled.scaling, rest.seen_classes, run.device)
    numbers = np.concatenate([number(features) for _, features in held.slabs()])
    return number, accepting_threshold(numbers, recipe.gate.share)


def _train(run: Run, model: Any, feed: Feed, config: TrainingConfig) -> Any:
    """Train a gate's model, or load it if it is trained already."""
    file = run.directory / GATE_FILE
    model = model.to(run.device)
    if file.exists():
        with reading(file, "gate", deletable=True):
            model.load_state_dict(model_tensors(load_file(file)))
        return model
    # Only the main process trains the gate.
    with run.clock.stage(training_stage(_STAGE)):
        return train_module(replace(run, group=SINGLE_PROCESS), _STAGE, model, feed, config)[0]


def _fit_classifier(
    run: Run, scaled: Scaled, model: Model, scorer: Scorer
) -> SoftmaxClassifier | None:
    """Train a classifier of the seen classes alone, on the rows of seen classes.

    None if the scorer was not trained on rows: then its columns of the seen classes serve.
    """
    if shares_scores(model, scorer):
        return None
    problem = scaled.problem
    # The synthesized rows are not needed; the request takes the smallest number.
    request = rows_request(run.recipe, scaled, run.precision)
    assert isinstance(model, GivesRows)
    rows = model.classifier_rows(replace(request, samples_per_class=1))
    classes = scaled.on_device(problem.seen_classes)
    return fit_softmax_by_epoch(
        lambda: _of_classes(rows, classes),
        problem.seen_classes,
        run.recipe.trained_classifier,
        run.generators(problem.split).on_device("seen classifier"),
        problem=problem,
    )


def _of_classes(rows: ClassifierRows, classes: torch.Tensor) -> Feed:
    """The rows of the GZSL classifier, for one epoch, that are of the given classes."""
    feed = rows.real if isinstance(rows, StreamedRows) else rows.gzsl()
    return SelectedFeed(feed, torch.isin(feed.labels, classes).nonzero()[:, 0])


def _label(model: str, gate: str) -> str:
    """The label in tables of a model with its gate."""
    return f"{model} with gate: {gate}"


def _rows(metrics: Field) -> list[SectionRow]:
    gate = metrics["gate"]
    label = _label(metrics["model"].text(), gate["name"].text())
    return [SectionRow(label, gate["measures"])]


def _lines(metrics: Field) -> list[str]:
    gate = metrics["gate"]

    def figures(names: Mapping[str, str]) -> str:
        return "  ".join(f"{k} {gate[name].mean_std().text(' ±')}" for k, name in names.items())

    alone = figures({"AUROC": "AUROC", "FPR at 95% TPR": "FPR95"})
    accepted = figures({"seen": "accepted_seen", "unseen": "accepted_unseen"})
    return [
        f"gate {gate['name'].text()} alone:  {alone};  accepted as seen, of test rows:  {accepted}"
    ]


SECTION = Section(
    report=SectionReport(key="gate", rows=_rows, lines=_lines),
    wanted=lambda recipe: recipe.gate is not None,
    check=_check,
    at_end=_scores_for_cosmo,
    fit=lambda run, dataset, fitted, scorer, found: fit_gate(run, fitted, scorer, found),
    measure=_measure,
)
