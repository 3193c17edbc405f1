"""The classifiers' rows of a generative method whose classifiers see encoded features."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gsmflow.learning.contract import ClassifierRows, RowsRequest, real_and_synthesized
from gsmflow.learning.feed import Feed, MemoryFeed, feed_slabs, is_in_memory
from gsmflow.learning.sampling import FeatureSampler, Sampler
from gsmflow.methods.feature_transform import EncodedFeed

__all__ = ["encoded_rows"]


def encoded_rows(request: RowsRequest, model: Sampler, encoder: nn.Module) -> ClassifierRows:
    """Real rows and synthesized rows of unseen classes, all encoded, streamed if there are many.

    Parameters
    ----------
    request
        The request, with rows of scaled features.
    model
        Gives scaled features of unseen classes.
    encoder
        From scaled features ``(n, d)`` to the classifiers' inputs, ``(n, r)``.
    """
    seen, unseen = request.scaled.feed, request.real_unseen
    encoded = replace(
        request,
        scaled=replace(request.scaled, feed=_encoded(seen, encoder)),
        real_unseen=None if unseen is None else _encoded(unseen, encoder),
    )
    return real_and_synthesized(encoded, _EncodedSampler(model, encoder))


@torch.no_grad()
def _encoded(feed: Feed, encoder: nn.Module) -> Feed:
    """A feed's rows, encoded once if they are in memory, or whenever they are taken."""
    if not is_in_memory(feed):
        return EncodedFeed(feed, encoder)
    features = [encoder(features) for features, _ in feed_slabs(feed)]
    return MemoryFeed(torch.cat(features), feed.labels)


@dataclass(frozen=True, eq=False)
class _EncodedSampler:
    """A sampler whose features are encoded."""

    model: Sampler
    encoder: nn.Module

    def sampler(self, classes: Tensor) -> FeatureSampler:
        """Draws encoded features of classes ``(k,)``."""
        draw_features = self.model.sampler(classes)

        @torch.no_grad()
        def draw_encoded(positions: Tensor, generator: torch.Generator) -> Tensor:
            encoded: Tensor = self.encoder(draw_features(positions, generator))
            return encoded

        return draw_encoded
