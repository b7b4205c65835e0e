import json
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.intensity import LinearScale, LogScale, scale_from_dict

SCALES = [LogScale(), LogScale(unit_counts=0.5, ceiling_counts=300), LinearScale(), LinearScale(-20, 100)]
constants = st.floats(min_value=1e-3, max_value=1e9)


@given(counts=hnp.arrays(np.int32, hnp.array_shapes(max_dims=3, max_side=9), elements=st.integers(-(2**18), 2**18)))
def test_recorded_integers_come_back_exactly(counts):
    for scale in (LogScale(), LinearScale()):
        assert np.array_equal(np.rint(scale.restore(scale.normalize(counts))), counts)


@given(unit=constants, ceiling=constants, count=st.floats(min_value=-1e9, max_value=1e9))
def test_log_follows_its_formula_for_any_constants_and_sign(unit, ceiling, count):
    expected = math.copysign(math.log1p(abs(count) / unit) / math.log1p(ceiling / unit), count)
    (normalized,) = LogScale(unit, ceiling).normalize(np.array([count]))
    assert normalized == pytest.approx(expected, rel=1e-6)


def test_log_by_hand():
    normalized = LogScale(unit_counts=1, ceiling_counts=999).normalize(np.array([0, 9, 99, 999, -9, 9999], np.int32))
    np.testing.assert_allclose(normalized, [0, 1 / 3, 2 / 3, 1, -1 / 3, 4 / 3], rtol=1e-6)


@pytest.mark.parametrize("scale", SCALES, ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32, ">i4"])
def test_every_dtype_is_normalized_alike(scale, dtype):
    counts = np.arange(200)
    normalized = scale.normalize(counts.astype(dtype))
    assert normalized.dtype == np.float32
    np.testing.assert_array_equal(normalized, scale.normalize(counts.astype(np.int32)))


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_scales_are_monotonic_and_clip_nothing(scale):
    counts = np.concatenate([-np.logspace(8, 0, 50), [0], np.logspace(0, 8, 50)])
    normalized = scale.normalize(counts)
    assert np.all(np.diff(normalized) > 0)
    assert normalized[-1] > 1
    np.testing.assert_allclose(scale.restore(normalized), counts, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_not_measured_stays_not_measured(scale):
    assert np.array_equal(np.isnan(scale.normalize(np.array([1.0, np.nan], np.float32))), [False, True])
    assert np.array_equal(np.isnan(scale.restore(np.array([0.5, np.nan], np.float32))), [False, True])


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_a_value_does_not_depend_on_its_neighbours_in_memory(scale):
    counts = np.random.default_rng(1).integers(0, 10_000, (7, 37), dtype=np.int32)
    whole = scale.normalize(counts)
    assert np.array_equal(scale.normalize(counts[3, 5:8]), whole[3, 5:8])
    assert np.array_equal(scale.normalize(counts[:, ::5]), whole[:, ::5])
    assert np.array_equal(scale.normalize(np.asfortranarray(counts)), whole)


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_input_is_left_alone(scale):
    values = np.array([1, 2, np.nan], np.float32)
    kept = values.copy()
    scale.normalize(values)
    scale.restore(values)
    np.testing.assert_array_equal(values, kept)


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_scale_survives_json(scale):
    assert scale_from_dict(json.loads(json.dumps(scale.to_dict()))) == scale


def test_integer_constants_are_stored_as_the_same_scale():
    assert scale_from_dict(LogScale(1, 1024).to_dict()) == LogScale(1.0, 1024.0)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"unit_counts": 1.0}, "unknown kind of intensity scale None; known: linear, log"),
        ({"kind": "sqrt"}, "unknown kind of intensity scale 'sqrt'"),
        ({"kind": "log", "unit_counts": 1.0, "ceiling_counts": 9.0, "floor": 1}, r"unknown: \['floor'\]"),
        ({"kind": "log", "unit_counts": 1.0}, r"missing: \['ceiling_counts'\]"),
        ({"kind": "log", "unit_counts": "1", "ceiling_counts": 9.0}, "must be a finite number, got '1'"),
        ({"kind": "linear", "offset_counts": True, "ceiling_counts": 9.0}, "must be a finite number, got True"),
    ],
)
def test_stored_scale_must_be_exactly_known(stored, message):
    with pytest.raises(SettingError, match=message):
        scale_from_dict(stored)


@pytest.mark.parametrize(
    ("kind", "given_constants", "message"),
    [
        (LogScale, (0, 10), "unit_counts > 0"),
        (LogScale, (1, -1), "ceiling_counts > 0"),
        (LogScale, (1, math.inf), "ceiling_counts of LogScale must be a finite number"),
        (LogScale, (1e-200, 1e200), "ratio is outside"),
        (LinearScale, (5, 5), "ceiling_counts > offset_counts"),
        (LinearScale, (math.nan, 5), "offset_counts of LinearScale must be a finite number"),
    ],
)
def test_impossible_constants_are_refused(kind, given_constants, message):
    with pytest.raises(SettingError, match=message):
        kind(*given_constants)


@pytest.mark.parametrize("array", [np.array([True]), np.array([1j]), np.array(["1"]), np.array([None])])
def test_what_is_not_a_real_number_is_refused(array):
    with pytest.raises(ArrayError, match="integers or floats"):
        LogScale().normalize(array)
    with pytest.raises(ArrayError, match="integers or floats"):
        LinearScale().restore(array)


def test_overflow_is_an_error_and_not_infinity():
    with pytest.raises(ArrayError, match="cannot normalize"):
        LogScale(unit_counts=0.01, ceiling_counts=1).normalize(np.array([3e38], np.float32))
    with pytest.raises(ArrayError, match="cannot restore"):
        LogScale().restore(np.array([80.0], np.float32))


def test_a_512_frame_is_normalized_in_milliseconds():
    counts = np.random.default_rng(0).integers(0, 1000, (512, 512)).astype(np.float32)
    durations_s = []
    for _ in range(5):
        start = time.perf_counter()
        LogScale().normalize(counts)
        durations_s.append(time.perf_counter() - start)
    assert min(durations_s) < 0.02
