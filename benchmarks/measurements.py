"""Errors of the measurements: python -m benchmarks.measurements [--real DIR] [--model FILE].

Three comparisons, each over all structures of a kind: phantoms against the sizes of their shapes, real exams against
the same measurement on the human label map, and T1 against T2 of the same patient. Prints a table and writes
benchmarks/results/measurements.json; for the shipped model also the package's table of errors
(measurement/errors.json) and the table in docs/measurements.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.accuracy import ROOT
from benchmarks.agreement import pairs_on_one_grid
from benchmarks.slices import segment_or_refuse
from lumbarseg.anatomy import STRUCTURES, Kind, labels_of_kind
from lumbarseg.components import connected_components
from lumbarseg.errors import LumbarsegError
from lumbarseg.inference import Model, bundled_model_path
from lumbarseg.io import read_labels
from lumbarseg.measurement import MEASUREMENT_NAMES, SPINE, Measurement, lumbar_lordosis, measure_structures
from lumbarseg.phantom import render_phantom, sample_recipe
from lumbarseg.segmentation import segment
from lumbarseg.volume import Array, Volume

RESULTS = ROOT / "benchmarks" / "results" / "measurements.json"
PACKAGE_TABLE = ROOT / "src" / "lumbarseg" / "measurement" / "errors.json"
DOCS_PAGE = ROOT / "docs" / "measurements.md"
OPEN, CLOSE = "<!-- errors -->", "<!-- end of errors -->"
_COMPARISONS = ("phantoms", "human", "repeated")
_MIN_OVERLAP = 0.3  # of a reference structure, that a predicted one must cover to be compared with it

Differences = dict[tuple[str, str], list[float]]
"""Differences by kind of structure and name of the measurement."""
Values = dict[tuple[str, str, str], float]
"""Measured values by structure, kind and name of the measurement."""

_OWN = {structure.label: structure.kind for structure in STRUCTURES if structure.kind is not Kind.ARCH}
_OWN_BODIES, _OWN_DISCS = ({k: v for k, v in _OWN.items() if v is kind} for kind in (Kind.BODY, Kind.DISC))
_S1 = {30: Kind.SACRUM}
REFERENCES: Mapping[str, Mapping[int, Kind]] = {
    "chu": _OWN_BODIES,
    "siegen": _OWN_BODIES | _S1,
    "myosegmentum": _OWN_BODIES,
    "discs": _OWN_DISCS,
    "spider_space/test": {2: Kind.DISC, 3: Kind.CANAL},
    "sudirman/test": _OWN_BODIES | _S1,
}
"""Sets with human label maps: what their values mean, as far as it is measured."""


def collect_values(rows: Sequence[Measurement], is_volume: bool = True) -> Values:
    """Return the measured values of complete structures; volumes of bodies and discs, not of a single slice."""
    values = {
        (row.name, str(row.kind), name): getattr(row, name)
        for row in rows
        for name in MEASUREMENT_NAMES
        if row.complete and getattr(row, name) is not None
        if name != "volume" or (is_volume and row.kind in (Kind.BODY, Kind.DISC))
    }
    lordosis = lumbar_lordosis(rows)
    return values | ({(SPINE, SPINE, "lordosis"): lordosis} if lordosis is not None else {})


def add_differences(differences: Differences, measured: Values, reference: Values) -> None:
    """Add measured less reference for each value that both have."""
    for (structure, kind, name), value in measured.items():
        if (structure, kind, name) in reference:
            differences[kind, name].append(value - reference[structure, kind, name])


def name_by_overlap(labels: Array, meaning: Mapping[int, Kind], other: Array) -> Array:
    """Return a label map with the labels of another one: each structure gets that which it overlaps most.

    So wrong names do not count. A value that stands for all bodies or discs is taken apart into components; a structure
    without a counterpart is left out.

    Parameters
    ----------
    labels, other : (I, J, K) on one grid
    meaning : kind of each value of `labels` that is used
    """
    renamed = np.zeros_like(other)
    for kind in sorted(set(meaning.values())):
        values = [value for value, item_kind in meaning.items() if item_kind is kind]
        parts: Iterable[Array] = (labels == value for value in values)
        if kind in (Kind.BODY, Kind.DISC) and len(values) == 1:
            components = connected_components(labels == values[0])
            parts = (components.numbers == number + 1 for number in range(components.count))
        candidates = np.where(np.isin(other, labels_of_kind(kind)), other, 0)
        for part in parts:
            overlaps = np.bincount(candidates[part], minlength=2)
            label = int(overlaps[1:].argmax()) + 1
            if overlaps[label] > _MIN_OVERLAP * part.sum() and not (renamed == label).any():
                renamed[part] = label
    return renamed


def phantom_differences(model: Model, count: int) -> Differences:
    """Segment phantoms that lie straight in the scanner; return measured less true values."""
    differences: Differences = defaultdict(list)
    for seed in range(count):
        recipe = sample_recipe(np.random.default_rng([27, seed]))
        phantom = render_phantom(replace(recipe, scanner=replace(recipe.scanner, turn=(0.0, 0.0, 0.0))))
        try:
            segmentation = segment(phantom.image, model)
        except LumbarsegError:
            continue
        labels = Volume(name_by_overlap(segmentation.labels.array, _OWN, phantom.labels.array), phantom.labels.affine)
        rows = measure_structures(labels, segmentation.flips)
        add_differences(differences, collect_values(rows), dict(_true_values(phantom.ground_truth)))
    return differences


def _true_values(
    truth: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> Iterator[tuple[tuple[str, str, str], float]]:
    for group, kind in (("bodies", Kind.BODY), ("discs", Kind.DISC)):
        for structure, sizes in truth.get(group, {}).items():
            for name, value in sizes.items():
                yield (structure, str(kind), name), value
    if "lordosis" in truth:
        yield (SPINE, SPINE, "lordosis"), float(truth["lordosis"])  # type: ignore[arg-type]


def human_differences(model: Model, real: Path) -> dict[str, Differences]:
    """Return for each set: measured on the segmentation less measured on the human label map."""
    sets = {}
    for name, meaning in REFERENCES.items():
        differences: Differences = defaultdict(list)
        for image, reference in reference_files(real / name):
            segmentation, _ = segment_or_refuse(model, image)
            if segmentation is None:
                continue
            labels = segmentation.labels
            human = Volume(name_by_overlap(read_labels(reference).array, meaning, labels.array), labels.affine)
            is_volume = min(labels.array.shape) > 1
            pair = [collect_values(measure_structures(m, segmentation.flips), is_volume) for m in (labels, human)]
            add_differences(differences, *pair)
        sets[name] = differences
    return sets


def reference_files(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the image and the human label map of each exam of a set."""
    for image in sorted([*folder.glob("*_image.nii.gz"), *folder.glob("Img_??.nii.gz")]):
        by_level = folder / "named" / image.name.replace(".nii.gz", "_named.nii.gz")
        yield image, by_level if by_level.is_file() else image.with_name(image.name.replace("_image.", "_labels."))


