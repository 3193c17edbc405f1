"""Files that cannot be written give one sentence with the reason and the room."""

import errno
import re
from pathlib import Path

import pytest

from gsmflow.core.errors import WriteError, writing


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_sentence_on_a_full_disk_says_what_is_needed_and_free(tmp_path: Path, number: int) -> None:
    path = tmp_path / "new" / "model.safetensors"
    with pytest.raises(WriteError) as caught, writing(path, 3 * 2**20):
        raise OSError(number, "No room")
    free = "" if number == errno.EFBIG else r", [\d,]+\.\d MiB are free"
    sentence = re.escape(f"{path}: cannot be written (No room, 3.0 MiB are needed")
    assert re.match(rf"{sentence}{free}\), expected", str(caught.value))
    assert not caught.value.is_mistake


def test_error_of_a_file_within_stays_that_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(WriteError) as caught, writing(tmp_path), writing(tmp_path / "file"):
        raise PermissionError(errno.EACCES, "Permission denied", "elsewhere")
    assert caught.value.filename == str(tmp_path / "file")
    assert str(caught.value).startswith(f"{tmp_path / 'file'}: cannot be written (Permission den")


def test_wait_for_a_lock_is_no_failure_to_write(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError), writing(tmp_path):
        raise TimeoutError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("folder", r"Is a directory\), expected no folder of this name"),
        ("file/below", r"Not a directory\), expected a path through folders"),
        ("x" * 300, r"File name too long\), expected a shorter name"),
    ],
)
def test_path_that_cannot_be_is_a_mistake_with_what_is_expected(
    name: str, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    path = tmp_path / name
    with pytest.raises(WriteError, match=rf"^{path}: .* \({expected}$") as caught, writing(path):
        path.open("w").close()
    assert caught.value.is_mistake
