"""Files that are written atomically: whole or not at all."""

import errno
import hashlib
import json
import math
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import psutil
from safetensors.torch import save
from torch import Tensor

from gsmflow.core.errors import InputError, one_line, writing

__all__ = [
    "cut_torn_line",
    "digest_file",
    "parse_json",
    "path_text",
    "read_json",
    "refuse_folder",
    "replacing",
    "write_bytes",
    "write_json",
    "write_tensors",
]

# Digits of a whole number of 64 bits, with its sign, and those that messages show.
_DIGITS, _SHOWN = 21, 24

# Bytes of a file that are read at a time.
_BLOCK_BYTES = 2**22


@contextmanager
def replacing(path: Path, needed: int | None = None) -> Iterator[Path]:
    """A context that writes a file atomically.

    It yields the path of a temporary file in the same folder, and renames that file to ``path``
    at the end. After an exception the temporary file is deleted and ``path`` is unchanged. Of a
    symbolic link, the file that it leads to is replaced. What is no file, such as ``/dev/stdout``
    or a pipe, is written to. Temporary files of this file that killed processes of this machine
    have left are deleted.

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
    with writing(path, needed):
        target = path.resolve() if path.is_symlink() else path
        if target.exists() and not target.is_file() and not target.is_dir():
            with TemporaryDirectory() as folder:
                temporary = Path(folder) / "written"
                yield temporary
                with temporary.open("rb") as source, target.open("wb") as device:
                    shutil.copyfileobj(source, device)
            return
        temporary = target.with_name(f".{target.name}.{_here()}-{os.getpid()}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        try:
            yield temporary
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


@cache
def _here() -> str:
    """A mark of this machine and of its numbering of processes, which containers have of their own.

    Only where it is the same does a number that no process has say that a process has ended.
    """
    numbering = Path("/proc/self/ns/pid")
    text = f"{platform.node()} {numbering.readlink() if numbering.is_symlink() else ''}"
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def _remove_abandoned(target: Path) -> None:
    """Delete the temporary files of a file whose processes do not exist any more."""
    named = re.compile(rf"\.{re.escape(target.name)}\.{_here()}-(\d+)\.part")
    with suppress(OSError):  # what cannot be deleted is in nobody's way
        for path in target.parent.iterdir():
            match = named.fullmatch(path.name)
            if match is not None and not psutil.pid_exists(int(match[1])):
                path.unlink()


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
        If it is missing or damaged, has a number that is not finite or beyond 64 bits, or is
        nested too deep.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: not readable ({one_line(error)}), expected the JSON file that this run wrote"
        ) from error


def parse_json(text: str) -> Any:
    """The value of a JSON text, with finite numbers alone.

    Raises
    ------
    ValueError
        If it is no JSON, has NaN, an infinity, a whole number beyond 64 bits or half a character,
        or is nested too deep.
    """
    try:
        value = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_short
        )
        if "\\u" in text:  # half of a surrogate pair could be written nowhere
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"the number {name}")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:_SHOWN]}")
    return value


def _short(text: str) -> int:
    if len(text) > _DIGITS or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"the number {text[:_SHOWN]}")
    return int(text)


def refuse_folder(path: str | Path) -> None:
    """Raise `IsADirectoryError` at a folder, of which safetensors says that a device is missing."""
    if Path(path).is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write named tensors and text metadata as one safetensors file, atomically.

    Equal tensors and metadata give equal bytes.
    """
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, _with_sorted_metadata(save(on_cpu, dict(metadata))))


def _with_sorted_metadata(content: bytes) -> bytes:
    """A safetensors file with its metadata in order; the library's order is another each time."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    metadata = header.get("__metadata__", {})
    if len(metadata) < 2:
        return content
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the values
    return len(text).to_bytes(8, "little") + text + content[end:]


def cut_torn_line(path: Path, begins: bytes) -> None:
    """Cut off a last line that a killed process left unfinished.

    Parameters
    ----------
    path
        A file to whose end lines are written.
    begins
        What each of its lines begins with.

    Raises
    ------
    InputError
        If the file has no whole line and begins in another way: it is none of ours.
    """
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        if file.read() in (b"", b"\n"):
            return
        file.seek(0)
        content = file.read()
        end = content.rfind(b"\n") + 1
        if not end and content[: len(begins)] != begins[: len(content)]:
            raise InputError(
                f"{path}: found something else in place of lines that begin with "
                f"{begins.decode()}, expected a file that was written here; move it away"
            )
        file.truncate(end)


def path_text(path: Path) -> str:
    """A path as valid text; bytes that are not UTF-8 are escaped."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def digest_file(path: Path, make: Callable[[], Any]) -> str:
    """The hexadecimal digest of a file's content; ``make`` is for example `hashlib.sha256`."""
    digest = make()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    text: str = digest.hexdigest()
    return text
