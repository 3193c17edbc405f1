"""The estimators: scikit-learn's conventions, and the same results as a run."""

import dataclasses
import doctest
import json
import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pandas import DataFrame, Series
from rich.console import Console
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import gsmflow
from gsmflow import estimators as module
from gsmflow.core.errors import InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import open_held_out
from gsmflow.estimators import (
    CADAVAEClassifier,
    GSMFlowClassifier,
    PrototypeDiscriminantClassifier,
    ZeroShotClassifier,
    ZeroShotEstimator,
)
from gsmflow.learning.contract import CalibratedScorer, Classifying, Extensible
from gsmflow.methods.registry import METHODS, find_method
from gsmflow.recipes.recipe import setting_value
from gsmflow.runs.checkpoint import open_trained
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job
from tests.builders import SMALL_OF_ANY, make_dataset, tiny_recipe, write_gbu
from tests.fuzz import examples, mutations, read_or_refused

ROOT = Path(__file__).resolve().parents[1]
DATASET = check_dataset(make_dataset(classes=12, unseen=2, val=2, noise=0.1))
TRAIN = DATASET.trainval
X, Y = DATASET.features[TRAIN], np.array(DATASET.class_names)[DATASET.labels[TRAIN]]
SEMANTICS = dict(zip(DATASET.class_names, DATASET.semantics, strict=True))
# One more needs features and semantics of one space.
FITTING = tuple(name for name in METHODS if name != "clip-prompts")
HELD_OUT = open_held_out(DATASET, "test")
UNSEEN = HELD_OUT.unseen.features
UNSEEN_NAMES = np.array(DATASET.class_names)[HELD_OUT.unseen.labels]

SMALL: dict[type[ZeroShotEstimator], dict[str, Any]] = {
    GSMFlowClassifier: {
        "blocks": 2,
        "hidden": 8,
        "condition_dim": 4,
        "epochs": 2,
        "samples_per_class": 4,
        "classifier_epochs": 2,
    },
    CADAVAEClassifier: {
        "latent_dim": 4,
        "image_encoder_hidden": 8,
        "semantics_encoder_hidden": 8,
        "image_decoder_hidden": 8,
        "semantics_decoder_hidden": 8,
        "latents_seen": 4,
        "latents_unseen": 4,
        "latents_zsl": 4,
        "epochs": 2,
        "classifier_epochs": 2,
    },
    PrototypeDiscriminantClassifier: {"feature_transform": "none"},
}
KINDS = list(SMALL)


def small(kind: type[ZeroShotEstimator], **changes: Any) -> Any:
    return kind(**{"random_state": 0, "device": "cpu", **SMALL[kind], **changes})


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> type[ZeroShotEstimator]:
    estimator_class: type[ZeroShotEstimator] = request.param
    return estimator_class


# scikit-learn's estimator checks: unchanged, and with semantics for the classes that they use.

_NO_SEMANTICS = "fits without semantics, which say what the unseen classes are"
_UNSEEN_TOO = "takes the classes of y for all there are, but there are unseen ones too"

_FITTING = (
    "check_classifier_data_not_an_array",
    "check_classifiers_classes",
    "check_classifiers_train",
    "check_decision_proba_consistency",
    "check_dict_unchanged",
    "check_dont_overwrite_parameters",
    "check_dtype_object",
    "check_estimators_dtypes",
    "check_estimators_fit_returns_self",
    "check_estimators_nan_inf",
    "check_estimators_overwrite_params",
    "check_estimators_pickle",
    "check_f_contiguous_array_estimator",
    "check_fit2d_predict1d",
    "check_fit_check_is_fitted",
    "check_fit_idempotent",
    "check_fit_score_takes_y",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_n_features_in",
    "check_n_features_in_after_fitting",
    "check_pipeline_consistency",
    "check_positive_only_tag_during_fit",
    "check_readonly_memmap_input",
    "check_supervised_y_2d",
)
_OF_ALL_CLASSES = (
    "check_classifiers_classes",
    "check_classifiers_one_label",
    "check_classifiers_train",
    "check_decision_proba_consistency",
)


class Described:
    """Gives what the checks do not: a vector for each class of y, and an unseen class."""

    def fit(self, X: Any, y: Any, semantics: Any = None) -> Any:
        labels = np.empty(0) if y is None else np.unique(np.asarray(y))
        if semantics is None and labels.ndim == 1 and 0 < len(labels) < 20:
            further = labels.max() + 1 if labels.dtype.kind in "iuf" else "~"
            every = [*labels.tolist(), True if labels.dtype.kind == "b" else further]
            angles = np.linspace(0, 2, len(every))
            vectors = np.stack([np.cos(angles), np.sin(angles), np.ones_like(angles)], axis=1)
            semantics = dict(zip(every, vectors, strict=True))
        return super().fit(X, y, semantics)  # type: ignore[misc]


class DescribedGSMFlow(Described, GSMFlowClassifier):
    pass


class DescribedCADAVAE(Described, CADAVAEClassifier):
    pass


class DescribedDiscriminant(Described, PrototypeDiscriminantClassifier):
    pass


class DescribedAny(Described, ZeroShotClassifier):
    pass


