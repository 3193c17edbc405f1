"""The command ``extract``: make a dataset of images and descriptions of their classes."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tyro.conf import Positional

from gsmflow.cli.made_dataset import print_made_dataset
from gsmflow.cli.verb import Verb
from gsmflow.core.arrays import FloatArray
from gsmflow.core.csv_cells import csv_text
from gsmflow.core.devices import pick_device
from gsmflow.core.errors import InputError
from gsmflow.core.files import path_text, write_bytes
from gsmflow.core.folders import remove_leftovers
from gsmflow.core.text_cells import Header
from gsmflow.data.dataset import Dataset, all_rows
from gsmflow.data.extract.backbones import (
    Backbone,
    BackboneSpec,
    DtypeName,
    backbone_stem,
    load_backbone,
)
from gsmflow.data.extract.descriptions import Descriptions
from gsmflow.data.extract.features import extract_features
from gsmflow.data.extract.gbu import write_features, write_splits
from gsmflow.data.extract.images import Skipped
from gsmflow.data.extract.plan import ExtractionPlan, assemble, check_plan, make_plan
from gsmflow.data.extract.record import write_record
from gsmflow.data.extract.splits import Shares
from gsmflow.data.extract.store import FeatureStore, image_files, open_store
from gsmflow.data.extract.texts import encode_texts

__all__ = ["SKIPPED_FILE", "VERB", "ExtractOptions", "run_extract"]

SKIPPED_FILE = "skipped.csv"

_SPLIT_FILE, _STORE = "att_splits.mat", ".features"
_SPLITS = ("trainval", "train", "val", "test_seen", "test_unseen")
# Seconds between two lines of progress in a log.
_LOG_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class ExtractOptions:
    """Make a dataset of your own images: features, semantics and splits in the GBU layout.

    python -m gsmflow extract pictures/ --semantics attributes.csv -o data/MINE

    The same command continues an interrupted extraction. See docs/extract.md.
    """

    images: Positional[Path]
    """Folder of images with one subfolder for each class, named as the class."""
    semantics: Path
    """Descriptions of the classes: a text or CSV file with a line for each class, which has its
    name and its attributes, or its name and a text; or a folder with a text file for each class."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder to write the dataset to; its name is the dataset's."""
    header: Header = "auto"
    """Whether the first line of that file is a header; auto: its cells say so."""
    backbone: str = "resnet-101"
    """Image backbone: a short name (docs/extract.md lists them), a local folder, a name on the hub,
    or random:resnet-18 for a trial without weights."""
    weights: Path | None = None
    """Local folder or file with the backbone's weights; None: those of its package or the hub."""
    text_encoder: str = "all-minilm-l6-v2"
    """Encoder of texts: a short name, a local folder or a name on the hub."""
    unseen: Path | None = None
    """File with one unseen class on each line; None: drawn, by --unseen-share."""
    unseen_share: float = 0.2
    """Share of the classes with images that are drawn as unseen classes."""
    val_share: float = 0.25
    """Share of the seen classes that are drawn as validation classes."""
    test_share: float = 0.2
    """Share of each seen class's images that are drawn as test images."""
    seed: int = 0
    """Seed of all draws."""
    batch_size: int = 32
    """Images in a batch."""
    dtype: DtypeName = "float32"
    """Type in which the backbone computes; the features are written as float32."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps, or auto for the fastest available device."""


