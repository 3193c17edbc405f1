from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics.pairwise import cosine_similarity

from gsmflow.core.tables import terminal_table
from gsmflow.data.checks import check_dataset
from gsmflow.data.summary import summarize, summary_grids
from tests.builders import make_dataset


def test_values_equal_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", 100)
    dataset = make_dataset()
    dataset.features[3:20, 2] = 0
    values, x = summarize(dataset).features, dataset.features.astype(np.float64)
    assert (values.rows, values.dimensions) == x.shape
    assert (values.lowest, values.highest) == (x.min(), x.max())
    lengths = np.sqrt((x**2).sum(axis=1))
    expected = [x.mean(), (x == 0).mean(), lengths.min(), lengths.max()]
    found = [values.mean, values.zeros, values.shortest, values.longest]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_values_that_are_not_finite_are_left_out() -> None:
    dataset = make_dataset()
    x = dataset.features.astype(np.float64)
    dataset.features[0, 0], dataset.features[1, 1] = np.nan, np.inf
    keep = np.isfinite(dataset.features)
    values = summarize(dataset).features
    assert (values.lowest, values.highest) == (x[keep].min(), x[keep].max())
    np.testing.assert_allclose(values.mean, x[keep].mean())
    dataset.features[:] = -np.inf
    values = summarize(dataset).features
    assert (values.lowest, values.mean, values.highest) == (0, 0, 0)


def test_split_sizes_are_counted() -> None:
    dataset = check_dataset(make_dataset(classes=8, unseen=2, val=1))
    short = replace(dataset, test_seen=dataset.test_seen[3:])
    sizes = {split.name: split for split in summarize(short).splits}
    trainval = sizes["trainval"]
    assert (trainval.rows, trainval.classes, trainval.fewest, trainval.most) == (48, 6, 8, 8)
    assert (sizes["train"].rows, sizes["val"].rows) == (40, 8)
    test = sizes["test_seen"]
    assert (test.rows, test.classes, test.fewest, test.median, test.most) == (21, 6, 1, 4.0, 4)
    nothing = replace(dataset, val=np.empty(0, dtype=np.int64))
    assert summarize(nothing).splits[2].rows == 0


def test_neighbours_equal_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", 4 * 8 * 7)  # four classes at a time
    dataset = make_dataset(classes=40, unseen=15, val=5, a=7)
    cosines = cosine_similarity(dataset.semantics[25:], dataset.semantics[:25])
    pairs = summarize(dataset).neighbours
    assert len(pairs) == 15
    assert [p.cosine for p in pairs] == sorted((p.cosine for p in pairs), reverse=True)
    for pair in pairs:
        row = cosines[int(pair.unseen.removeprefix("class_")) - 25]
        assert pair.seen == f"class_{row.argmax()}"
        np.testing.assert_allclose(pair.cosine, row.max(), rtol=1e-5)


def test_class_with_zero_semantics_has_no_neighbour() -> None:
    dataset = make_dataset()
    dataset.semantics[[0, 8]] = 0
    assert {pair.unseen for pair in summarize(dataset).neighbours} == {"class_7", "class_9"}
    assert "class_0" not in {pair.seen for pair in summarize(dataset).neighbours}
    dataset.semantics[:7] = 0
    assert summarize(dataset).neighbours == ()


def test_tables_fit_into_80_columns() -> None:
    dataset = make_dataset(classes=40, unseen=15, val=5)
    names = tuple(f"{c:03}.A_bird_of_quite_a_long_name_{c}" for c in range(40))
    dataset = replace(dataset, features_name="resnet_logits", class_names=names)
    console = Console(width=80, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    with console.file:
        for grid in summary_grids(summarize(dataset)):
            console.print(terminal_table(grid))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    # The four most and the four least similar.
    pairs = summarize(dataset).neighbours
    for pair in (*pairs[:4], *pairs[-4:]):
        assert f"{pair.cosine:.3f}" in text
    # And five classes with three similar ones by semantics and by features.
    assert text.count("A_bird") == 16 + 5 * (1 + 3 + 3)
