"""Header texts as detectors really write them."""

import pytest

from tasks.readers import HeaderFacts, header_facts
from tasks.readers.pilatus import pilatus_values
from tasks.readers.sidecar import parse_sidecar


def test_separators_of_pilatus_text_vary() -> None:
    text = (
        "# Pixel_size 172e-6 m x 172e-6 m\r\n# Silicon sensor, thickness 0.000320 m\r\n# Tau = 199.1e-09 s\r\n"
        "# Threshold_setting: 4000 eV\r\n# Gain_setting: autog (vrf = 1.000)\r\n# N_excluded_pixels = 137\r\n"
        "# Flat_field: (nil)\r\n# Trim_directory: p100k0230_T8p0\r\n\x00.3"
    )
    assert pilatus_values(text) == {
        "Pixel_size": "172e-6 m x 172e-6 m",
        "Sensor_material": "Silicon",
        "Sensor_thickness": "0.000320 m",
        "Tau": "199.1e-09 s",
        "Threshold_setting": "4000 eV",
        "Gain_setting": "autog (vrf = 1.000)",
        "N_excluded_pixels": "137",
        "Flat_field": "(nil)",
        "Trim_directory": "p100k0230_T8p0",
    }
    assert pilatus_values("# Threshold_setting 7500 eV") == {"Threshold_setting": "7500 eV"}


def test_text_that_is_not_of_a_pilatus_gives_nothing() -> None:
    assert pilatus_values("n4_glass.edf\r\nDummy values set to 65535") == {}


def test_both_spellings_of_the_als_sidecar() -> None:
    older = parse_sidecar("1455563.000\n365821.000\n6634.418\nX=-80.998\nAlpha_scan_positions=\n")
    newer = parse_sidecar("63805.000\r\n\r\nMotors: 47\r\n\r\nSample X Stage: -13.162500\r\n")
    assert older == {
        "sidecar.1": "1455563.000",
        "sidecar.2": "365821.000",
        "sidecar.3": "6634.418",
        "sidecar.X": "-80.998",
        "sidecar.Alpha_scan_positions": "",
    }
    assert newer == {"sidecar.1": "63805.000", "sidecar.Motors": "47", "sidecar.Sample X Stage": "-13.162500"}


@pytest.mark.parametrize(
    ("header", "fact", "value"),
    [
        ({"Exposure_time": "0.9950000 s"}, "exposure_time_s", 0.995),
        ({"count_time": "10.000000000"}, "exposure_time_s", 10.0),
        ({"entry/instrument/detector/count_time": "500 ms"}, "exposure_time_s", 0.5),
        ({"Exposure_time": "nan"}, "exposure_time_s", None),
        ({"Exposure_time": "3 fortnights"}, "exposure_time_s", None),
        ({"timestamp": "2024-10-26T01:38:05.208"}, "timestamp", "2024-10-26T01:38:05.208"),
        ({"timestamp": "2011/Mar/15 04:11:32.5"}, "timestamp", "2011-03-15T04:11:32.5"),
        ({"Date": "Fri Jul 19 00:42:22 2013"}, "timestamp", "2013-07-19T00:42:22"),
        ({"DateTime": "2018:03:27 13:21:03"}, "timestamp", "2018-03-27T13:21:03"),
        ({"time_of_day": "1465802989.928100"}, "timestamp", "2016-06-13T07:29:49.928100+00:00"),
        ({"time": "1.855371"}, "timestamp", None),
        ({"timestamp": "2024-13-45T99:00:00"}, "timestamp", None),
        ({"Count_cutoff": "1382835 counts"}, "count_cutoff", 1382835.0),
        ({"entry/instrument/detector/saturation_value": "33000"}, "count_cutoff", 33000.0),
        ({"Detector": "PILATUS 2M, S/N 24-0104"}, "detector", "PILATUS 2M, S/N 24-0104"),
        ({"Model": "PILATUS 300K-20Hz"}, "detector", "PILATUS 300K-20Hz"),
        ({"description": "a diatom in phase contrast"}, "detector", None),
        ({"Wavelength": "1.0332 A"}, "wavelength_m", 1.0332e-10),
        ({"WaveLength": "7.69043e-11"}, "wavelength_m", 7.69043e-11),
        ({"Wavelength": "1.0332"}, "wavelength_m", None),
        ({"saxslab.wavelength": "1.3414"}, "wavelength_m", 1.3414e-10),
        ({"Pixel_size": "172e-6 m x 172e-6 m"}, "pixel_size_m", (172e-6, 172e-6)),
        ({"title": "# Pixel_size 172e-6 m x 172e-6 m"}, "pixel_size_m", (172e-6, 172e-6)),
        ({"PSize_1": "2.5e-05", "PSize_2": "5e-05"}, "pixel_size_m", (5e-05, 2.5e-05)),
        ({"a/x_pixel_size": "75 um", "a/y_pixel_size": "0.15 mm"}, "pixel_size_m", (150e-6, 75e-6)),
        ({"Dummy": "-10.0"}, "dummy", -10.0),
        ({"DDummy": "0.1"}, "delta_dummy", 0.1),
    ],
)
def test_facts_are_found_under_their_many_names(header: dict[str, str], fact: str, value: object) -> None:
    facts = header_facts(header)
    assert getattr(facts, fact) == value
    known = {name for name, found in vars(facts).items() if found is not None}
    assert known == ({fact} if value is not None else set())


def test_an_empty_header_states_nothing() -> None:
    assert header_facts({}) == HeaderFacts()