def expected_failures(estimator: Any) -> dict[str, str]:
    if not isinstance(estimator, Described):
        return dict.fromkeys(_FITTING, _NO_SEMANTICS)
    names = _OF_ALL_CLASSES
    if isinstance(estimator, (CADAVAEClassifier, PrototypeDiscriminantClassifier)):
        names = tuple(name for name in names if name != "check_classifiers_one_label")
    if isinstance(estimator, PrototypeDiscriminantClassifier):
        names = tuple(name for name in names if name != "check_decision_proba_consistency")
    return dict.fromkeys(names, _UNSEEN_TOO)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.parametrize(
    "estimator",
    [
        *(small(kind) for kind in KINDS),
        DescribedGSMFlow(random_state=0, device="cpu", **SMALL[GSMFlowClassifier]),
        DescribedCADAVAE(random_state=0, device="cpu", **SMALL[CADAVAEClassifier]),
        DescribedDiscriminant(random_state=0, device="cpu", feature_transform="none"),
        ZeroShotClassifier("sae", random_state=0, device="cpu"),
        DescribedAny("ale-ce", random_state=0, device="cpu", epochs=2),
        DescribedAny("dem", random_state=0, device="cpu", epochs=2, hidden=8),
        DescribedAny("latem", random_state=0, device="cpu", epochs=2),
    ],
    ids=lambda estimator: type(estimator).__name__ + getattr(estimator, "method", ""),
)
def test_scikit_learn_checks_pass(estimator: Any) -> None:
    expected = expected_failures(estimator)
    results = check_estimator(
        estimator, expected_failed_checks=expected, on_skip=None, on_fail=None
    )
    names: dict[str, set[str]] = {}
    for result in results:
        names.setdefault(result["status"], set()).add(result["check_name"])
    assert names.get("failed", set()) == set()
    assert names["xfail"] == set(expected)
    assert len(names["passed"]) >= 20


# What is learned.


def test_unseen_classes_are_recognised(kind: type[ZeroShotEstimator]) -> None:
    fitted = kind(SEMANTICS, random_state=0, device="cpu").fit(X, Y)  # type: ignore[call-arg]
    assert list(fitted.unseen_classes_) == ["class_10", "class_11"]
    assert set(fitted.seen_classes_) == set(Y)
    right = np.mean(fitted.predict_unseen(UNSEEN) == UNSEEN_NAMES)
    assert right > 0.9
    assert fitted.score(UNSEEN, UNSEEN_NAMES) > 0.5
    assert fitted.score(X, Y) > 0.8


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        (GSMFlowClassifier, "gsmflow"),
        (CADAVAEClassifier, "cada-vae"),
        (PrototypeDiscriminantClassifier, "discriminant"),
    ],
)
@pytest.mark.usefixtures("quick_pictures")
def test_estimator_learns_the_same_as_a_run_with_its_settings(
    kind: type[ZeroShotEstimator], model: str, tmp_path: Path
) -> None:
    fitted = small(kind, random_state=3)
    params = fitted.get_params()
    settings = {k: v for k, v in params.items() if k not in module._NOT_IN_RECIPE}
    recipe = tiny_recipe(tmp_path, **settings, model=model, seed=3, beside=(), calibrate=False)
    result = run_experiment(Job(recipe), Console(quiet=True))
    run = open_trained(result.directory, torch.device("cpu"))
    train = result.problem.train
    names = np.array(result.problem.class_names)
    fitted.fit(
        train.features,
        names[train.labels],
        dict(zip(names, result.problem.semantics, strict=True)),
    )
    rows = result.held_out.unseen.features
    order = np.argsort(run.classes)
    np.testing.assert_array_equal(
        fitted.decision_function(rows), run.scorer.gzsl_scores(rows)[:, order]
    )


# Any method by its name.


def any_method(method: str, **changes: Any) -> ZeroShotClassifier:
    """An estimator of a method, with small settings."""
    known = ZeroShotClassifier(method).get_params().keys() - {"device"}
    small_settings = {name: value for name, value in SMALL_OF_ANY.items() if name in known}
    return ZeroShotClassifier(
        method, **{"random_state": 0, "device": "cpu", **small_settings, **changes}
    )


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        (GSMFlowClassifier, "gsmflow"),
        (CADAVAEClassifier, "cada-vae"),
        (PrototypeDiscriminantClassifier, "discriminant"),
    ],
)
def test_any_method_learns_the_same_as_its_own_estimator(
    kind: type[ZeroShotEstimator], method: str
) -> None:
    own = small(kind, semantics=SEMANTICS)
    parameters = own.get_params()
    plain = ZeroShotClassifier(method).set_params(**parameters)
    # The method's own estimator has fewer settings; the others have the configuration's defaults.
    for name in (
        plain.get_params().keys()
        - parameters.keys()
        - {
            "method",
            "classifier",
            "validation_classes",
        }
    ):
        plain.set_params(**{name: setting_value(own._start(), name)})
    np.testing.assert_array_equal(
        plain.fit(X, Y).decision_function(UNSEEN), own.fit(X, Y).decision_function(UNSEEN)
    )


@pytest.mark.parametrize("method", ["ale", "sae", "conse", "eszsl", "dem"])
@pytest.mark.usefixtures("quick_pictures")
def test_any_method_learns_the_same_as_a_run(method: str, tmp_path: Path) -> None:
    estimator = any_method(method, random_state=3)
    fixed = module._NOT_IN_RECIPE
    settings = {name: v for name, v in estimator.get_params().items() if name not in fixed}
    recipe = tiny_recipe(tmp_path, **settings, model=method, seed=3, beside=(), calibrate=False)
    result = run_experiment(Job(recipe), Console(quiet=True))
    run = open_trained(result.directory, torch.device("cpu"))
    dataset = check_dataset(make_dataset())  # that of the run
    names = np.array(dataset.class_names)
    estimator.set_params(validation_classes=np.unique(names[dataset.labels[dataset.val]]))
    train = result.problem.train
    semantics = dict(zip(names, result.problem.semantics, strict=True))
    estimator.fit(train.features, names[train.labels], semantics)
    rows = result.held_out.unseen.features
    order = np.argsort(run.classes)
    np.testing.assert_array_equal(
        estimator.decision_function(rows), run.scorer.gzsl_scores(rows)[:, order]
    )
    if isinstance(run.scorer, CalibratedScorer):
        estimator.set_params(calibration=0.5)
        lost = run.scorer.calibrated_scores(rows)[:, order] - estimator.decision_function(rows)
        is_seen = np.isin(estimator.classes_, estimator.seen_classes_)
        np.testing.assert_allclose(lost, np.tile(0.5 * is_seen, (len(rows), 1)), atol=1e-6)
    assert (estimator.choice_ is None) == (method in ("ale", "dem"))


