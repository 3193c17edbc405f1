"""Growth with the number of classes: the data, the table, and one tiny run."""

import numpy as np

from benchmarks.scale import Options, Scaled, make_data, run_size, scale_grid
from gsmflow.core.tables import markdown
from gsmflow.data.checks import check_dataset


def test_data_has_the_splits_of_a_dataset() -> None:
    dataset = make_data(Options(features=6, semantics=4), 50)
    assert dataset.features.shape == (250, 6)
    assert dataset.semantics.shape == (50, 4)
    sizes = [len(rows) for rows in (dataset.trainval, dataset.test_seen, dataset.test_unseen)]
    assert sizes == [160, 40, 50]
    assert dataset.unseen_classes.tolist() == list(range(40, 50))
    check_dataset(dataset)


def test_table_has_the_exponents_of_growth() -> None:
    runs = [
        Scaled(c, {"training": 1e-3 * c, "report": 2.0}, 3 + c**2, 500.0, {"H": 0.5})
        for c in (100, 200, 400)
    ]
    lines = markdown(scale_grid("ale", runs)).splitlines()
    cells = {line.split("|")[1].strip(): line.split("|")[-2].strip() for line in lines[2:] if line}
    assert cells["classes"] == "exponent"
    assert cells["training, s"] == "1.00"
    assert cells["report, s"] == cells["peak, MiB"] == "0.00"
    assert cells["H, percent"] == ""


def test_tiny_run_is_measured() -> None:
    options = Options(
        model="ale", features=8, semantics=6, flags=("epochs=1", "no-calibrate", "no-diagnosis")
    )
    run = run_size(options, 20)
    assert run.classes == 20
    assert "evaluation" in run.stages
    assert run.seconds > 0
    assert run.mib > 1
    assert np.isfinite(list(run.measures.values())).all()
