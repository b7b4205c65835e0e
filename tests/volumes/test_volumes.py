"""Volumes and labels from whatever they are kept in: the same pixels, and clear words for what cannot be used."""

from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tasks.errors import SettingsError, SourceError
from tasks.settings.segmentation import LabelMeaning
from tasks.volumes import open_volume, read_labels
from tasks.volumes.labels import class_map
from tasks.volumes.volume import Volume

PIXELS = np.random.default_rng(0).integers(0, 1000, size=(5, 6, 7)).astype(np.uint16)
LABEL = np.random.default_rng(1).integers(0, 3, size=(5, 6, 7)).astype(np.uint8)


def write_slices(folder: Path, values: np.ndarray, numbers=None, suffix: str = ".tif") -> Path:
    folder.mkdir()
    for number, values_of_slice in zip(numbers or range(8, 8 + len(values)), values, strict=True):
        path = folder / f"slice_{number}{suffix}"
        if suffix == ".png":
            Image.fromarray(values_of_slice).save(path)
        else:
            tifffile.imwrite(path, values_of_slice)
    return folder


def write_all(folder: Path, values: np.ndarray) -> list[tuple[str, str | None]]:
    """The same volume in everything that is read."""
    tifffile.imwrite(folder / "stack.tif", values)
    write_slices(folder / "tiffs", values)  # 8, 9, 10, ...: the order of text is another one
    zarr.save_array(folder / "array.zarr", values)
    group = zarr.create_group(folder / "group.zarr")
    group.create_array("labels/one", data=values)
    group.create_array("other", data=values[:, ::-1])
    with h5py.File(folder / "file.h5", "w") as file:
        file["entry/volume"] = values
        file["entry/energy"] = 12.4
    return [
        (str(folder / "stack.tif"), None),
        (str(folder / "tiffs"), None),
        (str(folder / "tiffs" / "*.tif"), None),
        (str(folder / "array.zarr"), None),
        (str(folder / "group.zarr"), "labels/one"),
        (str(folder / "file.h5"), None),
        (str(folder / "file.h5"), "entry/volume"),
    ]


@given(st.lists(st.tuples(*[st.tuples(st.integers(0, size - 1), st.integers(1, size)) for size in PIXELS.shape])))
def test_boxes_are_cut_out_whatever_their_order_and_each_slice_is_read_once(places):
    reads: Counter[int] = Counter()

    def read_slice(number: int) -> np.ndarray:
        reads[number] += 1
        return PIXELS[number]

    volume = Volume("here", (5, 6, 7), PIXELS.dtype, tuple(range(5)), False, read_slice)
    boxes = [
        tuple(slice(start, min(start + side, size)) for (start, side), size in zip(place, PIXELS.shape, strict=True))
        for place in places
    ]
    found = dict(volume.boxes(boxes))
    assert sorted(found) == list(range(len(boxes)))
    for number, box in enumerate(boxes):
        np.testing.assert_array_equal(found[number], PIXELS[box])
    assert set(reads) == {z for depth, _, _ in boxes for z in range(depth.start, depth.stop)}
    assert set(reads.values()) <= {1}


def test_a_volume_is_the_same_wherever_it_is_kept(tmp_path):
    for source, dataset in write_all(tmp_path, PIXELS):
        volume = open_volume(source, dataset, "volume")
        assert (volume.shape, volume.dtype) == (PIXELS.shape, PIXELS.dtype), source
        np.testing.assert_array_equal(volume.read(0, 5), PIXELS, err_msg=source)
        np.testing.assert_array_equal(volume.read_slice(3), PIXELS[3], err_msg=source)


def test_single_images_are_volumes_of_one_slice(tmp_path):
    tifffile.imwrite(tmp_path / "one.tif", PIXELS[0])
    zarr.save_array(tmp_path / "one.zarr", PIXELS[0])
    for name in ("one.tif", "one.zarr"):
        np.testing.assert_array_equal(open_volume(str(tmp_path / name)).read(0, 1), PIXELS[:1])


