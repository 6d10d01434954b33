"""nnU-Net's raw folders (version 2) and those of the Medical Segmentation Decathlon: dataset.json says what is what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lumbarseg.anatomy import Kind
from lumbarseg.datasets.folder import Table
from lumbarseg.datasets.names import Meaning, read_name
from lumbarseg.datasets.schemes import labels_of, names_of, undrawn
from lumbarseg.errors import DatasetError
from lumbarseg.files.discover import SUFFIXES

from . import fit
from .folder import table_of
from .pairs import clean, patients
from .raw import Found, Importer, Raw, Read

TRAPS = {
    **fit.TRAPS,
    "bare-level": "a label named by its level alone may be the body or the whole vertebra: both are allowed, "
    "say which it is with --table",
}

_OF_TRAINING = ("imagesTr", "labelsTr")
_OF_TESTS = ("imagesTs", "labelsTs")
_EVERYTHING = "unknown"
_WAY_OUT = "dataset.json has no label of this value; add it there, or give --table"


@dataclass(frozen=True)
class _Said:
    """What dataset.json says. channel: the one that is read, of `channels`.

    rows: cases listed one by one, if any; tests: how many test images are listed without a label.
    """

    folder: Path
    ending: str
    channel: int
    channels: int
    rows: dict[str, tuple[tuple[Path, ...], Path]]
    tests: int


def importer(
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
    folder = _folder(Path(source))
    values = _values(folder / "dataset.json")
    rows, notes = (table_of(table), ()) if table else table_from_names(values.get("labels"), folder / "dataset.json")
    said = _said(folder, values, channel)
    name = citation or str(values.get("reference") or values.get("name") or folder.name)
    find = partial(_find, said=said, patient=patient or ".+")
    read = partial(_read, table=rows, notes=notes)
    return Importer("nnunet", rows, name, licence or _text(values, "licence", "license"), find, read)


def table_from_names(labels: Any, path: Path) -> tuple[Table, tuple[str, ...]]:
    """The table that the label names of a dataset.json give, and warnings; DatasetError for a name nobody can tell.

    labels: {name: value or values} as in nnU-Net, values of regions included, or {value: name} as in the Decathlon.
    """
    if not isinstance(labels, Mapping) or not labels:
        raise DatasetError(f"{path}: labels: must be a table of names and values")
    regions = _regions(labels, path)
    meanings = {name: _meaning(name, path) for name in regions}
    arches = any(map(_draws_arch, meanings.values()))
    bare = sorted(name for name, m in meanings.items() if m.bare and not arches)
    named = {name: m.names[:1] if m.bare and arches else m.names for name, m in meanings.items()}
    table = {value: _names(value, regions, named, path) for value in sorted({v for vs in regions.values() for v in vs})}
    partly = [m.partly for m in meanings.values() if m.partly and not _whole_too(m.partly, meanings)]
    partly += [Kind.ARCH] if bare else []
    drawn = [names for value, names in table.items() if value and _EVERYTHING not in names]
    warnings = (f"bare-level: {', '.join(bare)}",) if bare else ()
    return {**table, 0: undrawn(drawn, partly)}, warnings


def _draws_arch(meaning: Meaning) -> bool:
    """Whether a name means posterior elements and nothing else."""
    return all(name == Kind.ARCH or name.endswith(f" {Kind.ARCH}") for name in meaning.names)


def _whole_too(kind: Kind, meanings: Mapping[str, Meaning]) -> bool:
    """Whether another name means all of a kind that one means in part."""
    return any(m.names == (kind.value,) and m.partly is None for m in meanings.values())


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


def _meaning(name: str, path: Path) -> Meaning:
    meaning = read_name(name)
    if meaning is None:
        raise DatasetError(f"{path}: labels: cannot tell what {name!r} is; say it with --table, values to names")
    return meaning


def _names(
    value: int, regions: Mapping[str, tuple[int, ...]], named: Mapping[str, tuple[str, ...]], path: Path
) -> tuple[str, ...]:
    """What a value may be: of every region it is in, and of none that it is not in."""
    mine = [named[name] for name, values in regions.items() if value in values]
    if len(mine) == 1 and not any(len(values) > 1 for values in regions.values()):
        return mine[0]
    if any(_EVERYTHING in names for names in mine):
        return (_EVERYTHING,)
    inside = frozenset.intersection(*map(labels_of, mine))
    outside = [labels_of(named[name]) for name, values in regions.items() if value not in values]
    found = inside.difference(*outside) or inside
    if not found and value:
        raise DatasetError(f"{path}: labels: no structure is in all regions of the value {value}; say it with --table")
    return names_of(found) or (Kind.BACKGROUND.value,)


def _folder(source: Path) -> Path:
    """The folder with dataset.json: `source`, or the only one below it."""
    if (source / "dataset.json").is_file():
        return source
    below = sorted(path.parent for path in source.glob("*/dataset.json")) if source.is_dir() else []
    if len(below) != 1:
        told = f"{len(below)} data sets below it" if below else "no dataset.json in it"
        raise DatasetError(f"{source}: {told}; give the folder DatasetNNN_Name or TaskNN_Name")
    return below[0]


def _values(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DatasetError(f"{path}: no JSON: {error}") from error
    if not isinstance(values, dict) or "labels" not in values:
        raise DatasetError(f"{path}: no dataset.json of nnU-Net or the Decathlon: it says nothing about labels")
    return values


def _text(values: Mapping[str, Any], *keys: str) -> str:
    return next((str(values[key]) for key in keys if isinstance(values.get(key), str)), "")


def _said(folder: Path, values: Mapping[str, Any], channel: str) -> _Said:
    """What is to be read of a raw folder."""
    path = folder / "dataset.json"
    named = values.get("channel_names", values.get("modality", {"0": ""}))
    if not isinstance(named, dict) or not named or not all(str(key).isdecimal() for key in named):
        raise DatasetError(f"{path}: channel_names: must be a table of number to name")
    channels = {int(key): str(name) for key, name in named.items()}
    ending = str(values.get("file_ending", ".nii.gz"))
    if not ending.lower().endswith(SUFFIXES):
        raise DatasetError(f"{path}: file_ending: {ending} files are no volumes that are read here")
    tests = len(values["test"]) if isinstance(values.get("test"), list) else 0
    rows = _listed(folder, values, path)
    return _Said(folder, ending, _channel(channels, channel, path), len(channels), rows, tests if rows else 0)


def _channel(channels: Mapping[int, str], wanted: str, path: Path) -> int:
    if wanted:
        chosen = [n for n, name in channels.items() if wanted.lower() in (str(n), name.lower())]
        if not chosen:
            told = ", ".join(f"{n} {name}".strip() for n, name in channels.items())
            raise DatasetError(f"{path}: no channel {wanted}; choose one of {told}")
        return chosen[0]
    return next((n for n, name in sorted(channels.items()) if "t2" in name.lower()), min(channels))


def _listed(folder: Path, values: Mapping[str, Any], path: Path) -> dict[str, tuple[tuple[Path, ...], Path]]:
    """Cases that dataset.json lists itself, name to images and labels."""
    rows: dict[str, Any] = {}
    listed = values.get("dataset", values.get("training", []))
    for row in listed.values() if isinstance(listed, dict) else listed if isinstance(listed, list) else []:
        images = row.get("images", row.get("image")) if isinstance(row, dict) else None
        images = [images] if isinstance(images, str) else images
        if not isinstance(images, list) or not images or not isinstance(row.get("label"), str):
            raise DatasetError(f"{path}: training: every row needs an image and a label")
        strange = next((name for name in (*images, row["label"]) if not _inside(str(name))), None)
        if strange is not None:
            raise DatasetError(f"{path}: training: {strange}: must be a path inside the folder")
        name = Path(row["label"]).name
        name = next((name[: -len(suffix)] for suffix in SUFFIXES if name.endswith(suffix)), name)
        rows[name] = (tuple(folder / str(image) for image in images), folder / row["label"])
    return rows


def _inside(name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def _find(source: Path, said: _Said, patient: str) -> Found:
    """Training cases, test cases with labels, and one line on test images without."""
    del source  # the folder was found when the table was read
    parts = {"": said.rows} if said.rows else {i: _laid(said, i, j) for i, j in (_OF_TRAINING, _OF_TESTS)}
    tests = parts.get(_OF_TESTS[0], {})
    alone = [name for name, (_, label) in tests.items() if not label.is_file()]
    refused = [(_OF_TESTS[0], f"{n} exams without reference labels left out") for n in [len(alone) + said.tests] if n]
    found: dict[str, Raw] = {}
    for part, cases in parts.items():
        for name, (images, label) in cases.items():
            many = len(images) == 1 and said.channels > 1  # the Decathlon keeps channels in one 4-D file
            image = images[0] if many or said.channel >= len(images) else images[said.channel]
            missing = next((path for path in (image, label) if not path.is_file()), None)
            if part == _OF_TESTS[0] and name in alone:
                continue
            if missing:
                refused.append((clean(name), f"{missing.relative_to(said.folder)}: missing"))
            else:
                split = "test" if part == _OF_TESTS[0] else None
                found[name] = Raw(clean(name), "", (image, label), split=split, about=_volume(said.channel, many))
    if not found:
        raise DatasetError(f"{said.folder}: no pair of image and labels in imagesTr and labelsTr")
    known, unknown = patients(sorted(found), patient)
    return Found(tuple(replace(found[n], patient=clean(p)) for n, p in known.items()), (*refused, *unknown))


def _volume(channel: int, many: bool) -> dict[str, Any]:
    """Which volume of a 4-D file is the image, kept beside the case; nothing for other files."""
    return {"volume": channel} if many else {}


def _laid(said: _Said, images: str, labels: str) -> dict[str, tuple[tuple[Path, ...], Path]]:
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


def _read(raw: Raw, table: Table, notes: tuple[str, ...]) -> Read:
    from lumbarseg import files

    image = files.read_image(raw.files[0], raw.about.get("volume"))
    labels = files.read_labels(raw.files[1])
    fit.check_values(labels.array, table, raw.files[1], _WAY_OUT)
    labels, warnings = fit.on_grid(labels, image, raw.files[1])
    return Read(image, labels, warnings=(*notes, *warnings))
