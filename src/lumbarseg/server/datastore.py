"""Where exams and labels lie: MONAI Label's datastores, with every label checked and in declared values.

Labels of people ("final", or a name of their own) are stored in declared values; answers of models ("original") as
places in their list of names, for so 3D Slicer reads them back.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import DefaultLabelTag

from lumbarseg.datasets.monailabel_datastore import OWN_LABELS
from lumbarseg.errors import LumbarsegError, ServeError
from lumbarseg.io import exam_name, find_exams, read_exam, read_image, read_labels, write_image, write_labels
from lumbarseg.io.dicom.reader import contains_dicom
from lumbarseg.io.label_names import read_label_names
from lumbarseg.volume import Volume

from .label_values import align_to_grid, resolve_label_names, to_package_labels

IMAGE_PATTERNS = ("*.nii.gz", "*.nii", "*.nrrd", "*.mha")
_EXAM_NAME = re.compile(r"[^\W_][\w .()+,=@-]{0,119}")
_UNSAFE_CHARACTERS = re.compile(r"[^\w .()+,=@\\-]")
_LABEL_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


def safe_exam_name(text: str) -> str:
    """A name for a new exam, as it was given; ServeError for one that could lead out of the folder.

    "_" stands for what not every disk takes: 3D Slicer calls a series "4: SAG T2/STIR".
    """
    name = _UNSAFE_CHARACTERS.sub("_", text)
    if not _EXAM_NAME.fullmatch(name) or not text.isprintable() or name.endswith((".", " ")) or ".." in name:
        raise ServeError(f"{text!r} cannot name an exam; use letters, digits, blanks and . _ - ( ) alone")
    return name


def validate_tag(text: str) -> str:
    """A tag of labels; ServeError for one that could lead out of the folder."""
    if not _LABEL_TAG.fullmatch(text):
        raise ServeError(f"{text!r} is no tag of labels; use letters, digits, _ and - alone, or final")
    return text


class ExamDatastore(LocalDatastore):
    """A folder of exams. Every name and tag is checked here, whoever asks."""

    def __init__(self, folder: str, **settings: Any) -> None:
        super().__init__(folder, **settings)
        if getattr(self, "_handler", None):  # files that get their name when they are whole are seen, too
            self._handler.on_moved = self._on_any_event

    @property
    def folder(self) -> Path:
        """Where the table of exams and labels lies."""
        return Path(self._datastore_path)

    def stored_name(self, image_id: str) -> str:
        """The name that an exam has here which a client calls so."""
        return image_id if image_id in self.list_images() else _UNSAFE_CHARACTERS.sub("_", image_id)

    def get_image_uri(self, image_id: str) -> str:
        """The path of an exam; ServeError for one that is not in the folder."""
        path = str(super().get_image_uri(self.stored_name(image_id)))
        if not path:
            raise ServeError(f"there is no exam {image_id!r} in the studies folder", 404)
        if not Path(path).is_file():
            raise ServeError(f"the exam {image_id!r} was removed from the studies folder", 404)
        if not Path(path).is_relative_to(Path(self._datastore.image_path()).resolve()):
            raise ServeError(f"the exam {image_id!r} is a link that leads out of the studies folder", 403)
        return path

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Take an exam in, after it was read whole; ServeError for one that cannot be, or a name that is in use.

        The same exam again stays as it is: 3D Slicer sends what its user opened before it submits a label of it.
        """
        name, path = safe_exam_name(image_id), Path(image_filename)
        if not path.name.lower().endswith(tuple(pattern[1:] for pattern in IMAGE_PATTERNS)):
            raise ServeError(f"{name}: an exam is a file of {', '.join(p[1:] for p in IMAGE_PATTERNS)}", 415)
        given = _read_exam_image(path, name)
        if name in self.list_images():
            if _is_same_image(given, _read_exam_image(Path(self.get_image_uri(name)), name)):
                return name
            raise ServeError(f"there is another exam {name!r} already; give this one another name", 409)
        return str(super().add_image(name, image_filename, image_info))

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Store a label of an exam; ServeError for one that is on another grid, or holds what nobody named."""
        tag = validate_tag(str(getattr(label_tag, "value", label_tag)))
        image, image_id = self.get_image_uri(image_id), self.stored_name(image_id)
        if tag == DefaultLabelTag.ORIGINAL.value:
            return str(super().save_label(image_id, label_filename, tag, label_info))
        with validated_label(Path(image), Path(label_filename), label_info) as (path, info):
            return str(super().save_label(image_id, str(path), tag, info))

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label; ServeError when there is none."""
        if not self.get_label_uri(label_id, validate_tag(str(label_tag))):
            raise ServeError(f"there is no label {label_tag!r} of {label_id!r}", 404)
        super().remove_label(label_id, label_tag)

    def remove_image(self, image_id: str) -> None:
        """Remove an exam and its labels; ServeError when there is none."""
        self.get_image_uri(image_id)
        super().remove_image(self.stored_name(image_id))


@contextmanager
def validated_label(image: Path, label: Path, info: Mapping[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A label file as it is stored: on the exam's grid, in declared values, with what is known about it."""
    try:
        given = read_labels(label)
    except LumbarsegError as error:
        raise ServeError(_replace_path(error, label, "the label"), 422) from error
    try:
        grid = read_image(image).grid
    except LumbarsegError as error:
        raise ServeError(_replace_path(error, image, "the exam"), 422) from error
    placed = align_to_grid(given, grid)
    names = read_label_names(label) or resolve_label_names(info.get("label_info"), placed.array)
    volume = Volume(to_package_labels(placed.array, names), grid.affine)
    with tempfile.TemporaryDirectory(prefix="lumbarseg-") as folder:
        path = Path(folder) / "label.nii.gz"
        write_labels(volume, path)
        yield path, {**info, "values": OWN_LABELS}


def _read_exam_image(path: Path, name: str) -> Volume:
    """An exam of a file; ServeError when it is none."""
    try:
        return read_image(path)
    except LumbarsegError as error:
        raise ServeError(_replace_path(error, path, name), 422) from error


def _is_same_image(uploaded: Volume, stored: Volume) -> bool:
    """Whether two exams are one, written by two programs: the same values in the same places."""
    try:
        array = align_to_grid(uploaded, stored.grid).array
    except ServeError:
        return False
    return bool(np.allclose(array, stored.array, rtol=1e-4))


def _replace_path(error: LumbarsegError, path: Path, name: str) -> str:
    """An error's text with a name that the client knows in the place of a temporary file."""
    return str(error).replace(str(path), name)


def convert_dicom_studies(folder: Path) -> list[str]:
    """DICOM studies in a folder as files beside them, those that are not there yet; gives what was done, in lines."""
    told = []
    for exam in _find_dicom_exams(folder):
        inside = exam.relative_to(folder).parts
        name = re.sub(r"[^\w.-]+", "_", "_".join(inside) or exam_name(exam)).strip("._") or "exam"
        target = folder / f"{name}.nii.gz"
        if target.exists():
            continue
        try:
            write_image(read_exam(exam).volume, target)
            told.append(f"{'/'.join(inside) or exam.name}: DICOM, read into {target.name}")
        except LumbarsegError as error:
            told.append(f"left out: {error}")
    return told


def _find_dicom_exams(folder: Path) -> Iterator[Path]:
    """Folders of DICOM studies: the folder itself, and those below it but its labels."""
    below = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    if contains_dicom(folder):
        yield folder
    for entry in below:
        if entry.name == "labels":
            continue
        try:
            yield from (exam for exam in find_exams([entry]) if exam.is_dir())
        except LumbarsegError:
            continue  # nothing in it is an exam
