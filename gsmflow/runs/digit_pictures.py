"""A picture of digit pairs: real test images of never-seen numbers beside synthesized ones."""

from pathlib import Path

import numpy as np
import torch

from gsmflow.core.rng import make_generator
from gsmflow.data.formats.digits import PAIR_SHAPE
from gsmflow.learning.sampling import Sampler
from gsmflow.reports.figures import image_grid
from gsmflow.runs.job import RunResult

__all__ = ["draw_digit_pairs"]

_NUMBERS = 8
_IMAGES = 5


def draw_digit_pairs(result: RunResult, path: Path) -> bool:
    """Draw several unseen numbers of a finished run on digit pairs, as PNG.

    Parameters
    ----------
    result
        A run on the built-in dataset.
    path
        The file.

    Returns
    -------
    bool
        Whether it was drawn: not for a model that synthesizes no features.
    """
    model, unseen = result.fitted.model, result.problem.unseen_classes
    if not isinstance(model, Sampler):
        return False
    device = result.fitted.scaled.feed.labels.device
    sampler = model.sampler(torch.from_numpy(unseen).to(device))
    generator = make_generator(device, 0, "picture")
    rows = {}
    for position in np.linspace(0, len(unseen) - 1, _NUMBERS).round().astype(int):
        c = unseen[position]
        own = np.flatnonzero(result.held_out.unseen.labels == c)[:_IMAGES]
        real = result.held_out.unseen.take(own)
        positions = torch.full((_IMAGES,), int(position), device=device)
        sampled = sampler(positions, generator).cpu().numpy()
        synthesized = result.fitted.scaled.scaling.inverse(sampled)
        name = result.problem.class_names[c]
        rows[name] = (real.reshape(-1, *PAIR_SHAPE), synthesized.reshape(-1, *PAIR_SHAPE))
    image_grid(path, rows)
    return True
