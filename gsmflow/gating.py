"""The gate in a run: its own training, the seen classes' own classifier, and the judging.

Nothing here meets a row of the test split before the gate, its threshold included, is fixed. The
gates `boundary` and `likelihood` learn from four fifths of the training rows; the others set the
threshold. The gate `cosmo` learns from scores of the validation rows.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from gsmflow.boundary import BoundaryConfig, HypersphericalVAEs, boundary_training
from gsmflow.classifier import ClassifierConfig, fit_softmax_by_epoch
from gsmflow.cosmo import fit_smoothing
from gsmflow.dataset import FloatArray, HeldOut, Problem, Rows, draw_fifth, hold_out
from gsmflow.density import Bayes, seen_log_density
from gsmflow.errors import InputError, one_line
from gsmflow.evaluate import Outcome, Scorer
from gsmflow.feed import Feed, Scaled, SelectedFeed, scale_problem
from gsmflow.fitting import AtEnd, Fitted, Run, train_module
from gsmflow.gate import Gate, Views, accepting_threshold, measure_gate
from gsmflow.interface import ClassifierRows, Classifying, Density, Model, StreamedRows
from gsmflow.learning import rows_request
from gsmflow.models import MODELS
from gsmflow.scoring import feature_map
from gsmflow.team import ALONE
from gsmflow.train import TrainingConfig
from gsmflow.util import write_tensors

__all__ = ["Gated", "fit_gate", "judge_gate", "keep_scores"]

_STAGE = "gate"
_FEWEST_CLASSES = 2
_SCORES = "gate-scores.safetensors"

_Scores: TypeAlias = Callable[[FloatArray], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Gated:
    """A gate and the two experts that it chooses between.

    Attributes
    ----------
    name
        Of the gate.
    gate
        The gate.
    seen, unseen
        Scores of features ``(n, d)`` as the dataset has them, ``(n, s)`` and ``(n, u)``.
    """

    name: str
    gate: Gate
    seen: _Scores
    unseen: _Scores

    def views(self, features: FloatArray) -> Views:
        """What the gate is shown of rows."""
        return Views(features, self.seen(features), self.unseen(features))


def keep_scores(run: Run, problem: Problem, held_out: HeldOut) -> AtEnd:
    """What writes both experts' scores of the validation rows, which `cosmo` learns from.

    To be called at the end of the training on validation classes.
    """

    def keep(scaled: Scaled, model: Model, scorer: Scorer) -> None:
        seen = _seen_scores(run, scaled, model, scorer)
        parts = (held_out.seen, held_out.unseen)
        slabs = [features for part in parts for _, features in part.slabs()]
        labels = np.concatenate([part.labels for part in parts])
        order = np.argsort(problem.classes)
        columns = order[np.searchsorted(problem.classes, labels, sorter=order)]
        arrays = {
            "seen": np.concatenate([seen(features) for features in slabs]),
            "unseen": np.concatenate([scorer.zsl_scores(features) for features in slabs]),
            "columns": columns,
        }
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        write_tensors(run.directory / _SCORES, tensors, {})

    return keep


def fit_gate(run: Run, fitted: Fitted, scorer: Scorer) -> Gated | None:
    """Train the gate that the recipe names, and what it chooses between; None without one.

    Parameters
    ----------
    run
        What is run.
    fitted
        The model, and the training rows.
    scorer
        Gives the scores of the unseen classes; where it learned from no rows, also of the seen.

    Raises
    ------
    InputError
        If there are fewer than two seen classes, or none of them has a row to hold out.
    """
    name, problem = run.recipe.gate, fitted.scaled.problem
    if name == "none":
        return None
    if len(problem.seen_classes) < _FEWEST_CLASSES:
        raise InputError(
            f"--gate: found {name} with {len(problem.seen_classes)} seen class, expected at least "
            f"{_FEWEST_CLASSES}"
        )
    run.console.print(f"training the gate ({name}) and the classifier of the seen classes")
    makers = {"boundary": _boundary, "likelihood": _likelihood}
    gate = makers[name](run, problem) if name in makers else _cosmo(run)
    seen = _seen_scores(run, fitted.scaled, fitted.model, scorer)
    return Gated(name, gate, seen, scorer.zsl_scores)


def judge_gate(gated: Gated, held_out: HeldOut, outcome: Outcome) -> tuple[dict[str, Any], Outcome]:
    """Judge a gate alone, and what comes of its choices.

    Parameters
    ----------
    gated
        The gate and its experts.
    held_out
        The rows to judge on.
    outcome
        Of the same rows without the gate.

    Returns
    -------
    tuple
        Facts for ``metrics.json``, and the outcome with the gate.
    """
    gate = gated.gate
    numbers, scores = [], []
    for part in (held_out.seen, held_out.unseen):
        for _, features in part.slabs():
            views = gated.views(features)
            numbers.append(gate.number(views))
            scores.append(gate.combine(views, numbers[-1], gate.threshold))
    with_it = replace(outcome, scores=np.concatenate(scores))
    alone = measure_gate(np.concatenate(numbers), ~outcome.row_is_seen, gate.threshold)
    facts = {"name": gated.name, **asdict(alone), "measures": asdict(with_it.measures())}
    return facts, with_it


def _likelihood(run: Run, problem: Problem) -> Gate:
    """A model like the run's: rows of low density under the seen classes are of unseen ones."""
    rest, held = hold_out(problem)
    recipe = run.recipe
    scaled = scale_problem(rest, recipe.feature_scaling, run.device, recipe.features_in)
    initial = run.generator(_STAGE, "initial weights", device=torch.device("cpu"))
    config = recipe.part(MODELS[recipe.model].config)
    model = run.model_class.for_problem(rest, scaled.feed, config, initial)
    trained = _train(run, model, scaled.feed, recipe.part(TrainingConfig))
    assert isinstance(trained, Density)

    def number(features: FloatArray) -> NDArray[Any]:
        rows = torch.from_numpy(scaled.scaling(features)).to(run.device)
        return -seen_log_density(trained, rows, rest.seen_classes)

    return _with_threshold(number, held, recipe.gate_share)


