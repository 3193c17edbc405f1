from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsmflow.data.checks import examine_dataset, usable_part
from gsmflow.data.dataset import Dataset
from gsmflow.data.patterns import frequent_causes
from tests.builders import SPLITS, make_dataset

FIELDS = ("labels", *SPLITS)


def only_error(dataset: Dataset) -> tuple[str, str]:
    (finding,) = examine_dataset(dataset)
    assert finding.level == "error"
    assert usable_part(dataset) is None
    return finding.about, finding.sentence


@given(st.integers(4, 9), st.integers(0, 20), st.sampled_from([0, 1]))
def test_sound_datasets_have_no_such_cause(classes: int, seed: int, base: int) -> None:
    dataset = make_dataset(classes=classes, unseen=2, val=0, per_class=3, seed=seed)
    assert frequent_causes(replace(dataset, first_number=base)) == []


@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize("fields", [("labels",), tuple(SPLITS), FIELDS])
def test_numbers_with_another_first_number_are_one_error(
    fields: tuple[str, ...], base: int
) -> None:
    dataset = replace(make_dataset(), first_number=base)
    shift = -1 if base == 1 else 1
    off = {name: getattr(dataset, name) + shift for name in fields}
    about, sentence = only_error(replace(dataset, **off))
    assert about == ("labels" if "labels" in fields else "trainval")
    lowest = 1 - base
    assert ("classes" in sentence) == ("labels" in fields)
    assert (f"rows in the splits {lowest} to {119 + lowest}" in sentence) == (len(fields) > 1)
    remedy = "add 1 to" if base == 1 else "subtract 1 from"
    assert sentence.endswith(f"counted from {lowest}, expected numbers from {base}: {remedy} them")


@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize("fields", [("val",), tuple(SPLITS)])
def test_masks_of_numbers_are_one_error(fields: tuple[str, ...], base: int) -> None:
    dataset = replace(make_dataset(), first_number=base)
    masks = {
        name: np.isin(np.arange(120), getattr(dataset, name)).astype(int) - base for name in fields
    }
    about, sentence = only_error(replace(dataset, **masks))
    assert about == fields[0]
    assert "found 0 or 1 for each of the 120 rows, a mask" in sentence
    assert ("4 further lists" in sentence) == (len(fields) == 5)


def test_transposed_features_are_one_error() -> None:
    dataset = make_dataset()
    about, sentence = only_error(replace(dataset, features=dataset.features.T.copy()))
    assert (about, "expected the transposed matrix" in sentence) == ("features", True)