@pytest.mark.parametrize("method", FITTING)
def test_every_method_is_an_estimator(method: str, tmp_path: Path) -> None:
    estimator = any_method(method, semantics=SEMANTICS)
    fields = {field.name for field in dataclasses.fields(find_method(method).config)}
    assert fields <= estimator.get_params().keys()
    estimator.fit(X, Y)
    assert set(estimator.predict(UNSEEN)) <= set(SEMANTICS)
    estimator.save(tmp_path / "estimator")
    again = ZeroShotClassifier.load(tmp_path / "estimator")
    np.testing.assert_array_equal(
        again.decision_function(UNSEEN), estimator.decision_function(UNSEEN)
    )


def test_settings_are_parameters_with_the_defaults_of_the_method() -> None:
    estimator = ZeroShotClassifier("ale", epochs=3)
    parameters = estimator.get_params()
    assert (parameters["epochs"], parameters["margin"]) == (3, 1.0)
    assert parameters["feature_scaling"] == "l2"
    assert clone(estimator).get_params() == parameters
    assert ZeroShotClassifier(**parameters).get_params() == parameters
    # Another method keeps what was given, of what it has, and has its own defaults else.
    other = clone(estimator).set_params(method="dem", hidden=5)
    expected = ZeroShotClassifier("dem", epochs=3, hidden=5).get_params()
    assert other.get_params() == expected
    assert clone(other).set_params(method="sae").get_params() == (
        ZeroShotClassifier("sae").get_params()
    )


def test_classifier_has_its_own_settings_and_is_saved(tmp_path: Path) -> None:
    estimator = ZeroShotClassifier("gsmflow", SEMANTICS, classifier="prototypes", random_state=0)
    parameters = estimator.get_params()
    assert (parameters["classifier_hidden"], parameters["samples_per_class"]) == (1024, 10)
    small = {"blocks": 2, "hidden": 16, "condition_dim": 8, "epochs": 2, "classifier_epochs": 3}
    estimator.set_params(**small, classifier_hidden=16, device="cpu").fit(X, Y)
    estimator.save(tmp_path / "estimator")
    again = ZeroShotClassifier.load(tmp_path / "estimator")
    scores = estimator.decision_function(UNSEEN)
    np.testing.assert_array_equal(again.decision_function(UNSEEN), scores)
    # Cosines over the temperature.
    assert np.abs(scores).max() <= 1 / 0.04 + 1e-3
    assert "classifier_hidden" not in estimator.set_params(classifier="softmax").get_params()
    with pytest.raises(InputError, match="classifier: found 'bayes', expected one of softmax, pr"):
        estimator.set_params(classifier="bayes").fit(X, Y)


def test_unknown_settings_and_methods_are_refused() -> None:
    expected = "method sae: found a setting 'epochs', expected one of lam, space, feature_scaling"
    with pytest.raises(InputError, match=expected):
        ZeroShotClassifier("sae", epochs=3)
    with pytest.raises(InputError, match=expected):
        ZeroShotClassifier("sae").set_params(epochs=3)
    with pytest.raises(InputError, match="method: found 'x', expected one of gsmflow, cada-vae"):
        ZeroShotClassifier("x", epochs=3).fit(X, Y, SEMANTICS)
    with pytest.raises(InputError, match=r"ZeroShotClassifier, lam: found -1, expected a number"):
        ZeroShotClassifier("sae", lam=-1).fit(X, Y, SEMANTICS)
    assert not hasattr(ZeroShotClassifier("sae"), "score_samples")
    assert not hasattr(ZeroShotClassifier("sae"), "sample")
    assert not hasattr(ZeroShotClassifier("x"), "sample")
    assert hasattr(ZeroShotClassifier("gsmflow"), "score_samples")


@pytest.mark.parametrize("given", [["class_11"], [], "class_1", ["no class"]])
def test_validation_classes_must_have_rows(given: Any) -> None:
    with pytest.raises(InputError, match="validation_classes: found"):
        any_method("sae", validation_classes=given).fit(X, Y, SEMANTICS)


def test_too_few_classes_to_choose_settings_are_refused() -> None:
    few = np.isin(Y, ["class_0", "class_1"])
    with pytest.raises(InputError, match="rows of 1 classes beside the validation classes"):
        any_method("sae").fit(X[few], Y[few], SEMANTICS)


def test_methods_and_their_settings_are_searched() -> None:
    pipeline = make_pipeline(StandardScaler(), any_method("sae", semantics=SEMANTICS))
    name = "zeroshotclassifier__"
    grid = [
        {f"{name}method": ["sae", "eszsl"]},
        {f"{name}method": ["dem"], f"{name}epochs": [1, 2], f"{name}hidden": [4]},
    ]
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, Y)
    assert len(search.cv_results_["params"]) == 4
    best = search.best_estimator_[-1].get_params()
    assert all(best[key.removeprefix(name)] == v for key, v in search.best_params_.items())


def test_scores_answers_and_probabilities_agree(kind: type[ZeroShotEstimator]) -> None:
    plain = small(kind).fit(X, Y, semantics=SEMANTICS)
    scores = plain.decision_function(UNSEEN)
    assert scores.shape == (len(UNSEEN), 12)
    exponentials = np.exp(scores)
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(plain.predict_proba(UNSEEN), probabilities)
    np.testing.assert_allclose(np.exp(plain.predict_log_proba(UNSEEN)), probabilities)
    np.testing.assert_array_equal(plain.predict(UNSEEN), plain.classes_[scores.argmax(axis=1)])
    penalised = small(kind, calibration=1.5).fit(X, Y, semantics=SEMANTICS)
    lost = scores - penalised.decision_function(UNSEEN)
    is_seen = np.isin(plain.classes_, Y)
    np.testing.assert_allclose(lost, np.where(is_seen, 1.5, 0)[None].repeat(len(lost), 0))


