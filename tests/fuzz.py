"""Damage of files, for properties: whatever a file holds, its reader refuses it in one sentence."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from gsmflow.core.errors import InputError

__all__ = ["examples", "mutations", "read_or_refused", "tampered"]

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


def examples(count: int) -> settings:
    """So many examples, the same in every run; a file of a fixture may serve them all."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
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


# Values that stand where others are expected.
_STRANGE: tuple[Any, ...] = (
    *(None, True, -1, 0, 2, 10**30, 0.5, -0.5, 1e300, float("nan"), float("inf")),
    *("", "a", "../x", "\\ud800", "9" * 400, [], {}, [1], [None], {"a": None}, {"mean": "a"}),
    [[[]]],
)


def tampered(value: Any) -> st.SearchStrategy[bytes]:
    """JSON texts of a value in which one to three values are strange ones, or missing."""
    change = st.tuples(st.integers(0, 10**6), st.sampled_from(_STRANGE), st.booleans())

    def apply(changes: list[tuple[int, Any, bool]]) -> bytes:
        found = {"all": deepcopy(value)}
        for place, strange, leave_out in changes:
            spots = list(_spots(found))
            container, key = spots[place % len(spots)]
            if leave_out and len(spots) > 1 and container is not found:
                del container[key]
            else:
                container[key] = deepcopy(strange)
        return json.dumps(found["all"]).encode()

    return st.lists(change, min_size=1, max_size=3).map(apply)


def _spots(container: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a value with each of its keys or places."""
    keys = list(container) if isinstance(container, dict) else range(len(container))
    for key in keys:
        yield container, key
        if isinstance(container[key], dict | list):
            yield from _spots(container[key])
