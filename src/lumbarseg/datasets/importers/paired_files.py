"""Pairs of an image and a label map, found by what they are called, their values explained by a table."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lumbarseg.errors import DatasetError

from ..dataset import LabelTable, parse_label_table
from ..schemes import SCHEMES, get_scheme
from . import label_grid, spineps
from .file_pairs import clean_case_name, find_pairs, image_files, image_path, patients_from_names
from .importer import Importer, LoadedCase, SourceCase, SourceListing

KNOWN_FAULTS = {**label_grid.KNOWN_FAULTS, **spineps.KNOWN_FAULTS}

PathPatterns = tuple[tuple[str, str], ...]

_SAME_FOLDER: PathPatterns = (("{name}_image", "{name}_labels"),)
_CONTRAST = re.compile(r"(?:^|_)(T1|T2|PD|STIR)w?$")
_SUGGESTION = "give a table that does, with --table"


@dataclass(frozen=True)
class Preset:
    """What is known of a source. places: patterns of images and labels, the first that any file fits is taken.

    patient: a regular expression for the patient in a name; None for the usual rule.
    """

    label_table: LabelTable
    patterns: PathPatterns = _SAME_FOLDER
    patient_pattern: str | None = None
    citation: str = ""


PRESETS: dict[str, Preset] = {
    "default": Preset(SCHEMES["default"]),
    "spider_space": Preset(SCHEMES["spider_space"]),
    "spider_t2": Preset(SCHEMES["spider_t2"]),
    "chu_named": Preset(SCHEMES["bodies"], (("{name:Img_[0-9]*[0-9]}", "named/{name}_named"),), patient_pattern=".+"),
    "siegen": Preset(SCHEMES["siegen"]),
    "lumbar_bodies": Preset(SCHEMES["lumbar_bodies"]),
    "lumbar_discs": Preset(SCHEMES["lumbar_discs"]),
    "mrspineseg": Preset(SCHEMES["mrspineseg"]),
    "totalsegmentator": Preset(
        SCHEMES["totalsegmentator"],
        (("{name}/mri", "{name}/vertebrae_mr"), ("{name}_0000", "{name}"), *_SAME_FOLDER),
        patient_pattern=".+",
    ),
    "spineps": Preset(spineps.LABEL_TABLE, citation="SPINEPS: Moeller et al., Eur Radiol, 2024"),
    "totalspineseg": Preset(
        SCHEMES["totalspineseg"],
        (
            ("input/{name}_0000", "step2_output/{name}"),
            ("input/{name}", "step2_output/{name}"),
            ("{name}", "step2_output/{name}"),
            ("{name}", "**/step2_output/{name}"),
            ("sub-*/**/{name:sub-*}", "derivatives/**/{name:sub-*}_label-spine_dseg"),
        ),
        citation="TotalSpineSeg: Warszawer et al., 2025",
    ),
}
"""Sources that are pairs of files, by name."""


def make_importer(
    table: str | Path = "",
    images: str = "",
    labels: str = "",
    patient: str | None = None,
    licence: str = "",
    citation: str = "",
) -> Importer:
    """An importer of pairs. table: a preset's name or a JSON file {value: [names]}.

    images, labels: patterns as in `find_pairs`, by default those of the preset; patient: as in `patients`.
    """
    if bool(images) != bool(labels):
        raise DatasetError("--images and --labels: give both, or none")
    name = str(table)
    preset = PRESETS[name] if name in PRESETS else Preset(load_label_table(table))
    preset = replace(preset, patient_pattern=preset.patient_pattern if patient is None else patient)
    preset = replace(preset, patterns=((images, labels),)) if images else preset
    source = citation or preset.citation
    if name == "spineps" and not images:
        return Importer(
            "folder",
            preset.label_table,
            source,
            licence,
            partial(spineps.list_cases, patient=preset.patient_pattern),
            spineps.load_case,
        )
    read = partial(_load_case, table=preset.label_table)
    return Importer("folder", preset.label_table, source, licence, partial(_list_cases, preset=preset), read)


def default_citation(preset: str | None, source: Path) -> str:
    """How to name a source of which nothing else is said: as its preset does, else after its folder."""
    return (PRESETS[preset].citation if preset else "") or source.resolve().name


def load_label_table(table: str | Path) -> LabelTable:
    """A label table from a JSON file, or one of the schemes; DatasetError when it is neither."""
    if str(table) in SCHEMES:
        return get_scheme(str(table))
    path = Path(table)
    if not path.is_file():
        raise DatasetError(f"{table}: neither a label table's file nor one of {', '.join(PRESETS)}")
    try:
        return parse_label_table(json.loads(path.read_text(encoding="utf-8")), str(path))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: no JSON: {error}") from error


def _list_cases(source: Path, preset: Preset) -> SourceListing:
    pairs, refused = _first_matching_pairs(source, preset.patterns)
    known, unknown = patients_from_names(sorted(pairs), preset.patient_pattern)
    raws = [
        SourceCase(
            clean_case_name(name),
            clean_case_name(patient),
            (*image_files(pairs[name][0]), pairs[name][1]),
            contrast=contrast_from_name(name),
        )
        for name, patient in known.items()
    ]
    return SourceListing(tuple(raws), (*refused, *unknown))


def contrast_from_name(name: str) -> str:
    """The weighting with which a name in the manner of BIDS ends: "T2" of "sub-7_T2w"; "" where it says none."""
    match = _CONTRAST.search(name)
    return match[1] if match else ""


def _first_matching_pairs(
    source: Path, places: PathPatterns
) -> tuple[dict[str, tuple[Path, Path]], list[tuple[str, str]]]:
    """The pairs of the first patterns that fit; where none does, the error tells the first ones."""
    wrong: list[DatasetError] = []
    for images, labels in places:
        try:
            return find_pairs(source, images, labels)
        except DatasetError as error:
            wrong.append(error)
    raise wrong[0]


def _load_case(raw: SourceCase, table: LabelTable) -> LoadedCase:
    from lumbarseg import io

    image, path = io.read_image(image_path(raw.files[0])), raw.files[-1]
    labels = io.read_labels(path)
    label_grid.check_label_values(labels.array, table, path, _SUGGESTION)
    labels, warnings = label_grid.labels_on_image_grid(labels, image, path)
    return LoadedCase(image, labels, warnings=warnings)
