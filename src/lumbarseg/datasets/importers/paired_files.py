"""Pairs of an image and a label map, found by their file names; a table explains the label values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from lumbarseg import io
from lumbarseg.errors import DatasetError
from lumbarseg.io.label_names import read_label_names
from lumbarseg.volume import Volume

from ..label_names import possible_structures
from ..label_table import UNKNOWN, LabelTable, count_voxels, read_label_table, require_explained
from ..schemes import SCHEMES, labels_for_names
from . import source_labels, spineps
from .file_pairs import Refusals, clean_case_name, find_pairs, image_files, image_path, patients_from_names
from .importer import Importer, LoadedCase, SourceCase, SourceListing
from .source_labels import labels_on_image_grid

KNOWN_FAULTS = {
    **source_labels.KNOWN_FAULTS,
    **spineps.KNOWN_FAULTS,
    "header-names": "the header of the label map names its values otherwise than the label table; its names were used",
}

PathPatterns = tuple[tuple[str, str], ...]

_SAME_FOLDER: PathPatterns = (("{name}_image", "{name}_labels"), ("{name}", "{name}.seg.nrrd"))
_CONTRAST = re.compile(r"(?:^|_)(T1|T2|PD|STIR)w?$")


@dataclass(frozen=True)
class Preset:
    """A known source.

    Attributes
    ----------
    patterns : of images and labels; the first pair that any file matches is used
    patient_pattern : regular expression of the patient in a name; None for the usual rule
    """

    label_table: LabelTable
    patterns: PathPatterns = _SAME_FOLDER
    patient_pattern: str | None = None
    citation: str = ""


PRESETS: dict[str, Preset] = {
    "default": Preset(SCHEMES["default"]),
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
"""Known sources of file pairs, by name."""


def make_importer(
    table: str | Path = "",
    images: str = "",
    labels: str = "",
    patient: str | None = None,
    licence: str = "",
    citation: str = "",
) -> Importer:
    """Return an importer of pairs.

    Parameters
    ----------
    table : name of a preset, or a JSON file {value: [names]}
    images, labels : patterns as in `find_pairs`, by default those of the preset
    patient : as in `patients_from_names`
    """
    if bool(images) != bool(labels):
        raise DatasetError("--images and --labels: give both, or none")
    preset = PRESETS.get(str(table)) or Preset(load_label_table(table))
    preset = replace(preset, patient_pattern=preset.patient_pattern if patient is None else patient)
    preset = replace(preset, patterns=((images, labels),)) if images else preset
    if preset.label_table is spineps.LABEL_TABLE and not images:
        list_cases, load_case = partial(spineps.list_cases, patient=preset.patient_pattern), spineps.load_case
    else:
        list_cases, load_case = partial(_list_cases, preset=preset), partial(_load_case, table=preset.label_table)
    source = citation or preset.citation
    return Importer("folder", preset.label_table, source, licence, list_cases, load_case, KNOWN_FAULTS)


def load_label_table(table: str | Path) -> LabelTable:
    """Return a scheme by its name, or the label table of a JSON file; DatasetError when it is neither."""
    if str(table) in SCHEMES:
        return SCHEMES[str(table)]
    if not Path(table).is_file():
        raise DatasetError(f"{table}: neither a file with a label table nor one of {', '.join(PRESETS)}")
    return read_label_table(Path(table))


def find_label_files(source: Path, images: str = "", labels: str = "") -> list[Path]:
    """Return the label maps of pairs by patterns as in `find_pairs`; DatasetError when nothing matches."""
    if not source.is_dir():
        raise DatasetError(f"{source}: no folder; give the folder of images and label maps")
    pairs, _ = _first_matching_pairs(source, ((images, labels),) if images else _SAME_FOLDER)
    return [label_file for _, label_file in pairs.values()]


def _list_cases(source: Path, preset: Preset) -> SourceListing:
    pairs, refused = _first_matching_pairs(source, preset.patterns)
    patients, unknown = patients_from_names(sorted(pairs), preset.patient_pattern)
    cases = []
    for name, patient in patients.items():
        files = (*image_files(pairs[name][0]), pairs[name][1])
        contrast = contrast_from_name(name)
        cases.append(SourceCase(clean_case_name(name), clean_case_name(patient), files, contrast=contrast))
    return SourceListing(tuple(cases), (*refused, *unknown))


def contrast_from_name(name: str) -> str:
    """Return the contrast at the end of a BIDS name, "T2" of "sub-7_T2w"; "" where there is none."""
    match = _CONTRAST.search(name)
    return match[1] if match else ""


def _first_matching_pairs(source: Path, patterns: PathPatterns) -> tuple[dict[str, tuple[Path, Path]], Refusals]:
    """Return the pairs of the first patterns that match; where none does, raise the error of the first ones."""
    errors: list[DatasetError] = []
    for images, labels in patterns:
        try:
            return find_pairs(source, images, labels)
        except DatasetError as error:
            errors.append(error)
    raise errors[0]


def _load_case(case: SourceCase, table: LabelTable) -> LoadedCase:
    image, path = io.read_image(image_path(case.files[0])), case.files[-1]
    labels, name_warnings = _apply_stored_names(io.read_labels(path), path, table)
    require_explained(
        count_voxels(labels.array), table, path, "add what is missing; --propose FILE writes a table to start from"
    )
    labels, warnings = labels_on_image_grid(labels, image, path)
    return LoadedCase(image, labels, warnings=(*name_warnings, *warnings))


def _apply_stored_names(labels: Volume, path: Path, table: LabelTable) -> tuple[Volume, tuple[str, ...]]:
    """Return labels with the values of the table, and warnings, where the names in a file's header contradict it.

    3D Slicer numbers the segments that it saves 1..n in the order of its scene, whatever they are; so names decide.
    DatasetError when neither the names nor the values can be right: a value without a known name beside a
    contradiction, or a name for which the table has no value, or several.
    """
    present = set(count_voxels(labels.array)) - {0}
    names = {value: name for value, name in read_label_names(path).items() if value in present}
    structures = {value: possible_structures(name) for value, name in names.items() if name != UNKNOWN}
    contradicted = [v for v, s in structures.items() if s and not _are_compatible(s, table.get(v, ()))]
    if not contradicted:
        return labels, ()
    first = contradicted[0]
    row = " or ".join(table.get(first, ("nothing",)))
    contradiction = f"{path}: its header calls the value {first} {names[first]!r}, the label table {row}"
    lookup = np.zeros(256, np.uint8)
    for value in sorted(present):
        if not structures.get(value):
            raise DatasetError(f"{contradiction}, and no known name explains the value {value}; correct names or table")
        rows = [v for v, row_names in table.items() if v and _overlap(structures[value], row_names)]
        rows = [v for v in rows if set(table[v]) == set(structures[value])] or rows
        if len(rows) != 1:
            count = "several values" if rows else "no value"
            raise DatasetError(
                f"{path}: the label table has {count} for {names[value]!r}, a name in its header; add it"
            )
        lookup[value] = rows[0]
    return Volume(lookup[labels.array], labels.affine), (f"header-names: {contradiction.removeprefix(f'{path}: ')}",)


def _are_compatible(names: Iterable[str], row: tuple[str, ...]) -> bool:
    return UNKNOWN in row or _overlap(names, row)


def _overlap(names: Iterable[str], row: Iterable[str]) -> bool:
    """Return whether one structure can be meant by both; two sets without structures (background) overlap too."""
    first, second = labels_for_names(names), labels_for_names(row)
    return bool(first & second) or not (first or second)
