"""Errors planted in exams and clicked away over HTTP, in four orientations; `benchmarks.serve` runs it.

"metal": a signal void about the front of L3, as a screw makes it; the network loses much of the body. "names": the exam
ends inside the disc L4-L5, without what levels are counted from; all names are one off. Clicks are set by the rule that
a person would follow: in the middle of the largest part of what is judged that is wrong, as what is there.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from lumbarseg.anatomy import STRUCTURES, structure_by_name
from lumbarseg.io import read_labels, write_image
from lumbarseg.metrics.overlap import compute_dice
from lumbarseg.phantom import Phantom
from lumbarseg.report.picture import TEXT, PictureLayout, draw_names, render_slice
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

ORIENTATIONS = ("RAS", "LPS", "SRA", "oblique")
CLICKS = 2
Row = dict[str, Any]
Click = tuple[str, list[int]]
"""What is there, and the voxel in RAS order."""
_PATIENCE = 600.0
_METAL, _IN_FRONT, _RIM = 30.0, 15.0, 2.0  # mm: radius, middle before that of the body, softness
_FRAME = PictureLayout(max_height=560, max_width=420, panel_width=84, font_size=16)


@dataclass(frozen=True)
class Server:
    """Our server: its address and process."""

    url: str
    pid: int


@dataclass(frozen=True)
class InjectedError:
    """An exam with an error in it, in RAS order. truth: its labels; judged: names of the structures that count."""

    image: Volume
    truth: Array
    judged: tuple[str, ...]

    def dice(self, found: Array, plane: int | None = None) -> float:
        """Mean Dice by name of what is judged, in all slices or in one."""
        there = slice(None) if plane is None else plane
        values = [structure_by_name(name).label for name in self.judged]
        return float(np.mean([compute_dice(found[there] == value, self.truth[there] == value) for value in values]))


def add_metal(phantom: Phantom) -> InjectedError:
    """A ball without signal about the front of L3."""
    labels, image = (reorient(volume, "RAS") for volume in (phantom.labels, phantom.image))
    spacing = np.array(image.grid.spacing)
    middle = np.argwhere(labels.array == structure_by_name("L3").label).mean(axis=0)
    middle[1] += _IN_FRONT / spacing[1]
    away = (np.indices(image.array.shape).T - middle).T * spacing[:, None, None, None]
    ball = (np.hypot(away[1], away[2]) < _METAL).astype(np.float32)  # through all slices, as its halo goes
    share = ndimage.gaussian_filter(ball, (0, _RIM / spacing[1], _RIM / spacing[2]))
    dark = float(np.percentile(image.array, 1))
    return InjectedError(Volume(image.array * (1 - share) + dark * share, image.affine), labels.array, ("L3",))


def crop_above_l4(phantom: Phantom) -> InjectedError:
    """The exam from the middle of L4-L5 upwards."""
    labels, image = (reorient(volume, "RAS") for volume in (phantom.labels, phantom.image))
    lowest = int(np.argwhere(labels.array == structure_by_name("L4-L5").label)[:, 2].mean())
    affine = image.affine.copy()
    affine[:3, 3] = image.grid.to_world(np.array([0.0, 0.0, lowest]))
    array = np.ascontiguousarray(image.array[:, :, lowest:])
    return InjectedError(Volume(array, affine), labels.array[:, :, lowest:], ("L1", "L2", "L3", "L4"))


ERRORS = {"metal": add_metal, "names": crop_above_l4}


def orientation_variants(image: Volume) -> dict[str, Volume]:
    """The same voxels in four orientations; the oblique one lies elsewhere in space."""
    turn, angle = np.eye(4), np.deg2rad(12)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    found = {name: reorient(image, name) for name in ORIENTATIONS[:3]}
    return {**found, "oblique": Volume(image.array, turn @ image.affine)}


def worst_position(found: Array, planted: InjectedError) -> Click:
    """Where the largest part of what is judged is wrong, a voxel deep inside it, and what is there."""
    sizes, best = 0, np.zeros(found.shape, bool)
    for value in (structure_by_name(name).label for name in planted.judged):
        for wrong in ((planted.truth == value) & (found != value), (found == value) & (planted.truth != value)):
            parts, count = ndimage.label(wrong)
            counts = np.bincount(parts.ravel(), minlength=2)[1:]
            if count and counts.max() > sizes:
                sizes, best = int(counts.max()), parts == 1 + counts.argmax()
    depth = ndimage.distance_transform_edt(best, sampling=planted.image.grid.spacing)
    voxel = np.unravel_index(int(depth.argmax()), depth.shape)
    there = {s.label: s.name for s in STRUCTURES}.get(int(planted.truth[voxel]), "background")
    return there, [int(place) for place in voxel]


def measure_clicks(server: Server, planted: InjectedError, studies: Path, name: str) -> dict[str, Row]:
    """Dice, seconds and answers after 0, 1 and 2 clicks by orientation; answers are in RAS order.

    "slices": Dice in a click's own slice before and after it.

    The clicks are chosen with the first orientation and are then the same in all. studies: where exams are put.
    """
    clicks: list[Click] = []
    rows: dict[str, Row] = {}
    for orientation, image in orientation_variants(planted.image).items():
        exam = f"{name} {orientation}"
        write_image(image, studies / f"{exam}.nii.gz")
        _there(server, exam)
        row: Row = {"dice": [], "seconds": [], "work": [], "answers": [], "clicks": clicks}
        for count in range(CLICKS + 1):
            if count > len(clicks):
                clicks.append(worst_position(row["answers"][-1], planted))
            before = cpu_seconds(server.pid)
            seconds, answer = _asked(server, exam, orientation, image, clicks[:count])
            row["dice"].append(round(planted.dice(answer), 3))
            row["seconds"].append(round(seconds, 2))
            row["work"].append(round(cpu_seconds(server.pid) - before, 2))
            row["answers"].append(answer)
        pairs = zip(clicks, row["answers"], row["answers"][1:], strict=False)
        row["slices"] = [[round(planted.dice(a, at[0]), 3) for a in both] for (_, at), *both in pairs]
        rows[orientation] = row
    return rows


def _asked(server: Server, exam: str, orientation: str, image: Volume, clicks: Sequence[Click]) -> tuple[float, Array]:
    """Seconds and answer, in RAS order, as 3D Slicer asks: voxels of the exam as it lies, by name."""
    turned = orientation != "oblique"
    empty = Volume(np.zeros(image.array.shape, np.uint8), image.affine)
    canonical = reorient(empty, "RAS").grid if turned else image.grid
    params: dict[str, Any] = {}
    for there, place in clicks:
        voxel = np.rint(image.grid.to_index(canonical.to_world(np.array(place, float)))).astype(int)
        params.setdefault(there, []).append(voxel.tolist())
    address = f"{server.url}/infer/lumbar_deepedit?image={quote(exam)}"
    seconds, body = post(address, {**params, "label": clicks[-1][0]} if clicks else {})
    found = read_response(body)
    return seconds, reorient(Volume(found.array, image.affine), "RAS").array if turned else found.array


def _there(server: Server, exam: str) -> None:
    """Wait until the server has seen a new file."""
    address = f"{server.url}/datastore/image?image={quote(exam)}"
    for _ in range(200):
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=_PATIENCE).close()
            return
        except urllib.error.HTTPError:
            time.sleep(0.1)
    raise RuntimeError(f"the server does not see {exam}")


def post(url: str, params: dict[str, Any]) -> tuple[float, bytes]:
    """Seconds and body of an inference request as 3D Slicer sends it."""
    limit = "lImIt"
    text = json.dumps({**params, "result_extension": ".nrrd", "result_dtype": "uint8"})
    body = f'--{limit}\r\nContent-Disposition: form-data; name="params"\r\n\r\n{text}\r\n--{limit}--\r\n'.encode()
    request = urllib.request.Request(url, body, {"content-type": f"multipart/form-data; boundary={limit}"})
    start = time.perf_counter()
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE) as response:
            return time.perf_counter() - start, response.read()
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{url}: {error.code}: {error.read()[:300]!r}") from error


def read_response(body: bytes) -> Volume:
    """The answer of our server in declared values."""
    head, rest = body.split(b"\r\n\r\n", 2)[1:]
    told = json.loads(head.split(b"\r\n")[0])["label_names"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answer.nrrd"
        path.write_bytes(rest.rpartition(b"\r\n--")[0])
        labels = read_labels(path)
    table = np.zeros(256, np.uint8)
    for name, place in told.items():
        table[place] = structure_by_name(name).label
    return Volume(table[labels.array], labels.affine)


def cpu_seconds(pid: int) -> float:
    """Processor seconds that a process has used, where the system tells."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


