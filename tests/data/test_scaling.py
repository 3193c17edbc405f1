from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.preprocessing import MinMaxScaler, StandardScaler, normalize

from gsmflow.core.arrays import FloatArray
from gsmflow.data.dataset import Rows
from gsmflow.data.scaling import FeatureScalingName, fit_feature_scaling, scale_fault

NAMES: tuple[FeatureScalingName, ...] = get_args(FeatureScalingName)
INVERTIBLE: tuple[FeatureScalingName, ...] = ("none", "minmax", "centred", "standardised")


@st.composite
def matrices(draw: st.DrawFn, *, rows: int = 2, d: int = 4) -> FloatArray:
    """At least ``rows`` rows of quarters: no dimension varies by as little as a rounding error."""
    shape = (draw(st.integers(rows, 12)), d)
    values = draw(arrays(np.float32, shape, elements=st.integers(-400, 400)))
    return values / np.float32(4)


@st.composite
def varying(draw: st.DrawFn) -> FloatArray:
    """Rows among which every dimension varies."""
    values = draw(matrices())
    return np.concatenate([values, values[:1] + 1])


def gaussian(seed: int, n: int = 50, d: int = 5) -> FloatArray:
    rng = np.random.default_rng(seed)
    spread = np.geomspace(0.01, 100, d)
    return (rng.normal(size=(n, d)) * spread + 3 * spread).astype(np.float32)


@settings(deadline=None)
@given(varying(), matrices())
def test_minmax_equals_scikit_learn(training: FloatArray, new: FloatArray) -> None:
    scaling, reference = fit_feature_scaling(training, "minmax"), MinMaxScaler().fit(training)
    for features in (training, new):
        expected = reference.transform(features.astype(np.float64))
        np.testing.assert_allclose(scaling(features), expected, rtol=1e-5, atol=1e-5)


@settings(deadline=None)
@given(varying(), matrices())
def test_standardised_equals_scikit_learn(training: FloatArray, new: FloatArray) -> None:
    scaling = fit_feature_scaling(training, "standardised")
    reference = StandardScaler().fit(training.astype(np.float64))
    for features in (training, new):
        expected = reference.transform(features.astype(np.float64))
        np.testing.assert_allclose(scaling(features), expected, rtol=1e-4, atol=1e-4)


@settings(deadline=None)
@given(varying(), matrices())
def test_centred_divides_by_one_common_deviation(training: FloatArray, new: FloatArray) -> None:
    wide = training.astype(np.float64)
    mean = wide.mean(axis=0)
    common = np.sqrt(((wide - mean) ** 2).mean())
    for features in (training, new):
        scaled = fit_feature_scaling(training, "centred")(features)
        np.testing.assert_allclose(scaled, (features - mean) / common, rtol=1e-4, atol=1e-4)


@settings(deadline=None)
@given(matrices(), matrices())
def test_l2_equals_scikit_learn(training: FloatArray, new: FloatArray) -> None:
    scaled = fit_feature_scaling(training, "l2")(new)
    np.testing.assert_allclose(scaled, normalize(new.astype(np.float64)), rtol=1e-5, atol=1e-6)


def test_l2_keeps_a_row_of_zeros() -> None:
    features = gaussian(0)
    features[3] = 0
    scaled = fit_feature_scaling(features, "l2")(features)
    assert not scaled[3].any()
    lengths = np.linalg.norm(np.delete(scaled, 3, axis=0), axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-6)


def test_none_leaves_features_as_they_are() -> None:
    training, new = gaussian(0), gaussian(1)
    np.testing.assert_array_equal(fit_feature_scaling(training, "none")(new), new)


def test_minmax_spans_exactly_0_to_1_over_the_training_rows() -> None:
    scaled = fit_feature_scaling(gaussian(0), "minmax")(gaussian(0))
    assert (scaled.min(axis=0) == 0).all()
    assert (scaled.max(axis=0) == 1).all()


@pytest.mark.parametrize("name", ["minmax", "centred", "standardised"])
def test_only_training_rows_are_fitted_on(name: FeatureScalingName) -> None:
    training, new = gaussian(0), 10 * gaussian(1)
    scaling = fit_feature_scaling(training, name)
    shift, spread = scaling.shift.copy(), scaling.spread.copy()
    together = scaling(np.concatenate([training, new]))
    np.testing.assert_array_equal(together[: len(training)], scaling(training))
    np.testing.assert_array_equal(scaling.shift, shift)
    np.testing.assert_array_equal(scaling.spread, spread)
    assert together.max() > scaling(training).max()  # new rows are not squeezed into the range


