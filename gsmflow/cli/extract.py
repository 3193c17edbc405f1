"""The command ``extract``: make a dataset of images and descriptions of their classes."""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from rich.console import Console
from tyro.conf import Positional

from gsmflow.cli.made_dataset import print_made_dataset
from gsmflow.cli.verb import Verb
from gsmflow.core.arrays import FloatArray
from gsmflow.core.csv_cells import csv_text
from gsmflow.core.devices import pick_device
from gsmflow.core.errors import InputError, writing
from gsmflow.core.files import path_text, write_bytes
from gsmflow.core.folders import locked, remove_leftovers
from gsmflow.core.progress import progress
from gsmflow.core.text_cells import Header
from gsmflow.data.cache import keep_in_file
from gsmflow.data.dataset import Dataset, all_rows
from gsmflow.data.extract.backbones import (
    Backbone,
    BackboneSpec,
    DtypeName,
    backbone_stem,
    load_backbone,
    weights_folder,
)
from gsmflow.data.extract.batch_size import fastest_batch_size
from gsmflow.data.extract.descriptions import Descriptions, read_descriptions
from gsmflow.data.extract.existing import keep_nothing, read_existing
from gsmflow.data.extract.features import Extracted, extract_chunks
from gsmflow.data.extract.gbu import SEMANTICS, write_features, write_splits
from gsmflow.data.extract.images import Skipped
from gsmflow.data.extract.plan import (
    SPLITS,
    ExtractionPlan,
    assemble,
    check_plan,
    plan_pictures,
    plan_pictures_like,
    plan_reuse,
    plan_reuse_like,
    planned_splits,
)
from gsmflow.data.extract.record import features_record, recorded_facts, write_record
from gsmflow.data.extract.splits import Shares
from gsmflow.data.extract.store import FeatureStore, image_files, open_store, recorded_batch_size
from gsmflow.data.extract.texts import NAME_ONLY, check_templates, encode_classes

__all__ = ["SKIPPED_FILE", "VERB", "ExtractOptions", "run_extract"]

SKIPPED_FILE = "skipped.csv"

_SPLIT_FILE, _STORE, _REUSED = f"{SEMANTICS}_splits.mat", ".features", ".reused"


@dataclass(frozen=True, kw_only=True)
class ExtractOptions:
    """Make a dataset of your own images: features, semantics and splits in the GBU layout.

    python -m gsmflow extract pictures/ --semantics attributes.csv -o data/MINE

    With --like, pictures get the classes, semantics and splits of an existing dataset; with
    --reuse, a dataset is described or split anew. The same command continues an interrupted
    extraction. See docs/extract.md.
    """

    images: Positional[Path | None] = None
    """Folder of images with one subfolder for each class, named as the class; with --like, of any
    form."""
    semantics: Path | None = None
    """Descriptions of the classes: a text or CSV file with a line for each class, which has its
    name and its attributes, or its name and a text; or a folder with a text file for each class.
    None: those of the dataset of --like or --reuse."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder to write the dataset to; its name is the dataset's."""
    header: Header = "auto"
    """Whether the first line of that file is a header; auto: its cells say so."""
    like: Path | None = None
    """Folder of a dataset whose classes, semantics and splits are taken; its rows are found by the
    ends of their pictures' paths."""
    reuse: Path | None = None
    """Folder of a dataset whose features are taken, in the place of images."""
    features: str | None = None
    """Which features of the dataset of --reuse, or of --like, whose pictures they list; None:
    res101, or the only ones."""
    backbone: str = "resnet-101"
    """Image backbone: a short name (docs/extract.md lists them), a local folder, a name on the hub,
    or random:resnet-18 for a trial without weights."""
    weights: Path | None = None
    """Local folder or file with the backbone's weights; None: those of its package or the hub."""
    text_encoder: str = "all-minilm-l6-v2"
    """Encoder of texts: a short name, a local folder or a name on the hub; the name of a CLIP or
    SigLIP backbone for its texts, also with its --weights."""
    template: tuple[str, ...] = NAME_ONLY
    """What stands before a class's texts, or is its text: words with {} in the place of its name,
    such as 'a photo of a {}'; with several, the vectors' mean is taken; '': no name."""
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
    batch_size: int | None = None
    """Images in a batch; None: the fastest on the device, which is measured at the start."""
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
    plan = _plan(options)
    check_plan(plan, shares)
    _announce_rows(options, plan, console)
    device = pick_device(options.device)
    for note in plan.described.notes:
        console.print(f"warning: {note}", soft_wrap=True)
    semantics, semantic_facts = _semantics(options, plan.described, device, console)
    if options.reuse is None:
        dataset, skipped = _extract(
            options, plan, shares, semantics, semantic_facts, device, console
        )
    else:
        dataset, skipped = _reuse(options, plan, shares, semantics, semantic_facts)
    _report(options, dataset, skipped, console)


