"""Whether the record of an extraction says that features and semantics are of one encoder."""

import json
from pathlib import Path
from typing import Any

import pytest

from gsmflow.data.extract.record import separate_encoders

EMBEDDINGS = {
    "name": "clip",
    "backbone": "owner/clip",
    "takes": "image embedding",
    "weights_blake2b": "a",
}
POOLED = {**EMBEDDINGS, "takes": "pooled output"}
TEXTS = {"kind": "texts", "text_encoder": "owner/clip", "weights_blake2b": "a", "file": "t.csv"}
OTHER_TEXTS = {**TEXTS, "text_encoder": "sentences", "weights_blake2b": "b"}
NUMBERS = {"kind": "attributes", "file": "a.csv"}


@pytest.mark.parametrize(
    ("features", "semantics", "expected"),
    [
        (EMBEDDINGS, TEXTS, ""),
        (EMBEDDINGS, NUMBERS, ""),
        (EMBEDDINGS, OTHER_TEXTS, "owner/clip (image embedding) and semantics of sentences"),
        (POOLED, TEXTS, "owner/clip (pooled output) and semantics of owner/clip"),
        (POOLED, NUMBERS, "owner/clip (pooled output) and semantics of a.csv"),
        ({}, OTHER_TEXTS, ""),
    ],
)
def test_separate_encoders_are_those_that_the_record_tells_apart(
    tmp_path: Path, features: dict[str, Any], semantics: dict[str, Any], expected: str
) -> None:
    assert separate_encoders(tmp_path, "clip", "att") == ""
    record = {"format": 1, "features": features, "semantics": semantics, "splits": {}}
    (tmp_path / "extract.json").write_text(json.dumps(record))
    assert separate_encoders(tmp_path, "clip", "att") == (expected and f"features of {expected}")
    assert separate_encoders(tmp_path, "res101", "att") == ""
    assert separate_encoders(tmp_path, "clip", "wv") == ""
