"""Which pixels were measured, by the automatic rule and by explicit ones."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.errors import SettingsError
from tasks.readers import HeaderFacts, ValidityRule, check_rule, gap_valid, valid_pixels

NOTHING = HeaderFacts()


def _valid(values: list[Any], dtype: str, facts: HeaderFacts = NOTHING, **rule: Any) -> list[bool]:
    counts = np.array([values]).astype(dtype)
    return list(valid_pixels(counts, facts, ValidityRule(**rule))[0].tolist())


@pytest.mark.parametrize(
    ("dtype", "values", "valid"),
    [
        ("int32", [-60, -2, -1, 0, 5, 2**31 - 1], [False, False, False, True, True, True]),
        ("int16", [-(2**15), -1, 0, 2**15 - 1], [False, False, True, True]),
        ("int64", [-(2**63), -1, 0, 2**62], [False, False, True, True]),
        ("uint16", [0, 65534, 65535], [True, True, False]),
        ("uint32", [0, 2**31, 2**32 - 3, 2**32 - 2, 2**32 - 1], [True, True, True, False, False]),
        ("uint8", [0, 255], [True, True]),
        ("float32", [-3.5, 0, np.nan, np.inf, -np.inf, 1e9], [True, True, False, False, False, True]),
    ],
)
def test_automatic_rule_by_type(dtype: str, values: list[Any], valid: list[bool]) -> None:
    assert _valid(values, dtype) == valid


def test_saturation_is_above_the_cutoff() -> None:
    facts = HeaderFacts(count_cutoff=1_382_835)
    values = [-2, 0, 1_382_835, 1_382_836, 4_194_300]
    assert _valid(values, "int32", facts) == [False, True, True, False, False]
    assert _valid(values, "float64", facts) == [True, True, True, False, False]
    assert _valid(values, "int32", facts, saturation="ignore") == [False, True, True, True, True]
    assert _valid(values, "int32", facts, saturation=4_194_299.0) == [False, True, True, True, False]
    assert _valid([7, 2**32 - 1], "uint32", facts) == [True, False]


def test_a_cutoff_beyond_the_type_changes_nothing() -> None:
    facts = HeaderFacts(count_cutoff=1e12)
    assert _valid([-1, 2**31 - 1], "int32", facts) == [False, True]
    assert _valid([0, 65534, 65535], "uint16", facts) == [True, True, False]


def test_negative_values_are_as_the_rule_says() -> None:
    assert _valid([-1, 0], "int32", negative_is_invalid=False) == [True, True]
    assert _valid([-1, 0], "float32", negative_is_invalid=True) == [False, True]


def test_listed_values_replace_the_automatic_ones() -> None:
    assert _valid([0, 255], "uint8", invalid_values=(255,)) == [True, False]
    assert _valid([0, 3, 65535], "uint16", invalid_values=(3,)) == [True, False, True]
    assert _valid([0, 65535], "uint16", invalid_values=()) == [True, True]
    assert _valid([0, 1, 2**63], "uint64", invalid_values=(2**63, 0)) == [False, True, False]


def test_dummy_of_the_header_is_honored_unless_it_is_zero() -> None:
    facts = HeaderFacts(dummy=-10.0, delta_dummy=0.5)
    assert _valid([-10.4, -10, -9, 0], "float32", facts) == [False, False, True, True]
    assert _valid([-10, 0], "float32", facts, dummy="ignore") == [True, True]
    assert _valid([11, 12, 13], "int32", HeaderFacts(dummy=12.0)) == [True, False, True]
    assert _valid([0, 1], "int32", HeaderFacts(dummy=0.0, delta_dummy=0.1)) == [True, True]


@given(
    st.sampled_from(["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]),
    st.sampled_from([True, False, "auto"]),
    st.none() | st.floats(1, 1e20),
    st.lists(st.integers(-3, 300), max_size=3) | st.just("auto"),
    st.integers(0, 2**32),
)
def test_fast_comparisons_equal_the_rule_spelled_out(
    dtype: str, negative: Any, cutoff: float | None, values: Any, seed: int
) -> None:
    limits = np.iinfo(dtype)
    ends = [limits.min, limits.max, limits.max - 1, limits.max - 2, 0, 1]
    drawn = np.random.default_rng(seed).integers(limits.min, limits.max, 40, dtype, endpoint=True).tolist()
    counts = np.array([ends + drawn + [v for v in range(-3, 300) if limits.min <= v <= limits.max]], dtype)
    rule = ValidityRule(negative_is_invalid=negative, invalid_values=values)
    highest = {"uint16": 1, "uint32": 2, "uint64": 2}.get(dtype, 0) if values == "auto" else 0

    def is_valid(value: int) -> bool:
        marked = value > limits.max - highest if values == "auto" else value in values
        saturated = cutoff is not None and value > cutoff
        return not (marked or saturated or (negative is not False and value < 0))

    expected = [is_valid(value) for value in counts[0].tolist()]
    assert valid_pixels(counts, HeaderFacts(count_cutoff=cutoff), rule)[0].tolist() == expected


def test_gaps_come_from_the_name_in_the_header() -> None:
    gap = gap_valid((1679, 1475), "auto", "PILATUS 2M, S/N 24-0104, EMBL")
    assert gap is not None
    assert int((~gap).sum()) == 197_365
    cadmium = gap_valid((1679, 1475), "auto", "PILATUS3 X CdTe 2M")
    assert cadmium is not None
    assert int((~cadmium).sum()) == 211_405
    assert gap_valid((1000, 1475), "auto", "PILATUS 2M") is None  # a region of interest


@pytest.mark.parametrize(
    ("text", "shape", "name"),
    [
        ("PILATUS 300K-20Hz, S/N 3-0140-20Hz", (619, 487), "Pilatus300k"),
        ("PILATUS3 1M", (1043, 981), "Pilatus1M"),
        ("Dectris EIGER2 Si 9M", (3262, 3108), "Eiger2_9M"),
        ("Dectris EIGER2 CdTe 1M", (1062, 1028), "Eiger2CdTe_1M"),
        ("Dectris Eiger 4M", (2167, 2070), "Eiger4M"),
        ("PILATUS 300K-W", (195, 1475), "Pilatus300kw"),
    ],
)
def test_names_in_headers_are_understood(text: str, shape: tuple[int, int], name: str) -> None:
    by_text, by_name = gap_valid(shape, "auto", text), gap_valid(shape, name)
    assert by_text is not None
    assert by_name is not None
    np.testing.assert_array_equal(by_text, by_name)


def test_gaps_by_shape_are_those_that_all_detectors_of_the_shape_have() -> None:
    """A PILATUS with a CdTe sensor has more gaps than one of silicon; its own are marked in its frames."""
    by_shape = gap_valid((1043, 981), "auto", None)
    assert by_shape is not None
    np.testing.assert_array_equal(by_shape, gap_valid((1043, 981), "Pilatus1M"))
    assert not by_shape.flags.writeable


def test_no_gaps_are_guessed_for_other_shapes() -> None:
    for shape in ((512, 512), (195, 487), (2048, 2048), (540, 640)):
        assert gap_valid(shape, "auto", None) is None
    assert gap_valid((1679, 1475), "none", "PILATUS 2M") is None


def test_gaps_that_hold_zero_are_not_measured() -> None:
    """ALS 7.3.3 writes 0 into the gaps of its EDF frames."""
    counts = np.zeros((1043, 981), np.int32)
    assert int((~valid_pixels(counts, NOTHING, ValidityRule())).sum()) == 73_533
    assert valid_pixels(counts, NOTHING, ValidityRule(detector="none")).all()


def test_unknown_and_misfitting_detectors_are_refused_with_names() -> None:
    with pytest.raises(SettingsError, match=r"unknown detector 'Pilatus2N'; similar names: .*Pilatus2M"):
        check_rule(ValidityRule(detector="Pilatus2N"))
    with pytest.raises(SettingsError, match=r"Pilatus2M has frames of \(1679, 1475\).*the scan has \(619, 487\)"):
        check_rule(ValidityRule(detector="Pilatus2M"), (619, 487))
    with pytest.raises(SettingsError, match="the scan has"):
        valid_pixels(np.zeros((4, 4), np.int32), NOTHING, ValidityRule(detector="Pilatus2M"))
    check_rule(ValidityRule(detector="pilatus 2m"), (1679, 1475))
    check_rule(ValidityRule(), (3, 4))


def test_rule_refuses_unknown_settings_and_travels_as_json() -> None:
    with pytest.raises(ValidationError, match="detectr"):
        ValidityRule(detectr="Pilatus2M")  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        ValidityRule(saturation=-5)
    rule = ValidityRule(detector="none", invalid_values=(0, -30), saturation=1000.0)
    assert ValidityRule.model_validate_json(rule.model_dump_json()) == rule
    assert all(field.description for field in ValidityRule.model_fields.values())


def test_asking_for_gaps_warns_of_nothing() -> None:
    """silx, which comes with pyFAI, warns that pyOpenCL is missing."""
    code = (
        "import logging; logging.basicConfig(level='WARNING'); from tasks.readers import gap_valid; gap_valid((195, 9))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("", "")
