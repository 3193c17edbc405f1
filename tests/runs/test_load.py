"""A loaded run: the answers of the verb ``predict``, scores by hand, the model's samples."""

import csv
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console
from safetensors.numpy import load_file, save_file

import gsmflow
from gsmflow.cli.main import main
from gsmflow.core.errors import InputError
from gsmflow.core.rng import make_generator
from gsmflow.data.dataset import Dataset
from gsmflow.learning.contract import Encoding
from gsmflow.learning.sampling import Sampler
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job
from gsmflow.runs.load import LoadedRun
from gsmflow.runs.seeds import run_seeds
from tests.builders import CADA_SMALL, always_calibrated, make_dataset, tiny_recipe, write_gbu

pytestmark = pytest.mark.usefixtures("quick_pictures")

QUIET = Console(quiet=True)
DATASET = make_dataset()
# Names whose order is not that of the classes' numbers.
NAMES = tuple(f"{'zyxwvutsrq'[c]} bird" for c in range(10))
SETTINGS: dict[str, dict[str, Any]] = {
    "gsmflow": {"feature_scaling": "standardised"},
    "l2": {"feature_scaling": "l2", "calibrate": False},
    "cada-vae": CADA_SMALL,
    "eszsl": {"model": "eszsl"},
    "gate": {"gate": "cosmo"},
}
RUNS: dict[str, LoadedRun] = {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs")
    write_gbu(path / "data" / "TINY", named(DATASET))
    return path


@pytest.fixture
def loaded(folder: Path) -> Callable[[str], LoadedRun]:
    """Loaded runs by case; each run is made once."""

    def get(case: str) -> LoadedRun:
        if case not in RUNS:
            recipe = tiny_recipe(folder, run=case, beside=(), **SETTINGS[case])
            with always_calibrated():
                result = run_experiment(Job(recipe), QUIET)
            RUNS[case] = gsmflow.load(result.directory, device="cpu")
        return RUNS[case]

    return get


@pytest.fixture(scope="module", autouse=True)
def forget() -> Iterator[None]:
    yield
    RUNS.clear()


def named(dataset: Dataset) -> Dataset:
    return replace(dataset, class_names=NAMES)


def answers(run: LoadedRun, features: NDArray[Any], folder: Path, *flags: str) -> list[str]:
    """The classes that the verb ``predict`` writes."""
    np.save(folder / "rows.npy", features)
    into = folder / "answers.csv"
    words = ["predict", run.trained.directory, folder / "rows.npy", "--into", into, *flags]
    main([*map(str, words), "--device", "cpu"])
    with into.open() as file:
        return [line["class"] for line in csv.DictReader(file)]


@pytest.mark.parametrize("case", list(SETTINGS))
def test_predictions_are_the_answers_of_the_verb(
    case: str, loaded: Callable[[str], LoadedRun], tmp_path: Path
) -> None:
    run, features = loaded(case), DATASET.features
    flags = () if run.metrics["calibrated"] or case == "gate" else ("--gamma", "none")
    assert run.predict(features).tolist() == answers(run, features, tmp_path, *flags)
    unseen = answers(run, features, tmp_path, "--only", "unseen")
    assert run.predict_unseen(features).tolist() == unseen


def test_scores_are_those_of_the_classifier_file(loaded: Callable[[str], LoadedRun]) -> None:
    """By hand: standardise, multiply, subtract gamma, and normalise exponentials."""
    run, features = loaded("gsmflow"), DATASET.features
    training = DATASET.features[DATASET.trainval].astype(np.float64)
    scaled = (features - training.mean(axis=0)) / training.std(axis=0)
    tensors = load_file(run.trained.directory / "classifier.safetensors")
    scores = scaled @ tensors["gzsl.weight"].T + tensors["gzsl.bias"]
    numbers = run.trained.classes
    scores -= run.metrics["calibrated"]["gamma"] * np.isin(numbers, DATASET.seen_classes)
    columns = [list(numbers).index(NAMES.index(name)) for name in run.classes_]
    np.testing.assert_allclose(run.decision_function(features), scores[:, columns], atol=1e-4)
    temperature = run.metrics["validation"]["temperatures"]["among_all"]
    powers = np.exp((scores[:, columns] - scores.max(axis=1, keepdims=True)) / temperature)
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(run.predict_proba(features), expected, atol=1e-4)


@pytest.mark.parametrize("case", list(SETTINGS))
def test_probabilities_sum_to_one_and_are_highest_at_the_prediction(
    case: str, loaded: Callable[[str], LoadedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, features = loaded(case), DATASET.features
    probabilities = run.predict_proba(features)
    assert probabilities.shape == (len(features), 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    best = run.classes_[probabilities.argmax(axis=1)]
    np.testing.assert_array_equal(best, run.predict(features))
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", 7 * 48)
    np.testing.assert_allclose(run.predict_proba(features.tolist()), probabilities, atol=1e-6)


def test_attributes_are_those_of_the_run(loaded: Callable[[str], LoadedRun]) -> None:
    run = loaded("gsmflow")
    assert run.classes_.tolist() == sorted(NAMES)
    assert run.seen_classes_.tolist() == sorted(NAMES[c] for c in DATASET.seen_classes)
    assert run.unseen_classes_.tolist() == sorted(NAMES[7:])
    assert run.n_features_in_ == DATASET.features.shape[1]
    assert (run.recipe.dataset, run.recipe.method_info.name) == ("TINY", "gsmflow")
    assert 0 <= run.metrics["H"] <= 1
    without = replace(run, gamma=None)
    scores = run.trained.scorer.gzsl_scores(DATASET.features)
    expected = np.array(NAMES)[run.trained.classes][scores.argmax(axis=1)]
    np.testing.assert_array_equal(without.predict(DATASET.features), expected)


@pytest.mark.parametrize("case", ["gsmflow", "l2", "cada-vae"])
def test_samples_are_those_of_the_model_unscaled(
    case: str, loaded: Callable[[str], LoadedRun]
) -> None:
    run, number = loaded(case), 8
    model, scaling = run.trained.kept.model, run.trained.kept.scaling
    assert isinstance(model, Sampler)
    generator = make_generator(torch.device("cpu"), 5, "sample", NAMES[number])
    draw = model.sampler(torch.tensor([number]))
    scaled = draw(torch.zeros(20, dtype=torch.long), generator).detach().numpy()
    samples = run.sample(NAMES[number], 20, seed=5)
    np.testing.assert_allclose(samples, scaled * scaling.spread + scaling.shift, atol=1e-5)
    np.testing.assert_array_equal(run.sample(NAMES[0]), run.sample(NAMES[0], seed=run.recipe.seed))
    assert not np.array_equal(samples, run.sample(NAMES[number], 20, seed=6))


def test_samples_of_a_class_do_not_depend_on_others(loaded: Callable[[str], LoadedRun]) -> None:
    run = loaded("gsmflow")
    first = run.sample(NAMES[1], 3)
    run.sample(NAMES[2], 5)
    np.testing.assert_array_equal(run.sample(NAMES[1], 3), first)
    assert not np.array_equal(run.sample(NAMES[2], 3), first)


def test_codes_are_those_of_the_encoder(loaded: Callable[[str], LoadedRun]) -> None:
    run = loaded("cada-vae")
    model = run.trained.kept.model
    assert isinstance(model, Encoding)
    scaled = torch.from_numpy(run.trained.kept.scaling(DATASET.features))
    with torch.no_grad():
        expected = model.encoder(scaled).numpy()
    np.testing.assert_allclose(run.encode(DATASET.features), expected, atol=1e-6)


def test_mistakes_are_told_in_one_sentence(loaded: Callable[[str], LoadedRun]) -> None:
    flow, scored = loaded("gsmflow"), loaded("eszsl")
    mistakes: dict[str, Callable[[], object]] = {
        r"X: found shape \(3, 7\), expected \(rows, 6\)": lambda: flow.predict(np.ones((3, 7))),
        r"X: found shape \(6,\), expected": lambda: flow.predict_proba(np.ones(6)),
        "X: found <U1, expected numbers": lambda: flow.predict_unseen([["a"] * 6]),
        "X: found nan in row 2, dimension 1": lambda: flow.predict([[1] * 6, [np.nan] * 6]),
        "label: found z brid, expected one of the 10 classes of .*, such as z bird": (
            lambda: flow.sample("z brid")
        ),
        "n: found 0, expected": lambda: flow.sample(NAMES[0], 0),
        "seed: found -1, expected": lambda: flow.sample(NAMES[0], seed=-1),
        "found a model that encodes no features": lambda: flow.encode(DATASET.features),
        "found a model that synthesizes no features": lambda: scored.sample(NAMES[0]),
    }
    for sentence, mistake in mistakes.items():
        with pytest.raises(InputError, match=sentence) as raised:
            mistake()
        assert "\n" not in str(raised.value)


def test_run_of_several_seeds_is_that_of_the_first_or_a_named_one(folder: Path) -> None:
    recipe = tiny_recipe(folder, run="both", seed=3, seeds=2, model="eszsl", beside=())
    run_seeds(Job(recipe), QUIET)
    both = folder / "out" / "TINY" / "both"
    assert gsmflow.load(both).trained.directory == both / "seed3"
    assert gsmflow.load(str(both), seed=4).recipe.seed == 4
    assert gsmflow.load(both / "seed4", seed=4).recipe.seed == 4
    with pytest.raises(InputError, match="seed: found 5, expected one of 3 to 4"):
        gsmflow.load(both, seed=5)
    with pytest.raises(InputError, match="seed: found 3, expected 4, as"):
        gsmflow.load(both / "seed4", seed=3)
    (both / "seed3" / "metrics.json").unlink()
    with pytest.raises(InputError, match=r"metrics.json: no such file, expected .* a finished run"):
        gsmflow.load(both)


def test_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"recipe.json: no such file, expected .* finished run"):
        gsmflow.load(tmp_path / "nothing")


def test_what_is_no_path_is_refused() -> None:
    path: Any = None
    with pytest.raises(InputError, match=r"^path: found None, expected a path$"):
        gsmflow.load(path)
    with pytest.raises(InputError, match="no such file, expected the directory of a finished run"):
        gsmflow.load("a\0b")


def test_tensors_with_a_gradient_are_taken_as_arrays(loaded: Callable[[str], LoadedRun]) -> None:
    run, rows = loaded("eszsl"), DATASET.features[:5]
    found = run.predict_proba(torch.tensor(rows, requires_grad=True))
    np.testing.assert_array_equal(found, run.predict_proba(rows))


def test_unknown_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^device: found abacus, expected auto or one available"):
        gsmflow.load(tmp_path, device="abacus")


def test_numbers_that_are_nan_are_refused(
    loaded: Callable[[str], LoadedRun], tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(loaded("gsmflow").trained.directory, tmp_path / "run"))
    for name in ("model.safetensors", "classifier.safetensors"):
        whole = load_file(directory / name)
        key = next(k for k, array in whole.items() if array.dtype.kind == "f")
        save_file({**whole, key: np.full_like(whole[key], np.nan)}, directory / name)
        with pytest.raises(InputError, match=rf"{name}: not readable .*are NaN"):
            gsmflow.load(directory, device="cpu")
        save_file(whole, directory / name)


@pytest.mark.parametrize(
    "name",
    ["metrics.json", "recipe.json", "model.json", "model.safetensors", "classifier.safetensors"],
)
def test_folder_in_the_place_of_a_file_is_refused(
    name: str, loaded: Callable[[str], LoadedRun], tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    shutil.copytree(loaded("gsmflow").trained.directory, directory)
    (directory / name).unlink()
    (directory / name).mkdir()
    with pytest.raises(
        InputError, match=rf"^{directory / name}: not readable .*\(it is a folder\)"
    ):
        gsmflow.load(directory, device="cpu")
