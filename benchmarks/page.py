"""The browser page on real exams in headless Chromium: time, and agreement with the command.

python -m benchmarks.page [--real FOLDER] [--exams N]

One page is written, opened from the disk and given the exams of chu and siegen one after the other. A result counts as
"named" when its names and label map exist, and as "shown" when its pictures are rendered (by the CPU without a GPU).
"library" is what segment(read_image(path), model) takes in Python afterwards, on the same machine.
Writes benchmarks/results/page.json, and the result into docs/page.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import browser, machine, readme
from lumbarseg.inference import Model, bundled_model_path
from lumbarseg.io import read_image, read_labels
from lumbarseg.packaging.browser_page import write_page
from lumbarseg.segmentation import segment

Row = dict[str, Any]
RESULTS = Path(__file__).resolve().parent / "results" / "page.json"
DOCS = readme.README.parent / "docs" / "page.md"
SETS = {"siegen": "*_image.nii.gz", "chu": "Img_??.nii.gz"}
AGREE = 0.995
FIRST, NEXT = 10.0, 5.0  # s


def measure(exams: Sequence[Path], folder: Path) -> Row:
    """Segment every exam with one page and with the library; files lie in `folder`."""
    page = write_page(bundled_model_path(), folder / "lumbarseg.html")
    steps = [{"open": str(path), "save": str(folder / f"{n}.nii.gz")} for n, path in enumerate(exams)]
    result = browser.drive(page.path, steps, patience=900)
    model = Model.load(bundled_model_path(), "cpu")
    rows = []
    for n, (path, step) in enumerate(zip(exams, result["steps"], strict=True)):
        if step.get("refused"):
            rows.append({"exam": _name(path), "refused": step["refused"]})
            continue
        began = time.perf_counter()
        expected = segment(read_image(path), model)
        library = time.perf_counter() - began
        labels = read_labels(folder / f"{n}.nii.gz").array
        either = (labels > 0) | (expected.labels.array > 0)
        named_at, shown_at = (_mark(step["marks"], name) for name in ("named", "shown"))
        start = _mark(step["marks"], "starting") if n else 0.0  # the first result counts from the opening of the page
        rows.append(
            {
                "exam": _name(path),
                "shape": list(labels.shape),
                "named": round(named_at - start, 2),
                "shown": round(shown_at - start, 2),
                "library": round(library, 2),
                "agreement": float((labels == expected.labels.array)[either].mean()),
                "foreground": int(either.sum()),
                "same_names": step["names"] == [level.name for level in expected.levels],
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    foreign_requests = [address for address in result["requests"] if not address.startswith(browser.OWN)]
    return {
        "machine": machine.machine_facts(),
        "model": {"digest": model.card.digest},
        "page": {"bytes": page.size, "requests": foreign_requests},
        "exams": rows,
        "targets": targets(rows, foreign_requests),
    }


def targets(rows: Sequence[Row], foreign_requests: Sequence[str]) -> list[Row]:
    """Return the targets and their values."""
    result = [row for row in rows if "agreement" in row]
    worst = min(row["agreement"] for row in result)
    usual = statistics.median([row["named"] for row in result[1:]] or [np.nan])
    return [
        {
            "what": "voxels as the command labels them, the worst exam",
            "target": f"{AGREE:.1%}",
            "figure": f"{worst:.3%}",
            "pass": worst >= AGREE,
        },
        _time("first result, from the opening of the page", FIRST, result[0]["named"]),
        _time("a result after that, median", NEXT, usual),
        {
            "what": "a result after that / the library, median",
            "target": "-",
            "figure": f"{statistics.median(row['named'] / row['library'] for row in result[1:] or result):.1f}",
            "pass": True,
        },
        {
            "what": "requests to anywhere else",
            "target": "0",
            "figure": str(len(foreign_requests)),
            "pass": not foreign_requests,
        },
    ]


def _time(what: str, bound: float, value: float) -> Row:
    return {"what": what, "target": f"{bound:g} s", "figure": f"{value:.1f} s", "pass": bool(value <= bound)}


def _mark(marks: Sequence[Sequence[Any]], name: str) -> float:
    """Return the last time that a stage began, seconds since the page was opened."""
    return float(next(at for mark, at in reversed(marks) if mark == name))


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name.removesuffix('.nii.gz')}"


def format_results(result: Row) -> str:
    """Format the tables in Markdown."""
    lines = [f"{machine.describe_machine(result['machine'])}; page of {result['page']['bytes'] / 1e6:.1f} MB.", ""]
    lines += ["| measure | target | result | |", "|---|--:|--:|---|"]
    lines += [
        f"| {t['what']} | {t['target']} | {t['figure']} | {'pass' if t['pass'] else '**miss**'} |"
        for t in result["targets"]
    ]
    head = "| exam | voxels | named, s | shown, s | library, s | agreement | names |"
    lines += ["", head, "|---|---|--:|--:|--:|--:|---|"]
    for row in result["exams"]:
        if "refused" in row:
            lines.append(f"| {row['exam']} | | | | | | refused: {row['refused']} |")
            continue
        shape = " x ".join(map(str, row["shape"]))
        names = "the same" if row["same_names"] else "**others**"
        lines.append(
            f"| {row['exam']} | {shape} | {row['named']:.1f} | {row['shown']:.1f} | {row['library']:.1f} "
            f"| {row['agreement']:.3%} | {names} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--real", type=Path, default=Path("../shared/real"), help="the folder of real exams")
    parser.add_argument("--exams", type=int, metavar="N", help="only so many of each set")
    args = parser.parse_args()
    exams = [path for name, pattern in SETS.items() for path in sorted((args.real / name).glob(pattern))[: args.exams]]
    if not exams:
        print(f"no exams of {' or '.join(SETS)} in {args.real}")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        result = measure(exams, Path(folder))
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    DOCS.write_text(readme.fill_readme(DOCS.read_text(), format_results(result)))
    print(format_results(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
