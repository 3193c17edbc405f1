import csv
from collections import Counter
from pathlib import Path

import pytest

from gsmflow.core.errors import InputError
from gsmflow.reports.published import PUBLISHED_FILE, read_published

FILE = Path(__file__).resolve().parents[2] / "gsmflow" / "reports" / "published.csv"

# Rows whose H, as printed, is not the harmonic mean of U and S as printed.
PRINTED_SO = {
    ("RelationNet", "AWA2", "unstated"),
    ("CLIP", "AWA2", "unstated"),
    ("CADA-VAE", "CUB", "unstated"),
    ("CADA-VAE", "CUB", "attributes"),
}


def published() -> list[dict[str, str]]:
    with FILE.open(newline="") as file:
        return list(csv.DictReader(file))


def test_package_finds_and_reads_the_published_file() -> None:
    assert PUBLISHED_FILE == FILE
    rows = read_published(PUBLISHED_FILE)
    assert len(rows) == len(published()) == 389
    assert [row.method for row in rows] == [row["method"] for row in published()]


def test_published_figures_are_percentages_of_known_datasets() -> None:
    for row in published():
        figures = [float(row[name]) for name in ("T1", "U", "S", "H") if row[name]]
        assert figures, row
        assert all(0 < figure <= 100 for figure in figures), row
        assert row["dataset"] in {"FLO", "CUB", "AWA1", "AWA2", "APY", "SUN"}
        assert row["setting"] == "inductive"
        assert row["figures"].startswith(("as printed", "re-run"))
        assert all(row[name].strip() for name in ("method", "features", "semantics", "source"))
        assert "GSMFlow" not in row["method"]


def test_published_rows_differ() -> None:
    keys = ("method", "dataset", "features", "semantics", "setting", "figures")
    counts = Counter(tuple(row[key] for key in keys) for row in published())
    assert set(counts.values()) == {1}


def test_published_h_is_the_harmonic_mean_within_the_printed_digits() -> None:
    def between(text: str) -> tuple[float, float]:
        """Least and greatest number that is printed so."""
        half = 0.5 * 10.0 ** -len(text.partition(".")[2])
        return float(text) - half, float(text) + half

    others = set()
    for row in published():
        if row["U"] and row["S"] and row["H"]:
            (u, u_high), (s, s_high), (h, h_high) = (between(row[name]) for name in "USH")
            low, high = 2 / (1 / u + 1 / s), 2 / (1 / u_high + 1 / s_high)
            if h_high < low - 1e-9 or h > high + 1e-9:
                others.add((row["method"], row["dataset"], row["semantics"]))
                mean = 2 / (1 / float(row["U"]) + 1 / float(row["S"]))
                assert float(row["H"]) == pytest.approx(mean, abs=0.15)
    assert others == PRINTED_SO


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("CUB", "CUB,more"), "line 2, column T1: found 'x'"),
        (("62.5", "162.5"), "line 2, column T1: found '162.5'"),
        (("62.5", "?"), r"line 2, column T1: found '\?'"),
        (("source", "origin"), "expected also source"),
        (("method", ""), "expected also method"),
    ],
)
def test_damaged_published_file_is_refused(
    tmp_path: Path, change: tuple[str, str], words: str
) -> None:
    path = tmp_path / "published.csv"
    head = "method,year,venue,setting,dataset,features,semantics,figures,T1,U,S,H,source"
    text = f"{head}\nM,2020,V,inductive,CUB,f,s,x,62.5,,,,somewhere\n"
    path.write_text("\ufeff" + text, encoding="utf-8")
    (row,) = read_published(path)
    assert (row.measures, row.source) == ({"T1": 62.5}, "somewhere")
    path.write_text(text.replace(*change))
    with pytest.raises(InputError, match=words) as caught:
        read_published(path)
    assert str(caught.value).startswith(str(path))


def test_published_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "published.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not readable"):
        read_published(path)
