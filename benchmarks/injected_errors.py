"""Errors injected into exams and corrected by clicks over HTTP, in four orientations; `benchmarks.serve` runs it.

"metal": a signal void around the front of L3, as from a screw; the network loses much of the body. "names": the exam
ends inside the disc L4-L5, below which levels are counted from; all names are off by one. Clicks follow a fixed rule:
in the middle of the largest wrong region of the structures that count, with the true name.
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
    """Address and process of our server."""

    url: str
    pid: int


@dataclass(frozen=True)
class InjectedError:
    """An exam with an error, in RAS orientation.

    truth : its labels
    structures : names of the structures that count
    """

    image: Volume
    truth: Array
    structures: tuple[str, ...]

    def dice(self, prediction: Array, plane: int | None = None) -> float:
        """Return the mean Dice by name of the structures that count, in all slices or in one."""
        region = slice(None) if plane is None else plane
        values = [structure_by_name(name).label for name in self.structures]
        return float(
            np.mean([compute_dice(prediction[region] == value, self.truth[region] == value) for value in values])
        )


def add_metal(phantom: Phantom) -> InjectedError:
    """Add a sphere without signal around the front of L3."""
    labels, image = (reorient(volume, "RAS") for volume in (phantom.labels, phantom.image))
    spacing = np.array(image.grid.spacing)
    middle = np.argwhere(labels.array == structure_by_name("L3").label).mean(axis=0)
    middle[1] += _IN_FRONT / spacing[1]
    offset_mm = (np.indices(image.array.shape).T - middle).T * spacing[:, None, None, None]
    ball = (np.hypot(offset_mm[1], offset_mm[2]) < _METAL).astype(np.float32)  # through all slices, as its halo goes
    share = ndimage.gaussian_filter(ball, (0, _RIM / spacing[1], _RIM / spacing[2]))
    dark = float(np.percentile(image.array, 1))
    return InjectedError(Volume(image.array * (1 - share) + dark * share, image.affine), labels.array, ("L3",))


def crop_above_l4(phantom: Phantom) -> InjectedError:
    """Crop the exam to everything above the middle of L4-L5."""
    labels, image = (reorient(volume, "RAS") for volume in (phantom.labels, phantom.image))
    lowest = int(np.argwhere(labels.array == structure_by_name("L4-L5").label)[:, 2].mean())
    affine = image.affine.copy()
    affine[:3, 3] = image.grid.to_world(np.array([0.0, 0.0, lowest]))
    array = np.ascontiguousarray(image.array[:, :, lowest:])
    return InjectedError(Volume(array, affine), labels.array[:, :, lowest:], ("L1", "L2", "L3", "L4"))


ERRORS = {"metal": add_metal, "names": crop_above_l4}


def orientation_variants(image: Volume) -> dict[str, Volume]:
    """Return the same voxels in four orientations; the oblique one lies elsewhere in space."""
    turn, angle = np.eye(4), np.deg2rad(12)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    prediction = {name: reorient(image, name) for name in ORIENTATIONS[:3]}
    return {**prediction, "oblique": Volume(image.array, turn @ image.affine)}


def worst_position(prediction: Array, error: InjectedError) -> Click:
    """Return the true name and the innermost voxel of the largest wrong region."""
    sizes, best = 0, np.zeros(prediction.shape, bool)
    for value in (structure_by_name(name).label for name in error.structures):
        for wrong in ((error.truth == value) & (prediction != value), (prediction == value) & (error.truth != value)):
            parts, count = ndimage.label(wrong)
            counts = np.bincount(parts.ravel(), minlength=2)[1:]
            if count and counts.max() > sizes:
                sizes, best = int(counts.max()), parts == 1 + counts.argmax()
    depth = ndimage.distance_transform_edt(best, sampling=error.image.grid.spacing)
    voxel = np.unravel_index(int(depth.argmax()), depth.shape)
    structure = {s.label: s.name for s in STRUCTURES}.get(int(error.truth[voxel]), "background")
    return structure, [int(index) for index in voxel]


def measure_clicks(server: Server, error: InjectedError, studies: Path, name: str) -> dict[str, Row]:
    """Measure Dice and seconds after 0, 1 and 2 clicks by orientation; predictions are in RAS orientation.

    "slices" is the Dice in the slice of a click before and after it. The clicks are chosen with the first orientation
    and are the same in all.

    studies : folder of the server for exams
    """
    clicks: list[Click] = []
    rows: dict[str, Row] = {}
    for orientation, image in orientation_variants(error.image).items():
        exam = f"{name} {orientation}"
        write_image(image, studies / f"{exam}.nii.gz")
        _wait_for_file(server, exam)
        row: Row = {"dice": [], "seconds": [], "work": [], "answers": [], "clicks": clicks}
        for count in range(CLICKS + 1):
            if count > len(clicks):
                clicks.append(worst_position(row["answers"][-1], error))
            before = cpu_seconds(server.pid)
            seconds, prediction = _request_prediction(server, exam, orientation, image, clicks[:count])
            row["dice"].append(round(error.dice(prediction), 3))
            row["seconds"].append(round(seconds, 2))
            row["work"].append(round(cpu_seconds(server.pid) - before, 2))
            row["answers"].append(prediction)
        pairs = zip(clicks, row["answers"], row["answers"][1:], strict=False)
        row["slices"] = [[round(error.dice(a, at[0]), 3) for a in both] for (_, at), *both in pairs]
        rows[orientation] = row
    return rows


def _request_prediction(
    server: Server, exam: str, orientation: str, image: Volume, clicks: Sequence[Click]
) -> tuple[float, Array]:
    """Return seconds and prediction of a request as 3D Slicer sends it; clicks are voxels by name."""
    reoriented = orientation != "oblique"
    empty = Volume(np.zeros(image.array.shape, np.uint8), image.affine)
    canonical = reorient(empty, "RAS").grid if reoriented else image.grid
    params: dict[str, Any] = {}
    for name, voxel_index in clicks:
        voxel = np.rint(image.grid.to_index(canonical.to_world(np.array(voxel_index, float)))).astype(int)
        params.setdefault(name, []).append(voxel.tolist())
    address = f"{server.url}/infer/lumbar_deepedit?image={quote(exam)}"
    seconds, body = post(address, {**params, "label": clicks[-1][0]} if clicks else {})
    prediction = read_response(body)
    return seconds, reorient(Volume(prediction.array, image.affine), "RAS").array if reoriented else prediction.array


def _wait_for_file(server: Server, exam: str) -> None:
    """Wait until the server lists a new file."""
    address = f"{server.url}/datastore/image?image={quote(exam)}"
    for _ in range(200):
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=_PATIENCE).close()
            return
        except urllib.error.HTTPError:
            time.sleep(0.1)
    raise RuntimeError(f"the server does not see {exam}")


def post(url: str, params: dict[str, Any]) -> tuple[float, bytes]:
    """Return seconds and body of an inference request as 3D Slicer sends it."""
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
    """Read the prediction in a response of our server, with its declared values."""
    head, rest = body.split(b"\r\n\r\n", 2)[1:]
    label_names = json.loads(head.split(b"\r\n")[0])["label_names"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answer.nrrd"
        path.write_bytes(rest.rpartition(b"\r\n--")[0])
        labels = read_labels(path)
    table = np.zeros(256, np.uint8)
    for name, voxel_index in label_names.items():
        table[voxel_index] = structure_by_name(name).label
    return Volume(table[labels.array], labels.affine)


def cpu_seconds(pid: int) -> float:
    """Return the processor seconds that a process has used, if the system knows."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


