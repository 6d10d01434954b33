"""Raw folders of nnU-Net (version 2) and tasks of the Medical Segmentation Decathlon, described by dataset.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lumbarseg import io
from lumbarseg.anatomy import Kind
from lumbarseg.errors import DatasetError
from lumbarseg.io.discovery import IMAGE_SUFFIXES

from ..dataset import is_relative_inside
from ..json_files import read_json_object
from ..label_names import ParsedLabelName, parse_label_name
from ..label_table import UNKNOWN, LabelTable
from ..schemes import labels_for_names, names_for_labels, unannotated_names
from . import source_labels
from .file_pairs import Refusals, clean_case_name, find_pairs, patients_from_names
from .importer import Importer, LoadedCase, SourceCase, SourceListing
from .paired_files import load_label_table
from .source_labels import read_labels_on_grid

KNOWN_FAULTS = {
    **source_labels.KNOWN_FAULTS,
    "bare-level": "a label named by its level alone may be the body or the complete vertebra: both are allowed; "
    "say which it is with --table",
}

_FILE_NAME = "dataset.json"


@dataclass(frozen=True)
class _RawDataset:
    """What dataset.json says.

    Attributes
    ----------
    suffix : of the images to read: channel and format
    ending : of the label maps
    listed_cases : listed in dataset.json itself, if any
    unlabelled_tests : number of test images listed without a label
    """

    folder: Path
    suffix: str
    ending: str
    listed_cases: dict[str, SourceCase]
    unlabelled_tests: int


def make_importer(
    source: Path | str,
    table: str | Path = "",
    channel: str = "",
    patient: str | None = None,
    licence: str = "",
    citation: str = "",
) -> Importer:
    """Return an importer of the raw folder `source`, or of the only one in it.

    Parameters
    ----------
    table : a JSON file or scheme to use instead of the names in dataset.json
    channel : number or name of the one to read, by default the first T2, else the first
    patient : as in `patients_from_names`; by default each exam is of another patient
    """
    folder = _find_folder(Path(source))
    path = folder / _FILE_NAME
    _, values = read_json_object(path)
    if "labels" not in values:
        raise DatasetError(f"{path}: no dataset.json of nnU-Net or the Decathlon: it has no field labels")
    names = label_table_from_names(values.get("labels"), path) if not table else (load_label_table(table), ())
    label_table, warnings = names
    raw_dataset = _parse_dataset_json(folder, values, channel)
    citation = citation or str(values.get("reference") or values.get("name") or folder.name)
    licences = [values[key] for key in ("licence", "license") if isinstance(values.get(key), str)]
    return Importer(
        "nnunet",
        label_table,
        citation,
        licence or next(iter(licences), ""),
        partial(_list_cases, raw_dataset=raw_dataset, patient=patient or ".+"),
        partial(_load_case, label_table=label_table, notes=warnings),
        KNOWN_FAULTS,
    )


def label_table_from_names(labels: Any, path: Path) -> tuple[LabelTable, tuple[str, ...]]:
    """Return the label table that the label names of a dataset.json mean, and warnings.

    labels: {name: value or values} as in nnU-Net, also with regions, or {value: name} as in the Decathlon.
    DatasetError for a name that is no known structure.
    """
    if not isinstance(labels, Mapping) or not labels:
        raise DatasetError(f"{path}: labels: must be a table of names and values")
    regions = _regions(labels, path)
    parsed = {name: _parse_name(name, path) for name in regions}
    has_arches = any(map(_is_arch_only, parsed.values()))
    bare = sorted(name for name, p in parsed.items() if p.is_bare_level and not has_arches)
    structures = {
        name: p.structures[:1] if p.is_bare_level and has_arches else p.structures for name, p in parsed.items()
    }
    all_values = sorted({value for values in regions.values() for value in values})
    table = {value: _structures_of_value(value, regions, structures, path) for value in all_values}
    complete = {p.structures for p in parsed.values() if p.partial_kind is None}
    partial_kinds = [
        p.partial_kind for p in parsed.values() if p.partial_kind and (p.partial_kind.value,) not in complete
    ]
    partial_kinds += [Kind.ARCH] if bare else []
    annotated = [names for value, names in table.items() if value and UNKNOWN not in names]
    warnings = (f"bare-level: {', '.join(bare)}",) if bare else ()
    return {**table, 0: unannotated_names(annotated, partial_kinds)}, warnings


def _is_arch_only(parsed: ParsedLabelName) -> bool:
    """Return whether a name means posterior elements and nothing else."""
    return all(name == Kind.ARCH or name.endswith(f" {Kind.ARCH}") for name in parsed.structures)


def _regions(labels: Mapping[str, Any], path: Path) -> dict[str, tuple[int, ...]]:
    """Return the values that belong to each name."""
    regions: dict[str, tuple[int, ...]] = {}
    for key, entry in labels.items():
        is_decathlon = str(key).isdecimal() and isinstance(entry, str)
        name, value = (entry, key) if is_decathlon else (str(key), entry)
        values = value if isinstance(value, list) else [value]
        if not all(str(v).isdecimal() and int(v) <= 255 for v in values) or not values:
            raise DatasetError(f"{path}: labels: {name}: {value!r} is no value from 0 to 255, nor a list of them")
        regions[name] = (*regions.get(name, ()), *(int(v) for v in values))
    return regions


def _parse_name(name: str, path: Path) -> ParsedLabelName:
    parsed = parse_label_name(name)
    if parsed is None:
        raise DatasetError(f"{path}: labels: {name!r} is no known structure; explain the values with --table")
    return parsed


def _structures_of_value(
    value: int, regions: Mapping[str, tuple[int, ...]], structures: Mapping[str, tuple[str, ...]], path: Path
) -> tuple[str, ...]:
    """Return what a value may be: structures that are in all of its regions, and in no other region."""
    of_value = [structures[name] for name, values in regions.items() if value in values]
    if len(of_value) == 1 and not any(len(values) > 1 for values in regions.values()):
        return of_value[0]
    if any(UNKNOWN in names for names in of_value):
        return (UNKNOWN,)
    inside = frozenset.intersection(*map(labels_for_names, of_value))
    outside = [labels_for_names(structures[name]) for name, values in regions.items() if value not in values]
    labels = inside.difference(*outside) or inside
    if not labels and value:
        raise DatasetError(
            f"{path}: labels: no structure is in all regions of the value {value}; explain it with --table"
        )
    return names_for_labels(labels) or (Kind.BACKGROUND.value,)


def _find_folder(source: Path) -> Path:
    """Return the folder with dataset.json: `source`, or the only one in it."""
    if (source / _FILE_NAME).is_file():
        return source
    below = sorted(path.parent for path in source.glob(f"*/{_FILE_NAME}")) if source.is_dir() else []
    if len(below) != 1:
        reason = f"holds {len(below)} datasets" if below else f"holds no {_FILE_NAME}"
        raise DatasetError(f"{source}: {reason}; give the folder DatasetNNN_Name or TaskNN_Name")
    return below[0]


def _parse_dataset_json(folder: Path, values: Mapping[str, Any], channel: str) -> _RawDataset:
    path = folder / _FILE_NAME
    names = values.get("channel_names", values.get("modality", {"0": ""}))
    if not isinstance(names, dict) or not names or not all(str(key).isdecimal() for key in names):
        raise DatasetError(f"{path}: channel_names: must be a table of numbers and names")
    channels = {int(key): str(name) for key, name in names.items()}
    ending = str(values.get("file_ending", ".nii.gz"))
    if not ending.lower().endswith(IMAGE_SUFFIXES):
        raise DatasetError(f"{path}: file_ending: {ending} is no format of volumes that can be read")
    index = _select_channel(channels, channel, path)
    listed = _listed_cases(folder, values, index, len(channels))
    tests = len(values["test"]) if listed and isinstance(values.get("test"), list) else 0
    return _RawDataset(folder, f"_{index:04d}{ending}", ending, listed, tests)


def _select_channel(channels: Mapping[int, str], channel: str, path: Path) -> int:
    if not channel:
        return next((n for n, name in sorted(channels.items()) if "t2" in name.lower()), min(channels))
    selected = [n for n, name in channels.items() if channel.lower() in (str(n), name.lower())]
    if not selected:
        choices = ", ".join(f"{n} {name}".strip() for n, name in channels.items())
        raise DatasetError(f"{path}: no channel {channel}; choose one of {choices}")
    return selected[0]


def _listed_cases(folder: Path, values: Mapping[str, Any], channel: int, channels: int) -> dict[str, SourceCase]:
    """Return the cases that dataset.json lists itself."""
    path = folder / _FILE_NAME
    cases = {}
    rows = values.get("dataset", values.get("training", []))
    for row in rows.values() if isinstance(rows, dict) else rows if isinstance(rows, list) else []:
        images = row.get("images", row.get("image")) if isinstance(row, dict) else None
        images = [images] if isinstance(images, str) else images
        if not isinstance(images, list) or not images or not isinstance(row.get("label"), str):
            raise DatasetError(f"{path}: training: every row needs an image and a label")
        outside = next((name for name in (*images, row["label"]) if not is_relative_inside(name)), None)
        if outside is not None:
            raise DatasetError(f"{path}: training: {outside}: must be a path inside the folder")
        is_4d = len(images) == 1 and channels > 1  # the Decathlon keeps channels in one 4-D file
        files = (folder / (images[0] if is_4d or channel >= len(images) else images[channel]), folder / row["label"])
        name = io.exam_name(row["label"])
        cases[name] = SourceCase(clean_case_name(name), "", files, metadata={"volume": channel} if is_4d else {})
    return cases


def _list_cases(source: Path, raw_dataset: _RawDataset, patient: str) -> SourceListing:  # noqa: ARG001
    """List training cases, and test cases with labels; test images without labels are refused in one line."""
    folder = raw_dataset.folder
    cases, refused, tests = dict(raw_dataset.listed_cases), list[tuple[str, str]](), raw_dataset.unlabelled_tests
    for name, case in raw_dataset.listed_cases.items():
        if missing := next((path for path in case.files if not path.is_file()), None):
            refused.append((cases.pop(name).name, f"{missing.relative_to(folder)}: missing"))
    if not raw_dataset.listed_cases:
        for images, labels, split in (("imagesTr", "labelsTr", None), ("imagesTs", "labelsTs", "test")):
            pairs, incomplete = _pairs_in_folders(raw_dataset, images, labels)
            cases |= {name: SourceCase(clean_case_name(name), "", pair, split=split) for name, pair in pairs.items()}
            refused += incomplete if not split else []
            tests += len(list((folder / images).glob(f"*{raw_dataset.suffix}"))) - len(pairs) if split else 0
    if not cases:
        raise DatasetError(f"{folder}: no pair of image and labels in imagesTr and labelsTr")
    refused = ([("imagesTs", f"{tests} exams without reference labels left out")] if tests else []) + refused
    patients, unknown = patients_from_names(sorted(cases), patient)
    listed = tuple(replace(cases[name], patient=clean_case_name(p)) for name, p in patients.items())
    return SourceListing(listed, (*refused, *unknown))


def _pairs_in_folders(
    raw_dataset: _RawDataset, images: str, labels: str
) -> tuple[dict[str, tuple[Path, Path]], Refusals]:
    """Return image and label of each case in two folders, and the incomplete cases."""
    if not (raw_dataset.folder / labels).is_dir():
        return {}, []
    try:
        patterns = f"{images}/{{name}}{raw_dataset.suffix}", f"{labels}/{{name}}{raw_dataset.ending}"
        return find_pairs(raw_dataset.folder, *patterns)
    except DatasetError:  # no image or no label
        return {}, []


def _load_case(case: SourceCase, label_table: LabelTable, notes: tuple[str, ...]) -> LoadedCase:
    image = io.read_image(case.files[0], case.metadata.get("volume"))
    suggestion = "dataset.json has no label of this value; add it there, or give --table"
    labels, warnings = read_labels_on_grid(case.files[1], image, label_table, suggestion)
    return LoadedCase(image, labels, warnings=(*notes, *warnings))
