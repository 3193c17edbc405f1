"""The digest of a dataset changes with each of its parts, and with nothing else."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from gsmflow.data.dataset import Dataset, all_rows
from gsmflow.data.digest import DataDigest, digest_of
from gsmflow.data.formats.files import load_dataset
from tests.builders import make_dataset, write_gbu

DATASET = make_dataset()


def changed_value(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.flat[-1] += 1
    return values


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("features", replace(DATASET, features=changed_value(DATASET.features))),
        ("labels", replace(DATASET, labels=DATASET.labels[::-1].copy())),
        ("semantics", replace(DATASET, semantics=changed_value(DATASET.semantics))),
        ("semantics", replace(DATASET, class_names=("x", *DATASET.class_names[1:]))),
        ("splits", replace(DATASET, test_unseen=DATASET.test_unseen[1:])),
        # The same rows in a row, in other splits.
        ("splits", replace(DATASET, train=DATASET.trainval, val=DATASET.val[:0])),
    ],
)
def test_digest_says_which_part_differs(part: str, other: Dataset) -> None:
    found, expected = asdict(DataDigest.of(other)), asdict(DataDigest.of(DATASET))
    assert [name for name in expected if found[name] != expected[name]] == [part]


def test_digest_does_not_depend_on_where_and_how_data_are_stored(tmp_path: Path) -> None:
    digests = set()
    for number, v73 in enumerate((False, True)):
        root = write_gbu(tmp_path / str(number) / "TINY", make_dataset(), v73=v73).parent
        dataset = load_dataset(root, "TINY", features="res101", semantics="att")
        digests.add(DataDigest.of(dataset))
    path = tmp_path / "features.npy"
    np.save(path, dataset.features)
    mapped = replace(dataset, features=np.load(path, mmap_mode="r"))
    assert digests == {DataDigest.of(mapped)}


def test_digest_of_rows_is_that_of_their_arrays() -> None:
    rows = all_rows(DATASET.features)
    assert digest_of(rows) == digest_of(rows.labels, DATASET.features)