def run_extract(options: ExtractOptions, console: Console) -> None:
    """Make a dataset of a folder of images, or continue an interrupted extraction.

    Parameters
    ----------
    options
        The options of the command.
    console
        For progress and messages.

    Raises
    ------
    InputError
        If an option is out of range, images and descriptions do not match, a package or weights
        are missing, or the dataset exists already.
    """
    _check(options)
    shares = Shares(options.unseen_share, options.val_share, options.test_share, options.seed)
    plan = make_plan(options.images, options.semantics, options.unseen, options.header)
    check_plan(plan, shares)
    device = pick_device(options.device)
    for note in plan.described.notes:
        console.print(f"warning: {note}", soft_wrap=True)
    semantics, semantic_facts = _semantics(options, plan.described, device, console)
    spec = BackboneSpec(options.backbone, options.weights, options.dtype, options.seed)
    console.print(f"loading {options.backbone}", soft_wrap=True)
    backbone = load_backbone(spec, device)
    files = image_files(plan.folder.root, plan.paths)
    with open_store(
        options.out / _STORE, backbone.facts, files, batch_size=options.batch_size
    ) as store:
        remove_leftovers(options.out)
        _announce(options, plan, backbone, console)
        _fill(store, plan, backbone, options.batch_size, console)
        dataset, skipped = _write(options, plan, shares, store, semantics)
        write_record(
            options.out,
            spec,
            {
                **backbone.facts,
                "batch_size": options.batch_size,
                "name": dataset.features_name,
            },
            semantic_facts,
            _split_facts(options, dataset),
        )
        store.remove()
    _report(options, dataset, skipped, console)


def _check(options: ExtractOptions) -> None:
    """Raise `InputError` for options that would fail later."""
    for flag, share, least in (
        ("--unseen-share", options.unseen_share, 0.0),
        ("--val-share", options.val_share, 5e-324),
        ("--test-share", options.test_share, 5e-324),
    ):
        if not least <= share < 1:
            bound = "of at least 0" if least == 0 else "above 0"
            raise InputError(f"{flag}: found {share}, expected a share {bound} and below 1")
    for flag, value, low in (("--batch-size", options.batch_size, 1), ("--seed", options.seed, 0)):
        if value < low:
            raise InputError(f"{flag}: found {value}, expected a number of at least {low}")
    out, images = options.out.resolve(), options.images.resolve()
    if out.is_relative_to(images) or images.is_relative_to(out):
        raise InputError(
            f"--out: found {options.out}, expected a folder apart from the images in "
            f"{options.images}"
        )
    interrupted = (options.out / _STORE).exists()
    empty = options.out.is_dir() and not any(options.out.iterdir())
    if options.out.exists() and not (interrupted or empty):
        raise InputError(
            f"{options.out}: exists already, expected a new folder, or one with an interrupted "
            "extraction"
        )


def _semantics(
    options: ExtractOptions, described: Descriptions, device: torch.device, console: Console
) -> tuple[FloatArray, Mapping[str, Any]]:
    """Semantics ``(classes, a)``, and how they were made, JSON-ready."""
    facts: dict[str, Any] = {"file": str(options.semantics)}
    if described.attributes is not None:
        return described.attributes, facts | {"kind": "attributes"}
    console.print(
        f"encoding {len(described.texts)} texts with {options.text_encoder}", soft_wrap=True
    )
    encoded = encode_texts(described.texts, options.text_encoder, device)
    if encoded.cut:
        console.print(
            f"warning: {encoded.cut} of {len(described.texts)} texts in {options.semantics} are "
            "longer than the encoder reads and are truncated",
            soft_wrap=True,
        )
    return encoded.vectors, facts | {"kind": "texts", **encoded.facts, "cut": encoded.cut}


def _announce(
    options: ExtractOptions, plan: ExtractionPlan, backbone: Backbone, console: Console
) -> None:
    facts = backbone.facts
    console.print(
        f"{options.images}: {len(plan.paths)} files of {len(plan.folder.classes)} classes, "
        f"{len(plan.described.names)} classes in {options.semantics}",
        soft_wrap=True,
    )
    console.print(
        f"{backbone.name} from {facts['source']}: {facts['takes']}, {facts['dimension']} "
        f"dimensions, {facts['dtype']} on {backbone.device}",
        soft_wrap=True,
    )
    if facts["random_weights"]:
        console.print("warning: random weights: these features are for trials only")


