"""Few-shot learning: draws, weights, whole runs of every model that supports it, and bad input."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console
from safetensors import safe_open
from safetensors.numpy import save_file

from gsmflow.core.devices import pick_device
from gsmflow.core.errors import InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Dataset, HeldOut, Problem, Rows
from gsmflow.data.splits import shuffle_each_class
from gsmflow.evaluation.measures import measure
from gsmflow.evaluation.protocol import Outcome, evaluate
from gsmflow.learning.softmax import SoftmaxConfig
from gsmflow.recipes.checks import check_recipe
from gsmflow.runs import experiment
from gsmflow.runs import few_shot as fewshot
from gsmflow.runs.checkpoint import open_trained
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.few_shot import divide_rows, real_and_synthesized
from gsmflow.runs.job import Job, RunResult
from gsmflow.runs.seeds import run_seeds
from tests.builders import CADA_SMALL, changed, make_dataset, tiny_recipe
from tests.methods.test_contract import ClosedForm

pytestmark = pytest.mark.usefixtures("quick_pictures")

# The models whose classifiers learn from labelled rows of unseen classes.
MODELS: dict[str, dict[str, Any]] = {
    "gsmflow": {},
    "prototypes": {"classifier": "prototypes", "classifier_lr": 1e-2},
    "cada-vae": {**CADA_SMALL, "latents_few_shot": 10, "epochs": 2, "classifier_epochs": 2},
}
MEASURES = ("T1", "U", "S", "H", "AUSUC")


def start(
    folder: Path, case: str = "gsmflow", *, dataset: Dataset | None = None, **changes: Any
) -> RunResult:
    few = {"shots": (0, 1, 3), "shot_draws": 2, "beside": ()}
    recipe = tiny_recipe(folder, **{**MODELS[case], **few, **changes})
    check_recipe(recipe)
    return run_experiment(Job(recipe, dataset=dataset), Console(quiet=True))


def choices_of(result: RunResult) -> dict[str, Any]:
    """What was chosen for each number of rows, as the run saves it with its validation."""
    with safe_open(result.directory / "validation.safetensors", framework="np") as file:
        choices: dict[str, Any] = json.loads(file.metadata()["facts"])["few_shot"]
    return choices


@st.composite
def labels_and_shots(draw: st.DrawFn) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    shots = tuple(sorted(draw(st.sets(st.integers(0, 6), min_size=1, max_size=4))))
    sizes = draw(st.lists(st.integers(max(shots) + 1, 12), min_size=1, max_size=5))
    labels = np.repeat(3 * np.arange(len(sizes)), sizes)
    return np.array(draw(st.permutations(list(labels)))), shots


def rows_with(labels: NDArray[np.int64]) -> Rows:
    return Rows(np.zeros((len(labels), 2), dtype=np.float32), labels, np.arange(len(labels)))


def index_of(rows: Rows) -> list[int]:
    assert rows.index is not None
    return [int(row) for row in rows.index]


@given(labels_and_shots(), st.integers(0, 99))
def test_draws_are_nested_have_their_size_and_exclude_evaluated_rows(
    case: tuple[NDArray[np.int64], tuple[int, ...]], seed: int
) -> None:
    labels, shots = case
    division = divide_rows(rows_with(labels), shots, np.random.default_rng(seed))
    assert tuple(division.labelled) == tuple(k for k in shots if k)
    smaller: set[int] = set()
    for k, rows in division.labelled.items():
        indices = index_of(rows)
        assert Counter(rows.labels.tolist()) == {int(c): k for c in np.unique(labels)}
        assert len(indices) == len(set(indices))
        assert smaller <= set(indices)
        smaller = set(indices)
    evaluated = index_of(division.evaluated)
    assert sorted([*smaller, *evaluated]) == list(range(len(labels)))
    assert set(division.evaluated.labels.tolist()) == set(labels.tolist())


@given(labels_and_shots(), st.integers(0, 99))
def test_draw_of_k_rows_does_not_depend_on_the_other_numbers(
    case: tuple[NDArray[np.int64], tuple[int, ...]], seed: int
) -> None:
    labels, shots = case
    together = divide_rows(rows_with(labels), shots, np.random.default_rng(seed)).labelled
    for k, rows in together.items():
        alone = divide_rows(rows_with(labels), (k,), np.random.default_rng(seed)).labelled[k]
        assert set(index_of(alone)) == set(index_of(rows))


def test_every_row_of_a_class_is_drawn_equally_often() -> None:
    labels = np.repeat([4, 1], [5, 8])
    rng, count = np.random.default_rng(0), np.zeros(13)
    for _ in range(4000):
        count += shuffle_each_class(labels, rng) < 2
    # A binomial share of 4000 is off by 4 standard deviations once in 16 000 times.
    np.testing.assert_allclose(count[:5] / 4000, 2 / 5, atol=4 * 0.5 / 4000**0.5)
    np.testing.assert_allclose(count[5:] / 4000, 2 / 8, atol=4 * 0.5 / 4000**0.5)


@given(st.integers(1, 7), st.sampled_from([0.1, 0.3, 0.6, 1.0]), st.integers(1, 60))
def test_share_of_the_rows_of_a_class_is_real(k: int, share: float, per_class: int) -> None:
    real, synthesized = real_and_synthesized(k, share, per_class)
    if k <= share * per_class:
        assert real == pytest.approx(share * per_class, abs=0.5)
        assert real + synthesized == pytest.approx(per_class, abs=1)
    else:
        assert real == k
    assert synthesized == pytest.approx((1 - share) * per_class, abs=0.5)


@pytest.mark.parametrize("model", MODELS)
def test_figures_without_labelled_rows_equal_those_of_the_run(tmp_path: Path, model: str) -> None:
    metrics = start(tmp_path, model, shots=(0,)).metrics
    few = metrics["few_shot"]["0"]
    for name in MEASURES:
        assert few[name]["values"] == [metrics[name]] * 2
    assert few["calibrated"]["H"]["mean"] == pytest.approx(metrics["calibrated"]["H"])


def test_every_number_of_rows_has_its_epochs_of_the_classifiers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs: list[tuple[int, int, int]] = []
    classify = fewshot.classify_real

    def watch(
        run: Any, scaled: Any, model: Any, rows: Rows, config: SoftmaxConfig, **counts: Any
    ) -> Any:
        per_class = len(rows) // len(scaled.problem.unseen_classes)
        epochs.append((per_class, config.epochs, config.for_zsl.epochs))
        return classify(run, scaled, model, rows, config, **counts)

    monkeypatch.setattr(fewshot, "classify_real", watch)
    changes = {
        "classifier_few_shot_epochs": (3, 4, 5, 6),
        "classifier_few_shot_zsl_epochs": (7, 8, 9, 10),
    }
    start(tmp_path, "cada-vae", shot_draws=1, **changes)
    # Once on validation classes, once on test.
    assert epochs == [(1, 3, 7), (3, 4, 8)] * 2


@pytest.mark.parametrize("model", MODELS)
def test_every_number_of_rows_is_evaluated_on_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    learned: list[tuple[Problem, Rows]] = []
    evaluated: list[tuple[Problem, HeldOut, list[Outcome]]] = []
    classify, evaluate_all = fewshot.classify_real, fewshot.evaluate_all

    def watch_learning(
        run: Any, scaled: Any, model: Any, rows: Rows, config: SoftmaxConfig, **counts: Any
    ) -> Any:
        learned.append((scaled.problem, rows))
        return classify(run, scaled, model, rows, config, **counts)

    def watch_evaluation(scorers: Any, problem: Problem, held_out: HeldOut) -> list[Outcome]:
        outcomes = evaluate_all(scorers, problem, held_out)
        evaluated.append((problem, held_out, outcomes))
        return outcomes

    monkeypatch.setattr(fewshot, "classify_real", watch_learning)
    monkeypatch.setattr(fewshot, "evaluate_all", watch_evaluation)
    result = start(tmp_path, model, run="first")
    whole = result.held_out
    assert len(evaluated) == 2
    on_test = [rows for problem, rows in learned if problem.split == "test"]
    assert [dict(Counter(r.labels.tolist()).items()).keys() for r in on_test] == [{7, 8, 9}] * 4
    of_validation = [rows for problem, rows in learned if problem.split == "validation"]
    assert {c for rows in of_validation for c in rows.labels.tolist()} == {5, 6}

    trained = open_trained(result.directory, pick_device("cpu"))
    draws = []
    for (problem, rest, outcomes), rows in zip(evaluated, (on_test[:2], on_test[2:]), strict=True):
        one, three = (set(index_of(draw)) for draw in rows)
        assert one < three
        assert (len(one), len(three)) == (3, 9)
        assert set(index_of(rest.unseen)) == set(index_of(whole.unseen)) - three
        assert index_of(rest.seen) == index_of(whole.seen)
        assert len(outcomes) == 3
        outcome = evaluate(trained.scorer, problem, rest)
        found, expected = outcomes[0].best, outcome.best
        np.testing.assert_allclose(found.seen_scores, expected.seen_scores, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(found.unseen, expected.unseen)
        draws.append(three)
    assert draws[0] != draws[1]
    for number, k in enumerate((0, 1, 3)):
        few = result.metrics["few_shot"][str(k)]
        for name in MEASURES:
            values = [measure(outcomes[number]).plain[name] for _, _, outcomes in evaluated]
            assert few[name]["values"] == values
            assert few[name]["mean"] == pytest.approx(np.mean(values))
            assert few[name]["std"] == pytest.approx(np.std(values, ddof=1))


def misleading() -> Dataset:
    """Held-out classes with exchanged semantics: synthesized rows are wrong."""
    dataset = make_dataset(noise=0.1)
    semantics = dataset.semantics.copy()
    semantics[[5, 6]], semantics[[7, 8, 9]] = semantics[[6, 5]], semantics[[8, 9, 7]]
    return check_dataset(replace(dataset, semantics=semantics))


@pytest.mark.parametrize("model", MODELS)
def test_labelled_rows_raise_t1_if_semantics_are_misleading(tmp_path: Path, model: str) -> None:
    settings = {"epochs": 20, "classifier_epochs": 40, "shots": (0, 6), "shot_draws": 1}
    few = start(tmp_path, model, dataset=misleading(), **settings).metrics["few_shot"]
    assert few["6"]["T1"]["mean"] > few["0"]["T1"]["mean"] + 0.3


def test_weight_maximises_h_on_validation_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blurred:
        """Right scores, under noise that grows with the distance from 4 synthesized rows."""

        def __init__(self, problem: Problem, synthesized: int) -> None:
            self.problem, self.noise = problem, abs(synthesized - 4)
            self.rng = np.random.default_rng(0)

        def gzsl_scores(self, features: Any) -> Any:
            return self._scores(features, self.problem.classes)

        def zsl_scores(self, features: Any) -> Any:
            return self._scores(features, self.problem.unseen_classes)

        def _scores(self, features: Any, classes: Any) -> Any:
            right = classes == np.round(features[:, :1] * 1000)
            return right + self.noise * self.rng.normal(size=right.shape)

    plain = make_dataset()
    features = plain.features.copy()
    features[:, 0] = plain.labels / 1000  # the first feature is the class label
    dataset = check_dataset(replace(plain, features=features))

    def blurred(
        run: Any, scaled: Any, model: Any, rows: Rows, config: SoftmaxConfig, **counts: int
    ) -> Any:
        return Blurred(scaled.problem, counts["synthesized"])

    monkeypatch.setattr(fewshot, "classify_real", blurred)
    result = start(tmp_path, dataset=dataset)  # 10 samples per class
    chosen = choices_of(result)
    assert {k: choice["share"] for k, choice in chosen.items()} == {"1": 0.6, "3": 0.6}
    assert [chosen[k]["H"] for k in chosen] == pytest.approx([1.0, 1.0])
    few = result.metrics["few_shot"]
    assert [few[k]["share"] for k in few] == [None, 0.6, 0.6]
    assert few["3"]["calibrated"]["gamma"]["mean"] == chosen["3"]["gamma"]


@pytest.mark.parametrize("model", MODELS)
def test_choices_do_not_depend_on_test_rows(tmp_path: Path, model: str) -> None:
    clean = check_dataset(make_dataset())
    garbage = clean.features.copy()
    test = np.concatenate([clean.test_seen, clean.test_unseen])
    garbage[test] = 1000 * np.random.default_rng(1).normal(size=(len(test), garbage.shape[1]))

    def run_on(dataset: Dataset, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        result = start(tmp_path, model, dataset=dataset, run=name)
        return choices_of(result), result.metrics

    choices, metrics = run_on(clean, "clean")
    others, corrupt = run_on(replace(clean, features=garbage), "corrupt")
    assert choices.keys() == {"1", "3"}
    assert choices == others
    assert metrics["validation"] == corrupt["validation"]
    assert metrics["few_shot"] != corrupt["few_shot"]


def test_few_shot_evaluation_does_not_change_other_figures(tmp_path: Path) -> None:
    with_them = start(tmp_path, run="with").metrics
    without = start(tmp_path, run="without", shots=()).metrics
    assert "few_shot" not in without
    assert {k: v for k, v in with_them.items() if k != "few_shot"} == without


@pytest.mark.parametrize("model", MODELS)
def test_few_shot_figures_resume_to_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    whole = start(tmp_path, model, run="whole").metrics

    def crash(*arguments: Any, **keywords: Any) -> None:
        raise RuntimeError("a stand-in for a crash")

    stages = [(fewshot, "evaluate"), (experiment, "fit_final"), (fewshot, "evaluate_all")]
    for module, stage in stages:
        with monkeypatch.context() as patch:
            patch.setattr(module, stage, crash)
            with pytest.raises(RuntimeError):
                start(tmp_path, model, run=stage)
        assert start(tmp_path, model, run=stage, resume=True).metrics == whole


def test_custom_model_learns_from_labelled_rows(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, shots=(0, 2), shot_draws=1, beside=())
    metrics = run_experiment(Job(recipe, ClosedForm), Console(quiet=True)).metrics
    assert metrics["few_shot"]["2"]["H"]["std"] is None
    assert metrics["few_shot"]["2"]["share"] in (0.1, 0.3, 0.6, 1.0)


def test_draws_do_not_depend_on_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[list[int]] = []

    def watch(scorers: Any, problem: Problem, held_out: HeldOut) -> Any:
        evaluated.append(index_of(held_out.unseen))
        return original(scorers, problem, held_out)

    original = fewshot.evaluate_all
    monkeypatch.setattr(fewshot, "evaluate_all", watch)
    start(tmp_path, "cada-vae", run="a", calibrate=False)
    start(tmp_path, "gsmflow", run="b")
    start(tmp_path, "cada-vae", run="c", seed=1, calibrate=False)
    assert evaluated[:2] == evaluated[2:4]
    assert evaluated[:2] != evaluated[4:]


def test_without_validation_classes_there_is_no_gamma(tmp_path: Path) -> None:
    few = start(tmp_path, "cada-vae", calibrate=False).metrics["few_shot"]
    assert [few[k]["calibrated"] for k in few] == [None] * 3


def test_seeds_pool_their_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny_recipe(
        tmp_path, **MODELS["cada-vae"], shots=(0, 2), shot_draws=2, seeds=2, calibrate=False
    )
    summary = run_seeds(Job(changed(recipe, beside=(), run="both")), Console(quiet=True))
    folder = recipe.out / "TINY" / "both"
    parts = [json.loads((folder / f"seed{s}" / "metrics.json").read_text()) for s in (0, 1)]
    values = [v for part in parts for v in part["few_shot"]["2"]["H"]["values"]]
    pooled = summary["few_shot"]["2"]["H"]
    assert pooled["values"] == values
    assert pooled["mean"] == pytest.approx(np.mean(values))
    assert pooled["std"] == pytest.approx(np.std(values, ddof=1))
    assert (folder / "few_shot.png").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shots": (0, 12)}, "--shots: found 12 with class class_7, which has 12 rows in .*test_u"),
        ({"shots": (0, 8)}, "--shots: found 8 with class class_5, which has 8 rows in .*val"),
        ({"shots": (2, 1)}, "--shots: found 2 1, expected whole numbers .* ascending, each once"),
        ({"shots": (1, 1)}, "--shots: found 1 1, expected whole numbers"),
        ({"shots": (-1, 1)}, "--shots: found -1 1, expected whole numbers of at least 0"),
        ({"classifier": "bayes"}, "--shots: found with --classifier bayes"),
        ({"gate": "cosmo"}, "--shots: found with --gate cosmo"),
        ({"calibrate": False}, "--shots: found with --no-calibrate, expected --calibrate"),
        ({"model": "discriminant"}, "--shots: found with a model that classifies by itself"),
        ({"shot_draws": 0}, "--shot-draws: found 0, expected a number of at least 1"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=f"^{message}") as error:
        start(tmp_path, cache=False, **changes)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_class_with_too_few_rows_is_refused(tmp_path: Path) -> None:
    dataset = check_dataset(make_dataset())
    small = np.flatnonzero(dataset.labels == 8)[4:]
    rows = np.setdiff1d(dataset.test_unseen, small)
    small_class = replace(dataset, test_unseen=rows)
    with pytest.raises(InputError, match=r"found 5 with class class_8, which has 4 rows in"):
        start(tmp_path, dataset=small_class, shots=(0, 5))
    settings = {"shots": (0, 3), "calibrate": False}
    assert start(tmp_path, "cada-vae", dataset=small_class, **settings).metrics["few_shot"]["3"]


@pytest.mark.parametrize("shots", [(0, 1), (0,)])
def test_classes_without_rows_have_no_labelled_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shots: tuple[int, ...]
) -> None:
    dataset = check_dataset(make_dataset())
    described = replace(
        dataset,
        semantics=np.concatenate([dataset.semantics, np.ones((1, 5), dtype=np.float32)]),
        class_names=(*dataset.class_names, "dodo"),
    )
    monkeypatch.setattr(experiment, "read_dataset", lambda recipe: described)
    settings = {"shots": shots, "calibrate": False}
    if max(shots):
        with pytest.raises(InputError, match="with class dodo, which has 0 rows"):
            start(tmp_path, "cada-vae", **settings)
    else:
        assert start(tmp_path, "cada-vae", **settings).metrics["few_shot"]["0"]
    nothing = np.empty(0, dtype=np.int64)
    bare = replace(described, test_unseen=nothing)
    monkeypatch.setattr(experiment, "read_dataset", lambda recipe: bare)
    with pytest.raises(InputError, match="--shots: found with no rows of unseen classes in"):
        start(tmp_path, "cada-vae", **settings)


def test_damaged_choices_of_a_resumed_run_are_refused(tmp_path: Path) -> None:
    directory = start(tmp_path, run="first").directory
    (directory / "metrics.json").unlink()
    file = directory / "validation.safetensors"
    for content in ("{", "[]", '{"few_shot": {"1": {"share": 1}}}'):
        save_file({}, file, {"facts": content})
        with pytest.raises(InputError, match=str(directory)) as error:
            start(tmp_path, run="first", resume=True)
        assert "\n" not in str(error.value)
    file.write_bytes(b"torn")
    with pytest.raises(InputError, match=str(file)):
        start(tmp_path, run="first", resume=True)