def picture(planted: InjectedError, row: Row, path: Path) -> None:
    """The answers without and with the first click side by side, in its slice; a JPEG."""
    there, (plane, *place) = row["clicks"][0]
    panels = []
    for count, answer in enumerate(row["answers"][:2]):
        image, found = (
            Volume(np.ascontiguousarray(array[plane : plane + 1]), planted.image.affine)
            for array in (planted.image.array, answer)
        )
        base, marks = render_slice(image, found, STRUCTURES, _FRAME)
        height, width = base.shape[:2]
        panel = Image.new("RGB", (width + _FRAME.panel_width, height))
        panel.paste(Image.fromarray(base.astype(np.uint8)), (0, 0))
        pen = ImageDraw.Draw(panel, "RGBA")
        draw_names(pen, marks, (height, width), _FRAME)
        if count:
            _cross(pen, place, answer.shape[1:], (width, height), there)
        told = "after one click" if count else "automatic"
        pen.text((10, 8), told, fill=TEXT, font_size=18, stroke_width=2, stroke_fill=(0, 0, 0))
        panels.append(panel)
    page = Image.new("RGB", (sum(panel.width for panel in panels), panels[0].height))
    for number, panel in enumerate(panels):
        page.paste(panel, (number * panel.width, 0))
    page.save(path, "JPEG", quality=82)


def _cross(pen: ImageDraw.ImageDraw, place: list[int], shape: Sequence[int], size: tuple[int, int], text: str) -> None:
    """A click in a panel: front is left, head is up."""
    x, y = ((n - 1 - at + 0.5) * pixels / n for at, n, pixels in zip(place, shape, size, strict=True))
    for lines, colour in ((5, (0, 0, 0)), (2, (90, 255, 120))):
        pen.line([(x - 9, y), (x + 9, y)], fill=colour, width=lines)
        pen.line([(x, y - 9), (x, y + 9)], fill=colour, width=lines)
    pen.text((x + 12, y - 9), text, fill=(90, 255, 120), font_size=15, stroke_width=2, stroke_fill=(0, 0, 0))
