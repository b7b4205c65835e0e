"""Labels as people draw them, made into one class per pixel; what a value means is said, or can mean one thing only."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import SettingsError, SourceError
from tasks.settings.segmentation import REST, LabelMeaning, values_of
from tasks.volumes.volume import Volume, open_volume

IGNORE = 255
MOST_CLASSES = 32
"""More values than this are taken for numbers of objects."""


@dataclass(frozen=True)
class ClassMap:
    """Names of the classes in their order, the class of each value, and the values that mean "not labelled"."""

    names: tuple[str, ...]
    classes: dict[int, int]
    unlabelled: frozenset[int]

    @property
    def said(self) -> dict[str, str]:
        """The values of each class, in words.

        >>> ClassMap(("a", "b"), {0: 0, 1: 1, 3: 1}, frozenset()).said
        {'a': '0', 'b': '1, 3'}
        """
        words = {}
        for number, name in enumerate(self.names):
            values = sorted(value for value, found in self.classes.items() if found == number)
            shown = ", ".join(map(str, values[:8]))
            words[name] = shown if len(values) <= 8 else f"{shown}, … ({len(values)} values)"
        return words

    def apply(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Classes, 255 where there is no label, of values that are all known."""
        found, inverse = np.unique(values, return_inverse=True)
        numbers = [self.classes.get(value, IGNORE) for value in found.tolist()]
        return np.asarray(numbers, np.uint8)[inverse].reshape(values.shape)


@dataclass(frozen=True)
class Labels:
    """label: (z, y, x) uint8 of the images' shape, class of each pixel, 255 where there is none."""

    names: tuple[str, ...]
    label: NDArray[np.uint8]
    meaning: ClassMap

    @property
    def pixels(self) -> dict[str, int]:
        """Labelled pixels of each class."""
        counts = np.bincount(self.label.ravel(), minlength=IGNORE + 1)
        return {name: int(counts[number]) for number, name in enumerate(self.names)}


def read_labels(source: str, dataset: str | None, images: Volume, meaning: LabelMeaning) -> Labels:
    """The labels for some images.

    Files may label some of the slices only; they are matched by the numbers in their names.
    Raises `SourceError` or `SettingsError` for labels of another shape or kind, without labelled pixels or of one class
    only, and for values that have no meaning or whose meaning is not clear.
    """
    labels = open_volume(source, dataset)
    if labels.dtype.kind not in "biu":
        raise SourceError(f"the labels in {source} are {labels.dtype}; wanted whole numbers, one for each pixel")
    places = _places(labels, images)
    counts: Counter[int] = Counter()
    for number in range(labels.shape[0]):
        values, pixels = np.unique(labels.read_slice(number), return_counts=True)
        counts.update(dict(zip(map(int, values), map(int, pixels), strict=True)))
    known = class_map(counts, meaning, source)
    label = np.full(images.shape, IGNORE, np.uint8)
    for number, place in enumerate(places):
        label[place] = known.apply(labels.read_slice(number))
    return Labels(known.names, label, known)


def class_map(counts: Counter[int], meaning: LabelMeaning, source: str) -> ClassMap:
    """What each value stands for. counts: pixels of each value. Raises `SettingsError`, see `read_labels`."""
    unlabelled = _unlabelled(counts, meaning, source)
    values = sorted(value for value in counts if value not in unlabelled)
    shown = ", ".join(f"{value} ({counts[value]:,} px)" for value in sorted(counts)[:12])
    if not values:
        raise SettingsError(
            f"no pixel of {source} is labelled: it holds {shown}, and {_said(unlabelled)} means unlabelled; label some "
            "pixels of each class, or say another meaning={'unlabelled': …}"
        )
    if meaning.classes is None:
        return ClassMap(_names(values, unlabelled, shown, source), {v: k for k, v in enumerate(values)}, unlabelled)
    return ClassMap(tuple(meaning.classes), _named(meaning.classes, values, shown, source), unlabelled)


