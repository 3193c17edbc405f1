"""A grid of runs, methods by datasets by seeds, whose folders are named by what they compute.

A cell is a method on a dataset. Its folder's name has a digest of its recipe and of the dataset's
files, so that a cell that is finished is found again, and one of other settings is another cell.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path

from gsmflow.core.errors import InputError
from gsmflow.core.files import digest_file
from gsmflow.data.dataset import Dataset, training_problem
from gsmflow.data.embedding_names import is_vector_file
from gsmflow.data.formats.files import dataset_files
from gsmflow.learning.contract import why_unfit
from gsmflow.learning.method import PresetName
from gsmflow.methods.registry import METHODS, find_method
from gsmflow.recipes.checks import check_names
from gsmflow.recipes.flags import parse_recipe
from gsmflow.recipes.recipe import CLASSIFIERS, Recipe, classifiers_for
from gsmflow.runs.classifiers_beside import label_with, names_beside
from gsmflow.runs.directory import computed_fields
from gsmflow.runs.experiment import open_dataset
from gsmflow.runs.script import Script, script_recipe

__all__ = [
    "Cell",
    "DataChoice",
    "GridData",
    "MethodChoice",
    "check_classifiers_beside",
    "find_unfit",
    "make_cells",
    "open_data",
    "read_data_choice",
    "read_method_choices",
    "words_of_run",
]

ALL = "all"

# Fields of a recipe that do not make another cell. The seeds of a cell are its runs, the dataset is
# known by what its files hold, and the others change none of its figures; those of a machine change
# the last digits alone.
_OF_A_MACHINE = {"device", "cuda_graphs", "compile"}
_NOT_OF_A_CELL = _OF_A_MACHINE | {
    *("data", "seed", "seeds", "beside", "classifiers_beside", "diagnosis"),
}
_digest = partial(hashlib.blake2b, digest_size=16)


@dataclass(frozen=True)
class DataChoice:
    """A dataset of a grid.

    Attributes
    ----------
    path
        Its folder, or a script whose recipes are for it.
    features, semantics
        Which of its features and semantics; empty for the usual ones.
    """

    path: Path
    features: str = ""
    semantics: str = ""

    @property
    def words(self) -> list[str]:
        """The flags that choose its features and semantics."""
        named = {"--features": self.features, "--semantics": self.semantics}
        return [word for flag, value in named.items() if value for word in (flag, value)]


@dataclass(frozen=True)
class MethodChoice:
    """A method of a grid.

    Attributes
    ----------
    name
        As ``--model`` takes it.
    classifier
        As ``--classifier`` takes it; empty for the method's usual one.
    is_of_all
        Whether it was asked for as one of all methods, not by its name.
    """

    name: str
    classifier: str = ""
    is_of_all: bool = field(default=False, compare=False)

    @property
    def key(self) -> str:
        """Its name in files and on the command line."""
        return ":".join(filter(None, (self.name, self.classifier)))

    @property
    def label(self) -> str:
        """Its name in tables."""
        label = find_method(self.name).label
        return label_with(label, self.classifier) if self.classifier else label

    def taken_beside(self, names: Sequence[str]) -> list[str]:
        """Those of further classifiers that its runs can have; none where it names a classifier."""
        info = find_method(self.name)
        known = () if self.classifier else classifiers_for(info, info.model)
        return [name for name in names if name in known]

    @property
    def words(self) -> list[str]:
        """The flags that choose it."""
        classifier = ["--classifier", self.classifier] if self.classifier else []
        return ["--model", self.name, *classifier]


@dataclass(frozen=True, eq=False)
class GridData:
    """A dataset of a grid that was read once.

    Attributes
    ----------
    choice
        What was asked for.
    script
        The script, or its equivalent for a folder.
    recipe
        A recipe on it: it says which features and semantics these are.
    dataset
        The dataset; its features are mapped from the cache where there is one.
    digest
        A hash of what its files hold.
    """

    choice: DataChoice
    script: Script
    recipe: Recipe
    dataset: Dataset
    digest: str

    @property
    def key(self) -> str:
        """Its name in files: dataset, features and semantics."""
        return f"{self.recipe.dataset}:{self.recipe.features}:{self.recipe.semantics_label}"


@dataclass(frozen=True, eq=False)
class Cell:
    """A method on a dataset, with several seeds.

    Attributes
    ----------
    method
        The method.
    data
        The dataset.
    words
        The flags of its runs, without those of a seed.
    recipe
        The recipe of its first run.
    seeds
        The seeds of its runs; one where nothing depends on the seed.
    folder
        Its folder, with a run directory for each seed.
    splits
        The random class splits on which each seed runs, in a folder each; none: the dataset's own
        split alone.
    """

    method: MethodChoice
    data: GridData
    words: tuple[str, ...]
    recipe: Recipe
    seeds: tuple[int, ...]
    folder: Path
    splits: tuple[int, ...] = ()

    @property
    def methods_beside(self) -> list[MethodChoice]:
        """The method with each further classifier whose figures its runs have."""
        return [MethodChoice(self.method.name, name) for name in names_beside(self.recipe)]

    def run_folder(self, seed: int, split: int | None = None) -> Path:
        """The run directory of a seed, on a class split."""
        return self._folder_of(split) / f"seed{seed}"

    def outcome_file(self, seed: int, split: int | None = None) -> Path:
        """The file that says how a run ended; there is none while it is not over."""
        return self._folder_of(split) / f"seed{seed}.json"

    def _folder_of(self, split: int | None) -> Path:
        return self.folder if split is None else self.folder / f"split{split}"


def read_method_choices(words: Sequence[str]) -> list[MethodChoice]:
    """The methods of a command line: ``all``, names, and ``NAME:CLASSIFIER``.

    Raises
    ------
    InputError
        If a method or classifier is unknown, or a method trains no classifier.
    """
    found: dict[str, MethodChoice] = {}
    for word in words:
        names = list(METHODS) if word == ALL else [word]
        for name in names:
            method, _, classifier = name.partition(":")
            choice = MethodChoice(method, classifier, is_of_all=word == ALL)
            if choice.name not in METHODS:
                raise InputError(
                    f"--methods: found {choice.name!r}, expected {ALL} or some of "
                    f"{', '.join(METHODS)}"
                )
            if choice.classifier:
                _check_classifier(choice)
            if word != ALL or choice.key not in found:
                found[choice.key] = choice
    if not found:
        raise InputError(f"--methods: found nothing, expected {ALL} or names of methods")
    return list(found.values())


def _check_classifier(choice: MethodChoice) -> None:
    if find_method(choice.name).classifies:
        raise InputError(
            f"--methods: found {choice.key}, expected {choice.name}, which scores classes without "
            "a classifier"
        )
    if choice.classifier not in CLASSIFIERS:
        raise InputError(
            f"--methods: found {choice.key}, expected {choice.name} or {choice.name}:CLASSIFIER "
            f"with one of {', '.join(CLASSIFIERS)}"
        )


def check_classifiers_beside(names: Sequence[str], methods: Sequence[MethodChoice]) -> None:
    """Check the further classifiers of a grid.

    Raises
    ------
    InputError
        If one is unknown or given twice, or none of the methods can have it.
    """
    check_names("--classifiers-beside", "classifier", names, CLASSIFIERS)
    for name in names:
        if not any(method.taken_beside([name]) for method in methods):
            raise InputError(
                f"--classifiers-beside: found {name}, which no method of this grid can have, "
                "expected a method that gives rows for a classifier, such as gsmflow"
            )


def read_data_choice(word: str) -> DataChoice:
    """The dataset of a word ``PATH[:FEATURES[:SEMANTICS]]``.

    Raises
    ------
    InputError
        If there are more parts.
    """
    *before, last = word.rsplit(":", 1)
    vectors = [last] if before and is_vector_file(last) else []
    # A path may have a drive letter, so a part with a separator belongs to it.
    path, *names = re.split(r":(?![^:]*[\\/])", before[0] if vectors else word)
    names += vectors
    if not path or len(names) > 2 or len(names) == len(vectors) == 1:
        raise InputError(
            f"--datasets: found {word!r}, expected PATH, PATH:FEATURES or PATH:FEATURES:SEMANTICS"
        )
    return DataChoice(Path(path), *names)


def open_data(
    choice: DataChoice, method: MethodChoice, flags: Sequence[str], prog: str
) -> GridData:
    """Read a dataset of a grid, which also puts it into the cache.

    Parameters
    ----------
    choice
        The dataset.
    method
        A method of the grid, with which the flags can be used.
    flags
        Flags of all runs of the grid, among them that of the cache's folder.
    prog
        The program's name, for the help text.

    Raises
    ------
    InputError
        If the dataset cannot be read, or too few of its classes are left to choose settings on.
    """
    words = [*method.words, *choice.words, *flags]
    script, recipe = script_recipe(choice.path, words, prog=prog)
    dataset = open_dataset(script.job(recipe))
    files = dataset_files(
        recipe.data, recipe.dataset, features=recipe.features, semantics=recipe.semantics
    )
    digests = [digest_file(file, _digest) for file in files]
    return GridData(choice, script, recipe, dataset, "-".join(digests))


def find_unfit(
    methods: Sequence[MethodChoice], datasets: Sequence[GridData]
) -> dict[tuple[str, str], str]:
    """Which of all methods do not fit a dataset, and why, by the keys of method and dataset.

    A method that is asked for by its name is not among them: its runs fail with the reason.
    """
    unfit = {}
    for data in datasets:
        problem = training_problem(data.dataset, "test")
        for method in methods:
            why = why_unfit(find_method(method.name).model, problem)
            if method.is_of_all and why:
                unfit[method.key, data.key] = why
    return unfit


def make_cells(
    methods: Sequence[MethodChoice],
    datasets: Sequence[GridData],
    seeds: Sequence[int],
    preset: PresetName,
    flags: Sequence[str],
    out: Path,
    prog: str,
    chosen: Mapping[tuple[str, str], Path] | None = None,
    splits: Sequence[int] = (),
    unfit: Collection[tuple[str, str]] = (),
    classifiers_beside: Sequence[str] = (),
) -> list[Cell]:
    """The cells of a grid, dataset by dataset.

    Parameters
    ----------
    methods, datasets
        The rows and columns.
    seeds
        The seeds of each cell whose method depends on one.
    preset
        The settings that each method starts from.
    flags
        Flags of all runs.
    out
        The folder of the cells' folders.
    prog
        The program's name, for the help text.
    chosen
        Files of settings that were chosen for a cell, by the keys of method and dataset.
    splits
        The random class splits of each cell; none: the dataset's own split.
    unfit
        The keys of method and dataset that have no cell.
    classifiers_beside
        Further classifiers of the runs, where a method can have them.

    Raises
    ------
    InputError
        If a flag cannot be used with a method.
    """
    cells = []
    for data, method in product(datasets, methods):
        if (method.key, data.key) in unfit:
            continue
        file = (chosen or {}).get((method.key, data.key))
        others = method.taken_beside(classifiers_beside)
        words = (
            *method.words,
            *("--preset", preset),
            *data.choice.words,
            *(() if file is None else ("--recipe", str(file))),
            "--beside",
            *(("--classifiers-beside", *others) if others else ()),
            *flags,
        )
        recipe = parse_recipe(
            data.script.recipes,
            [*words, *_choice(seeds[0], next(iter(splits), None))],
            prog=prog,
            description=data.script.description,
        )
        used = tuple(seeds) if recipe.method_info.depends_on_seed else (seeds[0],)
        address = _address(recipe, data, over_splits=bool(splits))
        name = f"{method.key.replace(':', '-')}-{preset}-{address}"
        folder = out / data.key.replace(":", "-") / name
        cells.append(Cell(method, data, words, recipe, used, folder, tuple(splits)))
    return cells


def words_of_run(cell: Cell, seed: int, split: int | None = None) -> list[str]:
    """The flags of a cell's run, as its dataset's script takes them."""
    return [*cell.words, *_choice(seed, split)]


def _choice(seed: int, split: int | None) -> list[str]:
    on_split = [] if split is None else ["--class-split", str(split)]
    return ["--seed", str(seed), "--seeds", "1", *on_split]


def _address(recipe: Recipe, data: GridData, *, over_splits: bool) -> str:
    """A hash of what the runs of a cell compute, but for the seed and the splits of its runs."""
    computed = computed_fields(recipe)
    if over_splits:
        computed["class_split"] = "each"
    content: Mapping[str, object] = {
        **{name: value for name, value in computed.items() if name not in _NOT_OF_A_CELL},
        "dataset": data.digest or recipe.dataset,
    }
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()
