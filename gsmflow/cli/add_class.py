"""The command ``add-class``: add unseen classes to a run whose model is not trained again."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import Positional, arg

from gsmflow.cli.verb import Verb
from gsmflow.core.arrays import FloatArray
from gsmflow.core.devices import pick_device
from gsmflow.core.errors import InputError
from gsmflow.core.text_cells import Header
from gsmflow.data.extract.descriptions import Descriptions
from gsmflow.data.extract.gbu import SEMANTICS
from gsmflow.data.extract.texts import encode_as_recorded
from gsmflow.data.formats.embeddings import scaled_as_joined
from gsmflow.data.new_classes import name_vectors, read_new_classes
from gsmflow.runs.add_class import (
    add_classes,
    added_classes,
    check_same_dataset,
    grow_dataset,
    path_beside,
)
from gsmflow.runs.checkpoint import TrainedRun, open_trained
from gsmflow.runs.experiment import read_dataset
from gsmflow.runs.rivals import describe_rivals

__all__ = ["VERB", "AddClassOptions", "run_add_class"]


@dataclass(frozen=True, kw_only=True)
class AddClassOptions:
    """Add unseen classes to a trained run, without training its model again.

    The model synthesizes rows of the new classes from their semantics, and the classifiers are
    trained again, which needs the run's dataset. The prototype discriminant only gets a score
    column for each new class. The result is a new run directory, which all commands accept; the
    old run stays unchanged.
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The directory of a finished run."""
    semantics: Path | None = None
    """File of the new semantics, unscaled, as the dataset's, and those of joined embeddings one
    after the other: for one class a .npy, .json or .csv with its vector; for several a .csv with
    lines NAME,VALUES or a .json of vectors by name. For a run whose classes are described by texts,
    a .csv with lines NAME,TEXT or a folder of texts."""
    name: str | None = None
    """Name of the class; none if the file has the names."""
    header: Header = "auto"
    """Whether the first line of a .csv is a header; auto: its cells say so."""
    text: str | None = None
    """A text about the class of --name, for a run whose classes are described by texts; in the
    place of --semantics."""
    into: Path | None = None
    """The new run's directory; none: beside the run, RUN-with-NAME."""
    data: Path | None = None
    """Folder of datasets; none: the folder that the run was trained with."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps, or auto for the fastest available."""


def run_add_class(options: AddClassOptions, console: Console) -> None:
    """Write the new run directory, and print its table.

    Raises
    ------
    InputError
        If the run, its dataset or the semantics cannot be used. Then nothing is written.
    """
    trained = open_trained(options.run, pick_device(options.device))
    recipe = trained.recipe
    if options.data is not None:
        trained = replace(trained, recipe=replace(recipe, data=options.data))
    dataset = read_dataset(trained.recipe)
    check_same_dataset(trained, dataset)
    dataset = grow_dataset(dataset, added_classes(trained.directory))
    described = _describe(options)
    for note in described.notes:
        console.print(f"warning: {note}", soft_wrap=True)
    vectors = _encode(described, trained) if described.texts else described.attributes
    assert vectors is not None
    classes = name_vectors(described, vectors, dataset.semantics.shape[1])
    classes = {n: scaled_as_joined(v, dataset.semantics_parts) for n, v in classes.items()}
    into = options.into or path_beside(options.run, classes)
    add_classes(trained, dataset, classes, into, console)
    grown = open_trained(into, trained.device)
    for line in describe_rivals(grown, dataset, classes):
        console.print(line, soft_wrap=True)


def _describe(options: AddClassOptions) -> Descriptions:
    """The new classes; raise `InputError` unless they are described in one way."""
    if (options.semantics is None) == (options.text is None):
        found = "neither" if options.text is None else "both"
        raise InputError(f"--text: found {found} --semantics and --text, expected one of them")
    name = None if options.name is None else " ".join(options.name.split())
    if options.semantics is not None:
        return read_new_classes(options.semantics, name, options.header)
    assert options.text is not None
    text = " ".join(options.text.split())
    if not text or not name:
        missing = "--text" if name else "--name"
        raise InputError(f"{missing}: found none, expected a text, and the name of its class")
    return Descriptions(Path("--text"), (name,), texts=((text,),))


def _encode(described: Descriptions, trained: TrainedRun) -> FloatArray:
    """Semantics ``(classes, a)`` of texts; raise `InputError` if the run's were not made so."""
    if trained.recipe.semantics != SEMANTICS:
        raise InputError(
            f"{described.source}: found a text, expected a vector: the run's semantics are "
            f"{trained.recipe.semantics}, and those that were made of texts are {SEMANTICS}"
        )
    return encode_as_recorded(described, trained.directory, trained.device).vectors


VERB = Verb(AddClassOptions, lambda options, console, flags: run_add_class(options, console))
