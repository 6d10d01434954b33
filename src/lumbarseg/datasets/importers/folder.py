"""A folder of pairs `<name>_image.nii.gz` and `<name>_labels.nii.gz` with a label table becomes a prepared dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lumbarseg.anatomy import LEVELS, STRUCTURES, Kind
from lumbarseg.datasets.folder import Case, Dataset, Table, plan, save, store_case, table_from
from lumbarseg.errors import DatasetError

_IMAGE = "_image.nii.gz"
_LABELS = "_labels.nii.gz"
_WHOLE = (Kind.BODY.value, Kind.ARCH.value)
_UNDRAWN = (Kind.BACKGROUND.value, Kind.SACRUM.value)


def _levels() -> Table:
    """Default label values, a body's number meaning the whole vertebra."""
    table: Table = {s.label: (s.name,) for s in STRUCTURES if s.kind in (Kind.DISC, Kind.CANAL)}
    table |= {s.label: (s.name, f"{s.name} arch") for s in STRUCTURES if s.name in LEVELS}
    return table


PRESETS: dict[str, Table] = {
    "default": {0: (Kind.BACKGROUND.value,), **{s.label: (s.name,) for s in STRUCTURES}},
    "spider_space": {0: _UNDRAWN, 1: _WHOLE, 2: (Kind.DISC.value,), 3: (Kind.CANAL.value,)},
    # 60 a vertebra and 62 a disc above T12, 61 a vertebra that is partly in view
    "spider_t2": {0: _UNDRAWN, **_levels(), 60: _WHOLE, 61: _WHOLE, 62: (Kind.DISC.value,)},
}
"""Label tables of known sources, by name."""


def import_folder(
    source: Path | str,
    target: Path | str,
    table: str | Path | Mapping[int, tuple[str, ...]],
    licence: str = "",
    source_name: str = "",
    held_out: int = 10,
) -> Dataset:
    """Import all pairs of `source` into a new dataset at `target`.

    table: a preset's name, a JSON file {value: [names]}, or a table; source_name: what to call the source, for example
    its citation; held_out: every such patient goes to the split "val", 0 for none. The patient is what a file's name
    says before its first underscore.
    """
    from lumbarseg import files

    source = Path(source)
    pairs = _pairs(source)
    dataset = plan(target, Path(target).name, _resolve(table))
    patients = sorted({_patient(name) for name in pairs})
    cases: list[Case] = []
    for name, (image, labels) in pairs.items():
        place = patients.index(_patient(name))
        split = "val" if held_out and place % held_out == held_out - 1 else "train"
        facts = {"patient": _patient(name), "split": split, "licence": licence, "source": source_name or source.name}
        cases.append(store_case(dataset, name, files.read_image(image), files.read_labels(labels), facts))
    dataset = replace(dataset, everything=tuple(sorted(cases, key=lambda case: case.name)))
    save(dataset)
    return dataset


def _patient(name: str) -> str:
    return name.partition("_")[0]


def _pairs(source: Path) -> dict[str, tuple[Path, Path]]:
    images = sorted(source.glob(f"*{_IMAGE}"))
    if not images:
        raise DatasetError(f"{source}: holds no file that ends in {_IMAGE}")
    pairs = {}
    for image in images:
        name = image.name.removesuffix(_IMAGE)
        labels = source / (name + _LABELS)
        if not labels.is_file():
            raise DatasetError(f"{labels}: missing, though {image.name} is there")
        pairs[name] = (image, labels)
    return pairs


def _resolve(table: str | Path | Mapping[int, tuple[str, ...]]) -> Table:
    if isinstance(table, Mapping):
        return table_from(dict(table), "label table")
    if str(table) in PRESETS:
        return PRESETS[str(table)]
    path = Path(table)
    if not path.is_file():
        raise DatasetError(f"{table}: neither a label table's file nor one of {', '.join(PRESETS)}")
    try:
        return table_from(json.loads(path.read_text(encoding="utf-8")), str(path))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: no JSON: {error}") from error
