"""The command ``add-class``: add unseen classes to a run whose model is not trained again."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import Positional, arg

from gsmflow.cli.verb import Verb
from gsmflow.core.devices import pick_device
from gsmflow.core.text_cells import Header
from gsmflow.data.formats.embeddings import scaled_as_joined
from gsmflow.data.new_classes import read_new_classes
from gsmflow.runs.add_class import (
    add_classes,
    added_classes,
    check_same_dataset,
    grow_dataset,
    path_beside,
)
from gsmflow.runs.checkpoint import open_trained
from gsmflow.runs.experiment import read_dataset

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
    semantics: Path
    """File of the new semantics, unscaled, as the dataset's; those of joined embeddings one after
    the other. For one class a .npy, .json or .csv with its vector; for several a .csv with lines
    NAME,VALUES or a .json of vectors by name."""
    name: str | None = None
    """Name of the class; none if the file has the names."""
    header: Header = "auto"
    """Whether the first line of a .csv with names is a header; auto: its cells say so."""
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
    length = dataset.semantics.shape[1]
    classes = read_new_classes(options.semantics, options.name, length, options.header)
    classes = {n: scaled_as_joined(v, dataset.semantics_parts) for n, v in classes.items()}
    add_classes(
        trained, dataset, classes, options.into or path_beside(options.run, classes), console
    )


VERB = Verb(AddClassOptions, lambda options, console, flags: run_add_class(options, console))