@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.uint8])
def test_labels_keep_their_dtype(dtype: Any) -> None:
    names = np.unique(DATASET.class_names)
    codes = np.searchsorted(names, Y)
    semantics = {int(np.searchsorted(names, name)): v for name, v in SEMANTICS.items()}
    y = codes.astype(dtype)
    fitted = small(GSMFlowClassifier).fit(X, y, semantics)
    assert fitted.classes_.tolist() == sorted(semantics)
    by_name = small(GSMFlowClassifier).fit(X, Y.astype(object), SEMANTICS)
    assert by_name.classes_.dtype == object
    np.testing.assert_array_equal(
        names[fitted.predict(UNSEEN).astype(int)], by_name.predict(UNSEEN)
    )


def test_density_integrates_to_one() -> None:
    rng = np.random.default_rng(0)
    semantics = {c: rng.normal(size=2) for c in range(4)}
    y = np.repeat([0, 1, 2], 40)
    rows = np.stack([semantics[c] for c in y]) * [3, 0.5] + rng.normal(size=(120, 2)) * [1, 0.2]
    flow = small(GSMFlowClassifier, epochs=30, feature_scaling="standardised")
    flow.fit(rows, y, semantics=semantics)
    sides = np.linspace(-15, 15, 161), np.linspace(-4, 4, 161)
    cell = (sides[0][1] - sides[0][0]) * (sides[1][1] - sides[1][0])
    grid = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    of_classes = [np.exp(flow.score_samples(grid, np.full(len(grid), c))) for c in range(4)]
    for density in of_classes:
        assert density.sum() * cell == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(
        np.exp(flow.score_samples(grid)), np.mean(of_classes, axis=0), rtol=1e-4, atol=1e-12
    )
    # Samples of a class follow its density.
    drawn = flow.sample(3, 4000, random_state=1)
    mean = (of_classes[3][:, None] * grid).sum(axis=0) * cell
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.15)


def test_unavailable_densities_are_refused() -> None:
    flow = small(GSMFlowClassifier).fit(X, Y, SEMANTICS)
    with pytest.raises(InputError, match=r"y: found x, expected one of classes_"):
        flow.score_samples(X[:1], ["x"])
    with pytest.raises(InputError, match=r"y: found shape \(2,\), expected \(1,\)"):
        flow.score_samples(X[:1], Y[:2])
    flow = small(GSMFlowClassifier, feature_scaling="l2").fit(X, Y, SEMANTICS)
    with pytest.raises(InputError, match="feature_scaling: found l2"):
        flow.score_samples(X)


def test_samples_have_their_shape_and_follow_random_state(kind: type[ZeroShotEstimator]) -> None:
    fitted = small(kind).fit(X, Y, SEMANTICS)
    first = fitted.sample("class_11", 3)
    assert first.shape == (3, X.shape[1])
    np.testing.assert_array_equal(first, fitted.sample("class_11", 3))
    assert not np.array_equal(first, fitted.sample("class_11", 3, random_state=1))
    with pytest.raises(InputError, match="label: found 'class_99'"):
        fitted.sample("class_99")
    for wrong in (1.5, True, "2"):
        with pytest.raises(InputError, match=f"n: found {wrong!r}, expected a whole number"):
            fitted.sample("class_11", wrong)
    with pytest.raises(InputError, match=r"label: found \['class_11'\], expected one of"):
        fitted.sample(["class_11"], 2)
    with pytest.raises(InputError, match="random_state: found -1, expected a whole number from 0"):
        fitted.sample("class_11", random_state=-1)
    with pytest.raises(InputError, match="n: found 0"):
        fitted.sample("class_11", 0)


# scikit-learn's tools.


def test_estimator_works_in_pipelines_and_searches() -> None:
    estimator = small(GSMFlowClassifier, semantics=SEMANTICS)
    pipeline = make_pipeline(StandardScaler(), estimator)
    search = GridSearchCV(pipeline, {"gsmflowclassifier__pi": [0.0, 0.1]}, cv=2)
    search.fit(X, Y)
    assert search.best_params_.keys() == {"gsmflowclassifier__pi"}
    assert set(search.predict(UNSEEN)) <= set(SEMANTICS)


def test_semantics_are_routed_to_fit() -> None:
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = small(PrototypeDiscriminantClassifier).set_fit_request(semantics=True)
        pipeline = make_pipeline(StandardScaler(), estimator)
        pipeline.fit(X, Y, semantics=SEMANTICS)
        assert set(pipeline[-1].unseen_classes_) == {"class_10", "class_11"}
        search = GridSearchCV(pipeline, {"prototypediscriminantclassifier__gated": [True]}, cv=2)
        search.fit(X, Y, semantics=SEMANTICS)
        assert search.best_estimator_[-1].classes_.tolist() == sorted(SEMANTICS)


def test_leaving_classes_out_is_zero_shot_validation() -> None:
    estimator = small(PrototypeDiscriminantClassifier, semantics=SEMANTICS)
    groups = np.searchsorted(np.unique(Y), Y) % 5
    scores = cross_val_score(estimator, X, Y, groups=groups, cv=LeaveOneGroupOut())
    assert len(scores) == 5
    assert scores.min() > 0.5  # of twelve classes


def test_clones_are_unfitted_and_equal(kind: type[ZeroShotEstimator]) -> None:
    estimator = small(kind, semantics=SEMANTICS).fit(X, Y)
    other = clone(estimator)
    assert not hasattr(other, "classes_")
    assert other.get_params().keys() == estimator.get_params().keys()
    np.testing.assert_array_equal(
        other.fit(X, Y).decision_function(X), estimator.decision_function(X)
    )
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(again.decision_function(X), estimator.decision_function(X))


def test_random_state_determines_the_scores() -> None:
    def scores(random_state: Any) -> NDArray[Any]:
        estimator = small(GSMFlowClassifier, random_state=random_state).fit(X, Y, SEMANTICS)
        return np.asarray(estimator.decision_function(X))

    first = scores(np.random.RandomState(5))
    np.testing.assert_array_equal(first, scores(np.random.RandomState(5)))
    assert not np.array_equal(first, scores(6))
    assert not np.array_equal(scores(None), scores(None))


