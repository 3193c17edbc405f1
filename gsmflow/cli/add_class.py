"""The command ``add-class``: further unseen classes join a run whose model stays as trained."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import Positional, arg

from gsmflow.cli.verb import Verb
from gsmflow.core.devices import pick_device
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
    """Let further unseen classes join a trained run, without training its model again.

    The model synthesizes them from their semantics and the classifiers are trained anew, for which
    the run's dataset must be there; the prototype discriminant gets their columns alone. A new run
    directory is written, which other commands take as any run's; the run stays as it is.
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The directory of a finished run."""
    semantics: Path
    """Semantics as the dataset has them, unscaled: .npy, .json or .csv with the vector of one
    class, or a .csv of lines NAME,VALUES or a .json of vectors by name for several."""
    name: str | None = None
    """Name of the class; none where the file has the names."""
    into: Path | None = None
    """The new run's directory; none: beside the run, RUN-with-NAME."""
    data: Path | None = None
    """Folder of datasets; none: the one that the run was trained with."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps, or auto for the fastest there is."""


def run_add_class(options: AddClassOptions, console: Console) -> None:
    """Write the new run directory, and print its table.

    Raises
    ------
    InputError
        If the run, its dataset or the semantics cannot be used; nothing is written then.
    """
    trained = open_trained(options.run, pick_device(options.device))
    recipe = trained.recipe
    if options.data is not None:
        trained = replace(trained, recipe=replace(recipe, data=options.data))
    dataset = grow_dataset(read_dataset(trained.recipe), added_classes(trained.directory))
    check_same_dataset(trained, dataset)
    classes = read_new_classes(options.semantics, options.name, dataset.semantics.shape[1])
    add_classes(
        trained, dataset, classes, options.into or path_beside(options.run, classes), console
    )


VERB = Verb(AddClassOptions, lambda options, console, flags: run_add_class(options, console))
