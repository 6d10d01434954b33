"""Select the stack of a study to read, and list what is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from lumbarseg.errors import FileError

from ..file_access import open_for_reading
from .headers import IMAGE_MODALITIES, SliceHeader, is_greyscale, is_private_syntax
from .pixels import private_syntax_message
from .series import ImageStack
from .stacks import split_into_stacks

_STATION_DISTANCE = 100.0  # mm between the centres of two stations, at least
_MAX_LISTED = 12  # stacks in a message


@dataclass(frozen=True, eq=False)
class SeriesSelection:
    """The content of a study.

    candidates: stacks to read, the best first, then those that replace it if it is broken. stacks: all, the best
    first. other_objects: descriptions of what is not an image. duplicate_count: files that are copies of others.
    """

    candidates: list[ImageStack]
    stacks: list[ImageStack]
    other_objects: list[str]
    duplicate_count: int

    def describe_left_out(self, selected: ImageStack) -> list[str]:
        """Return descriptions of all but the selected stack, the best first."""
        lines = [
            f"{stack.name}: {'localiser, ' * stack.is_localiser}{stack.describe()}"
            for stack in self.stacks
            if stack is not selected
        ]
        if len(lines) > _MAX_LISTED + 1:
            lines[_MAX_LISTED:] = [f"{len(lines) - _MAX_LISTED} more series"]
        return lines + self.other_objects


def select_series(path: Path, headers: Sequence[SliceHeader], requested: str | None = None) -> SeriesSelection:
    """Select the series to read from the headers of a study.

    Parameters
    ----------
    requested
        The number of a series ("3", or "3.2" for its second stack), or part of its name; None selects the best.

    Raises
    ------
    FileError
        If there is no such series, no image, or several patients or studies; the message begins with `path`.
    """
    unique = _drop_file_copies(headers)
    slices = [header for header in unique if min(header.matrix_size) > 0]
    if not slices:
        raise FileError(f"{path}: {_explain_no_slices(headers)}")
    for content, keyword in (("patients", "PatientID"), ("studies", "StudyInstanceUID")):
        counts = Counter(header.text(keyword) for header in slices)
        if len(counts) > 1 and (keyword == "PatientID" or max(counts.values()) > 1):  # not a study UID for each slice
            raise FileError(f"{path}: holds {len(counts)} {content}; give the folder of one")
    series = _group_into_series(slices)
    stacks = sort_stacks([stack for group in series for stack in split_into_stacks(group)])
    others = _describe_non_images(header for header in unique if min(header.matrix_size) == 0)
    return SeriesSelection(_candidates(path, stacks, requested), stacks, others, len(headers) - len(unique))


def sort_stacks(stacks: Sequence[ImageStack]) -> list[ImageStack]:
    """Sort the stacks of a study so that the one to read comes first: sagittal, of the lumbar spine, T2."""
    sagittal = [s for s in stacks if s.plane == "sagittal" and not (s.is_localiser or s.has_few_slices)]
    lowest = min((stack.centre[2] for stack in sagittal), default=0.0)
    return sorted(stacks, key=lambda stack: stack.sort_key(bool(stack.centre[2] > lowest + _STATION_DISTANCE)))


def _drop_file_copies(headers: Sequence[SliceHeader]) -> list[SliceHeader]:
    """Return the headers without those of files that repeat another byte for byte.

    Identifiers alone are not trusted: some software gives all slices one SOPInstanceUID, or two series the same ones.
    """
    same_identity: dict[Any, list[SliceHeader]] = {}
    for header in headers:
        key = (header.instance_uid, header.frame_index, header.series_uid, header.position.tobytes())
        same_identity.setdefault(key, []).append(header)
    unique: list[SliceHeader] = []
    for group in same_identity.values():
        unique += group if len(group) == 1 else {_digest(header.path): header for header in group}.values()
    return unique


def _digest(path: Path) -> str:
    if path.is_dir():  # metadata from a server, without files
        return ""
    with open_for_reading(path) as stream:
        return sha256(stream.read()).hexdigest()


def _group_into_series(slices: Sequence[SliceHeader]) -> list[list[SliceHeader]]:
    """Return the slices by SeriesInstanceUID and number; joins slices that have a UID each but one series number."""
    by_uid: dict[Any, list[SliceHeader]] = {}
    for header in slices:
        by_uid.setdefault((header.series_uid, header.text("SeriesNumber")), []).append(header)
    series: dict[Any, list[SliceHeader]] = {}
    for key, group in by_uid.items():
        is_single = len(group) == 1
        series.setdefault((key[1], group[0].text("SeriesDescription")) if is_single else key, []).extend(group)
    return list(series.values())


def _explain_no_slices(headers: Sequence[SliceHeader]) -> str:
    private = sorted({header.transfer_syntax for header in headers if is_private_syntax(header.transfer_syntax)})
    if private:
        return private_syntax_message(private[0])
    if any(int(header.number("NumberOfFrames")) > 1 and header.modality in ("MR", "CT") for header in headers):
        return "multi-frame DICOM without the positions of its frames; export it as single slices"
    content = ", ".join(_describe_non_images(headers))
    return f"its DICOM files hold no grey slices with a position in space ({content}); export the images of the exam"


def _describe_non_images(headers: Iterable[SliceHeader]) -> list[str]:
    """Return counts of what is not an image, for example "2 SEG objects"."""
    counts = Counter(map(_object_kind, headers))
    return [f"{count} {noun}{'s' * (count > 1)}{rest}" for (noun, rest), count in sorted(counts.items())]


def _object_kind(header: SliceHeader) -> tuple[str, str]:
    if header.modality not in IMAGE_MODALITIES:
        return f"{header.modality} object", ""
    if "PhotometricInterpretation" in header.attributes and not is_greyscale(header.attributes):
        return "colour picture", ""
    missing = ", ".join(header.missing_geometry) or "a valid position in space"
    return ("picture" if "Rows" in header.attributes else "file"), f" without {missing}"


def _candidates(path: Path, stacks: list[ImageStack], requested: str | None) -> list[ImageStack]:
    if requested is not None:
        return _find_requested(path, stacks, requested)[:1]
    usable = [stack for stack in stacks if not stack.is_localiser]
    if not usable:
        raise FileError(f"{path}: only localisers in it; export the sagittal series, or choose one with --series")
    best, *others = usable
    return [
        best,
        *(
            stack
            for stack in others
            if stack.plane == best.plane
            and not stack.has_few_slices
            and stack.has_mixed_orientations <= best.has_mixed_orientations
        ),
    ]


def _find_requested(path: Path, stacks: list[ImageStack], requested: str) -> list[ImageStack]:
    text = requested.strip().lower()
    by_number = [stack for stack in stacks if text in (stack.number, stack.number.partition(".")[0])]
    by_name = [stack for stack in stacks if text and text in f"{stack.search_text} {stack.variant}".lower()]
    if not by_number and not by_name:
        names = ", ".join(stack.name for stack in stacks[:_MAX_LISTED])
        raise FileError(f"{path}: no series {text!r} in it; it holds {names}")
    return by_number or by_name