def _plan(options: ExtractOptions) -> ExtractionPlan:
    like, described = None, None
    if options.like is not None:
        features = None if options.reuse else options.features
        like = read_existing(options.like, "--like", keep_nothing, features)
    if options.semantics is not None:
        names_alone = options.template != NAME_ONLY
        described = read_descriptions(options.semantics, options.header, names_alone=names_alone)
        if described.attributes is not None and names_alone:
            raise InputError(
                f"--template: found {options.template[0]!r} with attributes in "
                f"{options.semantics}, expected texts or names there"
            )
    if options.reuse is not None:
        reused = read_existing(options.reuse, "--reuse", keep_nothing, options.features)
        if like is not None:
            return plan_reuse_like(reused, like, described)
        return plan_reuse(reused, described, options.unseen)
    assert options.images is not None
    if like is not None:
        return plan_pictures_like(options.images, like, described)
    assert described is not None
    return plan_pictures(options.images, described, options.unseen)


def _extract(
    options: ExtractOptions,
    plan: ExtractionPlan,
    shares: Shares,
    semantics: FloatArray,
    semantic_facts: Mapping[str, Any],
    device: torch.device,
    console: Console,
) -> tuple[Dataset, int]:
    """Extract features and write the dataset; the dataset and how many files are left out."""
    spec = BackboneSpec(options.backbone, options.weights, options.dtype, options.seed)
    console.print(f"loading {options.backbone}", soft_wrap=True)
    backbone = load_backbone(spec, device)
    files = image_files(plan.source, plan.paths)
    batch_size = options.batch_size or recorded_batch_size(options.out / _STORE)
    batch_size = batch_size or fastest_batch_size(backbone, len(files))
    with open_store(options.out / _STORE, backbone.facts, files, batch_size=batch_size) as store:
        remove_leftovers(options.out)
        _announce_backbone(backbone, batch_size, console)
        _fill(store, plan, backbone, batch_size, console)
        stem = backbone_stem(options.backbone)
        dataset, skipped = _write(options, plan, shares, store.gather(), stem, semantics)
        facts = {**backbone.facts, "batch_size": batch_size, "name": stem}
        features = features_record(spec, facts, plan.source)
        split_facts = _split_facts(options, plan, dataset)
        write_record(options.out, features, semantic_facts, split_facts)
        store.remove()
    return dataset, skipped


def _reuse(
    options: ExtractOptions,
    plan: ExtractionPlan,
    shares: Shares,
    semantics: FloatArray,
    semantic_facts: Mapping[str, Any],
) -> tuple[Dataset, int]:
    """Write the dataset from stored features; the dataset and how many rows are left out."""
    assert options.reuse is not None
    store = options.out / _REUSED
    with writing(store):
        store.mkdir(parents=True, exist_ok=True)
    with locked(store):
        remove_leftovers(options.out)
        keep = keep_in_file(store / "features.npy")
        reused = read_existing(options.reuse, "--reuse", keep, options.features).dataset
        features = reused.features if plan.index is None else reused.features[plan.index]
        found = Extracted(features, np.arange(len(features)), ())
        dataset, skipped = _write(options, plan, shares, found, reused.features_name, semantics)
        recorded = recorded_facts(options.reuse)
        of_these = recorded.features.get("name") == reused.features_name
        made: dict[str, Any] = {}
        if of_these:
            made = {"spec": recorded.spec, "features": recorded.features}
        if recorded.pictures is not None:
            made["pictures"] = recorded.pictures
        write_record(options.out, made, semantic_facts, _split_facts(options, plan, dataset))
        shutil.rmtree(store, ignore_errors=True)
    return dataset, skipped


