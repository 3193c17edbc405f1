"""The methods as scikit-learn estimators: fit on rows, labels and one semantics vector per class.

A class with a semantics vector and no rows is an unseen class; the estimators predict it too.
"""

import json
import math
import numbers
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeGuard, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import safe_open
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.devices import pick_device
from gsmflow.core.errors import InputError, naming_parameters, one_line
from gsmflow.core.files import refuse_folder, write_tensors
from gsmflow.core.precision import Precision, PrecisionName, pick_precision
from gsmflow.core.python_values import as_path, without_gradient
from gsmflow.core.rng import Generators, make_generator
from gsmflow.core.settings import check_value
from gsmflow.data.checks import settle_splits
from gsmflow.data.class_vectors import ClassVectors, as_mapping, check_kind_of_keys
from gsmflow.data.dataset import Dataset, Problem, Rows, open_held_out, training_problem
from gsmflow.data.scaling import FeatureScaling, FeatureScalingName, scale_fault
from gsmflow.learning.contract import (
    CalibratedScorer,
    Choosing,
    Classifying,
    Density,
    Extensible,
    GivesRows,
    Model,
    Scorer,
    Trainable,
)
from gsmflow.learning.feed import Scaled, scale_problem
from gsmflow.learning.sampling import Sampler, synthesize
from gsmflow.learning.scorers import class_log_densities, direct_scorer, feature_map
from gsmflow.learning.softmax import SoftmaxPair, TrainedClassifierConfig, pair_from_rows
from gsmflow.learning.state import (
    check_numbers,
    check_shapes,
    shapes_of,
    split_scaling,
    tensors_with_scaling,
)
from gsmflow.learning.trainer import Trainer
from gsmflow.methods.positioning import SemanticsScalingName
from gsmflow.methods.prototype_discriminant import TransformName
from gsmflow.methods.registry import METHODS, RECOMMENDED, find_method
from gsmflow.recipes.fit import classifier_generators, make_model, rows_request, train_epochs
from gsmflow.recipes.flags import published_recipe, with_choices
from gsmflow.recipes.recipe import (
    CLASSIFIERS,
    Recipe,
    learning_settings,
    setting_value,
    settings_of,
)

__all__ = [
    "CADAVAEClassifier",
    "GSMFlowClassifier",
    "PrototypeDiscriminantClassifier",
    "ZeroShotClassifier",
    "ZeroShotEstimator",
]

_Self = TypeVar("_Self", bound="ZeroShotEstimator")
_Generic = TypeVar("_Generic", bound="ZeroShotClassifier")

# Parameters of an estimator that are not settings of a recipe.
_NOT_IN_RECIPE = {
    "method",
    "classifier",
    "semantics",
    "validation_classes",
    "calibration",
    "random_state",
    "verbose",
}
# The classifiers that are trained on rows.
_TRAINED = [name for name, kind in CLASSIFIERS.items() if issubclass(kind, TrainedClassifierConfig)]
_SEEDS = 2**31 - 1
# The types in which features are taken; others become the first.
_WIDE = [np.float64, np.float32]
_PRINTED = 20
_CLASSIFIERS = "classifiers."
_SEMANTICS = "estimator.semantics"
_OFFSET = "estimator.offset"
# Where float32 keeps less than this share of a dimension's deviation, the mean is taken off first.
_KEPT_SHARE = 1e-4
# The format of a saved estimator; files of other formats are refused.
_FORMAT = "gsmflow estimator 3"


def _available_to(kind: type[Any], what: str) -> Any:
    """A decorator of a method that estimators have only where the model is of a kind."""

    def check(estimator: "ZeroShotEstimator") -> bool:
        try:
            model = estimator._start().method_info.model
        except InputError as error:
            raise AttributeError(str(error)) from error
        if not issubclass(model, kind):
            raise AttributeError(
                f"{type(estimator).__name__}: found a model {what} ({model.__name__}), expected "
                "another, such as that of GSMFlowClassifier"
            )
        return True

    return available_if(check)