def _named(given: dict[str, Any], values: list[int], shown: str, source: str) -> dict[int, int]:
    """The class of each value, as the user says it."""
    names = tuple(given)
    classes = {value: number for number, name in enumerate(names) for value in values_of(given[name])}
    left = [value for value in values if value not in classes]
    rest = [number for number, name in enumerate(names) if given[name] == REST]
    if left and not rest:
        raise SettingsError(
            f"{source} holds {', '.join(map(str, left[:8]))}, which are no class and not unlabelled; it holds {shown}; "
            f"the classes are {given}. Name them too, or make one class 'rest'"
        )
    classes |= {value: number for value in left for number in rest}
    there = {classes[value] for value in values}
    if missing := [name for number, name in enumerate(names) if number not in there]:
        raise SettingsError(
            f"class {', '.join(map(repr, missing))} has no labelled pixel in {source}, which holds {shown}; label "
            "some, or leave the class out"
        )
    return classes


def _unlabelled(counts: Counter[int], meaning: LabelMeaning, source: str) -> frozenset[int]:
    if meaning.unlabelled != "auto":
        return frozenset() if meaning.unlabelled is None else frozenset({meaning.unlabelled})
    named = {value for given in (meaning.classes or {}).values() for value in values_of(given)}
    marks = frozenset({value for value in (IGNORE, -1) if value in counts} - named)
    if marks and REST in (meaning.classes or {}).values():
        raise SettingsError(
            f"{source} holds {_said(marks)}, which may be an object or mean unlabelled, and one class is all that is "
            "not named; say which by meaning={'unlabelled': …}, with None where every pixel is labelled"
        )
    return marks or frozenset({0} - named)


def _names(values: list[int], unlabelled: frozenset[int], shown: str, source: str) -> tuple[str, ...]:
    """Names for classes that nobody named; refused where the labels can be read in more than one way."""
    if len(values) == 1:
        other = min(unlabelled)
        raise SettingsError(
            f"{source} holds {shown}: one class, {values[0]}, if {_said(unlabelled)} means unlabelled, and nothing can "
            f"be learned from one. If {other} is a class, too, and every pixel is labelled, give meaning={{'classes': "
            f"{{'background': {other}, 'object': {values[0]}}}, 'unlabelled': None}} (or the other way round); else "
            "label some background, with a value of its own"
        )
    if len(values) > MOST_CLASSES:
        raise SettingsError(
            f"{source} holds {len(values)} different values, more than {MOST_CLASSES}; if they number objects, give "
            "meaning={'classes': {'background': 0, 'object': 'rest'}, 'unlabelled': None}"
        )
    return tuple(f"class {value}" for value in values)


def _said(unlabelled: frozenset[int]) -> str:
    return " or ".join(map(str, sorted(unlabelled))) or "nothing"


def _places(labels: Volume, images: Volume) -> list[int]:
    """Which slice of the images each slice of the labels belongs to."""
    if labels.shape[1:] != images.shape[1:]:
        swapped = " They fit if y and x are swapped." if labels.shape[:0:-1] == images.shape[1:] else ""
        raise SourceError(
            f"the labels are {labels.shape[1]} x {labels.shape[2]} px and the images {images.shape[1]} x "
            f"{images.shape[2]} px (y, x); they must be the same.{swapped}"
        )
    count, wanted = labels.shape[0], images.shape[0]
    both = labels.numbered and images.numbered
    if labels.numbers == images.numbers or (count == wanted and (count == 1 or not both)):
        return list(range(count))
    where = {number: place for place, number in enumerate(images.numbers)}
    strange = [number for number in labels.numbers if number not in where]
    if strange or count > wanted or not labels.numbered:
        raise SourceError(
            f"{count} slices of labels and {wanted} images"
            + (f": there is no image with the number {strange[0]}" if strange and labels.numbered else "")
            + "; give a label for each image, or some of them in files with the numbers of their images"
        )
    return [where[number] for number in labels.numbers]
