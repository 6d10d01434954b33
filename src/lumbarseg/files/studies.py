"""The series of a study: which stacks each one holds, which is read, and what is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg.errors import FileError

from .headers import IMAGES, Header, is_grey, is_private
from .pixels import private
from .series import Series
from .stacks import alike, crowd, uneven

_KEYS = {  # what can tell apart slices that lie at one position, and what a person calls it
    "ImageType": "image type",
    "EchoTime": "echo time",
    "EchoNumbers": "echo",
    "TemporalPositionIdentifier": "time point",
    "InversionTime": "inversion time",
    "FlipAngle": "flip angle",
    "DiffusionBValue": "b value",
    "TriggerTime": "trigger time",
    "StackID": "stack",
    "AcquisitionNumber": "acquisition",
}
_EVER = ("ImageType", "EchoTime")  # never differ within one stack, even where its slices lie evenly
_MOST_DIMENSIONS = 9  # of a multi-frame file, looked at
_DIRECTIONS = 0.1  # difference of direction cosines from which a series has several orientations
_FEWEST = 3  # slices of a part that is believed to be a stack although its whole was even, or had gaps
_MOST_TOLD = 12


@dataclass(frozen=True, eq=False)
class Choice:
    """What a study offers. candidates: to be read, the best first, then what replaces it where it is broken;

    series: all, the best first; others: what is no image, told in words; copies: files given twice.
    """

    candidates: list[Series]
    series: list[Series]
    others: list[str]
    copies: int

    def left_out(self, taken: Series) -> list[str]:
        """All but the one that was read, in words, the best first."""
        rest = [series for series in self.series if series is not taken]
        told = [f"{series.name}: {'localiser, ' * series.localiser}{series.told()}" for series in rest]
        more = [f"{len(told) - _MOST_TOLD} more series"] if len(told) > _MOST_TOLD + 1 else []
        return (told[:_MOST_TOLD] if more else told) + more + self.others


def choose(place: Path, heads: Sequence[Header], wish: str | None = None) -> Choice:
    """The series to read; FileError when there is none or when studies are mixed.

    wish: what the user wants, the number of a series ("3", or "3.2" for its second stack) or part of what it is called.
    """
    unique = list({(head.instance, head.frame): head for head in heads}.values())
    slices = [head for head in unique if min(head.size) > 0]
    if not slices:
        raise FileError(f"{place}: {_without_slices(heads)}")
    for what, names in (("patients", {h.patient for h in slices}), ("studies", {h.study for h in slices})):
        if len(names) > 1:
            raise FileError(f"{place}: holds {len(names)} {what}; give the folder of one")
    groups: dict[str, list[Header]] = {}
    for head in slices:
        groups.setdefault(head.series, []).append(head)
    every = sorted((part for group in groups.values() for part in parts(group)), key=Series.order)
    others = _others([head for head in unique if min(head.size) == 0])
    return Choice(_candidates(place, every, wish), every, others, len(heads) - len(unique))


def _without_slices(heads: Sequence[Header]) -> str:
    syntaxes = sorted({head.syntax for head in heads if is_private(head.syntax)})
    if syntaxes:
        return private(syntaxes[0])
    if any(int(head.number("NumberOfFrames")) > 1 and head.modality in ("MR", "CT") for head in heads):
        return "multi-frame DICOM that does not say where its frames lie; export it as single slices"
    what = ", ".join(_others(heads))
    return f"its DICOM files hold no grey slices with a place in space ({what}); export the images of the exam"


def _others(heads: Iterable[Header]) -> list[str]:
    """What is no image, counted: "2 SEG objects"."""
    counts = Counter(_kind(head) for head in heads)
    return [f"{count} {what}{'s' * (count > 1)}{rest}" for (what, rest), count in sorted(counts.items())]


def _kind(head: Header) -> tuple[str, str]:
    if head.modality not in IMAGES:
        return f"{head.modality} object", ""
    if "PhotometricInterpretation" in head.values and not is_grey(head.values):
        return "colour picture", ""
    return ("picture" if "Rows" in head.values else "file"), " without a place in space"


def _candidates(place: Path, every: list[Series], wish: str | None) -> list[Series]:
    if wish is not None:
        return _wished(place, every, wish)[:1]
    usable = [series for series in every if not series.localiser]
    if not usable:
        raise FileError(f"{place}: only localisers in it; export the sagittal series, or choose one with --series")
    first = usable[0]
    return [first, *(s for s in usable[1:] if s.plane == first.plane and not s.few and s.mixed <= first.mixed)]


def _wished(place: Path, every: list[Series], wish: str) -> list[Series]:
    wish = wish.strip().lower()
    numbered = [series for series in every if wish in (series.number, series.number.partition(".")[0])]
    named = [series for series in every if wish and wish in f"{series.text} {series.why}".lower()]
    if not numbered and not named:
        names = ", ".join(series.name for series in every[:_MOST_TOLD])
        raise FileError(f"{place}: no series {wish!r} in it; it holds {names}")
    return numbered or named


def parts(slices: list[Header]) -> list[Series]:
    """One series as the stacks that it holds: by place, then by whatever tells apart what does not fit together."""
    places = _by_place(slices)
    mixed = any(np.abs(part[0].directions - places[0][0].directions).max() > _DIRECTIONS for part in places)
    found = []
    for place in places:
        where = _where(place, len(slices)) if len(places) > 1 else ""
        found += [(part, ", ".join(filter(None, (where, why)))) for part, why in _told_apart(place)]
    several = len(found) > 1
    return [Series(part, index * several, why, mixed) for index, (part, why) in enumerate(found, 1)]


def _where(place: list[Header], count: int) -> str:
    rows, columns = place[0].size
    return f"{Series(place).plane} {columns} x {rows}, {len(place)} of {count} slices"


def _by_place(slices: list[Header]) -> list[list[Header]]:
    groups: list[list[Header]] = []
    for head in slices:
        group = next((group for group in groups if alike(group[0], head)), None)
        if group is None:
            groups.append([head])
        else:
            group.append(head)
    return groups


def _told_apart(slices: list[Header]) -> Iterator[tuple[list[Header], str]]:
    """Slices of one orientation as even stacks, each with what tells it from the others; as one where nothing does."""
    broken = uneven(slices) is not None
    for name, value in _values(broken):
        groups: dict[Any, list[Header]] = {}
        for head in slices:
            groups.setdefault(value(head), []).append(head)
        if len(groups) > 1 and _believed(slices, list(groups.values())):
            shown = _shown(list(groups))
            for key, group in groups.items():
                for part, why in _told_apart(group):
                    yield part, f"{name} {shown[key]}" + f", {why}" * bool(why)
            return
    yield slices, ""


def _values(broken: bool) -> Iterator[tuple[str, Callable[[Header], Any]]]:
    for keyword, name in _KEYS.items():
        if broken or keyword in _EVER:
            yield name, partial(_value, keyword)
    for dimension in range(_MOST_DIMENSIONS * broken):
        yield f"dimension {dimension + 1}", partial(_index, dimension)


def _value(keyword: str, head: Header) -> Any:
    return head.values.get(keyword)


def _index(dimension: int, head: Header) -> Any:
    values = head.values.get("DimensionIndexValues", ())
    values = values if isinstance(values, tuple) else (values,)
    return values[dimension] if dimension < len(values) else None


def _believed(whole: list[Header], groups: list[list[Header]]) -> bool:
    """Whether a split makes sense: one group for each of the slices at a position, or each group a stack."""
    many = crowd(whole)
    if many > 1:
        return len(groups) <= many
    return all(len(group) >= _FEWEST and uneven(group) is None for group in groups)


def _shown(keys: list[Any]) -> dict[Any, str]:
    """Values that differ, in words; of tuples what is not the same in all."""
    if not all(isinstance(key, tuple) for key in keys):
        return {key: f"{key:g}" if isinstance(key, float) else "none" if key is None else str(key) for key in keys}
    common = set.intersection(*(set(key) for key in keys))
    return {key: " ".join(str(word) for word in key if word not in common) or "plain" for key in keys}
