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

from .headers import IMAGE_MODALITIES, SliceHeader, is_greyscale, is_private_syntax
from .pixels import private_syntax_message
from .series import ImageStack
from .stacks import find_stack_problem, have_same_geometry, max_slices_per_position

_SPLITTING_KEYWORDS = {  # what can tell apart slices that lie at one position, and what a person calls it
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
_ALWAYS_SPLIT = ("ImageType", "EchoTime")  # never differ within one stack, even where its slices lie evenly
_MAX_DIMENSIONS = 9  # of a multi-frame file, looked at
_MIXED_ORIENTATION = 0.1  # difference of direction cosines from which a series has several orientations
_MIN_STACK_SLICES = 3  # slices of a part that is believed to be a stack although its whole was even, or had gaps
_MAX_LISTED = 12


@dataclass(frozen=True, eq=False)
class SeriesSelection:
    """What a study offers. candidates: to be read, the best first, then what replaces it where it is broken;

    series: all, the best first; others: what is no image, told in words; copies: files given twice.
    """

    candidates: list[ImageStack]
    stacks: list[ImageStack]
    other_objects: list[str]
    duplicate_count: int

    def describe_left_out(self, taken: ImageStack) -> list[str]:
        """All but the one that was read, in words, the best first."""
        rest = [series for series in self.stacks if series is not taken]
        told = [f"{series.name}: {'localiser, ' * series.is_localiser}{series.describe()}" for series in rest]
        more = [f"{len(told) - _MAX_LISTED} more series"] if len(told) > _MAX_LISTED + 1 else []
        return (told[:_MAX_LISTED] if more else told) + more + self.other_objects


def select_series(place: Path, headers: Sequence[SliceHeader], requested: str | None = None) -> SeriesSelection:
    """The series to read; FileError when there is none or when studies are mixed.

    wish: what the user wants, the number of a series ("3", or "3.2" for its second stack) or part of what it is called.
    """
    unique = list({(head.instance_uid, head.frame_index): head for head in headers}.values())
    slices = [head for head in unique if min(head.matrix_size) > 0]
    if not slices:
        raise FileError(f"{place}: {_explain_no_slices(headers)}")
    for what, names in (("patients", {h.patient_id for h in slices}), ("studies", {h.study_uid for h in slices})):
        if len(names) > 1:
            raise FileError(f"{place}: holds {len(names)} {what}; give the folder of one")
    groups: dict[str, list[SliceHeader]] = {}
    for head in slices:
        groups.setdefault(head.series_uid, []).append(head)
    every = sorted((part for group in groups.values() for part in split_into_stacks(group)), key=ImageStack.sort_key)
    others = _describe_non_images([head for head in unique if min(head.matrix_size) == 0])
    return SeriesSelection(_candidates(place, every, requested), every, others, len(headers) - len(unique))


def _explain_no_slices(heads: Sequence[SliceHeader]) -> str:
    syntaxes = sorted({head.transfer_syntax for head in heads if is_private_syntax(head.transfer_syntax)})
    if syntaxes:
        return private_syntax_message(syntaxes[0])
    if any(int(head.number("NumberOfFrames")) > 1 and head.modality in ("MR", "CT") for head in heads):
        return "multi-frame DICOM that does not say where its frames lie; export it as single slices"
    what = ", ".join(_describe_non_images(heads))
    return f"its DICOM files hold no grey slices with a place in space ({what}); export the images of the exam"


def _describe_non_images(heads: Iterable[SliceHeader]) -> list[str]:
    """What is no image, counted: "2 SEG objects"."""
    counts = Counter(_object_kind(head) for head in heads)
    return [f"{count} {what}{'s' * (count > 1)}{rest}" for (what, rest), count in sorted(counts.items())]


def _object_kind(head: SliceHeader) -> tuple[str, str]:
    if head.modality not in IMAGE_MODALITIES:
        return f"{head.modality} object", ""
    if "PhotometricInterpretation" in head.attributes and not is_greyscale(head.attributes):
        return "colour picture", ""
    return ("picture" if "Rows" in head.attributes else "file"), " without a place in space"


def _candidates(place: Path, every: list[ImageStack], wish: str | None) -> list[ImageStack]:
    if wish is not None:
        return _find_requested(place, every, wish)[:1]
    usable = [series for series in every if not series.is_localiser]
    if not usable:
        raise FileError(f"{place}: only localisers in it; export the sagittal series, or choose one with --series")
    first = usable[0]
    return [
        first,
        *(
            s
            for s in usable[1:]
            if s.plane == first.plane
            and not s.has_few_slices
            and s.has_mixed_orientations <= first.has_mixed_orientations
        ),
    ]


def _find_requested(place: Path, every: list[ImageStack], wish: str) -> list[ImageStack]:
    wish = wish.strip().lower()
    numbered = [series for series in every if wish in (series.number, series.number.partition(".")[0])]
    named = [series for series in every if wish and wish in f"{series.search_text} {series.variant}".lower()]
    if not numbered and not named:
        names = ", ".join(series.name for series in every[:_MAX_LISTED])
        raise FileError(f"{place}: no series {wish!r} in it; it holds {names}")
    return numbered or named


def split_into_stacks(slices: list[SliceHeader]) -> list[ImageStack]:
    """One series as the stacks that it holds: by place, then by whatever tells apart what does not fit together."""
    places = _group_by_geometry(slices)
    mixed = any(np.abs(part[0].directions - places[0][0].directions).max() > _MIXED_ORIENTATION for part in places)
    found = []
    for place in places:
        where = _describe_group(place, len(slices)) if len(places) > 1 else ""
        found += [(part, ", ".join(filter(None, (where, why)))) for part, why in _split_by_attributes(place)]
    several = len(found) > 1
    return [ImageStack(part, index * several, why, mixed) for index, (part, why) in enumerate(found, 1)]


def _describe_group(place: list[SliceHeader], count: int) -> str:
    rows, columns = place[0].matrix_size
    return f"{ImageStack(place).plane} {columns} x {rows}, {len(place)} of {count} slices"


def _group_by_geometry(slices: list[SliceHeader]) -> list[list[SliceHeader]]:
    groups: list[list[SliceHeader]] = []
    for head in slices:
        group = next((group for group in groups if have_same_geometry(group[0], head)), None)
        if group is None:
            groups.append([head])
        else:
            group.append(head)
    return groups


def _split_by_attributes(slices: list[SliceHeader]) -> Iterator[tuple[list[SliceHeader], str]]:
    """Slices of one orientation as even stacks, each with what tells it from the others; as one where nothing does."""
    broken = find_stack_problem(slices) is not None
    for name, value in _splitting_attributes(broken):
        groups: dict[Any, list[SliceHeader]] = {}
        for head in slices:
            groups.setdefault(value(head), []).append(head)
        if len(groups) > 1 and _is_plausible_split(slices, list(groups.values())):
            shown = _format_keys(list(groups))
            for key, group in groups.items():
                for part, why in _split_by_attributes(group):
                    yield part, f"{name} {shown[key]}" + f", {why}" * bool(why)
            return
    yield slices, ""


def _splitting_attributes(broken: bool) -> Iterator[tuple[str, Callable[[SliceHeader], Any]]]:
    for keyword, name in _SPLITTING_KEYWORDS.items():
        if broken or keyword in _ALWAYS_SPLIT:
            yield name, partial(_attribute, keyword)
    for dimension in range(_MAX_DIMENSIONS * broken):
        yield f"dimension {dimension + 1}", partial(_dimension_index, dimension)


def _attribute(keyword: str, head: SliceHeader) -> Any:
    return head.attributes.get(keyword)


def _dimension_index(dimension: int, head: SliceHeader) -> Any:
    values = head.attributes.get("DimensionIndexValues", ())
    values = values if isinstance(values, tuple) else (values,)
    return values[dimension] if dimension < len(values) else None


def _is_plausible_split(whole: list[SliceHeader], groups: list[list[SliceHeader]]) -> bool:
    """Whether a split makes sense: one group for each of the slices at a position, or each group a stack."""
    many = max_slices_per_position(whole)
    if many > 1:
        return len(groups) <= many
    return all(len(group) >= _MIN_STACK_SLICES and find_stack_problem(group) is None for group in groups)


def _format_keys(keys: list[Any]) -> dict[Any, str]:
    """Values that differ, in words; of tuples what is not the same in all."""
    if not all(isinstance(key, tuple) for key in keys):
        return {key: f"{key:g}" if isinstance(key, float) else "none" if key is None else str(key) for key in keys}
    common = set.intersection(*(set(key) for key in keys))
    return {key: " ".join(str(word) for word in key if word not in common) or "plain" for key in keys}