def test_labels_are_the_same_wherever_they_are_kept(tmp_path):
    tifffile.imwrite(tmp_path / "images.tif", PIXELS)
    images = open_volume(str(tmp_path / "images.tif"))
    folder = tmp_path / "labels"
    folder.mkdir()
    kept = [*write_all(folder, LABEL), (str(write_slices(folder / "pngs", LABEL, suffix=".png")), None)]
    for source, dataset in kept:
        expected = np.where(LABEL == 0, 255, LABEL - 1)
        labels = read_labels(source, dataset, images, LabelMeaning())
        np.testing.assert_array_equal(labels.label, expected, err_msg=source)
        assert labels.names == ("class 1", "class 2")
        assert labels.pixels == {"class 1": int((LABEL == 1).sum()), "class 2": int((LABEL == 2).sum())}


def test_labels_of_some_slices_are_matched_by_the_numbers_in_their_names(tmp_path):
    images = open_volume(str(write_slices(tmp_path / "images", PIXELS)))
    some = write_slices(tmp_path / "some", LABEL[[3, 1]], numbers=[11, 9], suffix=".png")
    labels = read_labels(str(some), None, images, LabelMeaning())
    assert (labels.label[[0, 2, 4]] == 255).all()
    np.testing.assert_array_equal(labels.label[[1, 3]], np.where(LABEL == 0, 255, LABEL - 1)[[1, 3]])
    strange = write_slices(tmp_path / "strange", LABEL[:1], numbers=[99])
    with pytest.raises(SourceError, match="no image with the number 99"):
        read_labels(str(write_slices(tmp_path / "two", LABEL[:2], numbers=[9, 99])), None, images, LabelMeaning())
    with pytest.raises(SourceError, match="no image with the number 99"):
        read_labels(str(strange), None, images, LabelMeaning())


def test_a_volume_with_holes_in_its_numbers_is_refused_and_separate_images_are_not(tmp_path):
    folder = str(write_slices(tmp_path / "holes", PIXELS, numbers=[1, 2, 3, 9, 11]))
    with pytest.raises(SourceError, match=r"not contiguous: 9 after 3, 11 after 9 \(2 of 4 steps\)"):
        open_volume(folder, stacked="volume")
    assert open_volume(folder, stacked="separate").numbers == (1, 2, 3, 9, 11)


def test_sources_that_cannot_be_meant_are_refused(tmp_path):
    write_all(tmp_path, PIXELS)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "color.png")
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["a"], file["b"] = PIXELS, PIXELS
    zarr.save_array(tmp_path / "four.zarr", np.zeros((2, 3, 4, 5)))
    cases = [
        (("group.zarr", None), "several arrays; it has labels/one, other"),
        (("group.zarr", "none"), "no array 'none'"),
        (("two.h5", None), r"2 data sets of 2 or 3 axes \(a, b\)"),
        (("two.h5", "c"), "no data set 'c'"),
        (("four.zarr", None), r"axes \(2, 3, 4, 5\)"),
        (("stack.tif", "a"), "no named arrays"),
        (("nothing.tif", None), "no such file"),
        (("color.png", None), r"color image \(RGB\)"),
    ]
    for (name, dataset), message in cases:
        with pytest.raises(SourceError, match=message):
            open_volume(str(tmp_path / name), dataset)


def test_slices_of_several_kinds_or_with_one_number_twice_are_refused(tmp_path):
    tifffile.imwrite(write_slices(tmp_path / "mixed", PIXELS) / "slice_99.tif", PIXELS[0].astype(np.float32))
    with pytest.raises(SourceError, match="several kinds"):
        open_volume(str(tmp_path / "mixed"))
    tifffile.imwrite(write_slices(tmp_path / "double", PIXELS) / "other_9.tif", PIXELS[0])
    with pytest.raises(SourceError, match=r"two files .* number 9"):
        open_volume(str(tmp_path / "double"))