def test_names_of_columns_are_kept(tmp_path: Path) -> None:
    names = [f"pixel {i}" for i in range(X.shape[1])]
    estimator = small(PrototypeDiscriminantClassifier).fit(
        DataFrame(X, columns=names), Y, SEMANTICS
    )
    assert estimator.feature_names_in_.tolist() == names
    estimator.save(tmp_path / "estimator")
    again = PrototypeDiscriminantClassifier.load(tmp_path / "estimator")
    assert again.feature_names_in_.tolist() == names
    with pytest.raises(ValueError, match="feature names should match"):
        again.predict(DataFrame(X, columns=names[::-1]))


# Saving.


@pytest.mark.parametrize("scaling", ["standardised", "l2"])
def test_saved_estimator_is_read_back_unchanged(
    kind: type[ZeroShotEstimator], scaling: str, tmp_path: Path
) -> None:
    estimator = small(
        kind, semantics=SEMANTICS, feature_scaling=scaling, calibration=np.float64(0.5)
    )
    estimator.fit(X, Y)
    estimator.save(tmp_path / "estimator.safetensors")
    again = kind.load(tmp_path / "estimator.safetensors")
    np.testing.assert_array_equal(
        again.decision_function(UNSEEN), estimator.decision_function(UNSEEN)
    )
    np.testing.assert_array_equal(again.predict_unseen(UNSEEN), estimator.predict_unseen(UNSEEN))
    np.testing.assert_array_equal(again.sample("class_11", 2), estimator.sample("class_11", 2))
    ours, theirs = estimator.get_params(), again.get_params()
    np.testing.assert_allclose(
        list(ours.pop("semantics").values()), list(theirs.pop("semantics").values())
    )
    assert ours == theirs
    np.testing.assert_array_equal(clone(again).fit(X, Y).predict(UNSEEN), estimator.predict(UNSEEN))
    assert [p.name for p in tmp_path.iterdir()] == ["estimator.safetensors"]


def test_file_that_is_no_estimator_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "estimator.safetensors"
    small(PrototypeDiscriminantClassifier).fit(X, Y, SEMANTICS).save(file)
    with pytest.raises(InputError, match=r"found PrototypeDiscriminantClassifier .*, expected GSM"):
        GSMFlowClassifier.load(file)
    with pytest.raises(InputError, match=r"none: not readable as an estimator"):
        GSMFlowClassifier.load(tmp_path / "none")
    cut = tmp_path / "cut"
    cut.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match="cut: not readable as an estimator"):
        PrototypeDiscriminantClassifier.load(cut)
    with safe_open(file, framework="np") as opened:
        metadata = opened.metadata()
        content = json.loads(metadata["gsmflow"])
    reshaped = tmp_path / "reshaped"
    tensors = load_file(file)
    save_file(tensors | {"common_bias": np.zeros((2, 3, 4))}, reshaped, metadata)
    with pytest.raises(
        InputError, match=r"found tensor common_bias of shape \(2, 3, 4\), expected"
    ):
        PrototypeDiscriminantClassifier.load(reshaped)
    content["model"] = {}
    changed = tmp_path / "changed"
    save_file({"x": np.ones(1)}, changed, {"gsmflow": json.dumps(content)})
    with pytest.raises(InputError, match="changed: not readable as an estimator"):
        PrototypeDiscriminantClassifier.load(changed)


# What is refused.


@pytest.mark.parametrize(
    ("semantics", "expected"),
    [
        ([[1.0]], "semantics: found list, expected a mapping"),
        ({k: v for k, v in SEMANTICS.items() if k != "class_3"}, "no vector of class class_3"),
        ({k: v for k, v in SEMANTICS.items() if k in Y}, "found the 10 classes that have rows"),
        (SEMANTICS | {"class_11": [1.0]}, "found 1 values of class class_11, expected 5"),
        (SEMANTICS | {"class_11": [np.nan] * 5}, "something else of class class_11"),
        (SEMANTICS | {"class_11": [["a"]]}, "something else of class class_11"),
        (SEMANTICS | {"class_11": [1j] * 5}, "something else of class class_11"),
        (SEMANTICS | {"class_11": [10**400] * 5}, "something else of class class_11"),
        (SEMANTICS | {"class_11": np.zeros(5, "M8[D]")}, "something else of class class_11"),
        (SEMANTICS | {"class_11": SEMANTICS["class_3"]}, "same vector for class_3 and class_11"),
    ],
)
def test_bad_semantics_are_refused(semantics: Any, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        small(PrototypeDiscriminantClassifier).fit(X, Y, semantics)


def test_frame_of_semantics_is_as_a_mapping(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame.from_dict(SEMANTICS, orient="index")
    estimator = clone(small(PrototypeDiscriminantClassifier, semantics=frame)).fit(X, Y)
    expected = small(PrototypeDiscriminantClassifier).fit(X, Y, SEMANTICS)
    np.testing.assert_array_equal(estimator.predict_proba(X), expected.predict_proba(X))
    estimator.save(tmp_path / "saved")
    loaded = PrototypeDiscriminantClassifier.load(tmp_path / "saved")
    assert loaded.predict(X).tolist() == expected.predict(X).tolist()
    last = frame.loc[["class_11"]].set_axis(["further"]) + 1
    grown = estimator.add_classes(last)
    assert "further" in grown.unseen_classes_
    assert "further" in grown.semantics


def test_numbers_as_texts_are_named_as_the_cause() -> None:
    numbers = {name: number for number, name in enumerate(SEMANTICS)}
    y = np.array([numbers[name] for name in Y])
    texts = {str(numbers[name]): vector for name, vector in SEMANTICS.items()}
    with pytest.raises(InputError, match=r"^semantics: found texts of numbers as keys"):
        small(PrototypeDiscriminantClassifier).fit(X, y, texts)


def test_keys_of_another_type_are_refused() -> None:
    with pytest.raises(InputError, match="found no vector of class class_0"):
        small(PrototypeDiscriminantClassifier).fit(X, Y, {0: [1.0], 1: [2.0]})
    with pytest.raises(InputError, match="found the key 5 for labels"):
        small(PrototypeDiscriminantClassifier).fit(X, Y, SEMANTICS | {5: [1.0] * 5})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("epochs", 0, "GSMFlowClassifier, epochs: found 0, expected a number of at least 1"),
        ("epochs", 2.5, "GSMFlowClassifier, epochs: found 2.5, expected a whole number"),
        ("pi", "much", 'GSMFlowClassifier, pi: found "much", expected a number'),
        ("feature_scaling", "z", 'found "z", expected one of none, minmax'),
        ("calibration", math.inf, "calibration: found inf, expected a finite number"),
        ("device", "abacus", "found abacus, expected auto or one available here"),
    ],
)
def test_bad_settings_are_refused(name: str, value: Any, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        small(GSMFlowClassifier, **{name: value}).fit(X, Y, SEMANTICS)


# Numbers that float64 does not tell apart, in each integer type that holds them.
_BIG = 2**53 + np.arange(12)


def fitted_on(labels: NDArray[Any], keys: list[Any], **changes: Any) -> Any:
    """A quick estimator on rows whose class c has the label ``labels[c]``, of 12 classes."""
    semantics = dict(zip(keys, DATASET.semantics, strict=True))
    estimator = small(PrototypeDiscriminantClassifier, **changes)
    return estimator.fit(X, labels[DATASET.labels[TRAIN]], semantics)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, "datetime64[D]", "datetime64[ns]"])
