"""Features of files, stored chunk by chunk, with a backbone of known features."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gsmflow.core.errors import InputError
from gsmflow.data.extract import features as features_module
from gsmflow.data.extract import store as store_module
from gsmflow.data.extract.backbones import Backbone
from gsmflow.data.extract.features import extract_chunks, extract_features, stream_features
from gsmflow.data.extract.store import FeatureStore, ImageFile, image_files, open_store

COUNT, BATCH, BAD = 11, 2, {3, 4, 5, 10}


def mean_colour() -> Backbone:
    """A backbone whose feature is the mean of each colour."""

    def prepare(picture: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(picture, dtype=np.float32)).permute(2, 0, 1)

    facts = {"dimension": 3, "weights_blake2b": "none"}
    encode = lambda pixels: pixels.mean(dim=(2, 3))  # noqa: E731
    return Backbone("mean", facts, torch.device("cpu"), torch.float32, prepare, encode)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eleven files: number ``i`` has the colour ``(i, 2 i, 3 i)``, and four are damaged."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(COUNT):
        Image.new("RGB", (5, 4), (i, 2 * i, 3 * i)).save(folder / f"{i:02d}.png")
    for i in BAD:
        (folder / f"{i:02d}.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_CHUNK_FILES", 2 * BATCH)


def files(root: Path) -> list[ImageFile]:
    return image_files(root, [path.relative_to(root) for path in sorted(root.iterdir())])


@contextmanager
def opened(root: Path, **changes: Any) -> Iterator[FeatureStore]:
    settings = {**mean_colour().facts, **changes}
    with open_store(root.parent / "store", settings, files(root), batch_size=BATCH) as store:
        yield store


def fill(store: FeatureStore, root: Path, numbers: list[int]) -> None:
    paths = [root / file.path for file in files(root)]
    for number in numbers:
        chunk = extract_features(paths[store.chunks[number]], mean_colour(), batch_size=BATCH)
        store.write(number, chunk)


def good() -> list[int]:
    return [i for i in range(COUNT) if i not in BAD]


@pytest.fixture(params=["threads", "processes"])
def readers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads or processes read the pictures, however few."""
    if request.param == "processes":
        if sys.platform != "linux":
            pytest.skip("processes are forked on Linux alone")
        monkeypatch.setattr(features_module, "_FEW", 0)


@pytest.mark.usefixtures("readers")
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_features_are_those_of_each_file_for_any_batch_size(root: Path, batch_size: int) -> None:
    counted: list[int] = []
    state = torch.get_rng_state()
    paths = sorted(root.iterdir())
    found = extract_features(paths, mean_colour(), batch_size=batch_size, on_batch=counted.append)
    np.testing.assert_array_equal(found.kept, good())
    np.testing.assert_allclose(found.features, np.outer(good(), [1, 2, 3]))
    assert found.features.dtype == np.float32
    assert dict(found.refused) == dict.fromkeys(sorted(BAD), "not a picture")
    assert sum(counted) == COUNT
    assert max(counted) <= batch_size
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.usefixtures("readers")
def test_chunks_are_read_one_after_another_in_their_order(root: Path) -> None:
    paths = sorted(root.iterdir())
    chunks = [paths[4:8], paths[:4], paths[8:]]
    for chunk, found in zip(
        chunks, extract_chunks(chunks, mean_colour(), batch_size=BATCH), strict=True
    ):
        whole = extract_features(chunk, mean_colour(), batch_size=BATCH)
        np.testing.assert_array_equal(found.features, whole.features)
        np.testing.assert_array_equal(found.kept, whole.kept)
        assert found.refused == whole.refused


@pytest.mark.usefixtures("readers")
def test_reading_may_end_early(root: Path) -> None:
    stream = stream_features(iter(sorted(root.iterdir())), mean_colour(), batch_size=1)
    batch, _ = next(stream)
    assert [path.name for path in batch] == ["00.png"]
    stream.close()
    assert list(stream) == []


def test_no_files_give_empty_features() -> None:
    found = extract_features([], mean_colour(), batch_size=4)
    assert (found.features.shape, len(found.kept), found.refused) == ((0, 3), 0, ())


