"""Pairs of an image and a label map, found by what they are called, their values explained by a table."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lumbarseg.datasets.folder import Table, table_from
from lumbarseg.datasets.schemes import SCHEMES, scheme
from lumbarseg.errors import DatasetError

from . import fit, spineps
from .pairs import clean, find_pairs, image_of, opened, patients
from .raw import Found, Importer, Raw, Read

TRAPS = {**fit.TRAPS, **spineps.TRAPS}

Places = tuple[tuple[str, str], ...]

_BESIDE: Places = (("{name}_image", "{name}_labels"),)
_CONTRAST = re.compile(r"(?:^|_)(T1|T2|PD|STIR)w?$")
_WAY_OUT = "give a table that does, with --table"


@dataclass(frozen=True)
class Preset:
    """What is known of a source. places: patterns of images and labels, the first that any file fits is taken.

    patient: a regular expression for the patient in a name; None for the usual rule.
    """

    table: Table
    places: Places = _BESIDE
    patient: str | None = None
    citation: str = ""


PRESETS: dict[str, Preset] = {
    "default": Preset(SCHEMES["default"]),
    "spider_space": Preset(SCHEMES["spider_space"]),
    "spider_t2": Preset(SCHEMES["spider_t2"]),
    "chu_named": Preset(SCHEMES["bodies"], (("{name:Img_[0-9]*[0-9]}", "named/{name}_named"),), patient=".+"),
    "siegen": Preset(SCHEMES["siegen"]),
    "lumbar_bodies": Preset(SCHEMES["lumbar_bodies"]),
    "lumbar_discs": Preset(SCHEMES["lumbar_discs"]),
    "mrspineseg": Preset(SCHEMES["mrspineseg"]),
    "totalsegmentator": Preset(
        SCHEMES["totalsegmentator"],
        (("{name}/mri", "{name}/vertebrae_mr"), ("{name}_0000", "{name}"), *_BESIDE),
        patient=".+",
    ),
    "spineps": Preset(spineps.TABLE, citation="SPINEPS: Moeller et al., Eur Radiol, 2024"),
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


def importer(
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
    preset = PRESETS[name] if name in PRESETS else Preset(table_of(table))
    preset = replace(preset, patient=preset.patient if patient is None else patient)
    preset = replace(preset, places=((images, labels),)) if images else preset
    source = citation or preset.citation
    if name == "spineps" and not images:
        return Importer(
            "folder", preset.table, source, licence, partial(spineps.find, patient=preset.patient), spineps.read
        )
    read = partial(_read, table=preset.table)
    return Importer("folder", preset.table, source, licence, partial(_find, preset=preset), read)


def citation_of(preset: str | None, source: Path) -> str:
    """How to name a source of which nothing else is said: as its preset does, else after its folder."""
    return (PRESETS[preset].citation if preset else "") or source.resolve().name


def table_of(table: str | Path) -> Table:
    """A label table from a JSON file, or one of the schemes; DatasetError when it is neither."""
    if str(table) in SCHEMES:
        return scheme(str(table))
    path = Path(table)
    if not path.is_file():
        raise DatasetError(f"{table}: neither a label table's file nor one of {', '.join(PRESETS)}")
    try:
        return table_from(json.loads(path.read_text(encoding="utf-8")), str(path))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: no JSON: {error}") from error


def _find(source: Path, preset: Preset) -> Found:
    pairs, refused = _first(source, preset.places)
    known, unknown = patients(sorted(pairs), preset.patient)
    raws = [
        Raw(clean(name), clean(patient), (*opened(pairs[name][0]), pairs[name][1]), contrast=contrast_of(name))
        for name, patient in known.items()
    ]
    return Found(tuple(raws), (*refused, *unknown))


def contrast_of(name: str) -> str:
    """The weighting with which a name in the manner of BIDS ends: "T2" of "sub-7_T2w"; "" where it says none."""
    match = _CONTRAST.search(name)
    return match[1] if match else ""


def _first(source: Path, places: Places) -> tuple[dict[str, tuple[Path, Path]], list[tuple[str, str]]]:
    """The pairs of the first patterns that fit; where none does, the error tells the first ones."""
    wrong: list[DatasetError] = []
    for images, labels in places:
        try:
            return find_pairs(source, images, labels)
        except DatasetError as error:
            wrong.append(error)
    raise wrong[0]


def _read(raw: Raw, table: Table) -> Read:
    from lumbarseg import files

    image, path = files.read_image(image_of(raw.files[0])), raw.files[-1]
    labels = files.read_labels(path)
    fit.check_values(labels.array, table, path, _WAY_OUT)
    labels, warnings = fit.on_grid(labels, image, path)
    return Read(image, labels, warnings=warnings)