def test_labels_beyond_float64_and_times_stay_distinct_and_are_saved(
    dtype: Any, tmp_path: Path
) -> None:
    days = np.datetime64("2020-02-27") + np.arange(12)
    labels = days.astype(dtype) if "time" in str(dtype) else _BIG.astype(dtype)
    keys = list(labels) if "time" in str(dtype) else _BIG.tolist()
    estimator = fitted_on(labels, keys, semantics=dict(zip(keys, DATASET.semantics, strict=True)))
    assert estimator.classes_.dtype == labels.dtype
    np.testing.assert_array_equal(estimator.classes_, labels)
    estimator.save(tmp_path / "saved")
    loaded = PrototypeDiscriminantClassifier.load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))
    assert loaded.predict(X).dtype == labels.dtype
    assert [*loaded.semantics] == keys


def test_answers_with_big_labels_are_those_with_small_ones() -> None:
    small_labels = np.arange(12)
    expected = fitted_on(small_labels, small_labels.tolist()).predict(X)
    big = fitted_on(_BIG.astype(np.uint64), _BIG.tolist())
    np.testing.assert_array_equal(big.predict(X).astype(np.int64) - 2**53, expected)


def test_labels_that_no_type_holds_are_refused() -> None:
    y = [2**63 + 1, *([-1] * (len(X) - 1))]
    with pytest.raises(InputError, match="y: found whole numbers from -1"):
        small(PrototypeDiscriminantClassifier).fit(X, y, {c: [1.0] for c in set(y)})
    floats = _BIG.astype(np.float64)[DATASET.labels[TRAIN]]
    with pytest.raises(InputError, match="found 12 keys, of which float64 tells 7 apart"):
        small(PrototypeDiscriminantClassifier).fit(
            X, floats, dict(zip(_BIG.tolist(), DATASET.semantics, strict=True))
        )


@examples(150)
@given(data=st.data())
def test_a_damaged_file_is_loaded_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    whole, damaged = tmp_path / "whole", tmp_path / "damaged"
    if not whole.is_file():
        small(PrototypeDiscriminantClassifier).fit(X, Y, SEMANTICS).save(whole)
    damaged.write_bytes(data.draw(mutations(whole.read_bytes())))
    read_or_refused(lambda: PrototypeDiscriminantClassifier.load(damaged))


@pytest.mark.parametrize("key", [float("nan"), np.datetime64("NaT", "D")])
def test_keys_that_are_no_class_are_refused(key: Any) -> None:
    labels = np.arange(12).astype("datetime64[D]" if isinstance(key, np.datetime64) else float)
    semantics = dict(zip(labels, DATASET.semantics, strict=True)) | {key: DATASET.semantics[0]}
    with pytest.raises(InputError, match=r"semantics: found the key .*, expected classes"):
        small(PrototypeDiscriminantClassifier).fit(X, labels[DATASET.labels[TRAIN]], semantics)


@pytest.mark.parametrize(
    ("labels", "types"),
    [
        ([int(c) if c % 2 else str(c) for c in DATASET.labels[TRAIN]], "int, str"),
        ([None if c == 3 else int(c) for c in DATASET.labels[TRAIN]], "NoneType, int"),
        ([None if c == 3 else str(c) for c in DATASET.labels[TRAIN]], "NoneType, str"),
    ],
)
def test_labels_of_types_that_do_not_go_together_are_refused(labels: list[Any], types: str) -> None:
    keys = {label: [1.0] for label in labels}
    for y in (labels, np.array(labels, dtype=object), Series(labels, dtype=object)):
        with pytest.raises(InputError, match=rf"^y: found labels of types {types}, expected texts"):
            small(PrototypeDiscriminantClassifier).fit(X, y, keys)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (None, "the key None, expected classes"),
        ((1, 2), "keys of types int, tuple, expected those of labels of type int64"),
        (object(), "keys of types int, object, expected those of labels of type int64"),
    ],
)
def test_keys_of_another_type_than_the_labels_are_refused(key: Any, message: str) -> None:
    known = dict(enumerate(DATASET.semantics))
    with pytest.raises(InputError, match=f"^semantics: found {message}$"):
        small(PrototypeDiscriminantClassifier).fit(
            X, DATASET.labels[TRAIN], {**known, key: DATASET.semantics[0]}
        )


