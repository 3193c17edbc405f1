"""A picture of digit pairs: real test images of never-seen numbers beside synthesized ones."""

from pathlib import Path

import numpy as np
import torch

from gsmflow.digits import PAIR_SHAPE
from gsmflow.experiment import RunResult
from gsmflow.report import image_grid
from gsmflow.util import make_generator

__all__ = ["draw_digit_pairs"]

_NUMBERS = 8
_IMAGES = 5


def draw_digit_pairs(result: RunResult, path: Path) -> None:
    """Draw several unseen numbers of a finished run on digit pairs, as PNG.

    Parameters
    ----------
    result
        A run on the built-in dataset.
    path
        The file.
    """
    unseen = result.problem.unseen_classes
    device = result.fitted.model.semantics.device
    generator = make_generator(device, 0, "picture")
    rows = {}
    for c in unseen[np.linspace(0, len(unseen) - 1, _NUMBERS).round().astype(int)]:
        own = np.flatnonzero(result.held_out.unseen.labels == c)[:_IMAGES]
        real = result.held_out.unseen.take(own)
        classes = torch.full((_IMAGES,), int(c), device=device)
        sampled = result.fitted.model.sample(classes, generator).cpu().numpy()
        synthesized = result.fitted.scaled.scaling.inverse(sampled)
        name = result.problem.class_names[c]
        rows[name] = (real.reshape(-1, *PAIR_SHAPE), synthesized.reshape(-1, *PAIR_SHAPE))
    image_grid(path, rows)