def test_labels_of_another_shape_or_type_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "images.tif", PIXELS)
    images = open_volume(str(tmp_path / "images.tif"))
    cases = [
        (LABEL.transpose(0, 2, 1), "7 x 6 px and the images 6 x 7 px.*fit if y and x are swapped"),
        (LABEL[:4], "4 slices of labels and 5 images"),
        (LABEL.repeat(2, axis=0), "10 slices of labels and 5 images"),
        (LABEL.astype(np.float32), "float32; wanted whole numbers"),
    ]
    for number, (values, message) in enumerate(cases):
        zarr.save_array(tmp_path / f"wrong{number}.zarr", np.ascontiguousarray(values))
        with pytest.raises(SourceError, match=message):
            read_labels(str(tmp_path / f"wrong{number}.zarr"), None, images, LabelMeaning())


@pytest.mark.parametrize(
    ("counts", "meaning", "message"),
    [
        ({0: 9, 1: 3}, {}, "one class, 1, if 0 means unlabelled.*'background': 0, 'object': 1"),
        ({0: 9, 255: 3}, {}, "one class, 0, if 255 means unlabelled"),
        ({0: 9}, {}, "no pixel of .* is labelled"),
        ({255: 9}, {}, "no pixel of .* is labelled"),
        (dict.fromkeys(range(60), 1), {}, "59 different values, more than 32"),
        ({0: 5, 1: 5}, {"classes": {"a": 1, "b": 2}}, "class 'b' has no labelled pixel"),
        ({0: 5, 1: 5, 2: 5, 7: 1}, {"classes": {"a": 1, "b": 2}}, "holds 7, which are no class"),
        ({0: 5, 1: 5, 2: 5, 255: 5}, {"classes": {"a": 1, "b": 2}}, "holds 0, which are no class"),
        ({0: 5, 1: 5, 255: 5}, {"classes": {"a": 0, "b": "rest"}}, "255, which may be an object or mean unlabelled"),
    ],
)
def test_labels_that_may_mean_two_things_are_refused(counts, meaning, message):
    with pytest.raises(SettingsError, match=message):
        class_map(Counter(counts), LabelMeaning(**meaning), "labels.tif")


@pytest.mark.parametrize(
    ("counts", "meaning", "expected"),
    [
        ({0: 9, 1: 3, 2: 3}, {}, {0: 255, 1: 0, 2: 1}),
        ({0: 9, 1: 3, 255: 3}, {}, {0: 0, 1: 1, 255: 255}),
        ({-1: 9, 0: 3, 4: 3}, {}, {-1: 255, 0: 0, 4: 1}),
        ({0: 9, 1: 3}, {"unlabelled": None}, {0: 0, 1: 1}),
        ({0: 9, 1: 3, 2: 3}, {"classes": {"bead": 1, "air": 2}}, {0: 255, 1: 0, 2: 1}),
        ({0: 9, 1: 3, 2: 3}, {"classes": {"air": 2, "bead": 1}}, {0: 255, 1: 1, 2: 0}),
        ({0: 9, 1: 3, 2: 3}, {"classes": {"background": 0, "nucleus": "rest"}}, {0: 0, 1: 1, 2: 1}),
        ({0: 9, 1: 3, 2: 3, 3: 1}, {"classes": {"a": (1, 3), "b": 2}}, {0: 255, 1: 0, 2: 1, 3: 0}),
        ({0: 9, 1: 3, 255: 3}, {"classes": {"a": 0, "b": "rest"}, "unlabelled": None}, {0: 0, 1: 1, 255: 1}),
    ],
)
def test_each_value_is_the_class_that_was_said(counts, meaning, expected):
    values = np.array(sorted(expected)).reshape(-1, 1)
    found = class_map(Counter(counts), LabelMeaning(**meaning), "labels.tif").apply(values)
    assert dict(zip(values[:, 0].tolist(), found[:, 0].tolist(), strict=True)) == expected


def test_a_meaning_that_contradicts_itself_is_refused():
    for wrong in (
        {"classes": {"a": 1}},
        {"classes": {"a": 1, "b": 1}},
        {"classes": {"a": "rest", "b": "rest"}},
        {"classes": {"a": 0, "b": 1}, "unlabelled": 0},
        {"names": ["a"]},
    ):
        with pytest.raises(ValueError, match=r"class|unknown"):
            LabelMeaning(**wrong)
