"""The command ``pack``: make a dataset of features, labels, semantics and splits in files."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import arg

from gsmflow.cli.made_dataset import print_made_dataset
from gsmflow.cli.verb import Verb
from gsmflow.core.errors import InputError, naming_flag
from gsmflow.core.folders import whole_folder
from gsmflow.core.text_cells import Header
from gsmflow.data.pack.assemble import Parts, read_parts, write_dataset
from gsmflow.data.pack.classes import CountedFrom, Source
from gsmflow.recipes.checks import check_file_name

__all__ = ["VERB", "PackOptions", "run_pack"]

# Stems of files that the GBU layout, or another in the same folder, has already.
_OTHER_STEMS = ("data", "label")


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """Make a dataset in the GBU layout of your own arrays.

    python -m gsmflow pack --features vit.npz --semantics words.csv --splits lists/ -o data/MINE

    FILE:FIELD names a field of a file that has several, such as rows.npz:targets. Files with
    pickled Python objects are refused. See docs/data.md.
    """

    features: str
    """Features, a row for each image: .npy (n, d); .npz, .pt or .h5 with a field features and
    perhaps names; .mat with a field features (d, n); .csv, perhaps with a header, a first column of
    names and a column headed label."""
    labels: str | None = None
    """The class of each row, by name or number: .txt or .csv with one a line, .npy, or a field
    labels of an .npz, .pt, .h5 or .mat; None: the labels in the features' file."""
    semantics: str
    """Semantics of the classes: .csv, .tsv or .txt with a line for each class, perhaps with its
    name in the first column; or a matrix (classes, a): .npy, or a field semantics of an .npz, .pt
    or .h5, perhaps with class_names beside it, or att of a .mat."""
    splits: Path
    """A folder with the class lists trainclasses.txt, testclasses.txt and perhaps valclasses.txt;
    or rows in a .json, .npz, .pt, .h5 or .mat: trainval_loc, test_seen_loc, test_unseen_loc,
    train_loc, val_loc."""
    out: Annotated[Path, arg(aliases=["-o"])]
    """Folder to write the dataset to; its name is the dataset's."""
    class_names: Path | None = None
    """File with a class name on each line, in the order of the semantics; None: the names that
    stand with the semantics."""
    features_name: str = "res101"
    """Name of the features, and of their file; res101 is what other code looks for."""
    test_share: float = 0.2
    """With class lists: share of the rows of each seen class that are drawn as test rows."""
    seed: int = 0
    """Seed of that draw."""
    labels_from: CountedFrom = "auto"
    """What class numbers count from; auto: 0 or 1, where the numbers show it."""
    rows_from: CountedFrom = "auto"
    """What row numbers count from; auto: 0 or 1, where the numbers show it."""
    header: Header = "auto"
    """Whether the first line of a .csv with features is a header; auto: its cells say so."""


def run_pack(options: PackOptions, console: Console) -> None:
    """Make a dataset, whole or not at all.

    Parameters
    ----------
    options
        The options of the command.
    console
        For notes and the summary.

    Raises
    ------
    InputError
        If an option is out of range, a file cannot be used, the parts do not belong together, or
        the dataset exists already or its place cannot be a folder.
    WriteError
        If there is no room for it, or it cannot be written for another reason.
    """
    _check(options)
    parts = Parts(
        features=Source.parse(options.features),
        labels=None if options.labels is None else Source.parse(options.labels),
        semantics=Source.parse(options.semantics),
        splits=options.splits,
        class_names=options.class_names,
        test_share=options.test_share,
        seed=options.seed,
        labels_from=options.labels_from,
        rows_from=options.rows_from,
        header=options.header,
    )
    out = options.out.resolve()
    with ExitStack() as stack:
        with naming_flag("--out", options.out, "a new folder"):
            folder = stack.enter_context(whole_folder(out))
        scratch = folder / ".features.npy"
        packed = read_parts(parts, out.name, options.features_name, scratch)
        write_dataset(packed, parts, folder)
        scratch.unlink(missing_ok=True)
    print_made_dataset(packed.dataset, options.out, packed.notes, console)


def _check(options: PackOptions) -> None:
    """Raise `InputError` for options that would fail later."""
    if not 0 < options.test_share < 1:
        raise InputError(
            f"--test-share: found {options.test_share}, expected a share above 0 and below 1"
        )
    if options.seed < 0:
        raise InputError(f"--seed: found {options.seed}, expected a number of at least 0")
    name = options.features_name
    usable = name and name == Path(name).name and not name.startswith(".")
    if not usable or name in _OTHER_STEMS or name.endswith("_splits"):
        raise InputError(
            f"--features-name: found {name!r}, expected the stem of a file other than "
            f"{', '.join(_OTHER_STEMS)} and those that end in _splits"
        )
    check_file_name("--features-name", name)
    out = options.out
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out}: exists already, expected a new folder")


VERB = Verb(PackOptions, lambda options, console, flags: run_pack(options, console))