def _check(options: ExtractOptions) -> None:
    """Raise `InputError` for options that would fail later."""
    _check_sources(options)
    check_templates(options.template)
    for flag, share, least in (
        ("--unseen-share", options.unseen_share, 0.0),
        ("--val-share", options.val_share, 5e-324),
        ("--test-share", options.test_share, 5e-324),
    ):
        if not least <= share < 1:
            bound = "of at least 0" if least == 0 else "above 0"
            raise InputError(f"{flag}: found {share}, expected a share {bound} and below 1")
    for flag, value, low in (("--batch-size", options.batch_size, 1), ("--seed", options.seed, 0)):
        if value is not None and value < low:
            raise InputError(f"{flag}: found {value}, expected a number of at least {low}")
    _check_out(options)


def _check_sources(options: ExtractOptions) -> None:
    """Refuse sources that are missing or too many, and options that they leave without effect."""
    if (options.images is None) == (options.reuse is None):
        found = "neither" if options.images is None else "both"
        raise InputError(
            f"--reuse: found {found} a folder of images and a dataset to reuse, expected one"
        )
    if options.semantics is None and options.like is None and options.reuse is None:
        raise InputError(
            "--semantics: found none, expected a file or folder that describes the classes, or a "
            "dataset with --like"
        )
    defaults = {field.name: field.default for field in fields(options)}
    none_existing = options.like is None and options.reuse is None
    unused = {
        "images": ("features",) if none_existing else (),
        "--like": ("unseen", "unseen_share", "val_share", "test_share") if options.like else (),
        "--reuse": ("backbone", "weights", "dtype", "batch_size") if options.reuse else (),
    }
    for flag, names in unused.items():
        for name in names:
            if (value := getattr(options, name)) != defaults[name]:
                raise InputError(
                    f"--{name.replace('_', '-')}: found {value} with {flag}, expected none: "
                    "the latter decide it"
                )


def _check_out(options: ExtractOptions) -> None:
    source = options.images or options.reuse
    assert source is not None
    out, images = options.out.resolve(), source.resolve()
    if out.is_relative_to(images) or images.is_relative_to(out):
        raise InputError(
            f"--out: found {options.out}, expected a folder apart from {source}, which is read"
        )
    interrupted = (options.out / (_REUSED if options.reuse else _STORE)).exists()
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
    facts: dict[str, Any] = {"file": str(described.source)}
    if described.attributes is not None:
        made = {} if options.semantics else recorded_facts(described.source).semantics
        return described.attributes, facts | {"kind": "attributes"} | made
    count = sum(map(len, described.texts))
    console.print(
        f"encoding {count or len(described.names)} texts with {options.text_encoder}",
        soft_wrap=True,
    )
    encoded = encode_classes(described, _text_encoder(options), options.template, device)
    if encoded.cut:
        console.print(
            f"warning: {encoded.cut} of {encoded.count} texts in {options.semantics} are "
            "longer than the encoder reads and are truncated",
            soft_wrap=True,
        )
    return encoded.vectors, facts | {"kind": "texts", **encoded.facts, "cut": encoded.cut}


def _text_encoder(options: ExtractOptions) -> str:
    """The text encoder: the folder of the backbone's weights if it has the backbone's name."""
    if options.weights is None or options.text_encoder != options.backbone:
        return options.text_encoder
    return str(weights_folder(options.weights))


def _announce_rows(options: ExtractOptions, plan: ExtractionPlan, console: Console) -> None:
    rows, classes = len(plan.labels), len(np.unique(plan.labels))
    console.print(
        f"{plan.source}: {rows} {'rows' if options.reuse else 'files'} of {classes} classes, "
        f"{len(plan.described.names)} classes in {plan.described.source}",
        soft_wrap=True,
    )
    missing, unused = len(plan.missing), len(plan.skipped) - len(plan.missing)
    if options.like is not None:
        console.print(
            f"{'warning: ' * bool(missing)}{missing} of {rows + missing} rows of {options.like} "
            f"are not found, {unused} pictures are in no row of it",
            soft_wrap=True,
        )


