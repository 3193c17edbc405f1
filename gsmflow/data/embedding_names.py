"""What ``--semantics`` may be: the name of an embedding, a file of vectors, or several, joined."""

from pathlib import Path

from gsmflow.core.errors import InputError

__all__ = [
    "VECTOR_ENDINGS",
    "check_embeddings",
    "embedding_label",
    "is_vector_file",
    "split_embeddings",
]

VECTOR_ENDINGS = (".npy", ".csv", ".txt", ".mat")
_JOIN = "+"


def is_vector_file(part: str) -> bool:
    """Whether a part of ``--semantics`` is a file of vectors; others are names."""
    return Path(part).suffix.lower() in VECTOR_ENDINGS


def split_embeddings(text: str) -> tuple[str, ...]:
    """The parts of ``--semantics``, in their order: ``att+sent`` has two.

    A sign ``+`` in the path of a file that is there joins nothing.
    """
    parts: list[str] = []
    words = text.split(_JOIN)
    while words:
        paths = [_JOIN.join(words[:count]) for count in range(len(words), 0, -1)]
        part = next((p for p in paths if is_vector_file(p) and Path(p).is_file()), words[0])
        parts.append(part)
        words = words[part.count(_JOIN) + 1 :]
    return tuple(parts)


def embedding_label(text: str) -> str:
    """``--semantics`` in tables and in names of folders: of files, their names alone."""
    return _JOIN.join(
        Path(part).name if is_vector_file(part) else part for part in split_embeddings(text)
    )


def check_embeddings(flag: str, text: str, *, several: bool) -> None:
    """Refuse what cannot be the value of ``--semantics`` or of a flag like it.

    Parameters
    ----------
    flag, text
        The flag and its value.
    several
        Whether it may have several parts.

    Raises
    ------
    InputError
        If there are several and must not be, or a part is neither a plain name nor a file of
        vectors, or stands there twice.
    """
    parts = split_embeddings(text)
    for part in parts:
        if not part or part == ".." or not (is_vector_file(part) or Path(part).name == part):
            joined = ", or several of these joined by +" if several else ""
            raise InputError(
                f"{flag}: found {text!r}, expected a plain file name, or a file of vectors "
                f"({', '.join(VECTOR_ENDINGS)}){joined}"
            )
    if len(parts) > 1 and not several:
        raise InputError(f"{flag}: found {text!r}, expected one embedding")
    if len(set(parts)) < len(parts):
        raise InputError(f"{flag}: found {text!r}, expected each embedding once")