@pytest.mark.parametrize("value", [0.0, 0.1, -1234.567, 1e-12, 1e12])
@pytest.mark.parametrize("name", ["minmax", "standardised"])
def test_constant_dimensions_become_0_on_new_rows_too(
    name: FeatureScalingName, value: float
) -> None:
    training, new = gaussian(0), gaussian(1)
    training[:, 2] = value
    scaling = fit_feature_scaling(training, name)
    assert not scaling(training)[:, 2].any()
    assert not scaling(new)[:, 2].any()
    assert np.isfinite(scaling(new)).all()
    np.testing.assert_allclose(scaling.inverse(scaling(new))[:, 2], np.float32(value), rtol=1e-6)


def test_centred_takes_its_deviation_over_constant_dimensions_too() -> None:
    training = gaussian(0)
    training[:, 4] = 7
    scaled = fit_feature_scaling(training, "centred")(training)
    np.testing.assert_allclose(np.sqrt((scaled.astype(np.float64) ** 2).mean()), 1, rtol=1e-5)
    assert not scaled[:, 4].any()


@pytest.mark.parametrize("name", INVERTIBLE)
@settings(deadline=None)
@given(training=varying(), new=matrices())
def test_inverse_undoes_the_scaling(
    name: FeatureScalingName, training: FloatArray, new: FloatArray
) -> None:
    scaling = fit_feature_scaling(training, name)
    np.testing.assert_allclose(scaling.inverse(scaling(new)), new, rtol=1e-4, atol=1e-3)


def test_inverse_of_l2_restores_only_the_direction() -> None:
    scaling = fit_feature_scaling(gaussian(0), "l2")
    scaled = scaling(gaussian(1))
    np.testing.assert_array_equal(scaling.inverse(scaled), scaled)


@pytest.mark.parametrize("name", NAMES)
def test_results_are_new_float32_arrays(name: FeatureScalingName) -> None:
    training, new = gaussian(0), gaussian(1)
    before = training.copy(), new.copy()
    scaling = fit_feature_scaling(training, name)
    scaled = scaling(new)
    for values in (scaled, scaling.inverse(scaled), scaling.shift, scaling.spread):
        assert values.dtype == np.float32
    assert not np.shares_memory(scaled, new)
    assert scaled.shape == new.shape
    np.testing.assert_array_equal(training, before[0])
    np.testing.assert_array_equal(new, before[1])


@pytest.mark.parametrize("name", NAMES)
def test_wider_features_become_float32(name: FeatureScalingName) -> None:
    training = gaussian(0)
    scaled = fit_feature_scaling(training, name)(training.astype(np.float64))
    assert scaled.dtype == np.float32
    expected = fit_feature_scaling(training, name)(training)
    np.testing.assert_allclose(scaled, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("slab", [1, 100, 777])
@pytest.mark.parametrize("name", NAMES)
def test_fit_does_not_depend_on_the_slab_size(
    name: FeatureScalingName, slab: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = gaussian(0)
    training[:, 3] = 0.1
    whole = fit_feature_scaling(training, name)
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", slab)
    order = np.random.default_rng(0).permutation(len(training))
    division = fit_feature_scaling(Rows(training, np.zeros(len(training)), order), name)
    np.testing.assert_allclose(division.shift, whole.shift, rtol=2e-7)
    np.testing.assert_allclose(division.spread, whole.spread, rtol=2e-7)
    if name in ("minmax", "standardised"):
        assert np.isinf(division.spread[3])


def test_small_deviations_around_a_large_mean_are_kept() -> None:
    # One pass over the squares would lose them in single precision.
    training = (4096 + gaussian(0) / 128).astype(np.float32)
    scaling = fit_feature_scaling(training, "standardised")
    np.testing.assert_allclose(scaling.spread, training.astype(np.float64).std(axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("lowest", "highest", "found"),
    [
        ([0.0, -1e19], [1.0, 1.0], "values up to 1e+19 in size, expected none above 1e+12"),
        ([0.0, 1.0], [1e-30, 1.0], "values that vary by 1e-30 at most, expected 1e-12 or more"),
        ([-3e38, 0.0], [3e38, 0.0], "values up to 3e+38 in size"),
        ([0.0, 0.0], [1e-30, 1e-3], None),
        ([-1e12, 0.0], [1e12, 0.0], None),
        ([5.0, 5.0], [5.0, 5.0], None),
        ([0.0, np.nan], [1.0, np.inf], None),
    ],
)
def test_scale_is_at_fault_where_float32_does_not_hold_squares(
    lowest: list[float], highest: list[float], found: str | None
) -> None:
    fault = scale_fault(np.array(lowest, np.float32), np.array(highest, np.float32))
    assert fault is None if found is None else fault is not None and found in fault