def _announce_backbone(backbone: Backbone, batch_size: int, console: Console) -> None:
    facts = backbone.facts
    console.print(
        f"{backbone.name} from {facts['source']}: {facts['takes']}, {facts['dimension']} "
        f"dimensions, {facts['dtype']} on {backbone.device}, batches of {batch_size}",
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
    if not missing:
        return
    with progress(console, "reading pictures", store.count, done, unit="files") as advance:
        chunks = [
            [plan.source / path for path in plan.paths[store.chunks[number]]] for number in missing
        ]
        found = extract_chunks(chunks, backbone, batch_size=batch_size, on_batch=advance)
        with closing(found):
            for number, chunk in zip(missing, found, strict=True):
                store.write(number, chunk)


def _write(
    options: ExtractOptions,
    plan: ExtractionPlan,
    shares: Shares,
    found: Extracted,
    features_name: str,
    semantics: FloatArray,
) -> tuple[Dataset, int]:
    """Write the dataset except for its record.

    The split file is written last, because a folder without it is not read as a dataset.

    Returns
    -------
    tuple
        The dataset, and the number of files that are left out.
    """
    refused = [Skipped(plan.paths[index], why) for index, why in found.refused]
    skipped = [*plan.skipped, *refused]
    _write_skipped(options.out / SKIPPED_FILE, skipped)
    if not len(found.kept):
        raise InputError(
            f"{plan.source}: found no readable picture, expected some of each class; "
            f"{options.out / SKIPPED_FILE} lists the files and reasons"
        )
    splits = planned_splits(plan, shares, found.kept)
    dataset = assemble(
        plan,
        found.kept,
        splits,
        found.features,
        semantics,
        name=options.out.resolve().name,
        features_name=features_name,
    )
    write_features(
        options.out / f"{features_name}.mat",
        found.features.shape,
        (slab for _, slab in all_rows(found.features).slabs()),
        dataset.labels,
        None if plan.names is None else [plan.names[row] for row in found.kept],
    )
    write_splits(
        options.out / _SPLIT_FILE,
        semantics,
        dataset.class_names,
        {f"{name}_loc": rows for name, rows in splits.items()},
    )
    return dataset, len(skipped)


def _write_skipped(file: Path, skipped: Sequence[Skipped]) -> None:
    lines = [(path_text(one.path), one.reason) for one in skipped]
    write_bytes(file, csv_text([("file", "reason"), *lines]).encode())


def _split_facts(
    options: ExtractOptions, plan: ExtractionPlan, dataset: Dataset
) -> Mapping[str, Any]:
    """How the classes and rows were split, JSON-ready."""
    classes = {
        "train": np.unique(dataset.labels[dataset.train]),
        "val": np.unique(dataset.labels[dataset.val]),
        "unseen": dataset.unseen_classes,
        "without_images": dataset.classes_without_rows,
    }
    if options.like is not None:
        made: dict[str, Any] = {"like": str(options.like), "not_found": len(plan.missing)}
    else:
        made = {
            "seed": options.seed,
            "unseen_file": None if options.unseen is None else str(options.unseen),
            "unseen_share": options.unseen_share if options.unseen is None else None,
            "val_share": options.val_share,
            "test_share": options.test_share,
        }
    return {
        **made,
        "classes": {
            name: [dataset.class_names[c] for c in numbers] for name, numbers in classes.items()
        },
        "rows": {name: len(getattr(dataset, name)) for name in SPLITS},
    }


def _report(options: ExtractOptions, dataset: Dataset, skipped: int, console: Console) -> None:
    warnings = list(dataset.notes)
    if skipped:
        warnings.append(f"{skipped} files are left out; {options.out / SKIPPED_FILE} lists reasons")
    print_made_dataset(dataset, options.out, warnings, console)


VERB = Verb(ExtractOptions, lambda options, console, flags: run_extract(options, console))
