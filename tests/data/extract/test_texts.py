"""What is encoded for a class, and the mean of its vectors, with an encoder that counts letters."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gsmflow.core.errors import InputError
from gsmflow.data.extract import texts as module
from gsmflow.data.extract.descriptions import Descriptions
from gsmflow.data.extract.texts import NAME_ONLY, Encoded, encode_classes, texts_of_class

CPU = torch.device("cpu")
PROMPTS = ("a photo of a {}", "{}!", "")


def letters(text: str) -> list[int]:
    return [text.count(letter) for letter in "aeiou."]


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are encoded, in their order."""
    seen: list[str] = []

    def encode(texts: Sequence[str], name: str, device: torch.device) -> Encoded:
        seen.extend(texts)
        vectors = np.array([letters(text) for text in texts], dtype=np.float32)
        return Encoded(vectors, len(texts), 0, {"text_encoder": name})

    monkeypatch.setattr(module, "encode_texts", encode)
    return seen


def test_name_and_text_are_encoded_together(encoded: list[str]) -> None:
    described = Descriptions(
        Path("a"), ("001.Polar_Bear", "ox"), texts=(("Big.", "White."), ("x",))
    )
    found = encode_classes(described, "letters", NAME_ONLY, CPU)
    assert encoded == ["Polar Bear. Big.", "Polar Bear. White.", "ox. x"]
    np.testing.assert_array_equal(
        found.vectors, [np.mean([letters(t) for t in encoded[:2]], axis=0), letters("ox. x")]
    )
    assert found.vectors.dtype == np.float32
    assert found.count == 3
    assert found.facts == {"text_encoder": "letters", "templates": ["{}"]}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((), ["a photo of a red fox", "red fox!", ""]),
        (("Sly.",), ["a photo of a red fox. Sly.", "red fox! Sly.", "Sly."]),
    ],
)
def test_every_template_is_combined_with_every_text(
    texts: tuple[str, ...], expected: list[str]
) -> None:
    assert texts_of_class("red_fox", texts, PROMPTS) == expected


@given(st.lists(st.lists(st.text("aeioux", min_size=1), min_size=1, max_size=4), min_size=1))
def test_vectors_are_the_means_of_each_class(texts: list[list[str]]) -> None:
    names = tuple(f"class {c}" for c in range(len(texts)))
    described = Descriptions(Path("a"), names, texts=tuple(map(tuple, texts)))
    with pytest.MonkeyPatch.context() as patch:
        vectors = lambda given, *_: Encoded(  # noqa: E731
            np.array([letters(text) for text in given], dtype=np.float32), len(given), 0, {}
        )
        patch.setattr(module, "encode_texts", vectors)
        found = encode_classes(described, "letters", ("",), CPU).vectors
    expected = [np.mean([letters(text) for text in own], axis=0) for own in texts]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("templates", "texts", "message"),
    [
        ((), ("x",), "--template: found none, expected one"),
        (("a photo",), ("x",), r"--template: found 'a photo', expected \{\} in it"),
        (("",), (), "a: found names without texts, expected texts, or a --template"),
    ],
)
@pytest.mark.usefixtures("encoded")
def test_bad_templates_are_refused(
    templates: tuple[str, ...], texts: tuple[str, ...], message: str
) -> None:
    described = Descriptions(Path("a"), ("ox",), texts=(texts,))
    with pytest.raises(InputError, match=message):
        encode_classes(described, "letters", templates, CPU)
