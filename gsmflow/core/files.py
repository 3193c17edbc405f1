"""Files that are written atomically: whole or not at all."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from gsmflow.core.errors import InputError, writing

__all__ = ["digest_file", "read_json", "replacing", "write_bytes", "write_json", "write_tensors"]

# Bytes of a file that are read at a time.
_BLOCK_BYTES = 2**22


@contextmanager
def replacing(path: Path, needed: int | None = None) -> Iterator[Path]:
    """A context that writes a file atomically.

    It yields the path of a temporary file in the same folder, and renames that file to ``path``
    at the end. After an exception the temporary file is deleted and ``path`` is unchanged.

    Parameters
    ----------
    path
        The file.
    needed
        Its bytes, for the message if there is no room for them; None where they are not known.

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path, needed):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically, through `replacing`."""
    with replacing(path, len(content)) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically; paths become strings."""
    write_bytes(path, (json.dumps(value, indent=2, default=str) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file that a run wrote.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: not readable ({error}), expected the JSON file that this run wrote"
        ) from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write named tensors and text metadata as one safetensors file, atomically."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(on_cpu, dict(metadata)))


def digest_file(path: Path, make: Callable[[], Any]) -> str:
    """The hexadecimal digest of a file's content; ``make`` is for example `hashlib.sha256`."""
    digest = make()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    text: str = digest.hexdigest()
    return text