def test_tensors_with_a_gradient_are_taken_as_arrays() -> None:
    expected = small(PrototypeDiscriminantClassifier).fit(X, Y, SEMANTICS)
    vectors = {c: torch.tensor(v, requires_grad=True) for c, v in SEMANTICS.items()}
    rows = torch.tensor(X, requires_grad=True)
    estimator = small(PrototypeDiscriminantClassifier).fit(rows, Y, vectors)
    np.testing.assert_array_equal(estimator.predict_proba(rows), expected.predict_proba(X))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (None, "path: found None, expected a path"),
        ("a\0b", r"'a\\x00b': found a NUL character, expected a path without"),
    ],
)
def test_what_is_no_path_is_refused(path: Any, message: str) -> None:
    estimator = small(PrototypeDiscriminantClassifier).fit(X, Y, SEMANTICS)
    with pytest.raises(InputError, match=f"^{message}$"):
        estimator.save(path)


def test_memory_that_no_machine_has_is_not_asked_for() -> None:
    with pytest.raises(InputError, match=r"^hidden 1000000000000: found settings that ask for"):
        small(GSMFlowClassifier, hidden=10**12).fit(X, Y, SEMANTICS)


def test_constant_features_are_refused(kind: type[ZeroShotEstimator]) -> None:
    with pytest.raises(InputError, match=r"X: found every one of the .* features constant"):
        small(kind).fit(np.full_like(X, 3), Y, SEMANTICS)


@pytest.mark.parametrize("factor", [1e19, 1e-30, 1e-50])
def test_scale_whose_squares_float32_does_not_hold_is_refused(factor: float) -> None:
    wide = X.astype(np.float64) * factor
    with pytest.raises(InputError, match=r"^X: found values .*: rescale them$"):
        small(PrototypeDiscriminantClassifier).fit(wide, Y, SEMANTICS)
    vectors = {c: v * factor for c, v in SEMANTICS.items()}
    if factor != 1e-50:  # of which float32 holds nothing
        with pytest.raises(InputError, match=r"^semantics: found values .*: rescale them$"):
            small(PrototypeDiscriminantClassifier).fit(X, Y, vectors)


def test_offset_does_not_take_the_digits(tmp_path: Path) -> None:
    centred = small(PrototypeDiscriminantClassifier, feature_scaling="standardised")
    wide = X.astype(np.float64)
    moved = clone(centred).fit(wide + 1e8, Y, SEMANTICS)
    expected = centred.fit(wide, Y, SEMANTICS)
    np.testing.assert_allclose(
        moved.predict_proba(wide + 1e8), expected.predict_proba(wide), atol=1e-3
    )
    moved.save(tmp_path / "saved")
    loaded = PrototypeDiscriminantClassifier.load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict_proba(wide + 1e8), moved.predict_proba(wide + 1e8))
    with pytest.raises(InputError, match=r"X: found a mean of 1e\+08 .*feature_scaling"):
        small(PrototypeDiscriminantClassifier).fit(wide + 1e8, Y, SEMANTICS)


def test_samples_have_the_offset_again() -> None:
    flow = small(GSMFlowClassifier).fit(X.astype(np.float64), Y, SEMANTICS)
    moved = small(GSMFlowClassifier).fit(X.astype(np.float64) + 1e8, Y, SEMANTICS)
    name = flow.classes_[0]
    np.testing.assert_allclose(moved.sample(name, 5) - 1e8, flow.sample(name, 5), atol=1e-2)


def test_estimator_of_another_device_loads_here(tmp_path: Path, monkeypatch: Any) -> None:
    estimator = fitted_on(np.arange(12), list(range(12)))
    estimator.device = "cuda:63"
    estimator.save(tmp_path / "saved")
    with pytest.warns(UserWarning, match="cuda.*device='auto'"):
        loaded = PrototypeDiscriminantClassifier.load(tmp_path / "saved")
    assert loaded.device == "auto"
    estimator.device = "cpu"
    np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))


def test_progress_is_printed_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    small(GSMFlowClassifier).fit(X, Y, SEMANTICS)
    assert capsys.readouterr().out == ""
    estimator = small(GSMFlowClassifier, verbose=1, epochs=np.int64(3)).fit(X, Y, SEMANTICS)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["1/3", "2/3", "3/3"]
    assert [record["epoch"] for record in estimator.history_] == [1, 2, 3]


# The package's namespace and documentation.


def test_errors_name_parameters_in_place_of_flags() -> None:
    """The same faults in a run name the scripts' flags."""
    diverging = small(GSMFlowClassifier, learning_rate=1e30, epochs=5)
    with pytest.raises(InputError, match=r"lower learning_rate or .* with feature_scaling$"):
        diverging.fit(X, Y, SEMANTICS)
    with pytest.raises(InputError, match=r"^device: found cuda:99, expected auto or one"):
        small(GSMFlowClassifier, device="cuda:99").fit(X, Y, SEMANTICS)
    fitted = small(PrototypeDiscriminantClassifier).fit(X, Y, SEMANTICS)
    with pytest.raises(InputError, match=r"^device: found cuda:99, expected auto or one"):
        fitted.set_params(device="cuda:99").predict(UNSEEN)


# Classes that are added later.

# Names in the order of the classes' numbers. The last class is the one that is added.
LETTERS = dict(zip("bcdefghijklm", DATASET.semantics, strict=True))
OF_LETTERS = np.array([*LETTERS])[DATASET.labels[TRAIN]]
OLD, LAST = {name: LETTERS[name] for name in "bcdefghijkl"}, {"m": LETTERS["m"]}
EXTENSIBLE = [name for name in FITTING if issubclass(find_method(name).model, Extensible)]
# They learn from the semantics of unseen classes too, so from those of a class that is there.
FROM_UNSEEN_SEMANTICS = {"se-gzsl", "izf", "gsmflow-journal"}


def rows_for(estimator: Any) -> tuple[Any, ...]:
    """The rows that `add_classes` needs: none if the model classifies by itself."""
    return () if isinstance(estimator.model_, Classifying) else (X, OF_LETTERS)