def test_infinite_features_are_refused(root: Path) -> None:
    broken = Backbone(
        "broken",
        mean_colour().facts,
        torch.device("cpu"),
        torch.float32,
        mean_colour().prepare,
        lambda pixels: pixels.mean(dim=(2, 3)) / 0,
    )
    with pytest.raises(InputError, match="--backbone broken: found features that are NaN"):
        extract_features(sorted(root.iterdir()), broken, batch_size=4)


@pytest.mark.usefixtures("readers")
def test_pictures_of_different_sizes_after_preprocessing_are_refused(root: Path) -> None:
    Image.new("RGB", (9, 9)).save(root / "00.png")
    with pytest.raises(InputError, match=r"found pictures of \(3, 4, 5\) and of \(3, 9, 9\)"):
        extract_features(sorted(root.iterdir()), mean_colour(), batch_size=4)


def test_store_joins_its_chunks_in_order(root: Path) -> None:
    with opened(root) as store:
        assert [(c.start, c.stop) for c in store.chunks] == [(0, 4), (4, 8), (8, 11)]
        fill(store, root, [2, 0, 1])
        found = store.gather()
        np.testing.assert_array_equal(found.kept, good())
        np.testing.assert_allclose(found.features, np.outer(good(), [1, 2, 3]))
        assert dict(found.refused) == dict.fromkeys(sorted(BAD), "not a picture")
        store.remove()
        assert not store.folder.exists()


def test_reopened_store_has_its_chunks(root: Path) -> None:
    with opened(root) as store:
        fill(store, root, [1])
    with opened(root) as store:
        assert [store.read(number) is None for number in range(3)] == [True, False, True]
        with pytest.raises(InputError, match=r"chunk-000000\.npz: not readable"):
            store.gather()


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_damaged_chunk_is_read_as_missing(root: Path, damage: str) -> None:
    with opened(root) as store:
        fill(store, root, [0, 1])
        file = store.folder / "chunk-000001.npz"
        if damage == "other":
            file.write_bytes((store.folder / "chunk-000000.npz").read_bytes()[:-1])
        else:
            file.write_bytes(file.read_bytes()[:200] if damage == "cut" else b"")
        assert store.read(1) is None
        assert store.read(0) is not None


def refused(root: Path, *expected: str, **changes: Any) -> None:
    with pytest.raises(InputError) as caught, opened(root, **changes):
        pass
    for words in (*expected, f"delete {root.parent / 'store'} to start again"):
        assert words in str(caught.value)


def test_other_settings_or_files_are_refused(root: Path) -> None:
    with opened(root, dtype="float32"):
        pass
    refused(root, "field 'dtype': found 'float32', expected 'float16'", dtype="float16")
    refused(root, "field 'dtype': found 'float32', expected None")
    content = (root / "01.png").read_bytes()
    (root / "01.png").write_bytes(content + b" ")
    refused(root, "01.png: found another file than when", dtype="float32")
    (root / "01.png").unlink()
    refused(root, "01.png: found no such file any more", dtype="float32")
    (root / "01.png").write_bytes(content)
    refused(root, "01.png: found another file than when", dtype="float32")
    os.utime(root / "01.png", ns=(0, 0))
    refused(root, "01.png: found another file than when", dtype="float32")


def test_other_batch_size_is_refused(root: Path) -> None:
    with opened(root):
        pass
    message = "field 'batch_size': found 2, expected 3"
    settings = mean_colour().facts
    with (
        pytest.raises(InputError, match=message),
        open_store(root.parent / "store", settings, files(root), batch_size=3),
    ):
        pass


@pytest.mark.parametrize("content", ["[]", "{}", "{"])
def test_damaged_manifest_is_refused(root: Path, content: str) -> None:
    with opened(root) as store:
        (store.folder / "manifest.json").write_text(content)
    message = r"manifest\.json(:|,) (found list|field 'settings': found nothing|not readable)"
    with pytest.raises(InputError, match=message), opened(root):
        pass


def test_store_that_is_open_in_another_process_is_refused(root: Path) -> None:
    with opened(root), pytest.raises(InputError, match="found another process"), opened(root):
        pass


def test_deleted_file_is_refused(root: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.png: found no such file any more"):
        image_files(root, [Path("nowhere.png")])
