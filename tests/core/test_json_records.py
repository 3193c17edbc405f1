"""JSON files of ours: each is read with its types, whatever stands in it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from msgspec import Meta

from gsmflow.core.errors import InputError
from gsmflow.core.files import parse_json, read_json
from gsmflow.core.json_records import read_record
from gsmflow.data.download.transfer import _WholeFile
from gsmflow.data.new_classes import read_new_classes
from gsmflow.recipes.files import describe_recipe, read_recipe_file
from gsmflow.runs.add_class import added_classes
from gsmflow.runs.cell import read_outcome
from gsmflow.runs.directory import read_run_recipe
from gsmflow.runs.stages import read_history
from gsmflow.runs.validation import read_validation
from gsmflow.tuning.trial import TrialOutcome
from tests.builders import make_recipe
from tests.fuzz import mutations, read_or_refused, tampered


@dataclass(frozen=True)
class Inner:
    kind: Literal["a", "b"]


@dataclass(frozen=True)
class Outer:
    share: Annotated[float, Meta(ge=0, le=1)]
    inner: Inner
    values: list[int]
    name: str = ""
    by_name: dict[str, dict[str, list[int]]] = field(default_factory=dict)


GOOD = {"share": 0.5, "inner": {"kind": "a"}, "values": [1, 2]}


def test_record_has_the_types_of_its_dataclass(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(GOOD | {"further": 1}))
    assert read_record(file, Outer) == Outer(0.5, Inner("a"), [1, 2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(GOOD | {"name": "\ud83d"}), "not readable"),  # half an emoji
        (json.dumps(GOOD | {"share": "x"}), "field 'share': found 'x', expected a number"),
        (json.dumps(GOOD | {"share": None}), "field 'share': found nothing, expected a number"),
        (json.dumps(GOOD | {"share": -1}), "field 'share': found -1, expected a number at least 0"),
        (json.dumps(GOOD | {"inner": {"kind": "c"}}), "field 'inner.kind': found 'c', expected"),
        (
            json.dumps(GOOD | {"values": [1, True]}),
            "field 'values.1.': found True, expected",
        ),
        (
            json.dumps(GOOD | {"by_name": {"a": {"b": [1]}, "c": {"d": [2, "e"]}}}),
            "field 'by_name.c.d.1.': found 'e', expected a whole number",
        ),
        (json.dumps({"share": 1}), "field 'inner': found nothing, expected one that a run wrote"),
        ("[]", "found list, expected an object"),
        ('{"share": NaN}', "not readable .the number NaN., expected"),
        ('{"share": -Infinity}', "not readable .the number -Infinity., expected"),
        ('{"share": 1e999}', "not readable .the number 1e999., expected"),
        ('{"share": ' + "9" * 5000 + "}", "not readable .the number 9{24}., expected"),
        ("[" * 100_000, "not readable .nested too deep., expected"),
        ('{"a":' * 100_000, "not readable .nested too deep., expected"),
        ("{", "not readable .*, expected"),
        ("", "not readable .*, expected"),
    ],
)
def test_other_values_are_refused_with_their_field(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(InputError, match=rf"a\.json(:|,) {message}"):
        read_record(file, Outer)


def test_numbers_of_64_bits_are_read(tmp_path: Path) -> None:
    values = [2**64 - 1, -(2**63), 0, -0.0, 1e308, 5e-324]
    assert parse_json(json.dumps(values)) == values


def test_characters_beyond_16_bits_are_read_from_their_two_escapes() -> None:
    assert parse_json(json.dumps({"name": "a\U0001f600"})) == {"name": "a\U0001f600"}


def folder_reader(name: str, read: Callable[[Path], object]) -> Callable[[Path], object]:
    """A reader of a file of this name in a folder, for a file of any name."""

    def read_renamed(file: Path) -> object:
        file.with_name(name).write_bytes(file.read_bytes())
        return read(file.parent)

    return read_renamed


# What each file of a run may hold, and its reader.
FILES: dict[str, tuple[Any, Callable[[Path], object]]] = {
    "trial": ({"measures": {"H": 0.5}, "reason": ""}, lambda f: read_record(f, TrialOutcome)),
    "cell": (
        {"state": "done", "sentence": "", "seconds": 1.5, "peak_mib": 3, "machine": "a"},
        read_outcome,
    ),
    "added": ({"classes": {"a": [0.5, 1.0]}}, folder_reader("added.json", added_classes)),
    "download": (
        {"url": "u", "validator": None, "length": 3},
        lambda f: read_record(f, _WholeFile),
    ),
    "validation": (
        {
            **{"gamma": 0.5, "curve": [{"epoch": 1, "H": 0.5}]},
            "temperatures": {"among_all": 0.5, "among_unseen": 2.0},
        },
        read_validation,
    ),
    "history": ([{"epoch": 1, "loss": 0.5}], read_history),
    "recipe": (
        describe_recipe(make_recipe(dataset="CUB", gate="boundary")),
        folder_reader("recipe.json", read_run_recipe),
    ),
    "tuned": (
        {
            **dict.fromkeys(("dataset", "features", "semantics"), "a"),
            **{"settings": {"pi": 0.1}, "method": "gsmflow", "chosen": {}},
        },
        read_recipe_file,
    ),
    "new classes": ({"a": [0.5, 1], "b": [1, 2]}, lambda f: read_new_classes(f, None)),
}


@pytest.mark.parametrize("kind", FILES)
def test_any_damage_of_json_is_refused_or_read(
    kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    value, read = FILES[kind]
    file = tmp_path_factory.mktemp("fuzzed") / "fuzzed.json"
    content = json.dumps(value).encode()
    file.write_bytes(content)
    read(file)

    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
    @given(damaged=mutations(content) | tampered(value))
    def check(damaged: bytes) -> None:
        file.write_bytes(damaged)
        read_or_refused(lambda: read_json(file))
        read_or_refused(lambda: read(file))

    check()
