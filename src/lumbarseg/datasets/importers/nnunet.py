"""nnU-Net's raw folders (version 2) and those of the Medical Segmentation Decathlon: dataset.json says what is what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lumbarseg.anatomy import Kind
from lumbarseg.errors import DatasetError
from lumbarseg.io.discovery import IMAGE_SUFFIXES

from ..dataset import LabelTable
from ..label_names import ParsedLabelName, parse_label_name
from ..schemes import labels_for_names, names_for_labels, unannotated_names
from . import label_grid
from .file_pairs import clean_case_name, patients_from_names
from .importer import Importer, LoadedCase, SourceCase, SourceListing
from .paired_files import load_label_table

KNOWN_FAULTS = {
    **label_grid.KNOWN_FAULTS,
    "bare-level": "a label named by its level alone may be the body or the whole vertebra: both are allowed, "
    "say which it is with --table",
}

_TRAINING_FOLDERS = ("imagesTr", "labelsTr")
_TEST_FOLDERS = ("imagesTs", "labelsTs")
_UNKNOWN = "unknown"
_SUGGESTION = "dataset.json has no label of this value; add it there, or give --table"


@dataclass(frozen=True)
class _RawDataset:
    """What dataset.json says. channel: the one that is read, of `channels`.

    rows: cases listed one by one, if any; tests: how many test images are listed without a label.
    """

    folder: Path
    ending: str
    channel: int
    channels: int
    listed_cases: dict[str, tuple[tuple[Path, ...], Path]]
    unlabelled_tests: int


def make_importer(
    source: Path | str,
    table: str | Path = "",
    channel: str = "",
    patient: str | None = None,
    licence: str = "",
    citation: str = "",
) -> Importer:
    """An importer of the raw folder `source`, or of the only one in it.

    table: a JSON file or scheme in place of the names in dataset.json; channel: number or name of the one to read, by
    default the first T2, else the first; patient: as in `patients`, by default each exam is of another one.
    """
    folder = _find_folder(Path(source))
    values = _load_json(folder / "dataset.json")
    rows, notes = (
        (load_label_table(table), ())
        if table
        else label_table_from_names(values.get("labels"), folder / "dataset.json")
    )
    said = _parse_dataset_json(folder, values, channel)
    name = citation or str(values.get("reference") or values.get("name") or folder.name)
    find = partial(_list_cases, said=said, patient=patient or ".+")
    read = partial(_load_case, table=rows, notes=notes)
    return Importer("nnunet", rows, name, licence or _first_text(values, "licence", "license"), find, read)


def label_table_from_names(labels: Any, path: Path) -> tuple[LabelTable, tuple[str, ...]]:
    """The table that the label names of a dataset.json give, and warnings; DatasetError for a name nobody can tell.

    labels: {name: value or values} as in nnU-Net, values of regions included, or {value: name} as in the Decathlon.
    """
    if not isinstance(labels, Mapping) or not labels:
        raise DatasetError(f"{path}: labels: must be a table of names and values")
    regions = _regions(labels, path)
    meanings = {name: _parse_name(name, path) for name in regions}
    arches = any(map(_is_arch_only, meanings.values()))
    bare = sorted(name for name, m in meanings.items() if m.is_bare_level and not arches)
    named = {name: m.structures[:1] if m.is_bare_level and arches else m.structures for name, m in meanings.items()}
    table = {
        value: _structures_of_value(value, regions, named, path)
        for value in sorted({v for vs in regions.values() for v in vs})
    }
    partly = [
        m.partial_kind
        for m in meanings.values()
        if m.partial_kind and not _is_complete_elsewhere(m.partial_kind, meanings)
    ]
    partly += [Kind.ARCH] if bare else []
    drawn = [names for value, names in table.items() if value and _UNKNOWN not in names]
    warnings = (f"bare-level: {', '.join(bare)}",) if bare else ()
    return {**table, 0: unannotated_names(drawn, partly)}, warnings


def _is_arch_only(meaning: ParsedLabelName) -> bool:
    """Whether a name means posterior elements and nothing else."""
    return all(name == Kind.ARCH or name.endswith(f" {Kind.ARCH}") for name in meaning.structures)


def _is_complete_elsewhere(kind: Kind, meanings: Mapping[str, ParsedLabelName]) -> bool:
    """Whether another name means all of a kind that one means in part."""
    return any(m.structures == (kind.value,) and m.partial_kind is None for m in meanings.values())


def _regions(labels: Mapping[str, Any], path: Path) -> dict[str, tuple[int, ...]]:
    """Name to the values that are of it."""
    found: dict[str, tuple[int, ...]] = {}
    for key, what in labels.items():
        name, value = (str(what), key) if str(key).isdecimal() and isinstance(what, str) else (str(key), what)
        values = value if isinstance(value, list) else [value]
        if not all(str(v).isdecimal() and int(v) <= 255 for v in values) or not values:
            raise DatasetError(f"{path}: labels: {name}: {value!r} is no value from 0 to 255, nor a list of them")
        found[name] = (*found.get(name, ()), *(int(v) for v in values))
    return found


def _parse_name(name: str, path: Path) -> ParsedLabelName:
    meaning = parse_label_name(name)
    if meaning is None:
        raise DatasetError(f"{path}: labels: cannot tell what {name!r} is; say it with --table, values to names")
    return meaning


def _structures_of_value(
    value: int, regions: Mapping[str, tuple[int, ...]], named: Mapping[str, tuple[str, ...]], path: Path
) -> tuple[str, ...]:
    """What a value may be: of every region it is in, and of none that it is not in."""
    mine = [named[name] for name, values in regions.items() if value in values]
    if len(mine) == 1 and not any(len(values) > 1 for values in regions.values()):
        return mine[0]
    if any(_UNKNOWN in names for names in mine):
        return (_UNKNOWN,)
    inside = frozenset.intersection(*map(labels_for_names, mine))
    outside = [labels_for_names(named[name]) for name, values in regions.items() if value not in values]
    found = inside.difference(*outside) or inside
    if not found and value:
        raise DatasetError(f"{path}: labels: no structure is in all regions of the value {value}; say it with --table")
    return names_for_labels(found) or (Kind.BACKGROUND.value,)


def _find_folder(source: Path) -> Path:
    """The folder with dataset.json: `source`, or the only one below it."""
    if (source / "dataset.json").is_file():
        return source
    below = sorted(path.parent for path in source.glob("*/dataset.json")) if source.is_dir() else []
    if len(below) != 1:
        told = f"{len(below)} data sets below it" if below else "no dataset.json in it"
        raise DatasetError(f"{source}: {told}; give the folder DatasetNNN_Name or TaskNN_Name")
    return below[0]


def _load_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DatasetError(f"{path}: no JSON: {error}") from error
    if not isinstance(values, dict) or "labels" not in values:
        raise DatasetError(f"{path}: no dataset.json of nnU-Net or the Decathlon: it says nothing about labels")
    return values


def _first_text(values: Mapping[str, Any], *keys: str) -> str:
    return next((str(values[key]) for key in keys if isinstance(values.get(key), str)), "")


def _parse_dataset_json(folder: Path, values: Mapping[str, Any], channel: str) -> _RawDataset:
    """What is to be read of a raw folder."""
    path = folder / "dataset.json"
    named = values.get("channel_names", values.get("modality", {"0": ""}))
    if not isinstance(named, dict) or not named or not all(str(key).isdecimal() for key in named):
        raise DatasetError(f"{path}: channel_names: must be a table of number to name")
    channels = {int(key): str(name) for key, name in named.items()}
    ending = str(values.get("file_ending", ".nii.gz"))
    if not ending.lower().endswith(IMAGE_SUFFIXES):
        raise DatasetError(f"{path}: file_ending: {ending} files are no volumes that are read here")
    tests = len(values["test"]) if isinstance(values.get("test"), list) else 0
    rows = _listed_cases(folder, values, path)
    return _RawDataset(
        folder, ending, _select_channel(channels, channel, path), len(channels), rows, tests if rows else 0
    )


def _select_channel(channels: Mapping[int, str], wanted: str, path: Path) -> int:
    if wanted:
        chosen = [n for n, name in channels.items() if wanted.lower() in (str(n), name.lower())]
        if not chosen:
            told = ", ".join(f"{n} {name}".strip() for n, name in channels.items())
            raise DatasetError(f"{path}: no channel {wanted}; choose one of {told}")
        return chosen[0]
    return next((n for n, name in sorted(channels.items()) if "t2" in name.lower()), min(channels))


def _listed_cases(folder: Path, values: Mapping[str, Any], path: Path) -> dict[str, tuple[tuple[Path, ...], Path]]:
    """Cases that dataset.json lists itself, name to images and labels."""
    rows: dict[str, Any] = {}
    listed = values.get("dataset", values.get("training", []))
    for row in listed.values() if isinstance(listed, dict) else listed if isinstance(listed, list) else []:
        images = row.get("images", row.get("image")) if isinstance(row, dict) else None
        images = [images] if isinstance(images, str) else images
        if not isinstance(images, list) or not images or not isinstance(row.get("label"), str):
            raise DatasetError(f"{path}: training: every row needs an image and a label")
        strange = next((name for name in (*images, row["label"]) if not _is_relative_inside(str(name))), None)
        if strange is not None:
            raise DatasetError(f"{path}: training: {strange}: must be a path inside the folder")
        name = Path(row["label"]).name
        name = next((name[: -len(suffix)] for suffix in IMAGE_SUFFIXES if name.endswith(suffix)), name)
        rows[name] = (tuple(folder / str(image) for image in images), folder / row["label"])
    return rows


def _is_relative_inside(name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def _list_cases(source: Path, said: _RawDataset, patient: str) -> SourceListing:
    """Training cases, test cases with labels, and one line on test images without."""
    del source  # the folder was found when the table was read
    parts = (
        {"": said.listed_cases}
        if said.listed_cases
        else {i: _cases_in_folders(said, i, j) for i, j in (_TRAINING_FOLDERS, _TEST_FOLDERS)}
    )
    tests = parts.get(_TEST_FOLDERS[0], {})
    alone = [name for name, (_, label) in tests.items() if not label.is_file()]
    refused = [
        (_TEST_FOLDERS[0], f"{n} exams without reference labels left out")
        for n in [len(alone) + said.unlabelled_tests]
        if n
    ]
    found: dict[str, SourceCase] = {}
    for part, cases in parts.items():
        for name, (images, label) in cases.items():
            many = len(images) == 1 and said.channels > 1  # the Decathlon keeps channels in one 4-D file
            image = images[0] if many or said.channel >= len(images) else images[said.channel]
            missing = next((path for path in (image, label) if not path.is_file()), None)
            if part == _TEST_FOLDERS[0] and name in alone:
                continue
            if missing:
                refused.append((clean_case_name(name), f"{missing.relative_to(said.folder)}: missing"))
            else:
                split = "test" if part == _TEST_FOLDERS[0] else None
                found[name] = SourceCase(
                    clean_case_name(name),
                    "",
                    (image, label),
                    split=split,
                    metadata=_volume_metadata(said.channel, many),
                )
    if not found:
        raise DatasetError(f"{said.folder}: no pair of image and labels in imagesTr and labelsTr")
    known, unknown = patients_from_names(sorted(found), patient)
    return SourceListing(
        tuple(replace(found[n], patient=clean_case_name(p)) for n, p in known.items()), (*refused, *unknown)
    )


def _volume_metadata(channel: int, many: bool) -> dict[str, Any]:
    """Which volume of a 4-D file is the image, kept beside the case; nothing for other files."""
    return {"volume": channel} if many else {}


def _cases_in_folders(said: _RawDataset, images: str, labels: str) -> dict[str, tuple[tuple[Path, ...], Path]]:
    """Cases that lie in a folder of images, with or without their labels: CASE_0000.nii.gz beside CASE.nii.gz."""
    numbered = (said.folder / images).glob(f"*_[0-9][0-9][0-9][0-9]{said.ending}")
    names = {path.name[: -len(said.ending) - 5] for path in numbered}
    names |= {path.name[: -len(said.ending)] for path in (said.folder / labels).glob(f"*{said.ending}")}
    return {
        name: (
            tuple(said.folder / images / f"{name}_{n:04d}{said.ending}" for n in range(said.channels)),
            said.folder / labels / f"{name}{said.ending}",
        )
        for name in sorted(names)
        if not name.startswith(".")
    }


def _load_case(raw: SourceCase, table: LabelTable, notes: tuple[str, ...]) -> LoadedCase:
    from lumbarseg import io

    image = io.read_image(raw.files[0], raw.metadata.get("volume"))
    labels = io.read_labels(raw.files[1])
    label_grid.check_label_values(labels.array, table, raw.files[1], _SUGGESTION)
    labels, warnings = label_grid.labels_on_image_grid(labels, image, raw.files[1])
    return LoadedCase(image, labels, warnings=(*notes, *warnings))
