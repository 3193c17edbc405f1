"""A second embedding for some of the classes: which, where, on what scale; and bad input."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gsmflow.core.errors import InputError
from gsmflow.data.formats.files import load_dataset
from gsmflow.data.mixed_semantics import described_by_second, mix_semantics, with_second_semantics
from gsmflow.recipes.checks import check_recipe
from gsmflow.runs.experiment import read_dataset
from tests.builders import SHARED, gbu_fields, make_dataset, make_recipe, tiny_recipe, write_mat

SEEN, UNSEEN = np.arange(8), np.arange(8, 12)


def second_embedding() -> np.ndarray:
    return np.random.default_rng(3).normal(5, 2, size=(10, 4)).astype(np.float32)


def write_second(folder: Path, **changes: object) -> None:
    _, fields = gbu_fields(replace(make_dataset(), semantics=second_embedding()))
    write_mat(folder / "data" / "TINY" / "sent_splits.mat", fields | changes)


def test_each_class_has_one_embedding_and_zeros_for_the_other() -> None:
    first, second = make_dataset().semantics, second_embedding()
    mixed = mix_semantics(first, second, np.array([2, 9]), np.arange(7))
    assert mixed.shape == (10, first.shape[1] + 4)
    factor = np.mean([np.linalg.norm(r) for r in first[:7]])
    factor /= np.mean([np.linalg.norm(r) for r in second[:7]])
    for c in range(10):
        first_block, second_block = mixed[c, : first.shape[1]], mixed[c, first.shape[1] :]
        np.testing.assert_allclose(first_block, first[c] * (c not in (2, 9)))
        np.testing.assert_allclose(second_block, second[c] * factor * (c in (2, 9)), rtol=1e-5)


def test_shares_count_seen_and_unseen_classes_separately_and_are_nested() -> None:
    before: set[int] = set()
    for percent in (0, 25, 50, 75, 100):
        shares = {"seen": float(percent), "unseen": 100.0 - percent}
        described = set(described_by_second(SEEN, UNSEEN, shares).tolist())
        assert len(described & set(SEEN)) == 8 * percent / 100
        assert len(described & set(UNSEEN)) == 4 - 4 * percent / 100
        assert before <= described
        before = described & set(SEEN)


def test_recipe_names_the_second_embedding(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, second_semantics="sent", mix_seen=50.0, mix_unseen=100.0)
    write_second(tmp_path)
    check_recipe(recipe)
    dataset = read_dataset(recipe)
    assert dataset.semantics_name == "att+sent 50/100"
    has_second = dataset.semantics[:, -4:].any(axis=1)
    assert has_second[dataset.seen_classes].sum() == round(0.5 * len(dataset.seen_classes))
    assert has_second[dataset.unseen_classes].all()
    assert not (has_second & dataset.semantics[:, :-4].any(axis=1)).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"att": np.ones((4, 9))}, "found 9 classes, expected 10"),
        ({"att": np.full((4, 10), np.nan)}, "found NaN"),
        (
            {"allclasses_names": np.array([[f"class_{9 - c}"] for c in range(10)], dtype=object)},
            "found 'class_9' as class 1, expected 'class_0'",
        ),
    ],
)
def test_second_embedding_of_other_classes_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    recipe = tiny_recipe(tmp_path, second_semantics="sent")
    write_second(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        read_dataset(recipe)


def test_names_that_are_numbers_contradict_no_file_of_names(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, second_semantics="sent")
    write_second(tmp_path)
    names = tuple("abcdefghij")
    (tmp_path / "data" / "TINY" / "class_names.txt").write_text("\n".join(names))
    assert read_dataset(recipe).class_names == names


def test_missing_second_embedding_is_refused(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, second_semantics="sent")
    with pytest.raises(InputError, match=r"sent_splits.mat: no such file, expected a second"):
        read_dataset(recipe)
    with pytest.raises(InputError, match="DIGITS: found sent asked for as a second embedding"):
        read_dataset(make_recipe(dataset="DIGITS", second_semantics="sent"))


@pytest.mark.parametrize("name", ["mix_seen", "mix_unseen"])
def test_share_without_a_second_embedding_is_refused(name: str) -> None:
    flag = f"--{name.replace('_', '-')}"
    with pytest.raises(InputError, match=f"{flag}: found 50 without --second-semantics"):
        check_recipe(make_recipe(dataset="TINY", **{name: 50.0}))
    with pytest.raises(InputError, match=f"{flag}: found 101"):
        check_recipe(make_recipe(dataset="TINY", second_semantics="s", **{name: 101.0}))


@pytest.mark.skipif(not (SHARED / "data" / "CUB").is_dir(), reason="CUB's files are not here")
def test_cub_has_two_embeddings_of_the_same_classes() -> None:
    files = {"features": "resnet_logits", "semantics": "att"}
    dataset = load_dataset(SHARED / "data", "CUB", **files)
    mixed = with_second_semantics(
        dataset, SHARED / "data", "sent", seen_percent=50, unseen_percent=0
    )
    assert mixed.semantics.shape == (200, 312 + 1024)
    has_second = mixed.semantics[:, 312:].any(axis=1)
    assert has_second[mixed.seen_classes].sum() == 75
    assert not has_second[mixed.unseen_classes].any()
