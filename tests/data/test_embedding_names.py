"""The values of ``--semantics``: names, files, and several of them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsmflow.core.errors import InputError
from gsmflow.data.embedding_names import check_embeddings, embedding_label, split_embeddings

PLAIN = st.text("abc_1", min_size=1, max_size=4)


@given(st.lists(PLAIN, min_size=1, max_size=4, unique=True))
def test_parts_are_joined_by_plus(names: list[str]) -> None:
    text = "+".join(names)
    assert split_embeddings(text) == tuple(names)
    assert embedding_label(text) == text
    check_embeddings("--semantics", text, several=True)


def test_label_of_a_file_is_its_name() -> None:
    assert embedding_label("att+../far/away/w2v.npy") == "att+w2v.npy"


def test_plus_in_the_path_of_a_file_joins_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "c++"
    folder.mkdir()
    (folder / "a+b.npy").touch()
    assert split_embeddings(f"att+{folder}/a+b.npy+sent") == ("att", f"{folder}/a+b.npy", "sent")


@pytest.mark.parametrize("text", ["", "+", "att+", "a/b", "..", "att+att", "../x", "v.npy+v.npy"])
def test_what_names_no_embedding_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^--semantics: found .* expected"):
        check_embeddings("--semantics", text, several=True)


def test_second_semantics_are_one_embedding() -> None:
    check_embeddings("--second-semantics", "a/v.npy", several=False)
    with pytest.raises(InputError, match=r"found .att\+sent., expected one embedding"):
        check_embeddings("--second-semantics", "att+sent", several=False)