def _fill(
    store: FeatureStore, plan: ExtractionPlan, backbone: Backbone, batch_size: int, console: Console
) -> None:
    """Compute the missing chunks."""
    missing = [number for number in range(len(store.chunks)) if store.read(number) is None]
    done = store.count - sum(store.chunks[n].stop - store.chunks[n].start for n in missing)
    if done:
        console.print(f"continuing after {done} of {store.count} files")
    with _progress(console, store.count, done) as advance:
        for number in missing:
            paths = [plan.folder.root / path for path in plan.paths[store.chunks[number]]]
            chunk = extract_features(paths, backbone, batch_size=batch_size, on_batch=advance)
            store.write(number, chunk)


@contextmanager
def _progress(console: Console, total: int, done: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, lines in a log; yields a function that counts files."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    last_line, counted = time.monotonic(), done
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("files", total=total, completed=done)

        def advance(count: int) -> None:
            nonlocal last_line, counted
            counted += count
            progress.advance(task, count)
            if not console.is_terminal and time.monotonic() - last_line > _LOG_SECONDS:
                last_line = time.monotonic()
                console.print(f"{counted} of {total} files")

        yield advance


def _write(
    options: ExtractOptions,
    plan: ExtractionPlan,
    shares: Shares,
    store: FeatureStore,
    semantics: FloatArray,
) -> tuple[Dataset, int]:
    """Write the dataset except for its record.

    The split file is written last, because a folder without it is not read as a dataset.

    Returns
    -------
    tuple
        The dataset, and the number of files that are left out.
    """
    found = store.gather()
    refused = [Skipped(plan.paths[index], why) for index, why in found.refused]
    skipped = [*plan.folder.skipped, *refused]
    _write_skipped(options.out / SKIPPED_FILE, skipped)
    if not len(found.kept):
        raise InputError(
            f"{options.images}: found no readable picture, expected some of each class; "
            f"{options.out / SKIPPED_FILE} lists the files and reasons"
        )
    labels = plan.labels[found.kept]
    dataset = assemble(
        plan,
        shares,
        found.features,
        labels,
        semantics,
        name=options.out.resolve().name,
        features_name=backbone_stem(options.backbone),
    )
    write_features(
        options.out / f"{dataset.features_name}.mat",
        found.features.shape,
        (slab for _, slab in all_rows(found.features).slabs()),
        labels,
        [path_text(plan.paths[row]) for row in found.kept],
    )
    write_splits(
        options.out / _SPLIT_FILE,
        semantics,
        dataset.class_names,
        {f"{name}_loc": getattr(dataset, name) for name in _SPLITS},
    )
    return dataset, len(skipped)


def _write_skipped(file: Path, skipped: Sequence[Skipped]) -> None:
    lines = [(path_text(one.path), one.reason) for one in skipped]
    write_bytes(file, csv_text([("file", "reason"), *lines]).encode())


def _split_facts(options: ExtractOptions, dataset: Dataset) -> Mapping[str, Any]:
    """How the classes and rows were split, JSON-ready."""
    classes = {
        "train": np.unique(dataset.labels[dataset.train]),
        "val": np.unique(dataset.labels[dataset.val]),
        "unseen": dataset.unseen_classes,
        "without_images": dataset.classes_without_rows,
    }
    return {
        "seed": options.seed,
        "unseen_file": None if options.unseen is None else str(options.unseen),
        "unseen_share": options.unseen_share if options.unseen is None else None,
        "val_share": options.val_share,
        "test_share": options.test_share,
        "classes": {
            name: [dataset.class_names[c] for c in numbers] for name, numbers in classes.items()
        },
        "rows": {name: len(getattr(dataset, name)) for name in _SPLITS},
    }


def _report(options: ExtractOptions, dataset: Dataset, skipped: int, console: Console) -> None:
    warnings = list(dataset.notes)
    if skipped:
        warnings.append(f"{skipped} files are left out; {options.out / SKIPPED_FILE} lists reasons")
    print_made_dataset(dataset, options.out, warnings, console)


VERB = Verb(ExtractOptions, lambda options, console, flags: run_extract(options, console))