class ZeroShotEstimator(ClassifierMixin, BaseEstimator):
    """The base class of the estimators: fitting, scores, predictions, samples, saving.

    Attributes
    ----------
    classes_
        Seen and unseen classes, ascending, ``(k,)``: the columns of all scores.
    seen_classes_, unseen_classes_
        The classes with rows and those without, ascending.
    semantics_
        The vectors of ``classes_``, ``(k, a)``.
    class_numbers_
        The numbers that the model has for ``classes_``, ``(k,)``: ascending, but for added classes.
    n_features_in_
        ``d``, the number of features.
    feature_names_in_
        Names of the columns, if `fit` was given a frame with names.
    model_
        The fitted model.
    history_
        The mean of each loss term in each epoch, with the number of the ``epoch``; empty for a
        model that is not trained.
    choice_
        The settings that were chosen on validation classes; None for a method that chooses none.
    seed_
        The seed of all random numbers of the fit.
    offset_
        What is taken off features before float32 holds them, ``(d,)``: the mean of a dimension that
        is far from 0 and varies little, else 0.
    """

    _method: ClassVar[str]
    # A parameter of `ZeroShotClassifier` alone.
    validation_classes: Sequence[Any] | None = None

    semantics: ClassVectors | None
    calibration: float
    random_state: Any
    verbose: int

    @naming_parameters()
    def fit(
        self: _Self, X: ArrayLike, y: ArrayLike, semantics: ClassVectors | None = None
    ) -> _Self:
        """Learn from rows of the seen classes and the semantics of all classes.

        Parameters
        ----------
        X
            Features, ``(n, d)``, ``d >= 2``.
        y
            Class of each row, ``(n,)``: numbers or texts.
        semantics
            The vector ``(a,)`` of each class, seen or unseen: a mapping from the classes, or a
            pandas frame ``(classes, a)`` with the classes as its index; None for the constructor's
            ``semantics``.

        Raises
        ------
        InputError
            If a class has no vector, vectors differ in length or are not finite, every class has
            rows, no feature varies, values are so large or vary so little that float32 loses their
            squares, or a setting is out of range.
        """
        rows, labels = validate_data(
            self,
            without_gradient(X),
            _checked_labels(y),
            dtype=_WIDE,
            ensure_min_features=2,
            ensure_min_samples=2,
        )
        check_classification_targets(labels)
        recipe = self._recipe()
        _check_varying(rows)
        self.offset_ = _offset(rows, recipe.feature_scaling)
        _check_scale("X", rows, self.offset_)
        rows = _narrowed(rows, self.offset_)
        given = self.semantics if semantics is None else semantics
        vectors = as_mapping(given)
        self.classes_, self.semantics_ = _classes_and_vectors(vectors, np.unique(labels))
        self.class_numbers_ = np.arange(len(self.classes_))
        self.seed_ = _draw_seed(self.random_state)
        self._learn(replace(recipe, seed=self.seed_), self._dataset(rows, labels))
        return self

    def _learn(self, recipe: Recipe, dataset: Dataset) -> None:
        """Train the model and, unless it classifies by itself, the classifiers."""
        problem = training_problem(dataset, "test")
        device = pick_device(recipe.device)
        precision = pick_precision(recipe.precision, device)
        choice = self._choose(recipe, dataset, device)
        scaled = scale_problem(problem, recipe.feature_scaling, device, "memory")
        model = make_model(recipe, recipe.method_info.model, scaled, device, choice)
        history: list[dict[str, float]] = []
        if isinstance(model, Trainable) and isinstance(model, torch.nn.Module):
            generator = make_generator(device, recipe.seed, problem.split, "training")
            trainer = Trainer(model, scaled.feed, recipe.training, generator, precision=precision)
            for record, seconds in train_epochs(trainer, history):
                self._print_epoch(record, recipe.training.total_epochs, seconds)
            model = trainer.result
        self.classifiers_ = _train_classifiers(recipe, model, scaled, precision)
        self.model_, self.scaling_, self.history_ = model, scaled.scaling, history
        self.choice_ = choice
        self.seen_classes_ = self.classes_[problem.seen_classes]
        self.unseen_classes_ = self.classes_[problem.unseen_classes]

    def _choose(
        self, recipe: Recipe, dataset: Dataset, device: torch.device
    ) -> dict[str, Any] | None:
        """The settings that the model chooses on validation classes; None if it chooses none."""
        model_class: type[Model] = recipe.method_info.model
        if not issubclass(model_class, Choosing):
            return None
        dataset = self._with_validation(dataset)
        problem = training_problem(dataset, "validation")
        scaled = scale_problem(problem, recipe.feature_scaling, device, "memory")
        generators = Generators(recipe.seed, problem.split, device)
        held_out = open_held_out(dataset, "validation")
        return model_class.choose(scaled, held_out, recipe.method, generators)

    def _with_validation(self, dataset: Dataset) -> Dataset:
        """The dataset with its validation classes: those of the parameter, or a drawn fifth."""
        if self.validation_classes is not None:
            seen = self.classes_[dataset.seen_classes]
            given = np.asarray(self.validation_classes)
            if given.ndim != 1 or not len(given) or not np.isin(given, seen).all():
                raise InputError(
                    f"validation_classes: found {self.validation_classes!r}, expected classes that "
                    "have rows"
                )
            is_val = np.isin(self.classes_[dataset.labels], given)
            dataset = replace(dataset, train=np.flatnonzero(~is_val), val=np.flatnonzero(is_val))
        dataset = settle_splits(dataset)
        labels = dataset.labels[dataset.train]
        kept = len(np.unique(labels))
        if kept < 2 or kept == len(labels):
            raise InputError(
                f"y: found {len(labels)} rows of {kept} classes beside the validation classes, "
                "which settings are chosen on, expected two classes or more, and two rows or more "
                "of one"
            )
        return dataset

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores of all classes; `calibration` is subtracted from those of the seen classes.

        Parameters
        ----------
        X
            Features, ``(n, d)``.

        Returns
        -------
        array
            ``(n, k)``, columns as in ``classes_``; ``(n,)`` if there are two classes: the score
            of the second less that of the first.
        """
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """The softmax of the scores, ``(n, k)``, columns as in ``classes_``."""
        return np.asarray(softmax(self._scores(X), axis=1))

    def predict_log_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """The logarithm of `predict_proba`, ``(n, k)``."""
        return np.asarray(log_softmax(self._scores(X), axis=1))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The class of highest score, seen or unseen, of each row of ``X (n, d)``, ``(n,)``."""
        best = self._scores(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def predict_unseen(self, X: ArrayLike) -> NDArray[Any]:
        """The best unseen class of each row of ``X (n, d)``, ``(n,)``: plain zero-shot learning."""
        features = self._features(X)
        best = self._scorer().zsl_scores(features).argmax(axis=1)
        unseen = self._numbers_of(self.unseen_classes_)
        return np.asarray(self._by_number()[unseen[best]])

    @_available_to(Sampler, "that synthesizes no features")  # type: ignore[untyped-decorator]
    def sample(self, label: Any, n: int = 1, random_state: Any = None) -> NDArray[np.floating[Any]]:
        """Synthesize features of a class, seen or unseen.

        Parameters
        ----------
        label
            One of ``classes_``.
        n
            How many, ``>= 1``.
        random_state
            A seed or a ``RandomState``; None for the seed of the fit, which gives the same
            samples in every call.

        Returns
        -------
        array
            ``(n, d)``, in the scale of the features given to `fit`; under
            ``feature_scaling="l2"`` of length about 1; in float64 where `offset_` is not 0.

        Raises
        ------
        InputError
            If there is no such class, or ``n`` is below 1.
        """
        check_is_fitted(self)
        one = np.ndim(label) == 0
        found = np.flatnonzero(self.classes_ == label) if one else np.empty(0, dtype=np.int64)
        if not len(found):
            raise InputError(f"label: found {label!r}, expected one of classes_")
        count: object = n
        if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 1:
            raise InputError(f"n: found {n!r}, expected a whole number of at least 1")
        device = self._device()
        seed = self.seed_ if random_state is None else _draw_seed(random_state)
        generator = make_generator(device, seed, "sample")
        assert isinstance(self.model_, Sampler)
        number = torch.from_numpy(self.class_numbers_[found]).to(device)
        features, _ = synthesize(self.model_, number, n, generator)
        samples = self.scaling_.inverse(features.cpu().numpy())
        return samples + self.offset_ if self.offset_.any() else samples

    @_available_to(Density, "without a density")  # type: ignore[untyped-decorator]
    def score_samples(self, X: ArrayLike, y: ArrayLike | None = None) -> NDArray[np.float64]:
        """Exact log-density of rows, in nats, ``(n,)``.

        Parameters
        ----------
        X
            Features, ``(n, d)``.
        y
            Classes, ``(n,)``: each row's density is that of its class; None: that of the mixture
            of all classes, seen and unseen, with equal weights.

        Raises
        ------
        InputError
            If ``y`` has another class or another length, or ``feature_scaling`` is l2, after which
            rows have no density.

        Notes
        -----
        For dimensions that were constant in training, the density is that of the scaled values.
        """
        features = self._features(X)
        if self.scaling_.unit_rows:
            raise InputError(
                "feature_scaling: found l2, after which rows have no density, expected another"
            )
        spread = self.scaling_.spread[np.isfinite(self.scaling_.spread)].astype(np.float64)
        codes = None if y is None else self._codes(y, len(features))
        rows = torch.from_numpy(self.scaling_(features)).to(self._device())
        assert isinstance(self.model_, Density)
        if codes is None:
            each = class_log_densities(self.model_, rows, np.arange(len(self.classes_)))
            found = logsumexp(each.astype(np.float64), axis=1) - math.log(len(self.classes_))
        else:
            found = (
                self.model_.log_prob(rows, torch.from_numpy(codes).to(rows.device)).cpu().numpy()
            )
        return np.asarray(found, dtype=np.float64) - float(np.log(spread).sum())

    @_available_to(Extensible, "that takes no further classes")  # type: ignore[untyped-decorator]
    @naming_parameters()
    def add_classes(
        self: _Self,
        semantics: ClassVectors,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
    ) -> _Self:
        """A fitted estimator that also predicts further unseen classes; this one stays as it is.

        The model is not trained again. A method whose classifiers learn from rows needs those that
        it was fitted on, and trains its classifiers again.

        Parameters
        ----------
        semantics
            The vector ``(a,)`` of each new class, as `fit` takes them.
        X, y
            The rows ``(n, d)`` and their classes ``(n,)``, as `fit` was given them; None for a
            model that classifies by itself.

        Raises
        ------
        InputError
            If a class is known already or has the vector of one, a vector is of another length, or
            the rows are missing or are not those of the fit.
        """
        check_is_fitted(self)
        grown = copy(self)
        grown._take_classes(as_mapping(semantics))
        model, device = self.model_, self._device()
        assert isinstance(model, Extensible)
        if isinstance(model, Classifying):
            grown.model_ = model.with_classes(grown._problem()).to(device)
            return grown
        if X is None or y is None:
            raise InputError(
                "X, y: found None, expected the rows that the estimator was fitted on, from which "
                "its classifiers learn again"
            )
        problem = training_problem(grown._dataset(*grown._rows_of_fit(X, y)), "test")
        recipe = replace(grown._recipe(), seed=grown.seed_)
        scaled = scale_problem(problem, recipe.feature_scaling, device, "memory")
        grown._check_scaling(scaled.scaling)
        grown.model_ = model.with_classes(problem).to(device)
        precision = pick_precision(recipe.precision, device)
        grown.classifiers_ = _train_classifiers(recipe, grown.model_, scaled, precision)
        return grown

    def _take_classes(self, semantics: Mapping[Any, ArrayLike] | None) -> None:
        """Add classes, with numbers above those of all others, and their vectors."""
        if not isinstance(semantics, Mapping) or not semantics:
            raise InputError(
                f"semantics: found {type(semantics).__name__} without a class, expected a mapping "
                "from each new class to its vector"
            )
        length = self.semantics_.shape[1]
        for label, values in semantics.items():
            if label in self.classes_:
                raise InputError(
                    f"semantics: found class {label}, which is known already, expected new classes"
                )
            found = len(_vector(label, values))
            if found != length:
                raise InputError(
                    f"semantics: found {found} values of class {label}, expected {length}, as of "
                    "the classes of the fit"
                )
        classes = _as_classes([*self.classes_.tolist(), *semantics], self.classes_)
        is_old = np.isin(classes, self.classes_)
        numbers = np.cumsum(~is_old) - 1 + len(self.classes_)
        numbers[is_old] = self.class_numbers_
        vectors = np.empty((len(classes), length), dtype=np.float32)
        vectors[is_old] = self.semantics_
        vectors[~is_old] = [_vector(c, semantics[c]) for c in classes[~is_old]]
        _check_twins(classes, vectors, is_old)
        if self.semantics is not None:
            self.semantics = {**(as_mapping(self.semantics) or {}), **semantics}
        self.classes_, self.semantics_, self.class_numbers_ = classes, vectors, numbers
        self.unseen_classes_ = classes[~np.isin(classes, self.seen_classes_)]

    def _problem(self) -> Problem:
        """The problem of the fit without its rows."""
        no_rows = Rows(np.empty((0, self.n_features_in_), np.float32), np.empty(0, np.int64))
        names, (seen, unseen) = self._by_number(), self._score_columns()
        semantics = self.semantics_[np.argsort(self.class_numbers_)]
        return Problem("test", no_rows, semantics, tuple(map(str, names)), seen, unseen)

    def _rows_of_fit(self, X: ArrayLike, y: ArrayLike) -> tuple[FloatArray, NDArray[Any]]:
        """The rows and their classes, or an `InputError` if the fit had others."""
        rows, labels = validate_data(
            self, without_gradient(X), _checked_labels(y), dtype=_WIDE, reset=False
        )
        labels = _in_type_of(self.classes_, labels)
        if not np.array_equal(np.unique(labels), self.seen_classes_):
            raise InputError(
                f"y: found {len(np.unique(labels))} classes, expected rows of the "
                f"{len(self.seen_classes_)} seen classes of the fit"
            )
        return _narrowed(rows, self.offset_), labels

    def _check_scaling(self, scaling: FeatureScaling) -> None:
        """Raise `InputError` unless a scaling of given rows is that of the fit."""
        same = (
            np.array_equal(getattr(scaling, name), getattr(self.scaling_, name))
            for name in ("shift", "spread")
        )
        if not all(same):
            raise InputError("X: found other rows than those of the fit, expected the same rows")

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator into one safetensors file, which holds no code.

        The parameters are JSON in the file's metadata, with the drawn seed as `random_state`.

        Raises
        ------
        InputError
            If it is no path.
        WriteError
            If the file cannot be written.
        """
        check_is_fitted(self)
        parameters = self.get_params(deep=False) | {"random_state": self.seed_}
        given = as_mapping(parameters.pop("semantics"))
        content = {
            "format": _FORMAT,
            "class": type(self).__name__,
            "parameters": parameters,
            "choice": self.choice_,
            "semantics": None if given is None else _pairs(given, self.classes_.dtype),
            "model": self.model_.describe(),
            "history": self.history_,
            "seed": self.seed_,
            "classes": _countable(self.classes_).tolist(),
            "classes_dtype": self.classes_.dtype.str,
            "class_numbers": self.class_numbers_.tolist(),
            "is_seen": np.isin(self.classes_, self.seen_classes_).tolist(),
            "feature_names": list(getattr(self, "feature_names_in_", [])),
        }
        tensors = tensors_with_scaling(self.model_, self.scaling_)
        tensors |= {f"{_CLASSIFIERS}{name}": t for name, t in self.classifiers_.items()}
        tensors[_SEMANTICS] = torch.from_numpy(self.semantics_)
        if self.offset_.any():
            tensors[_OFFSET] = torch.from_numpy(self.offset_)
        content["shapes"] = shapes_of(tensors)
        write_tensors(
            as_path("path", path), tensors, {"gsmflow": json.dumps(content, default=_plain)}
        )

    @classmethod
    def load(cls: type[_Self], path: str | Path) -> _Self:
        """Read what `save` wrote.

        Where the device that it was fitted on is missing, a warning says so, and ``device`` is
        ``"auto"``.

        Raises
        ------
        InputError
            If the file is missing or damaged, or of another estimator.
        """
        try:
            refuse_folder(path)
            with safe_open(path, framework="pt") as file:
                content = json.loads(file.metadata()["gsmflow"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            check_numbers(tensors)
            check_shapes(tensors, content.get("shapes"))
            if content["format"] == _FORMAT and content["class"] == cls.__name__:
                return cls._restored(content, tensors)
        except Exception as error:
            # A damaged file may raise any of a dozen unrelated types.
            raise InputError(
                f"{path}: not readable as an estimator ({one_line(error)}), expected a file that "
                "save() wrote"
            ) from error
        raise InputError(
            f"{path}: found {content['class']} ({content['format']}), expected {cls.__name__} "
            f"({_FORMAT})"
        )

    @classmethod
    def _restored(
        cls: type[_Self], content: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
    ) -> _Self:
        given = content["semantics"]
        estimator = cls(**content["parameters"])
        dtype = np.dtype(content["classes_dtype"])
        estimator.classes_ = _labels_from(content["classes"], dtype)
        if given:
            labels, vectors = zip(*given, strict=True)
            keys = list(_labels_from(labels, dtype)) if dtype.kind in "mM" else labels
            estimator.semantics = dict(zip(keys, map(np.float32, vectors), strict=True))
        estimator.class_numbers_ = np.array(content["class_numbers"], dtype=np.int64)
        estimator.semantics_ = tensors[_SEMANTICS].numpy()
        is_seen = np.array(content["is_seen"], dtype=bool)
        estimator.seen_classes_, estimator.unseen_classes_ = (
            estimator.classes_[is_seen],
            estimator.classes_[~is_seen],
        )
        estimator.history_, estimator.seed_ = content["history"], content["seed"]
        estimator.choice_ = content["choice"]
        device = estimator._device_here()
        classifier_tensors, model_tensors = {}, {}
        for name, tensor in tensors.items():
            if name.startswith(_CLASSIFIERS):
                classifier_tensors[name.removeprefix(_CLASSIFIERS)] = tensor.to(device)
            elif name not in (_SEMANTICS, _OFFSET):
                model_tensors[name] = tensor
        state, estimator.scaling_ = split_scaling(
            model_tensors, content["parameters"]["feature_scaling"]
        )
        model_class = estimator._start().method_info.model
        restored: Any = model_class.from_state(content["model"], state).to(device)
        estimator.model_ = restored
        estimator.classifiers_ = classifier_tensors
        d = estimator.n_features_in_ = len(estimator.scaling_.shift)
        estimator.offset_ = tensors[_OFFSET].numpy() if _OFFSET in tensors else np.zeros(d)
        if content["feature_names"]:
            estimator.feature_names_in_ = np.array(content["feature_names"], dtype=object)
        return estimator

    def _start(self) -> Recipe:
        """The recipe that the parameters change: the method's, with its defaults."""
        return Recipe(dataset="fit", method=find_method(self._method).config())

    def _recipe(self) -> Recipe:
        """The recipe with the estimator's parameters as settings, checked."""
        given = {k: v for k, v in self.get_params(deep=False).items() if k not in _NOT_IN_RECIPE}
        name = type(self).__name__
        calibration: object = self.calibration
        if not (isinstance(calibration, float | numbers.Integral) and math.isfinite(calibration)):
            raise InputError(
                f"{name}, calibration: found {self.calibration!r}, expected a finite number"
            )
        recipe = self._start()
        hints = {k: setting.hint for k, setting in settings_of(recipe).items()}
        checked = {
            k: check_value(f"{name}, {k}", hints[k], _plain(value)) for k, value in given.items()
        }
        return recipe.replace(**checked)

    @naming_parameters()
    def _device(self) -> torch.device:
        return pick_device(self.get_params(deep=False)["device"])

    def _device_here(self) -> torch.device:
        """The device, or the fastest one here, with a warning, if this machine does not have it."""
        try:
            return self._device()
        except InputError as error:
            warnings.warn(
                f"{one_line(error)}: the estimator was fitted there, and is loaded with "
                "device='auto'",
                stacklevel=4,
            )
        self.set_params(device="auto")
        return self._device()

    def _features(self, X: ArrayLike) -> FloatArray:
        check_is_fitted(self)
        rows = validate_data(self, without_gradient(X), dtype=_WIDE, reset=False)
        return _narrowed(rows, self.offset_)

    def _codes(self, y: ArrayLike, n: int) -> IntArray:
        labels = np.asarray(_checked_labels(y))
        if labels.shape != (n,):
            raise InputError(f"y: found shape {labels.shape}, expected ({n},), a class of each row")
        labels = _in_type_of(self.classes_, labels)
        known = np.isin(labels, self.classes_)
        if not known.all():
            raise InputError(f"y: found {labels[~known][0]}, expected one of classes_")
        return self.class_numbers_[np.searchsorted(self.classes_, labels)].astype(np.int64)

    def _dataset(self, X: FloatArray, y: NDArray[Any]) -> Dataset:
        """The rows as training rows of some of the classes, which have the model's numbers."""
        by_number = np.argsort(self.class_numbers_)
        labels = self.class_numbers_[np.searchsorted(self.classes_, y)].astype(np.int64)
        return _dataset(self.classes_[by_number], self.semantics_[by_number], X, labels)

    def _by_number(self) -> NDArray[Any]:
        """The classes in the order of the model's numbers, ``(k,)``."""
        return np.asarray(self.classes_[np.argsort(self.class_numbers_)])

    def _numbers_of(self, classes: NDArray[Any]) -> IntArray:
        """The model's numbers of classes ``(m,)``, ascending, as score columns have them."""
        numbers = self.class_numbers_[np.searchsorted(self.classes_, classes)]
        return np.sort(numbers).astype(np.int64)

    def _score_columns(self) -> tuple[IntArray, IntArray]:
        """The model's numbers of the seen and of the unseen classes, as score columns have them."""
        return self._numbers_of(self.seen_classes_), self._numbers_of(self.unseen_classes_)

    def _scorer(self) -> Scorer:
        device = self._device()
        columns = self._score_columns()
        scorer = direct_scorer(self.model_, self.scaling_, columns, device, bayes=False)
        if scorer is not None:
            return scorer
        space = feature_map(self.scaling_, self.model_, device)
        return SoftmaxPair.from_tensors(space, self.classifiers_)

    def _scores(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores less `calibration` for seen classes, ``(n, k)``, columns as in ``classes_``."""
        features = self._features(X)
        column_of_number = np.argsort(np.concatenate(self._score_columns()))
        scorer = self._scorer()
        if self.calibration and isinstance(scorer, CalibratedScorer):
            found = scorer.calibrated_scores(features)
        else:
            found = scorer.gzsl_scores(features)
        scores = found.astype(np.float64)[:, column_of_number[self.class_numbers_]]
        return np.asarray(scores - self.calibration * np.isin(self.classes_, self.seen_classes_))

    def _print_epoch(self, record: Mapping[str, float], epochs: int, seconds: float) -> None:
        epoch = int(record["epoch"])
        if self.verbose and (epoch in (1, epochs) or epoch % max(1, epochs // _PRINTED) == 0):
            losses = "  ".join(f"{k} {v:.4f}" for k, v in record.items() if k != "epoch")
            print(f"epoch {epoch:>3}/{epochs}  {losses}  {seconds:.1f} s")


class ZeroShotClassifier(ZeroShotEstimator):
    """Any method of the package, by its name.

    The method's settings are parameters too, as keywords or by `set_params`: those of its
    configuration, of its training and of its classifier, and ``feature_scaling``, by the names of
    their flags (``--model NAME --help-all`` lists them). `get_params` gives all of them. Defaults
    are those of the method's configuration and what it publishes for all datasets, as a training
    script has them with ``--model NAME``. Attributes are those of `ZeroShotEstimator`.

    Parameters
    ----------
    method
        A name of `gsmflow.methods.registry.METHODS`, which ``--model`` takes.
    semantics
        The vector ``(a,)`` of each class; ``semantics`` given to `fit` replaces it.
    classifier
        softmax or prototypes: the classifier that is trained on a method's rows, with its settings.
        A method that classifies by itself has none.
    validation_classes
        For a method that chooses settings on validation classes, the classes of ``y`` that play
        unseen meanwhile; None: a fifth of them, drawn with a fixed seed.
    calibration, precision, device, random_state, verbose
        As of `GSMFlowClassifier`.
    **settings
        Settings of the method. `set_params` with another ``method`` keeps those that it has too.

    Raises
    ------
    InputError
        If the method has no setting of a keyword's name; it lists those that there are.

    Examples
    --------
    >>> import numpy as np
    >>> from gsmflow import ZeroShotClassifier
    >>> rng = np.random.default_rng(0)
    >>> semantics = {c: rng.normal(size=4) for c in range(12)}
    >>> y = np.repeat(range(12), 20)
    >>> X = np.stack([semantics[c] for c in y]) @ rng.normal(size=(4, 6))
    >>> model = ZeroShotClassifier("sae", semantics, lam=0.1, random_state=0)
    >>> model = model.fit(X[y < 10], y[y < 10])
    >>> model.unseen_classes_
    array([10, 11])
    >>> model.get_params()["feature_scaling"]
    'l2'
    """

    def __init__(
        self,
        method: str = RECOMMENDED,
        semantics: ClassVectors | None = None,
        *,
        classifier: str = "softmax",
        validation_classes: Sequence[Any] | None = None,
        calibration: float = 0.0,
        precision: PrecisionName = "fp32",
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
        **settings: Any,
    ) -> None:
        self.method = method
        self.semantics = semantics
        self.classifier = classifier
        self.validation_classes = validation_classes
        self.calibration = calibration
        self.precision = precision
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        # Those that were given; the others have the method's defaults.
        self._settings = settings
        self._check_settings(settings)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """All parameters, with those settings of the method that have their defaults."""
        parameters: dict[str, Any] = super().get_params(deep)
        return parameters | _defaults(self.method, self.classifier) | self._settings

    def set_params(self: _Generic, **params: Any) -> _Generic:
        """Set parameters. A new ``method`` or ``classifier`` drops settings that it does not have.

        Raises
        ------
        InputError
            If the method has no such setting.
        """
        settings = {k: v for k, v in params.items() if k not in self._get_param_names()}
        super().set_params(**{k: v for k, v in params.items() if k not in settings})
        known = _defaults(self.method, self.classifier) or self._settings
        self._settings = {k: v for k, v in self._settings.items() if k in known} | settings
        self._check_settings(settings)
        return self

    def __sklearn_clone__(self: _Generic) -> _Generic:
        """A copy with the settings that were given, so that another method has its own defaults."""
        copy: _Generic = super().__sklearn_clone__()
        copy._settings = {k: v for k, v in copy._settings.items() if k in self._settings}
        return copy

    def _start(self) -> Recipe:
        if not _is_method(self.method):
            raise InputError(
                f"{type(self).__name__}, method: found {self.method!r}, expected one of "
                f"{', '.join(METHODS)}"
            )
        if self.classifier not in _TRAINED:
            raise InputError(
                f"{type(self).__name__}, classifier: found {self.classifier!r}, expected one of "
                f"{', '.join(_TRAINED)}"
            )
        self._check_settings(self._settings)
        return _published(self.method, self.classifier)

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        """Raise `InputError` if the method lacks a setting; unknown names are left to `fit`."""
        known = _defaults(self.method, self.classifier)
        for name in settings:
            if known and name not in known:
                raise InputError(
                    f"{type(self).__name__}, method {self.method}: found a setting {name!r}, "
                    f"expected one of {', '.join(known)}"
                )


def _is_method(name: object) -> TypeGuard[str]:
    return isinstance(name, str) and name in METHODS


@cache
def _published(method: str, classifier: str) -> Recipe:
    """The recipe that a script has with ``--model`` and ``--classifier`` for a new dataset."""
    recipe = published_recipe(Recipe(dataset="fit", method=find_method(method).config()), method)
    return with_choices(recipe, classifier, None)


def _defaults(method: object, classifier: object) -> dict[str, Any]:
    """The settings of a method and a classifier, with their defaults; none for unknown ones."""
    if not _is_method(method) or classifier not in _TRAINED:
        return {}
    recipe = _published(method, str(classifier))
    own = (name for name in learning_settings(recipe) if name != "precision")
    return {name: setting_value(recipe, name) for name in own}


class GSMFlowClassifier(ZeroShotEstimator):
    """A flow that synthesizes rows of the unseen classes for a softmax classifier.

    The defaults suit some thousands of rows. Settings have the same names and meanings as in the
    training scripts. Attributes are those of `ZeroShotEstimator`.

    Parameters
    ----------
    semantics
        The vector ``(a,)`` of each class; ``semantics`` given to `fit` replaces it.
    feature_scaling
        Of the features, fitted on the rows: none, minmax, centred, standardised or l2.
    semantics_scaling, semantics_norm
        Of the semantics: norm (one factor, to a mean length of ``semantics_norm``), standardised
        or none.
    blocks, hidden, condition_dim
        Coupling blocks, hidden units of each, length of the condition.
    pi
        Standard deviation of the noise on the scaled features in training.
    prototype_weight
        Of the prototype loss.
    epochs, batch_size, learning_rate, weight_decay
        Of the training of the flow, with Adam.
    samples_per_class
        Rows that are synthesized of each unseen class.
    classifier_epochs, classifier_batch_size, classifier_lr, classifier_weight_decay
        Of the training of the classifier, with Adam.
    calibration
        The calibration factor gamma, which is subtracted from the scores of seen classes. It is
        best chosen on classes that are left out of a fit.
    precision
        Of the matrix products: fp32, tf32, bf16, or auto for bf16 where the hardware has it.
    device
        cpu, cuda, cuda:1, mps, or auto for the fastest available.
    random_state
        A seed, a ``RandomState``, or None for another seed in each fit.
    verbose
        Above 0: the losses are printed about twenty times in a fit.

    References
    ----------
    Chen et al., "Mitigating Generation Shifts for Generalized Zero-Shot Learning", ACM MM 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from gsmflow import GSMFlowClassifier
    >>> rng = np.random.default_rng(1)
    >>> semantics = {f"class {c}": rng.normal(size=4) for c in range(12)}
    >>> to_features = rng.normal(size=(4, 6))
    >>> names = np.repeat(list(semantics), 20)
    >>> X = np.stack([semantics[name] for name in names]) @ to_features
    >>> X += 0.1 * rng.normal(size=X.shape)
    >>> seen = names != "class 11"
    >>> flow = GSMFlowClassifier(hidden=64, epochs=30, random_state=0)
    >>> flow = flow.fit(X[seen], names[seen], semantics=semantics)
    >>> flow.unseen_classes_
    array(['class 11'], dtype='<U8')
    >>> flow.predict(X[~seen])[:2]
    array(['class 11', 'class 11'], dtype='<U8')
    >>> flow.sample("class 11", 3).shape
    (3, 6)
    """

    _method = "gsmflow"

    def __init__(
        self,
        semantics: ClassVectors | None = None,
        *,
        feature_scaling: FeatureScalingName = "standardised",
        semantics_scaling: SemanticsScalingName = "norm",
        semantics_norm: float = 20.0,
        blocks: int = 3,
        hidden: int = 256,
        condition_dim: int = 128,
        pi: float = 0.1,
        prototype_weight: float = 1.0,
        epochs: int = 60,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-5,
        samples_per_class: int = 50,
        classifier_epochs: int = 30,
        classifier_batch_size: int = 32,
        classifier_lr: float = 2e-2,
        classifier_weight_decay: float = 0.0,
        calibration: float = 0.0,
        precision: PrecisionName = "fp32",
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.semantics = semantics
        self.feature_scaling = feature_scaling
        self.semantics_scaling = semantics_scaling
        self.semantics_norm = semantics_norm
        self.blocks = blocks
        self.hidden = hidden
        self.condition_dim = condition_dim
        self.pi = pi
        self.prototype_weight = prototype_weight
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.samples_per_class = samples_per_class
        self.classifier_epochs = classifier_epochs
        self.classifier_batch_size = classifier_batch_size
        self.classifier_lr = classifier_lr
        self.classifier_weight_decay = classifier_weight_decay
        self.calibration = calibration
        self.precision = precision
        self.device = device
        self.random_state = random_state
        self.verbose = verbose


class CADAVAEClassifier(ZeroShotEstimator):
    """Autoencoders of features and of semantics with one latent space, and a softmax classifier.

    The defaults suit some thousands of rows. Settings have the same names and meanings as in the
    training scripts. Attributes are those of `ZeroShotEstimator`.

    Parameters
    ----------
    semantics
        The vector ``(a,)`` of each class; ``semantics`` given to `fit` replaces it.
    feature_scaling
        Of the features, fitted on the rows: none, minmax, centred, standardised or l2.
    semantics_scaling, semantics_norm
        Of the semantics: norm (one factor, to a mean length of ``semantics_norm``), standardised
        or none.
    latent_dim
        Length of the latent vectors.
    image_encoder_hidden, semantics_encoder_hidden, image_decoder_hidden, semantics_decoder_hidden
        Hidden units of each.
    beta, gamma, delta
        Weights of the KL divergence, of the cross-alignment and of the distribution alignment.
    latents_seen, latents_unseen, latents_zsl
        Latents per class that the classifiers learn from.
    epochs, batch_size, learning_rate
        Of the training of the autoencoders, with Adam.
    classifier_epochs, classifier_batch_size, classifier_lr, classifier_weight_decay
        Of the training of the classifier, with Adam.
    calibration, precision, device, random_state, verbose
        As of `GSMFlowClassifier`.

    References
    ----------
    Schönfeld et al., "Generalized Zero- and Few-Shot Learning via Aligned Variational
    Autoencoders", CVPR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from gsmflow import CADAVAEClassifier
    >>> rng = np.random.default_rng(0)
    >>> semantics = {c: rng.normal(size=4) for c in range(12)}
    >>> y = np.repeat(range(11), 20)
    >>> X = np.stack([semantics[c] for c in y]) @ rng.normal(size=(4, 6))
    >>> autoencoders = CADAVAEClassifier(semantics, epochs=5, random_state=0)
    >>> autoencoders.fit(X, y).predict_proba(X).shape
    (220, 12)
    """

    _method = "cada-vae"

    def __init__(
        self,
        semantics: ClassVectors | None = None,
        *,
        feature_scaling: FeatureScalingName = "standardised",
        semantics_scaling: SemanticsScalingName = "norm",
        semantics_norm: float = 5.0,
        latent_dim: int = 32,
        image_encoder_hidden: int = 256,
        semantics_encoder_hidden: int = 256,
        image_decoder_hidden: int = 256,
        semantics_decoder_hidden: int = 128,
        beta: float = 0.25,
        gamma: float = 2.37,
        delta: float = 8.13,
        latents_seen: int = 200,
        latents_unseen: int = 400,
        latents_zsl: int = 200,
        epochs: int = 100,
        batch_size: int = 32,
        learning_rate: float = 3e-3,
        classifier_epochs: int = 20,
        classifier_batch_size: int = 32,
        classifier_lr: float = 1e-2,
        classifier_weight_decay: float = 0.0,
        calibration: float = 0.0,
        precision: PrecisionName = "fp32",
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.semantics = semantics
        self.feature_scaling = feature_scaling
        self.semantics_scaling = semantics_scaling
        self.semantics_norm = semantics_norm
        self.latent_dim = latent_dim
        self.image_encoder_hidden = image_encoder_hidden
        self.semantics_encoder_hidden = semantics_encoder_hidden
        self.image_decoder_hidden = image_decoder_hidden
        self.semantics_decoder_hidden = semantics_decoder_hidden
        self.beta = beta
        self.gamma = gamma
        self.delta = delta
        self.latents_seen = latents_seen
        self.latents_unseen = latents_unseen
        self.latents_zsl = latents_zsl
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.classifier_epochs = classifier_epochs
        self.classifier_batch_size = classifier_batch_size
        self.classifier_lr = classifier_lr
        self.classifier_weight_decay = classifier_weight_decay
        self.calibration = calibration
        self.precision = precision
        self.device = device
        self.random_state = random_state
        self.verbose = verbose


class PrototypeDiscriminantClassifier(ZeroShotEstimator):
    """Linear discriminants around known and predicted class means, and a gate between them.

    The method that recognises unseen classes best on the package's datasets, in seconds. It needs
    four seen classes or more. With a gate, scores are log-probabilities. Attributes are those of
    `ZeroShotEstimator`.

    Parameters
    ----------
    semantics
        The vector ``(a,)`` of each class; ``semantics`` given to `fit` replaces it.
    feature_scaling
        Of the features, fitted on the rows: none, minmax, centred, standardised or l2.
    feature_transform
        Applied after the scaling: none, sqrt, unit, or auto for the one that is best on held-out
        seen classes.
    semantics_whitening, covariance_shrinkage
        Whether their amounts are chosen on held-out seen classes.
    length_exponent
        How much of the length of a class mean is ignored, 0 (none) to 1 (all).
    gated
        Whether a gate between seen and unseen classes is learned on held-out seen classes.
    calibration, device, random_state
        As of `GSMFlowClassifier`.

    Examples
    --------
    >>> import numpy as np
    >>> from gsmflow import PrototypeDiscriminantClassifier
    >>> rng = np.random.default_rng(0)
    >>> semantics = {c: rng.normal(size=4) for c in range(12)}
    >>> y = np.repeat(range(12), 20)
    >>> X = np.stack([semantics[c] for c in y]) @ rng.normal(size=(4, 6))
    >>> X += 0.1 * rng.normal(size=X.shape)
    >>> discriminant = PrototypeDiscriminantClassifier(semantics, random_state=0)
    >>> discriminant.fit(X[y < 10], y[y < 10]).score(X, y) > 0.95
    True
    """

    _method = "discriminant"

    def __init__(
        self,
        semantics: ClassVectors | None = None,
        *,
        feature_scaling: FeatureScalingName = "none",
        feature_transform: TransformName = "auto",
        semantics_whitening: bool = True,
        covariance_shrinkage: bool = True,
        length_exponent: float = 0.25,
        gated: bool = True,
        calibration: float = 0.0,
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.semantics = semantics
        self.feature_scaling = feature_scaling
        self.feature_transform = feature_transform
        self.semantics_whitening = semantics_whitening
        self.covariance_shrinkage = covariance_shrinkage
        self.length_exponent = length_exponent
        self.gated = gated
        self.calibration = calibration
        self.device = device
        self.random_state = random_state
        self.verbose = verbose


def _train_classifiers(
    recipe: Recipe, model: Model, scaled: Scaled, precision: Precision
) -> dict[str, torch.Tensor]:
    """The tensors of the trained classifiers; none for a model that classifies by itself."""
    if isinstance(model, Classifying):
        return {}
    assert isinstance(model, GivesRows)
    pair = pair_from_rows(
        model.classifier_rows(rows_request(recipe, scaled, precision)),
        scaled.problem,
        feature_map(scaled.scaling, model, scaled.feed.labels.device),
        recipe.trained_classifier,
        classifier_generators(recipe, scaled),
    )
    return pair.tensors()


def _dataset(classes: NDArray[Any], vectors: FloatArray, X: FloatArray, y: IntArray) -> Dataset:
    """All rows as training rows, of some of the classes; no validation and no test rows."""
    rows, none = np.arange(len(X)), np.empty(0, dtype=np.int64)
    return Dataset(
        name="fit",
        features=X,
        labels=y,
        semantics=vectors,
        class_names=tuple(map(str, classes)),
        trainval=rows,
        train=none,
        val=none,
        test_seen=none,
        test_unseen=none,
    )


def _classes_and_vectors(
    semantics: Mapping[Any, ArrayLike] | None, labels: NDArray[Any]
) -> tuple[NDArray[Any], FloatArray]:
    """All classes, ascending, ``(k,)``, and their vectors ``(k, a)``, or an `InputError`.

    ``labels`` are the classes that have rows, ascending.
    """
    if not isinstance(semantics, Mapping):
        raise InputError(
            f"semantics: found {type(semantics).__name__}, expected a mapping from every class, "
            "those without rows included, to its vector, or a frame with the classes as its index, "
            "given to fit() or to the constructor"
        )
    for label in labels:
        if label not in semantics:
            check_kind_of_keys([*semantics], labels)
            raise InputError(f"semantics: found no vector of class {label}, expected one")
    classes = _as_classes([*semantics], labels)
    if len(classes) == len(labels):
        raise InputError(
            f"semantics: found the {len(labels)} classes that have rows, expected at least one "
            "class without rows, an unseen one"
        )
    vectors = [_vector(c, semantics[c]) for c in classes]
    length = len(vectors[0])
    for c, vector in zip(classes, vectors, strict=True):
        if len(vector) != length:
            raise InputError(
                f"semantics: found {len(vector)} values of class {c}, expected {length}, as of "
                f"class {classes[0]}"
            )
    semantics_matrix = np.stack(vectors)
    _check_scale("semantics", semantics_matrix)
    _check_twins(classes, semantics_matrix, np.isin(classes, labels))
    return classes, semantics_matrix


def _check_twins(classes: NDArray[Any], vectors: FloatArray, is_seen: NDArray[np.bool_]) -> None:
    """Raise `InputError` if an unseen class has the same vector as a seen one."""
    seen = {
        vector.tobytes(): c for c, vector in zip(classes[is_seen], vectors[is_seen], strict=True)
    }
    for c, vector in zip(classes[~is_seen], vectors[~is_seen], strict=True):
        if vector.tobytes() in seen:
            raise InputError(
                f"semantics: found the same vector for {seen[vector.tobytes()]} and {c}, which "
                "has no rows, expected different vectors"
            )


def _check_varying(X: NDArray[np.floating[Any]]) -> None:
    """Raise `InputError` if every feature has one value in all rows."""
    if (X.min(axis=0) == X.max(axis=0)).all():
        raise InputError(
            f"X: found every one of the {X.shape[1]} features constant, expected features that vary"
        )


def _check_scale(
    name: str, values: NDArray[np.floating[Any]], offset: NDArray[np.float64] | float = 0.0
) -> None:
    """Raise `InputError` if float32 does not hold sums of squares of values ``(n, d)``.

    ``offset (d,)`` is taken off them first.
    """
    fault = scale_fault(values.min(axis=0) - offset, values.max(axis=0) - offset)
    if fault is not None:
        raise InputError(f"{name}: {fault}")


def _offset(X: NDArray[np.floating[Any]], scaling: FeatureScalingName) -> NDArray[np.float64]:
    """What is to be taken off ``X (n, d)`` so that float32 keeps how it varies, ``(d,)``.

    Raises
    ------
    InputError
        If there is something, and the scaling does not centre, so that the origin matters.
    """
    offset = np.zeros(X.shape[1])
    if X.dtype == np.float32:
        return offset
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = X.mean(axis=0), X.std(axis=0)
        rounding = np.abs(mean) * np.finfo(np.float32).eps
    if scaling not in ("none", "l2"):
        lost = (rounding > _KEPT_SHARE * deviation) & (deviation > 0) & np.isfinite(mean)
        offset[lost] = mean[lost]
    elif np.isfinite(mean).all() and np.hypot.reduce(rounding) > np.hypot.reduce(deviation) / 100:
        column = int(np.abs(mean).argmax())
        raise InputError(
            f"X: found a mean of {mean[column]:.6g} and a deviation of {deviation[column]:.3g} in "
            f"feature {column + 1}, whose digits float32 does not hold, expected centred features, "
            "or feature_scaling='standardised', which centres them"
        )
    return offset


def _narrowed(X: NDArray[np.floating[Any]], offset: NDArray[np.float64]) -> FloatArray:
    """Features less the offset, in float32."""
    with np.errstate(over="ignore"):  # what overflows becomes infinite, which is refused
        rows = np.asarray(X - offset if offset.any() else X, dtype=np.float32)
    if not np.isfinite(rows).all():
        raise InputError("X: found a value that is too large for float32, expected smaller ones")
    return rows


def _checked_labels(y: ArrayLike) -> ArrayLike:
    """The labels as given, or an `InputError` if they are of types that do not go together.

    So are whole numbers that NumPy would round.
    """
    y = without_gradient(y)
    if getattr(getattr(y, "dtype", None), "kind", "") == "O":  # also of pandas
        _check_kinds(np.asarray(y).ravel().tolist())
    if not isinstance(y, list | tuple) or not y:
        return y
    _check_kinds(y)
    if all(isinstance(v, numbers.Integral) for v in y) and np.asarray(y).dtype.kind in "fO":
        raise InputError(
            f"y: found whole numbers from {min(y)} to {max(y)}, which no integer type of 64 bits "
            "holds together, expected smaller ones or texts"
        )
    return y


def _check_kinds(labels: Sequence[Any]) -> None:
    """Raise `InputError` unless all labels are texts, or none of them and none of them None."""
    if any(v is None for v in labels) or len({isinstance(v, str | bytes) for v in labels}) > 1:
        types = ", ".join(sorted({type(v).__name__ for v in labels}))
        raise InputError(f"y: found labels of types {types}, expected texts alone or numbers alone")


def _in_type_of(classes: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """Labels in the type of the classes, so that no comparison rounds them."""
    if labels.dtype == classes.dtype or {labels.dtype.kind, classes.dtype.kind} - set("iuf"):
        return labels
    with np.errstate(invalid="ignore"):
        found = labels.astype(classes.dtype)
    same = (found == labels) & ((found < 0) == (labels < 0))
    if not same.all():
        raise InputError(f"y: found {labels[~same][0]}, expected one of classes_")
    return found


def _whole_type(keys: Sequence[Any], labels: NDArray[Any]) -> "np.dtype[Any] | None":
    """The integer type of labels and keys; None if some are not whole numbers."""
    if labels.dtype.kind not in "iu" or not all(isinstance(k, numbers.Integral) for k in keys):
        return None
    lowest, highest = (int(side(*keys, *labels.tolist())) for side in (min, max))
    for dtype in (labels.dtype, np.dtype(np.int64), np.dtype(np.uint64)):
        if np.iinfo(dtype).min <= lowest and highest <= np.iinfo(dtype).max:
            return dtype
    raise InputError(
        f"semantics: found whole numbers from {lowest} to {highest}, which no integer type of 64 "
        "bits holds together, expected smaller ones or texts"
    )


def _as_classes(keys: Sequence[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """The keys in ascending order, in a data type that also holds the labels."""
    is_text = isinstance(labels[0], str | bytes)
    for key in keys:
        if isinstance(key, str | bytes) != is_text:
            raise InputError(
                f"semantics: found the key {key!r} for labels of type {labels.dtype}, expected "
                f"only {'texts' if is_text else 'numbers'}"
            )
        if key is None or key != key:  # NaN, or a time that is none
            raise InputError(f"semantics: found the key {key!r}, expected classes")
    whole = _whole_type(keys, labels)
    if whole is not None:
        return np.unique(np.array([int(key) for key in keys], dtype=whole))
    try:
        classes = np.array(keys, dtype=object if labels.dtype == object else None)
        found = np.unique(classes.astype(np.result_type(classes, labels)))
    except (TypeError, ValueError) as error:
        types = ", ".join(sorted({type(key).__name__ for key in keys}))
        raise InputError(
            f"semantics: found keys of types {types}, expected those of labels of type "
            f"{labels.dtype}"
        ) from error
    if len(found) < len(keys):
        raise InputError(
            f"semantics: found {len(keys)} keys, of which {found.dtype} tells {len(found)} apart, "
            f"expected labels y of another type than {labels.dtype}"
        )
    return found


def _vector(label: Any, values: ArrayLike) -> FloatArray:
    vector = np.empty((0, 0), dtype=np.float32)
    with suppress(TypeError, ValueError, OverflowError):
        given = np.asarray(without_gradient(values))
        if given.dtype.kind not in "cmM":  # complex numbers and times lose what they say
            vector = given.astype(np.float32)
    if vector.ndim != 1 or not len(vector) or not np.isfinite(vector).all():
        raise InputError(
            f"semantics: found something else of class {label}, expected a vector of finite numbers"
        )
    return vector


def _draw_seed(random_state: Any) -> int:
    """The seed: a given whole number, or one drawn in scikit-learn's way."""
    if isinstance(random_state, numbers.Integral):
        seed = int(random_state)
        if not 0 <= seed < 2**32:
            raise InputError(
                f"random_state: found {seed}, expected a whole number from 0 to 2^32 - 1"
            )
        return seed
    return int(check_random_state(random_state).randint(_SEEDS))


def _pairs(
    semantics: Mapping[Any, ArrayLike], dtype: "np.dtype[Any]"
) -> list[tuple[Any, list[float]]]:
    labels = [*semantics]
    if dtype.kind in "mM":
        labels = _countable(np.array(labels, dtype=dtype)).tolist()
    vectors = [np.asarray(vector, dtype=np.float64).tolist() for vector in semantics.values()]
    return list(zip(map(_plain, labels), vectors, strict=True))


def _countable(labels: NDArray[Any]) -> NDArray[Any]:
    """Times as whole numbers, which JSON has; other labels unchanged."""
    return labels.view(np.int64) if labels.dtype.kind in "mM" else labels


def _labels_from(values: Sequence[Any], dtype: "np.dtype[Any]") -> NDArray[Any]:
    """What `_countable` was given."""
    if dtype.kind in "mM":
        return np.array(values, dtype=np.int64).view(dtype)
    return np.array(values, dtype=dtype)


def _plain(value: Any) -> Any:
    """A NumPy scalar or array as Python numbers; other values unchanged."""
    if isinstance(value, np.longdouble):
        return float(value)
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value
