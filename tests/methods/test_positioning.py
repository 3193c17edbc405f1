"""Anchors, relative positioning and the scale of semantics against examples and brute force."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kstest
from sklearn.metrics.pairwise import cosine_similarity

from gsmflow.core.arrays import FloatArray
from gsmflow.methods.positioning import RelativePositioning, anchor_classes, scale_semantics

# Whole numbers: zero vectors, equal vectors and ties all come up.
matrices = arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 4)),
    elements=st.integers(-5, 5).map(float),
)


def example() -> FloatArray:
    """Unit vectors (1, 0), (0, 1), (0.6, 0.8), (-0.6, 0.8), at several lengths."""
    return np.array([[1, 0], [0, 2], [3, 4], [-6, 8]], dtype=np.float32)


def random_semantics(classes: int = 8, a: int = 4) -> FloatArray:
    return np.random.default_rng(0).normal(2, 3, size=(classes, a)).astype(np.float32)


def test_anchors_of_a_hand_made_example() -> None:
    # Cosines to classes 0, 1, 2, 3:
    #   0:  1    + 0    + 0.6  - 0.6  = 1.00   smallest
    #   1:  0    + 1    + 0.8  + 0.8  = 2.60   third of four, position 4 // 2
    #   2:  0.6  + 0.8  + 1    + 0.28 = 2.68   largest
    #   3: -0.6  + 0.8  + 0.28 + 1    = 1.48
    assert anchor_classes(example(), np.arange(4)).tolist() == [0, 2, 1]


def test_anchors_among_some_classes_count_only_these() -> None:
    # Cosines to classes 3, 2, 0:
    #   3:  1    + 0.28 - 0.6 = 0.68   smallest
    #   2:  0.28 + 1    + 0.6 = 1.88   largest
    #   0: -0.6  + 0.6  + 1   = 1.00   second of three, position 3 // 2
    assert anchor_classes(example(), np.array([3, 2, 0])).tolist() == [3, 2, 0]


def test_classes_outside_the_candidates_are_not_read() -> None:
    semantics, seen = random_semantics(), np.array([1, 2, 4, 6])
    expected = anchor_classes(semantics, seen)
    semantics[[0, 3, 5, 7]] = np.nan
    assert anchor_classes(semantics, seen).tolist() == expected.tolist()
    assert set(expected) <= set(seen)


def test_equal_sums_keep_the_order_of_the_candidates() -> None:
    semantics = np.tile(np.float32([3, 4]), (9, 1))
    assert anchor_classes(semantics, np.array([7, 3, 5])).tolist() == [7, 5, 3]
    assert anchor_classes(semantics, np.array([8, 1, 0, 4])).tolist() == [8, 4, 0]


def test_equal_sums_keep_the_order_of_many_candidates() -> None:
    is_first = np.random.default_rng(0).permutation(np.arange(100) < 60)
    semantics = np.where(is_first[:, None], np.float32([1, 0]), np.float32([0, 1]))
    # 40 sums of 40, then 60 sums of 60: position 50 is the eleventh of the latter.
    larger, smaller = np.flatnonzero(is_first), np.flatnonzero(~is_first)
    expected = [smaller[0], larger[-1], larger[10]]
    assert anchor_classes(semantics, np.arange(100)).tolist() == expected


@pytest.mark.parametrize("a", [5, 85, 312])
def test_identical_classes_tie_for_any_values(a: int) -> None:
    one = np.random.default_rng(a).normal(size=a).astype(np.float32)
    for n in range(3, 30):
        anchors = anchor_classes(np.tile(one, (n, 1)), np.arange(n))
        assert anchors.tolist() == [0, n - 1, n // 2]


def test_anchors_coincide_with_fewer_than_three_candidates() -> None:
    semantics = np.float32([[1, 0], [-1, 2], [1, 1]])
    assert anchor_classes(semantics, np.array([2])).tolist() == [2, 2, 2]
    # Two sums are always equal: the first candidate is the smallest, the second the rest.
    assert anchor_classes(semantics, np.array([1, 0])).tolist() == [1, 0, 0]


def test_zero_vector_has_similarity_zero() -> None:
    semantics = np.float32([[1, 0], [0, 0], [-1, 0], [-2, 0]])
    # Sums: 1 - 2 = -1, 0, -1 + 2 = 1 and 1.
    assert anchor_classes(semantics, np.arange(4)).tolist() == [0, 3, 2]
    assert anchor_classes(semantics, np.array([1, 2, 3])).tolist() == [1, 3, 2]


@settings(deadline=None)
@given(matrices)
def test_anchors_have_the_sums_of_brute_force(semantics: FloatArray) -> None:
    n = len(semantics)
    sums = cosine_similarity(semantics.astype(np.float64)).sum(axis=1)
    anchors = anchor_classes(semantics, np.arange(n))
    assert anchors.shape == (3,)
    expected = np.sort(sums)[[0, n - 1, n // 2]]
    np.testing.assert_allclose(sums[anchors], expected, atol=1e-12)


@settings(deadline=None)
@given(matrices, st.data())
def test_anchors_do_not_depend_on_lengths(semantics: FloatArray, data: st.DataObject) -> None:
    n = len(semantics)
    exponents = data.draw(st.lists(st.integers(-6, 6), min_size=n, max_size=n))
    # Powers of two, so that ties stay ties to the last bit.
    longer = np.ldexp(semantics, np.array(exponents)[:, None])
    expected = anchor_classes(semantics, np.arange(n))
    assert anchor_classes(longer, np.arange(n)).tolist() == expected.tolist()


def positioning(a: int = 4, h: int = 6, seed: int = 0) -> RelativePositioning:
    generator = torch.Generator().manual_seed(seed)
    return RelativePositioning(torch.randn(3, a, generator=generator), h, generator)


def test_positioning_equals_the_sum_of_the_paper() -> None:
    module = positioning()
    semantics = random_semantics()
    expected, clipped = np.zeros((8, 6)), 0
    for k in range(3):
        weight, bias = (p.detach().numpy() for p in module.layers[k].parameters())
        for i in range(8):
            relative = semantics[i] - module.anchors[k].numpy()
            response = weight @ relative + bias
            expected[i] += np.maximum(response, 0)
            clipped += (response < 0).sum()
    assert 0 < clipped < 3 * 8 * 6
    found = module(torch.from_numpy(semantics)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_anchor_relative_to_itself_gives_the_bias() -> None:
    module = positioning()
    for layer in list(module.layers)[1:]:
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    expected = module.layers[0].bias.detach().clamp(min=0)
    torch.testing.assert_close(module(module.anchors[:1])[0].detach(), expected)


@pytest.mark.parametrize("a", [1, 16, 100])
def test_initial_weights_are_those_of_torch_linear_layers(a: int) -> None:
    module = positioning(a, 3000)
    bound = a**-0.5
    for parameter in module.layers.parameters():
        values = parameter.detach().flatten().double().numpy()
        assert np.abs(values).max() <= bound
        # Some of the values are enough and keep the test fast.
        assert kstest(values[:3000], "uniform", args=(-bound, 2 * bound)).pvalue > 1e-3
    layer = torch.nn.Linear(a, 3000)
    for ours, theirs in zip(module.layers[0].parameters(), layer.parameters(), strict=True):
        assert ours.shape == theirs.shape
        assert abs(ours.std() / theirs.std() - 1) < 0.1


def test_layers_differ_and_depend_on_the_generator_alone() -> None:
    first, same, other = positioning(seed=0), positioning(seed=0), positioning(seed=1)
    assert all(
        torch.equal(p, q) for p, q in zip(first.parameters(), same.parameters(), strict=True)
    )
    assert not torch.equal(first.layers[0].weight, other.layers[0].weight)
    assert not torch.equal(first.layers[0].weight, first.layers[1].weight)


def test_construction_does_not_use_the_global_generator() -> None:
    before = torch.get_rng_state()
    positioning()
    assert torch.equal(torch.get_rng_state(), before)


def test_anchors_are_saved_but_not_trained() -> None:
    given_anchors = torch.ones(3, 4)
    module = RelativePositioning(given_anchors, 2, torch.Generator())
    given_anchors.zero_()
    assert torch.equal(module.state_dict()["anchors"], torch.ones(3, 4))
    assert "anchors" not in dict(module.named_parameters())


def test_scaling_none_keeps_the_semantics() -> None:
    semantics = random_semantics()
    scaled = scale_semantics(semantics, np.arange(5), "none", 20.0)
    np.testing.assert_array_equal(scaled, semantics)
    assert scaled.dtype == np.float32


def test_scaling_norm_sets_the_mean_length_of_the_fit_classes() -> None:
    semantics, fit = random_semantics(), np.array([0, 3, 5])
    scaled = scale_semantics(semantics, fit, "norm", 7.0)
    lengths = [float(sum(v**2 for v in scaled[c].tolist()) ** 0.5) for c in fit]
    assert sum(lengths) / 3 == pytest.approx(7.0, rel=1e-6)
    ratios = scaled / semantics
    np.testing.assert_allclose(ratios, ratios[0, 0], rtol=1e-5)
    assert ratios[0, 0] > 0
    assert scaled.dtype == np.float32


def test_scaling_standardised_sets_mean_and_deviation_over_the_fit_classes() -> None:
    semantics, fit = random_semantics(), np.array([0, 3, 5, 6])
    scaled = scale_semantics(semantics, fit, "standardised", 20.0)
    np.testing.assert_allclose(scaled[fit].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled[fit].std(axis=0), 1, rtol=1e-5)
    # One affine map per dimension for all classes: differences shrink by the same factor.
    spread = semantics[fit].std(axis=0)
    np.testing.assert_allclose(
        scaled - scaled[0], (semantics - semantics[0]) / spread, rtol=1e-4, atol=1e-5
    )
    assert scaled.dtype == np.float32


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3])
def test_dimension_constant_over_the_fit_classes_becomes_zero_everywhere(value: float) -> None:
    semantics, fit = random_semantics(), np.array([0, 3, 5])
    semantics[fit, 1] = value
    scaled = scale_semantics(semantics, fit, "standardised", 20.0)
    assert not scaled[:, 1].any()
    assert scaled[:, [0, 2, 3]].all()


@pytest.mark.parametrize("name", ["norm", "standardised"])
def test_scale_is_taken_from_the_fit_classes_alone(name: str) -> None:
    semantics, fit = random_semantics(), np.array([0, 3, 5])
    expected = scale_semantics(semantics, fit, name, 20.0)[fit]
    semantics[[1, 2, 4, 6, 7]] *= 1000
    np.testing.assert_array_equal(scale_semantics(semantics, fit, name, 20.0)[fit], expected)


@pytest.mark.parametrize("name", ["none", "norm", "standardised"])
def test_scaling_keeps_its_input_unchanged_and_zeros_finite(name: str) -> None:
    semantics = random_semantics()
    before = semantics.copy()
    scale_semantics(semantics, np.arange(4), name, 20.0)
    np.testing.assert_array_equal(semantics, before)
    zeros = np.zeros((4, 3), dtype=np.float32)
    np.testing.assert_array_equal(scale_semantics(zeros, np.arange(4), name, 20.0), zeros)
