"""A series of a study as one that may be read: what it is called, its plane and contrast, its rank among others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from .headers import SliceHeader

_PLANES = ("sagittal", "coronal", "axial")
_LOCALISER = re.compile(r"(^|[^a-z])(loc|localizer|localiser|scout|survey|topogram|pilot)([^a-z]|$)")
_CONTRASTS = {  # by the description; the first that fits
    "fat-suppressed": re.compile(r"stir|tirm|fat.?sat|(^|[^a-z])(ir|fs|spair|spir|dixon|water|fat)([^a-z]|$)"),
    "gradient echo": re.compile(r"t2[ _-]?(\*|star)|medic|merge|(^|[^a-z])(gre|ffe)([^a-z]|$)"),
    "T2": re.compile(r"t2"),
    "T1": re.compile(r"t1"),
}
_CONTRAST_RANK = {"T2": 0, "T1": 1}  # of a contrast; all others after them
_NON_MAGNITUDE_TYPES = {
    "P",
    "PHASE",
    "PHASE MAP",
    "R",
    "REAL",
    "I",
    "IMAGINARY",
    "VELOCITY MAP",
}  # words of an image type
_DIXON_RANK = {"W": 1, "WATER": 1, "OP": 2, "OPP_PHASE": 2, "OUT_PHASE": 2, "F": 3, "FAT": 3}  # worse than in phase
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
    """Slices of one series that make a stack. part: which of the stacks of its series, from 1, 0 where there is one;

    why: what tells it from those, "sagittal" or "echo time 101"; mixed: whether they lie in several directions.
    """

    slices: list[SliceHeader]
    stack_number: int = 0
    variant: str = ""
    has_mixed_orientations: bool = False

    @property
    def _attributes(self) -> dict[str, Any]:
        return self.slices[0].attributes

    @property
    def number(self) -> str:
        """The number of the series, and of its part: "3" or "3.2"; "?" where it has none."""
        return f"{self._attributes.get('SeriesNumber', '?')}" + (f".{self.stack_number}" if self.stack_number else "")

    @property
    def name(self) -> str:
        """What a person calls it: its number and description."""
        description = self._attributes.get("SeriesDescription")
        return (
            f"series {self.number}"
            + (f" '{description}'" if description else "")
            + (f" ({self.variant})" * bool(self.variant))
        )

    @property
    def plane(self) -> str:
        """sagittal, coronal or axial, by the direction of the slices' normal."""
        return _PLANES[int(np.abs(self.slices[0].normal).argmax())]

    @property
    def search_text(self) -> str:
        """All that it is called, in small letters."""
        return " ".join(str(self._attributes.get(name, "")) for name in _TEXT_KEYWORDS).lower()

    @property
    def is_localiser(self) -> bool:
        """Whether it only served to plan the others."""
        return "LOCALIZER" in self.slices[0].image_type or _LOCALISER.search(self.search_text) is not None

    @property
    def contrast(self) -> str:
        """T2, T1, fat-suppressed, gradient echo or other, by the description, else by echo and repetition time."""
        for name in _TEXT_KEYWORDS:
            text = str(self._attributes.get(name, "")).lower()
            for contrast, pattern in _CONTRASTS.items():
                if pattern.search(text):
                    return contrast
        echo, repetition = (self.slices[0].number(name) for name in ("EchoTime", "RepetitionTime"))
        if echo >= 60 and repetition >= 1500:
            return "T2"
        return "T1" if 0 < echo <= 30 and 0 < repetition <= 1200 else "other"

    @property
    def has_few_slices(self) -> bool:
        """Whether it has too few slices to be an exam where there are others."""
        return len(self.slices) < _MIN_EXAM_SLICES

    def describe(self) -> str:
        """What it is, in a few words."""
        echo, repetition = (self.slices[0].number(name) for name in ("EchoTime", "RepetitionTime"))
        times = f" (TE {echo:g}, TR {repetition:g} ms)" if echo and repetition else ""
        return f"{self.plane}, {self.contrast}{times}, {len(self.slices)} slice" + "s" * (len(self.slices) != 1)

    def sort_key(self) -> tuple[float, ...]:
        """Sorts what should be read first to the front."""
        first = self.slices[0]
        words = set(first.image_type)
        return (
            self.is_localiser,
            self.has_mixed_orientations,
            self.plane != "sagittal",
            self.has_few_slices,
            bool(words & _NON_MAGNITUDE_TYPES),
            _CONTRAST_RANK.get(self.contrast, len(_CONTRAST_RANK)),
            max((_DIXON_RANK.get(word, 0) for word in words), default=0),
            "DERIVED" in words,
            -len(self.slices),
            first.number("SeriesNumber"),
            abs(first.number("EchoTime", _TYPICAL_T2_ECHO) - _TYPICAL_T2_ECHO),
            self.stack_number,
        )

    def metadata(self, slice_distance: float) -> dict[str, Any]:
        """Facts for a report; distance: of two slices, mm. No name, number or date of a patient."""
        texts = {name: self._attributes.get(tag) for name, tag in _METADATA_TEXTS.items()}
        numbers = {name: self.slices[0].number(tag) for name, tag in _METADATA_NUMBERS.items()}
        return {
            "format": "DICOM",
            "modality": self.slices[0].modality,
            "plane": self.plane,
            "contrast": self.contrast,
            "slice_distance_mm": round(slice_distance, 4),
            **{name: text for name, text in texts.items() if isinstance(text, str)},
            **{name: number for name, number in numbers.items() if number},
        }
