"""Vectors of classes as a mapping or a frame, and keys of another type than the labels."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsmflow.core.errors import InputError
from gsmflow.data.class_vectors import as_mapping, check_kind_of_keys


class FrameOf:
    """A frame without pandas."""

    def __init__(self, index: Any, columns: Any, values: Any) -> None:
        self.index, self.columns, self._values = index, columns, values

    def to_numpy(self) -> Any:
        return np.array(self._values, dtype=object)


def test_frame_is_a_mapping_from_its_index() -> None:
    found = as_mapping(FrameOf(["a", "b"], ["x", "y"], [[1, 2.5], [3, 4]]))
    assert found is not None
    assert {key: list(np.asarray(value)) for key, value in found.items()} == {
        "a": [1, 2.5],
        "b": [3, 4],
    }
    assert as_mapping(None) is None
    given = {"a": [1.0]}
    assert as_mapping(given) is given


def test_faults_of_a_frame_are_named() -> None:
    with pytest.raises(InputError, match="found a twice in the index of the frame, expected"):
        as_mapping(FrameOf(["a", "b", "a"], ["x"], [[1], [2], [3]]))
    with pytest.raises(InputError, match=r"found texts in the column 'kind' .*set_index"):
        as_mapping(FrameOf([0, 1], ["kind", "x"], [["a", 1], ["b", 2]]))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-99, 99), min_size=1, max_size=6, unique=True), st.booleans())
def test_texts_of_numbers_are_named_as_the_cause(numbers: list[int], as_float: bool) -> None:
    texts = [f"{number}.0" if as_float else str(number) for number in numbers]
    with pytest.raises(InputError, match=r"found texts of numbers as keys .* that are numbers"):
        check_kind_of_keys([*texts, "further"], np.array(numbers))
    with pytest.raises(InputError, match=r"found numbers as keys .* that are texts of numbers"):
        check_kind_of_keys([*numbers, 1000], np.array(texts))


@pytest.mark.parametrize(
    ("keys", "labels"),
    [(["1", "2"], [1, 2, 3]), (["a", "b"], [1]), ([1, 2], ["a", "1"]), (["1"], ["1", "2"])],
)
def test_other_keys_are_left_to_other_checks(keys: list[Any], labels: list[Any]) -> None:
    check_kind_of_keys(keys, np.array(labels))
