"""Files of new classes: malformed ones are refused with one sentence."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gsmflow.core.errors import InputError
from gsmflow.data.new_classes import name_vectors, read_new_classes


@pytest.mark.parametrize("name", [None, "one"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from([".csv", ".json", ".npy"]),
    st.one_of(st.binary(max_size=40), st.text('ab1,.[]{}:" \n-', max_size=40).map(str.encode)),
)
@example(".json", b'{"a": [' + b"9" * 5000 + b", 1]}")
@example(".json", b"[" * 2_000)
@example(".json", b'{"a\\n": [[1], 2]}')
@example(".csv", b'"a\nb",1,2\n"a\nb",1,2')
def test_any_bytes_are_vectors_or_one_sentence(
    tmp_path: Path, name: str | None, ending: str, content: bytes
) -> None:
    file = tmp_path / f"new{ending}"
    file.write_bytes(content)
    found = vectors_or_sentence(file, name)
    if isinstance(found, str):
        assert "expected" in found
        assert len(found.splitlines()) == 1
    else:
        assert all(np.isfinite(vector).all() and vector.shape == (2,) for vector in found.values())


def vectors_or_sentence(file: Path, name: str | None) -> dict[str, np.ndarray] | str:
    try:
        found = read_new_classes(file, name)
        if found.attributes is None:
            return {}
        return dict(name_vectors(found, found.attributes, 2))
    except InputError as error:
        return str(error)
