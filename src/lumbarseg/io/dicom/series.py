"""The image stacks of a study: name, plane and contrast of each, and which one to read first."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from lumbarseg.volume import Array

from ..raw_image import Metadata
from .headers import SliceHeader

_PLANES = ("sagittal", "coronal", "axial")
_LOCALISER = re.compile(r"(^|[^a-z])(loc|localizer|localiser|scout|survey|topogram|pilot)([^a-z]|$)")
_CONTRASTS = {  # by the description; the first that matches
    "fat-suppressed": re.compile(r"stir|tirm|fat.?sat|(^|[^a-z])(ir|fs|spair|spir|dixon|water|fat)([^a-z]|$)"),
    "gradient echo": re.compile(r"t2[ _-]?(\*|star)|medic|merge|(^|[^a-z])(gre|ffe)([^a-z]|$)"),
    "T2": re.compile(r"t2"),
    "T1": re.compile(r"t1"),
}
_CONTRAST_RANK = {"T2": 0, "T1": 1}  # of a contrast; all others after them
_NON_MAGNITUDE_TYPES = {"P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY", "VELOCITY MAP"}
_DIXON_RANK = {"W": 1, "WATER": 1, "OP": 2, "OPP_PHASE": 2, "OUT_PHASE": 2, "F": 3, "FAT": 3}  # worse than in phase
_LUMBAR = re.compile(r"lumb|lspine|l[ _-]spine|(^|[^a-z])(lws|ls|lwk)([^a-z]|$)")
_OTHER_REGION = re.compile(
    r"cerv|thor|dors|[ct]spine|[ct][ _-]spine|brain|head|knee|(^|[^a-z])(hws|bws|hwk|bwk)([^a-z]|$)"
)
_TYPICAL_T2_ECHO = 100.0  # ms, of a T2 exam: which of several echoes is taken
_MIN_EXAM_SLICES = 5  # slices below which a stack is hardly an exam
_TEXT_KEYWORDS = ("SeriesDescription", "ProtocolName", "SequenceName")
_METADATA_TEXTS = {
    "series": "SeriesDescription",
    "sequence": "SequenceName",
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "body_part": "BodyPartExamined",
}
_METADATA_NUMBERS = {
    "series_number": "SeriesNumber",
    "echo_time_ms": "EchoTime",
    "repetition_time_ms": "RepetitionTime",
    "inversion_time_ms": "InversionTime",
    "flip_angle_degrees": "FlipAngle",
    "slice_thickness_mm": "SliceThickness",
    "field_strength_tesla": "MagneticFieldStrength",
}


@dataclass(frozen=True, eq=False)
class ImageStack:
    """Slices of one series that make a stack.

    stack_number: among the stacks of its series, from 1; 0 if it is the only one. variant: what distinguishes it from
    the others, for example "sagittal" or "echo time 101". has_mixed_orientations: whether the slices of its series have
    several orientations.
    """

    slices: list[SliceHeader]
    stack_number: int = 0
    variant: str = ""
    has_mixed_orientations: bool = False

    @property
    def number(self) -> str:
        """Number of the series, and of the stack in it: "3" or "3.2"; "?" if it has none."""
        return (self.slices[0].text("SeriesNumber") or "?") + (f".{self.stack_number}" if self.stack_number else "")

    @property
    def name(self) -> str:
        """Name in messages: number, description and variant."""
        description = self.slices[0].text("SeriesDescription")
        return (
            f"series {self.number}"
            + f" '{description}'" * bool(description)
            + f" ({self.variant})" * bool(self.variant)
        )

    @property
    def plane(self) -> str:
        """Plane by the direction of the normal: sagittal, coronal or axial."""
        return _PLANES[int(np.abs(self.slices[0].normal).argmax())]

    @property
    def search_text(self) -> str:
        """Description, protocol and sequence in small letters."""
        return " ".join(map(self.slices[0].text, _TEXT_KEYWORDS)).lower()

    @property
    def body_region_rank(self) -> int:
        """0 for the lumbar spine by its description or body part, 1 if that is unknown, 2 for another region."""
        text = f"{self.search_text} {self.slices[0].text('BodyPartExamined').lower()}"
        return 0 if _LUMBAR.search(text) else 2 if _OTHER_REGION.search(text) else 1

    @property
    def centre(self) -> Array:
        """Centre of the middle slice, LPS mm."""
        first = self.slices[len(self.slices) // 2]
        half = (np.array(first.matrix_size[::-1]) - 1) / 2 * np.array(first.spacing[::-1])
        return first.position + half @ first.directions

    @property
    def is_localiser(self) -> bool:
        """Whether the series only served to plan the others."""
        return "LOCALIZER" in self.slices[0].image_type or _LOCALISER.search(self.search_text) is not None

    @property
    def contrast(self) -> str:
        """T2, T1, fat-suppressed, gradient echo or other, by the description, else by echo and repetition time."""
        for keyword in _TEXT_KEYWORDS:
            text = self.slices[0].text(keyword).lower()
            for contrast, pattern in _CONTRASTS.items():
                if pattern.search(text):
                    return contrast
        echo, repetition = self._times
        if echo >= 60 and repetition >= 1500:
            return "T2"
        return "T1" if 0 < echo <= 30 and 0 < repetition <= 1200 else "other"

    @property
    def _times(self) -> tuple[float, float]:
        """Echo and repetition time in ms, 0 if unknown."""
        return self.slices[0].number("EchoTime"), self.slices[0].number("RepetitionTime")

    @property
    def has_few_slices(self) -> bool:
        """Whether it has too few slices for an exam if there are other stacks."""
        return len(self.slices) < _MIN_EXAM_SLICES

    def describe(self) -> str:
        """Return plane, contrast and number of slices in words."""
        echo, repetition = self._times
        times = f" (TE {echo:g}, TR {repetition:g} ms)" if echo and repetition else ""
        return f"{self.plane}, {self.contrast}{times}, {len(self.slices)} slice" + "s" * (len(self.slices) != 1)

    def sort_key(self, is_upper_station: bool = False) -> tuple[float, ...]:
        """Return a key that sorts the stack to read first to the front.

        is_upper_station: another sagittal stack lies farther down the body.
        """
        first = self.slices[0]
        image_type = set(first.image_type)
        return (
            self.is_localiser,
            self.has_mixed_orientations,
            self.plane != "sagittal",
            self.has_few_slices,
            self.body_region_rank,
            is_upper_station,
            bool(image_type & _NON_MAGNITUDE_TYPES),
            _CONTRAST_RANK.get(self.contrast, len(_CONTRAST_RANK)),
            max((_DIXON_RANK.get(word, 0) for word in image_type), default=0),
            "DERIVED" in image_type,
            -len(self.slices),
            first.number("SeriesNumber"),
            abs(first.number("EchoTime", _TYPICAL_T2_ECHO) - _TYPICAL_T2_ECHO),
            self.stack_number,
        )

    def metadata(self, slice_distance: float) -> Metadata:
        """Return facts for the report, without name, identifier or dates of the patient; slice_distance: mm."""
        first = self.slices[0]
        texts = {name: first.attributes.get(keyword) for name, keyword in _METADATA_TEXTS.items()}
        numbers = {name: first.number(keyword) for name, keyword in _METADATA_NUMBERS.items()}
        return {
            "format": "DICOM",
            "modality": first.modality,
            "plane": self.plane,
            "contrast": self.contrast,
            "slice_distance_mm": round(slice_distance, 4),
            **{name: text for name, text in texts.items() if isinstance(text, str)},
            **{name: number for name, number in numbers.items() if number},
        }