def picture(error: InjectedError, row: Row, path: Path) -> None:
    """Write a JPEG of the predictions without and with the first click side by side, in its slice."""
    name, (plane, *voxel_index) = row["clicks"][0]
    panels = []
    for count, prediction in enumerate(row["answers"][:2]):
        image, labels = (
            Volume(np.ascontiguousarray(array[plane : plane + 1]), error.image.affine)
            for array in (error.image.array, prediction)
        )
        base, marks = render_slice(image, labels, STRUCTURES, _FRAME)
        height, width = base.shape[:2]
        panel = Image.new("RGB", (width + _FRAME.panel_width, height))
        panel.paste(Image.fromarray(base.astype(np.uint8)), (0, 0))
        pen = ImageDraw.Draw(panel, "RGBA")
        draw_names(pen, marks, (height, width), _FRAME)
        if count:
            _cross(pen, voxel_index, prediction.shape[1:], (width, height), name)
        title = "after one click" if count else "automatic"
        pen.text((10, 8), title, fill=TEXT, font_size=18, stroke_width=2, stroke_fill=(0, 0, 0))
        panels.append(panel)
    page = Image.new("RGB", (sum(panel.width for panel in panels), panels[0].height))
    for number, panel in enumerate(panels):
        page.paste(panel, (number * panel.width, 0))
    page.save(path, "JPEG", quality=82)


def _cross(
    pen: ImageDraw.ImageDraw, voxel_index: list[int], shape: Sequence[int], size: tuple[int, int], text: str
) -> None:
    """Draw a click in a panel: anterior is left, superior is up."""
    x, y = ((n - 1 - at + 0.5) * pixels / n for at, n, pixels in zip(voxel_index, shape, size, strict=True))
    for lines, colour in ((5, (0, 0, 0)), (2, (90, 255, 120))):
        pen.line([(x - 9, y), (x + 9, y)], fill=colour, width=lines)
        pen.line([(x, y - 9), (x, y + 9)], fill=colour, width=lines)
    pen.text((x + 12, y - 9), text, fill=(90, 255, 120), font_size=15, stroke_width=2, stroke_fill=(0, 0, 0))