@pytest.mark.parametrize("method", EXTENSIBLE)
def test_class_added_later_scores_as_one_present_from_the_start(method: str) -> None:
    before = any_method(method).fit(X, OF_LETTERS, OLD)
    scores = before.decision_function(UNSEEN)
    grown = before.add_classes(LAST, *rows_for(before))
    np.testing.assert_array_equal(before.decision_function(UNSEEN), scores)
    assert list(before.unseen_classes_) == ["l"]
    assert list(grown.unseen_classes_) == ["l", "m"]
    assert grown.decision_function(UNSEEN).shape == (len(UNSEEN), 12)
    if method not in FROM_UNSEEN_SEMANTICS:
        whole = any_method(method).fit(X, OF_LETTERS, LETTERS)
        expected = whole.decision_function(UNSEEN)
        np.testing.assert_allclose(grown.decision_function(UNSEEN), expected, rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(grown.predict(UNSEEN), whole.predict(UNSEEN))
        np.testing.assert_array_equal(grown.predict_unseen(UNSEEN), whole.predict_unseen(UNSEEN))


def test_name_of_an_added_class_may_come_before_the_others(
    kind: type[ZeroShotEstimator], tmp_path: Path
) -> None:
    """The same class as "a" and as "m": the first column of scores, or the last."""
    before: Any = small(kind, semantics=OLD).fit(X, OF_LETTERS)
    last = before.add_classes(LAST, *rows_for(before))
    first = before.add_classes({"a": LAST["m"]}, *rows_for(before))
    assert list(first.classes_) == [*"abcdefghijkl"]
    np.testing.assert_array_equal(first.semantics_[0], LAST["m"])
    first.save(tmp_path / "first")
    for estimator in (first, kind.load(tmp_path / "first")):
        expected = np.roll(last.decision_function(UNSEEN), 1, axis=1)
        np.testing.assert_array_equal(estimator.decision_function(UNSEEN), expected)
        for answers in ("predict", "predict_unseen"):
            theirs = getattr(last, answers)(UNSEEN)
            renamed = np.where(theirs == "m", "a", theirs)
            np.testing.assert_array_equal(getattr(estimator, answers)(UNSEEN), renamed)
        np.testing.assert_array_equal(estimator.sample("a", 3), last.sample("m", 3))
        np.testing.assert_array_equal(estimator.sample("l", 3), last.sample("l", 3))
    # A second addition, and a clone that knows all of them.
    further = first.add_classes({"0": LAST["m"] + 1}, *rows_for(before))
    assert list(further.classes_) == [*"0abcdefghijkl"]
    np.testing.assert_array_equal(further.class_numbers_, [12, 11, *range(11)])
    fitted_again = clone(further).fit(X, OF_LETTERS)
    np.testing.assert_array_equal(fitted_again.unseen_classes_, further.unseen_classes_)


def test_density_of_an_added_class_is_that_of_its_semantics() -> None:
    before = small(GSMFlowClassifier).fit(X, OF_LETTERS, OLD)
    grown = before.add_classes({"a": OLD["c"] + 1}, X, OF_LETTERS)
    renamed = before.add_classes({"n": OLD["c"] + 1}, X, OF_LETTERS)
    own = grown.score_samples(X[:9], ["a"] * 9)
    np.testing.assert_array_equal(own, renamed.score_samples(X[:9], ["n"] * 9))
    known = grown.score_samples(X[:9], OF_LETTERS[:9])
    np.testing.assert_array_equal(known, before.score_samples(X[:9], OF_LETTERS[:9]))
    assert not np.array_equal(own, known)


def test_classes_that_cannot_be_added_are_refused() -> None:
    flow = small(GSMFlowClassifier).fit(X, OF_LETTERS, OLD)
    mistakes: dict[str, tuple[Any, ...]] = {
        "semantics: found class c, which is known already": ({"c": LAST["m"]}, X, OF_LETTERS),
        "semantics: found the same vector for c and m": ({"m": OLD["c"]}, X, OF_LETTERS),
        "semantics: found 2 values of class m, expected 5": ({"m": [1, 2]}, X, OF_LETTERS),
        "semantics: found the key 1 for labels": ({1: LAST["m"]}, X, OF_LETTERS),
        "semantics: found dict without a class": ({}, X, OF_LETTERS),
        "X, y: found None, expected the rows that": (LAST,),
        "y: found 1 classes, expected rows of the 10 seen classes": (LAST, X[:3], ["b"] * 3),
        "X: found other rows than those of the fit": (LAST, 2 * X, OF_LETTERS),
    }
    for sentence, arguments in mistakes.items():
        with pytest.raises(InputError, match=sentence) as raised:
            flow.add_classes(*arguments)
        assert "--" not in str(raised.value)
    assert list(flow.classes_) == [*OLD]
    fixed = [name for name in FITTING if name not in EXTENSIBLE]
    assert fixed
    with pytest.raises(AttributeError) as missing:
        _ = any_method(fixed[0]).add_classes
    assert "found a model that takes no further classes" in str(missing.value.__cause__)


def test_import_does_not_load_scikit_learn_or_torch() -> None:
    code = "import sys, gsmflow; print('torch' in sys.modules, 'sklearn' in sys.modules)"
    completed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert completed.stdout.split() == ["False", "False"]
    assert {"load", "ZeroShotClassifier", *(kind.__name__ for kind in KINDS)} <= set(dir(gsmflow))
    assert gsmflow.GSMFlowClassifier is GSMFlowClassifier
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = gsmflow.Nothing


def test_docstring_examples_give_their_output() -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.usefixtures("quick_pictures")
def test_examples_of_the_api_page_give_their_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    birds = dataclasses.replace(make_dataset(), class_names=tuple(f"bird {c}" for c in range(10)))
    write_gbu(tmp_path / "data" / "BIRDS", birds)
    recipe = tiny_recipe(tmp_path, dataset="BIRDS", run="first", beside=())
    run_experiment(Job(recipe), Console(quiet=True))
    monkeypatch.chdir(tmp_path)
    results = doctest.testfile(str(ROOT / "docs" / "api.md"), module_relative=False)
    assert (results.failed, results.attempted > 10) == (0, True)