def _boundary(run: Run, problem: Problem) -> Gate:
    """Rows far from the directions of all seen classes are of unseen ones."""
    rest, held = hold_out(problem)
    recipe = run.recipe
    config = recipe.part(BoundaryConfig)
    scaled = scale_problem(rest, "l2", run.device, recipe.features_in)
    initial = run.generator(_STAGE, "initial weights", device=torch.device("cpu"))
    model = HypersphericalVAEs.for_problem(rest, scaled.feed, config, initial)
    trained = _train(run, model, scaled.feed, boundary_training(config))

    def number(features: FloatArray) -> NDArray[Any]:
        rows = torch.from_numpy(scaled.scaling(features)).to(run.device)
        numbers: NDArray[Any] = -trained.nearest_cosine(rows).cpu().numpy()
        return numbers

    return _with_threshold(number, held, recipe.gate_share)


def _cosmo(run: Run) -> Gate:
    """Learned from scores of validation rows; a fifth is left out and sets the threshold."""
    stored = load_file(run.directory / _SCORES)
    seen, unseen, columns = (stored[name].numpy() for name in ("seen", "unseen", "columns"))
    apart = draw_fifth(columns)
    smoothing = fit_smoothing(seen[~apart], unseen[~apart], columns[~apart])
    accepted = apart & (columns < seen.shape[1])
    odds = smoothing.log_odds(seen[accepted], unseen[accepted])
    return Gate(
        number=lambda views: smoothing.log_odds(views.seen, views.unseen),
        threshold=accepting_threshold(odds, run.recipe.gate_share),
        combine=lambda views, numbers, threshold: smoothing.scores(views.seen, views.unseen),
    )


def _with_threshold(number: _Scores, held: Rows, share: float) -> Gate:
    """A gate by a number of the features alone, which accepts a share of the rows held out."""
    numbers = np.concatenate([number(features) for _, features in held.slabs()])
    return Gate(lambda views: number(views.features), accepting_threshold(numbers, share))


def _train(run: Run, model: Any, feed: Feed, config: TrainingConfig) -> Any:
    """Train a gate's model and save it; load it where that is done already."""
    file = run.directory / f"{_STAGE}.safetensors"
    model = model.to(run.device)
    if file.exists():
        try:
            model.load_state_dict(load_file(file))
        except Exception as error:
            raise InputError(
                f"{file}: not readable as this run's gate ({one_line(error)}), expected the file "
                "that this run wrote; delete it to train again"
            ) from error
        return model
    # The other processes of a team have nothing to do by now.
    trained, _ = train_module(replace(run, team=ALONE), _STAGE, model, feed, config)
    write_tensors(file, trained.state_dict(), {"format": "pt"})
    (run.directory / f"{_STAGE}.state.safetensors").unlink(missing_ok=True)
    return trained


def _seen_scores(run: Run, scaled: Scaled, model: Model, scorer: Scorer) -> _Scores:
    """Scores of the seen classes from a classifier that has learned nothing of other ones.

    A softmax that learns from those of the classifiers' rows that are of seen classes; where the
    scorer learned from no such rows, its own columns of them.
    """
    problem = scaled.problem
    seen = len(problem.seen_classes)
    if isinstance(model, Classifying) or isinstance(scorer, Bayes):
        return lambda features: scorer.gzsl_scores(features)[:, :seen]
    # Of the synthesized rows, which are not needed, as few as can be.
    request = rows_request(run.recipe, scaled, run.precision)
    rows = model.classifier_rows(replace(request, samples_per_class=1))
    classes = torch.from_numpy(problem.seen_classes).to(scaled.feed.labels.device)
    softmax = fit_softmax_by_epoch(
        lambda: _of_classes(rows, classes),
        problem.seen_classes,
        run.recipe.part(ClassifierConfig),
        run.generator(problem.split, "seen classifier"),
    )
    space = feature_map(scaled.scaling, model, run.device)
    return lambda features: softmax.scores(space(features))


def _of_classes(rows: ClassifierRows, classes: torch.Tensor) -> Feed:
    """Those of the GZSL classifier's rows that are of some classes, for one epoch."""
    feed = rows.real if isinstance(rows, StreamedRows) else rows.gzsl()
    return SelectedFeed(feed, torch.isin(feed.labels, classes).nonzero()[:, 0])
