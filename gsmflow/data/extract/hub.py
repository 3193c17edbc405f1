"""Import optional packages, and load pretrained models from a folder or from the hub."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gsmflow.core.errors import InputError, one_line
from gsmflow.core.extras import missing_package

__all__ = [
    "from_pretrained",
    "is_folder",
    "is_hub_name",
    "load_model",
    "package_file",
    "quiet_transformers",
    "require",
]


def require(package: str, purpose: str, otherwise: str = "") -> Any:
    """Import an optional package when it is first used, because the import takes seconds.

    Parameters
    ----------
    package
        The name that it is imported by.
    purpose
        What needs it, for the message.
    otherwise
        What does without it, for the message.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise missing_package(package, purpose, otherwise) from error


def package_file(package: str, pattern: str, purpose: str) -> Path:
    """Find a file in an installed package without running its code.

    Parameters
    ----------
    package
        The package.
    pattern
        Pattern of the path below the package's folder.
    purpose
        What needs it, for the message.

    Raises
    ------
    InputError
        If the package is not installed or lacks the file.
    """
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise missing_package(package, purpose)
    for folder in found.submodule_search_locations:
        for file in sorted(Path(folder).glob(pattern)):
            return file
    raise InputError(f"{package}: found no file {pattern} in it, expected the published package")


def is_folder(name: str) -> bool:
    """Whether a name is the path of an existing folder."""
    return name != "" and Path(name).is_dir()


def is_hub_name(name: str) -> bool:
    """Whether a name has the form of a name on the hub: ``owner/model``."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name, re.ASCII) is not None


def from_pretrained(
    load: Callable[..., Any], source: str, *, flag: str, remedy: str, **settings: Any
) -> Any:
    """Load a pretrained model or its preprocessor from a folder, from the hub's cache or the hub.

    Parameters
    ----------
    load
        A ``from_pretrained`` of transformers.
    source
        A local folder, or a name on the hub.
    flag
        The flag that names the model, for messages.
    remedy
        What the user can do if the hub cannot be reached.
    settings
        Further arguments for ``load``.

    Raises
    ------
    InputError
        If it cannot be loaded.
    """
    settings["trust_remote_code"] = False
    if is_folder(source):
        try:
            return load(source, local_files_only=True, **settings)
        except Exception as error:  # a dozen types, depending on the damage
            raise InputError(
                f"{source}: not loadable ({_first_sentence(error)}), expected a folder as "
                "save_pretrained writes it, with its preprocessor_config.json or its tokenizer"
            ) from error
    try:
        return load(source, local_files_only=True, **settings)
    except Exception:  # not in the cache, or not completely
        try:
            return load(source, **settings)
        except Exception as error:
            raise InputError(
                f"{flag} {source}: not available from the hub ({_first_sentence(error)}), "
                f"expected a connection or {remedy}"
            ) from error


def load_model(transformers: Any, source: str, *, flag: str, remedy: str) -> nn.Module:
    """Load a pretrained model with all its weights, in float32.

    Parameters
    ----------
    transformers
        The library.
    source, flag, remedy
        As in `from_pretrained`.

    Raises
    ------
    InputError
        If it cannot be loaded, or some of its weights are missing or do not fit.
    """
    load, messages = transformers.AutoModel.from_pretrained, {"flag": flag, "remedy": remedy}
    model, report = from_pretrained(
        load, source, output_loading_info=True, dtype=torch.float32, **messages
    )
    if report["missing_keys"] or report["mismatched_keys"]:
        name = sorted(map(str, report["missing_keys"] or report["mismatched_keys"]))[0]
        raise InputError(
            f"{source}: found no weights that fit {name}, expected all weights of the model: "
            "missing ones would be random"
        )
    assert isinstance(model, nn.Module)
    return model


def _first_sentence(error: Exception) -> str:
    return one_line(error).split(". ")[0].rstrip(".")[:200] or type(error).__name__


@contextmanager
def quiet_transformers(purpose: str, otherwise: str = "") -> Iterator[Any]:
    """A context that yields the transformers library, without its reports and progress bars.

    Parameters
    ----------
    purpose, otherwise
        As of `require`.

    Raises
    ------
    InputError
        If it is not installed.
    """
    transformers = require("transformers", purpose, otherwise)
    logging = import_module("transformers.utils.logging")
    hub = import_module("huggingface_hub.utils.logging")
    before, hub_before = logging.get_verbosity(), hub.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    hub.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield transformers
    finally:
        logging.set_verbosity(before)
        hub.set_verbosity(hub_before)
        if bars:
            logging.enable_progress_bar()
