"""The files of a dataset's folder, in whichever format it is."""

from pathlib import Path

from gsmflow.core.errors import InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Dataset
from gsmflow.data.formats.epgn import EPGN_LABELS, read_epgn
from gsmflow.data.formats.gbu import NAMES_FILE, SPLITS_SUFFIX, read_gbu
from gsmflow.data.formats.matlab import Keep, Refuse, keep_in_memory, raise_error

__all__ = ["dataset_files", "find_stem", "load_dataset", "read_files"]


def dataset_files(root: Path, name: str, *, features: str, semantics: str) -> tuple[Path, ...]:
    """The files of ``<root>/<name>``, in whichever layout is there.

    Two MATLAB files, and in the GBU layout the file of names, if it is there.

    Parameters
    ----------
    root
        Folder of datasets.
    name
        The dataset's folder below ``root``.
    features
        Stem of the GBU feature file (``"res101"`` for ``res101.mat``).
    semantics
        Stem of the GBU split file without ``_splits`` (``"att"`` for ``att_splits.mat``).

    Raises
    ------
    InputError
        If a file is missing.
    """
    folder = root / name
    feature_file = folder / f"{features}.mat"
    split_file = folder / f"{semantics}_splits.mat"
    epgn_files = (folder / "data.mat", folder / EPGN_LABELS)
    if feature_file.is_file() and split_file.is_file():
        names_file = folder / NAMES_FILE
        return feature_file, split_file, *([names_file] if names_file.is_file() else [])
    if not feature_file.is_file() and all(file.is_file() for file in epgn_files):
        return epgn_files
    missing = split_file if feature_file.is_file() else feature_file
    raise InputError(
        f"{missing}: no such file, expected the GBU layout ({feature_file.name} with the image "
        f"features and {split_file.name} with semantics and splits) or the E-PGN layout "
        f"(data.mat and label.mat) in {folder}; data/README.md says where to get them"
    )


def find_stem(flag: str, folder: Path) -> str:
    """The feature or the split file of a dataset's folder: the usual one, or the only one.

    Parameters
    ----------
    flag
        ``"--features"`` or ``"--semantics"``, which names it otherwise.
    folder
        The dataset's.

    Returns
    -------
    str
        As `dataset_files` takes it; the usual one where there is none.

    Raises
    ------
    InputError
        If there are several, and none is the usual one.
    """
    found = {file.stem for file in folder.glob("*.mat")}
    splits = {stem for stem in found if stem.endswith(SPLITS_SUFFIX)}
    if flag == "--semantics":
        usual, stems = "att", {stem.removesuffix(SPLITS_SUFFIX) for stem in splits}
    else:
        usual, stems = "res101", found - splits - {"data", "label"}
    if usual in stems or not stems:
        return usual
    if len(stems) > 1:
        raise InputError(
            f"{flag}: found {', '.join(sorted(stems))} in {folder}, expected the name of one of "
            "them"
        )
    return stems.pop()


def load_dataset(
    root: Path, name: str, *, features: str, semantics: str, keep: Keep = keep_in_memory
) -> Dataset:
    """Read and check ``<root>/<name>`` in whichever layout is there.

    Parameters
    ----------
    root, name, features, semantics
        As of `dataset_files`.
    keep
        Where the features are put.

    Raises
    ------
    InputError
        If a file is missing or unreadable, or the dataset is faulty.
    """
    files = dataset_files(root, name, features=features, semantics=semantics)
    dataset = read_files(name, files, keep)
    assert dataset is not None  # what cannot be read is refused
    return check_dataset(dataset)


def read_files(
    name: str, files: tuple[Path, ...], keep: Keep = keep_in_memory, refuse: Refuse = raise_error
) -> Dataset | None:
    """Read a dataset in the layout of its files, for `check_dataset`.

    Parameters
    ----------
    name
        Of the dataset.
    files
        As of `dataset_files`.
    keep
        Where the features are put.
    refuse
        Called with each fault at which a field cannot be read; by default, it raises the first
        one as an `InputError`.

    Returns
    -------
    Dataset or None
        With class numbers for names, and empty splits, in place of those that could not be read;
        None if features, labels or semantics could not.
    """
    read = read_epgn if files[1].name == EPGN_LABELS else read_gbu
    return read(name, files, keep, refuse)
