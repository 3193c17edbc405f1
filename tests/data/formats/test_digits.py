from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from gsmflow.core.arrays import IntArray
from gsmflow.data.dataset import Dataset
from gsmflow.data.formats.digits import PAIR_SHAPE, load_digit_pairs

SPLITS = ("trainval", "train", "val", "test_seen", "test_unseen")


@pytest.fixture
def pairs() -> Dataset:
    return load_digit_pairs()


@cache
def originals() -> tuple[dict[bytes, int], IntArray]:
    """The number of every image in scikit-learn's set, by its pixels, and the images' digits."""
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)
    return {image.tobytes(): i for i, image in enumerate(images)}, digits.target


def halves(pairs: Dataset, rows: IntArray | slice = slice(None)) -> NDArray[np.float32]:
    """The left and the right image of rows, ``(2, rows, 8, 8)``."""
    both = pairs.features[rows].reshape(-1, *PAIR_SHAPE)
    return np.stack([both[:, :, :8], both[:, :, 8:]])


def images_of(pairs: Dataset, *splits: str) -> set[int]:
    index, _ = originals()
    rows = np.concatenate([getattr(pairs, split) for split in splits])
    return {index[image.tobytes()] for half in halves(pairs, rows) for image in half}


def test_images_have_distinct_pixels() -> None:
    index, digits = originals()
    assert len(index) == len(digits)


def test_every_row_is_in_one_split_and_classes_are_balanced(pairs: Dataset) -> None:
    assert pairs.name == "DIGITS"
    assert pairs.features.shape == (len(pairs.labels), PAIR_SHAPE[0] * PAIR_SHAPE[1])
    assert pairs.features.dtype == np.float32
    rows = np.concatenate([pairs.train, pairs.val, pairs.test_seen, pairs.test_unseen])
    np.testing.assert_array_equal(np.sort(rows), np.arange(len(pairs.labels)))
    np.testing.assert_array_equal(np.union1d(pairs.train, pairs.val), np.sort(pairs.trainval))
    for split in SPLITS:
        _, counts = np.unique(pairs.labels[getattr(pairs, split)], return_counts=True)
        assert len(set(counts.tolist())) == 1


def test_class_names_and_splits_are_complete(pairs: Dataset) -> None:
    assert pairs.class_names == tuple(f"{tens}{units}" for tens in range(10) for units in range(10))
    assert len(pairs.seen_classes) == 80
    assert len(pairs.unseen_classes) == 20
    assert sorted([*pairs.seen_classes, *pairs.unseen_classes]) == list(range(100))
    validation = np.unique(pairs.labels[pairs.val])
    training = np.unique(pairs.labels[pairs.train])
    assert len(validation) == 16
    assert sorted([*training, *validation]) == pairs.seen_classes.tolist()
    np.testing.assert_array_equal(np.unique(pairs.labels[pairs.test_seen]), pairs.seen_classes)


def test_every_digit_is_in_training_in_both_positions(pairs: Dataset) -> None:
    training = np.unique(pairs.labels[pairs.train])
    assert set(training // 10) == set(range(10))
    assert set(training % 10) == set(range(10))


def test_semantics_are_one_hot_digits(pairs: Dataset) -> None:
    expected = np.zeros((100, 20), dtype=np.float32)
    for tens in range(10):
        for units in range(10):
            expected[10 * tens + units, [tens, 10 + units]] = 1
    np.testing.assert_array_equal(pairs.semantics, expected)


def test_both_halves_are_real_images_of_the_digits_of_the_class(pairs: Dataset) -> None:
    index, digits = originals()
    for half, wanted in zip(halves(pairs), (pairs.labels // 10, pairs.labels % 10), strict=True):
        shown = [digits[index[image.tobytes()]] for image in half]
        np.testing.assert_array_equal(shown, wanted)


def test_features_lie_between_0_and_1(pairs: Dataset) -> None:
    assert pairs.features.min() == 0
    assert pairs.features.max() == 1


def test_no_image_serves_both_training_and_test(pairs: Dataset) -> None:
    assert not images_of(pairs, "trainval") & images_of(pairs, "test_seen", "test_unseen")


def test_no_image_serves_both_training_and_validation_classes(pairs: Dataset) -> None:
    assert not images_of(pairs, "train") & images_of(pairs, "val")


def test_samples_are_distinct(pairs: Dataset) -> None:
    assert len(np.unique(pairs.features, axis=0)) == len(pairs.features)


def test_every_call_gives_the_same_dataset() -> None:
    first = load_digit_pairs()
    second = load_digit_pairs()
    assert first is not second
    for name in ("features", "labels", "semantics", "class_names", "notes", *SPLITS):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_only_note_is_on_pixels_that_are_always_empty(pairs: Dataset) -> None:
    (note,) = pairs.notes
    training = pairs.features[pairs.trainval]
    constant = int((np.ptp(training, axis=0) == 0).sum())
    assert note.startswith(f"{constant} of 128 feature dimensions are constant")
