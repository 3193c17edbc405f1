"""A plane on which real and synthesized features are seen together."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from gsmflow.core.errors import InputError
from gsmflow.core.rounding import fixed
from gsmflow.reports.page_data import FeatureSample

__all__ = ["MapName", "project"]

MapName: TypeAlias = Literal["pca", "tsne", "umap"]

_Floats: TypeAlias = NDArray[np.float32]

_SEED = 0
_PERPLEXITY = 30.0


def project(sample: FeatureSample, method: MapName) -> tuple[_Floats, tuple[str, str]]:
    """Positions of a sample's features on a plane.

    Parameters
    ----------
    sample
        Features in their principal components.
    method
        ``"pca"``: the first two of them. ``"tsne"`` (van der Maaten and Hinton, JMLR 2008) and
        ``"umap"`` (McInnes et al., 2018) keep neighbours together instead of distances.

    Returns
    -------
    tuple
        Positions ``(m, 2)``, and what each axis is.

    Raises
    ------
    InputError
        If UMAP is asked for and not installed.
    """
    return _METHODS[method](sample)


def _by_pca(sample: FeatureSample) -> tuple[_Floats, tuple[str, str]]:
    missing = max(0, 2 - sample.points.shape[1])
    points = np.pad(sample.points[:, :2], ((0, 0), (0, missing)))
    shares = [*(float(share) for share in sample.shares[:2]), 0.0, 0.0]
    first, second = (
        f"{name} principal component, {fixed(100 * share)} % of the variance"
        for name, share in zip(("first", "second"), shares, strict=False)
    )
    return points, (first, second)


def _by_tsne(sample: FeatureSample) -> tuple[_Floats, tuple[str, str]]:
    count = len(sample.points)
    if count < 4:  # no neighbours to keep
        return _by_pca(sample)
    perplexity = min(_PERPLEXITY, (count - 1) / 3)
    init = "pca" if sample.points.shape[1] > 1 else "random"
    tsne = TSNE(perplexity=perplexity, init=init, random_state=_SEED)
    return np.asarray(tsne.fit_transform(sample.points), dtype=np.float32), ("t-SNE 1", "t-SNE 2")


def _by_umap(sample: FeatureSample) -> tuple[_Floats, tuple[str, str]]:
    try:
        import umap
    except ImportError as error:
        raise InputError(
            "--map: found umap, which needs the package umap-learn that is not installed here, "
            "expected pca, tsne, or umap after pip install umap-learn"
        ) from error
    neighbours = max(2, min(15, len(sample.points) - 1))
    with warnings.catch_warnings():
        # It says that a seed costs it its threads, which is wanted.
        warnings.simplefilter("ignore")
        reducer: Any = umap.UMAP(n_neighbors=neighbours, random_state=_SEED)
        points = reducer.fit_transform(sample.points)
    return np.asarray(points, dtype=np.float32), ("UMAP 1", "UMAP 2")


_METHODS: Mapping[MapName, Callable[[FeatureSample], tuple[_Floats, tuple[str, str]]]] = {
    "pca": _by_pca,
    "tsne": _by_tsne,
    "umap": _by_umap,
}
