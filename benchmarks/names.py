"""How far a confidence of the names can be trusted, on phantoms whose names are known: python -m benchmarks.names.

Prints right and wrong exams per range of confidence. `levels.CERTAIN` was chosen from this table, on phantoms alone.
"""

from __future__ import annotations

import argparse
from itertools import pairwise

import numpy as np

from lumbarseg.anatomy import LEVELS, by_name
from lumbarseg.errors import LumbarsegError
from lumbarseg.model import Model, shipped
from lumbarseg.phantom import Ranges, draw, render
from lumbarseg.segment import Segmentation, segment

EDGES = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.01)


def right(found: Segmentation, truth: np.ndarray) -> bool:
    """Whether every true body of some size lies under its own name; truth: (I, J, K) uint8."""
    labels = found.labels.array
    for level in LEVELS:
        label = by_name(level).label
        inside = labels[truth == label]
        votes = np.bincount(inside[inside > 0], minlength=label + 1)
        if len(inside) > 500 and votes.sum() > len(inside) / 2 and votes.argmax() != label:
            return False
    return True


def main() -> None:
    """Draw, segment, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=150, help="phantoms (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=77)
    args = parser.parse_args()
    model = Model.load(shipped())
    rows: list[tuple[float, bool]] = []
    for number in range(args.n):
        phantom = render(draw(np.random.default_rng([args.seed, number]), Ranges(lumbar=(5,), isotropic=0.0)))
        try:
            found = segment(phantom.image, model)
        except LumbarsegError:
            continue
        rows.append((found.confidence, right(found, phantom.labels.array)))
        if not rows[-1][1]:
            print(f"phantom {args.seed}-{number}: wrong at {found.confidence:.2f}, {found.anchor}", flush=True)
    print("\n| confidence | exams | names right |\n|---|--:|--:|")
    for low, high in pairwise(EDGES):
        group = [ok for confidence, ok in rows if low <= confidence < high]
        print(f"| {low:.1f} to {min(high, 1.0):.1f} | {len(group)} | {sum(group)} |")


if __name__ == "__main__":
    main()