def repeated_differences(model: Model, folder: Path) -> Differences:
    """Return T1 less T2 of the patients of `spider_mid`, over the square root of 2: the error of one measurement."""
    with (folder / "index.csv").open() as file:
        trusted = [row["file"] for row in csv.DictReader(file) if row["spacing_trust"] == "ok"]
    attempts = {name: segment_or_refuse(model, folder / f"{name}_image.nii.gz")[0] for name in trusted}
    results = {name: result for name, result in attempts.items() if result is not None}
    differences: Differences = defaultdict(list)
    for _, t1, t2 in pairs_on_one_grid(results):
        labels = Volume(name_by_overlap(t1.labels.array, _OWN, t2.labels.array), t1.labels.affine)
        rows = measure_structures(labels, t1.flips), measure_structures(t2.labels, t2.flips)
        add_differences(differences, *(collect_values(r, is_volume=False) for r in rows))
    return {key: [value / np.sqrt(2) for value in values] for key, values in differences.items()}


def summarise(differences: Mapping[tuple[str, str], Sequence[float]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return bias, standard deviation and count by kind and measurement."""
    summary: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for (kind, name), values in differences.items():
        if len(values) > 2:
            sd = round(float(np.std(values, ddof=1)), 2)
            summary[kind][name] = {"bias": round(float(np.mean(values)), 2), "sd": sd, "n": len(values)}
    return dict(summary)


def pool(sets: Iterable[Differences]) -> Differences:
    """Return the differences of several sets together."""
    pooled: Differences = defaultdict(list)
    for differences in sets:
        for key, values in differences.items():
            pooled[key] += values
    return pooled


def package_table(
    summaries: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]],
) -> dict[str, dict[str, float]]:
    """Return the standard deviation of each measurement by kind: against human label maps, else T1 against T2."""
    table: dict[str, dict[str, float]] = {}
    for kind, name in _all_keys(summaries):
        scores = [summaries[c].get(kind, {}).get(name) for c in ("human", "repeated", "phantoms")]
        table.setdefault(kind, {})[name] = next(score["sd"] for score in scores if score)
    return table


def _all_keys(summaries: Mapping[str, Mapping[str, Mapping[str, object]]]) -> list[tuple[str, str]]:
    order = (*MEASUREMENT_NAMES, "lordosis")
    keys = {(kind, name) for summary in summaries.values() for kind, names in summary.items() for name in names}
    kinds = (Kind.BODY, Kind.DISC, Kind.SACRUM, Kind.CANAL, SPINE)
    return sorted(keys, key=lambda key: (kinds.index(key[0]), order.index(key[1])))


def format_table(summaries: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]) -> str:
    """Return the table of errors in Markdown."""
    titles = ("phantoms: bias, SD", "n", "human label maps: bias, SD", "n", "T1 and T2: SD", "n")
    lines = [f"| | measurement | {' | '.join(titles)} |", "|---|---|" + "--:|" * len(titles)]
    for kind, name in _all_keys(summaries):
        cells = []
        for comparison in _COMPARISONS:
            score = summaries[comparison].get(kind, {}).get(name)
            bias = f"{score['bias']:+.1f}, " if score and comparison != "repeated" else ""
            cells += [f"{bias}{score['sd']:.1f}", f"{score['n']:.0f}"] if score else ["", ""]
        lines.append(f"| {kind} | {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure all sets, print the table, write the results and the tables of the package and the documentation."""
    parser = argparse.ArgumentParser(prog="benchmarks.measurements", description=__doc__)
    parser.add_argument("--real", type=Path, default=os.environ.get("LUMBARSEG_REAL", ROOT.parent / "shared" / "real"))
    parser.add_argument("--model", type=Path, default=None, help="a model file (default: the shipped one)")
    parser.add_argument("--phantoms", type=int, default=40, help="number of phantoms")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS, help="where the JSON goes")
    args = parser.parse_args()
    real = Path(args.real)
    if not (real / "spider_mid").is_dir():
        parser.error(f"no real exams at {args.real}; name the folder with --real or LUMBARSEG_REAL")
    model = Model.load(args.model or bundled_model_path())
    human = human_differences(model, real)
    summaries = {
        "phantoms": summarise(phantom_differences(model, args.phantoms)),
        "human": summarise(pool(human.values())),
        "repeated": summarise(repeated_differences(model, real / "spider_mid")),
    }
    print(format_table(summaries))
    facts = {"machine": machine.machine_facts(), "model": model.card.digest}
    sets = {name: summarise(differences) for name, differences in human.items()}
    args.output.write_text(json.dumps(facts | summaries | {"sets": sets}, indent=1) + "\n")
    if args.model is None:
        write_tables(summaries, model.card.digest)


def write_tables(summaries: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]], digest: str) -> None:
    """Write the package's table of errors, and the table in the documentation between its marks."""
    source = {"command": "python -m benchmarks.measurements", "model": digest}
    PACKAGE_TABLE.write_text(json.dumps(source | {"standard_deviation": package_table(summaries)}, indent=1) + "\n")
    before, _, rest = DOCS_PAGE.read_text().partition(OPEN)
    DOCS_PAGE.write_text(f"{before}{OPEN}\n{format_table(summaries)}\n{CLOSE}{rest.partition(CLOSE)[2]}")


if __name__ == "__main__":
    main()
