"""Damage of files, for properties: whatever a file holds, its reader refuses it in one sentence."""

from collections.abc import Callable

from hypothesis import strategies as st

from gsmflow.core.errors import InputError

__all__ = ["mutations", "read_or_refused"]

# Pieces of text that readers of numbers and of JSON trip over.
_TRAPS = (
    b"nan",
    b"1e999",
    b"-1",
    b"null",
    b"{}",
    b"[]",
    b'""',
    b"true",
    b"\x00",
    b"\xff\xfe",
    b"9" * 30,
    b"[" * 3000,
    b",",
    b"\n",
    b"(",
    b"'",
)


def mutations(content: bytes) -> st.SearchStrategy[bytes]:
    """Contents in which one to three places differ: bytes put in, cut out or written over."""
    place = st.integers(0, len(content))
    change = st.tuples(place, st.integers(0, 8), st.sampled_from(_TRAPS) | st.binary(max_size=4))

    def apply(changes: list[tuple[int, int, bytes]]) -> bytes:
        damaged = content
        for start, length, piece in changes:
            damaged = damaged[:start] + piece + damaged[start + length :]
        return damaged

    cut = place.map(lambda end: content[:end])
    return st.lists(change, min_size=1, max_size=3).map(apply) | cut


def read_or_refused(read: Callable[[], object]) -> None:
    """Call a reader; every exception but an `InputError` of one sentence fails the test."""
    sentence = "read, as expected"
    try:
        read()
    except InputError as error:
        sentence = str(error)
    assert "expected" in sentence
    assert "\n" not in sentence
