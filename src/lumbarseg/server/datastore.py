"""MONAI Label's datastore of a folder of exams, with every name and label checked.

Labels of annotators ("final", or another tag) are stored in package values; results of models ("original") as positions
in their list of names, because 3D Slicer reads them back so.
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
from lumbarseg.io.dicom.files import contains_dicom
from lumbarseg.io.label_names import read_label_names
from lumbarseg.volume import Volume

from .label_values import align_to_grid, resolve_label_names, to_package_labels

IMAGE_PATTERNS = ("*.nii.gz", "*.nii", "*.nrrd", "*.mha")
_EXAM_NAME = re.compile(r"[^\W_][\w .()+,=@-]{0,119}")
_UNSAFE_CHARACTERS = re.compile(r"[^\w .()+,=@\\-]")
_LABEL_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


def safe_exam_name(text: str) -> str:
    """Return a valid exam name, with "_" for characters that not every file system allows.

    3D Slicer names a series "4: SAG T2/STIR". Raises ServeError for a name that could lead out of the folder.
    """
    name = _UNSAFE_CHARACTERS.sub("_", text)
    if not _EXAM_NAME.fullmatch(name) or not text.isprintable() or name.endswith((".", " ")) or ".." in name:
        raise ServeError(f"{text!r} cannot name an exam; use only letters, digits, blanks and . _ - ( )")
    return name


def validate_tag(text: str) -> str:
    """Return a label tag; ServeError for one that could lead out of the folder."""
    if not _LABEL_TAG.fullmatch(text):
        raise ServeError(f"{text!r} is not a label tag; use only letters, digits, _ and -, or final")
    return text


class ExamDatastore(LocalDatastore):
    """A folder of exams; checks every name and tag of every client."""

    def __init__(self, folder: str, **settings: Any) -> None:
        super().__init__(folder, **settings)
        if getattr(self, "_handler", None):  # also notice files that are renamed when they are complete
            self._handler.on_moved = self._on_any_event

    @property
    def folder(self) -> Path:
        """Folder of the table of exams and labels."""
        return Path(self._datastore_path)

    def stored_name(self, image_id: str) -> str:
        """Return the stored name of an exam that a client may call by its unsafe name."""
        return image_id if image_id in self.list_images() else _UNSAFE_CHARACTERS.sub("_", image_id)

    def get_image_uri(self, image_id: str) -> str:
        """Return the path of an exam; ServeError when it is not in the folder."""
        path = str(super().get_image_uri(self.stored_name(image_id)))
        if not path:
            raise ServeError(f"there is no exam {image_id!r} in the studies folder", 404)
        if not Path(path).is_file():
            raise ServeError(f"the exam {image_id!r} was removed from the studies folder", 404)
        if not Path(path).is_relative_to(Path(self._datastore.image_path()).resolve()):
            raise ServeError(f"the exam {image_id!r} is a link that leads out of the studies folder", 403)
        return path

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Add an exam that can be read; ServeError otherwise, and for a name of another exam.

        Adding the same exam again changes nothing: 3D Slicer sends the open exam before it submits a label.
        """
        name, path = safe_exam_name(image_id), Path(image_filename)
        suffixes = [pattern[1:] for pattern in IMAGE_PATTERNS]
        if not path.name.lower().endswith(tuple(suffixes)):
            raise ServeError(f"{name}: an exam is a file of {', '.join(suffixes)}", 415)
        uploaded = read_exam_image(path, name)
        if name in self.list_images():
            if _is_same_image(uploaded, read_exam_image(Path(self.get_image_uri(name)), name)):
                return name
            raise ServeError(f"there is another exam {name!r} already; give this one another name", 409)
        return str(super().add_image(name, image_filename, image_info))

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Store a label; ServeError when it is on another grid, or has a segment without a structure's name."""
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
    """Convert a label file to the exam's grid and package values; give a temporary file and its stored info."""
    with client_errors(label, "the label"):
        labels = read_labels(label)
    labels = align_to_grid(labels, read_exam_image(image, "the exam").grid)
    names = read_label_names(label) or resolve_label_names(info.get("label_info"), labels.array)
    with tempfile.TemporaryDirectory(prefix="lumbarseg-") as folder:
        path = Path(folder) / "label.nii.gz"
        write_labels(Volume(to_package_labels(labels.array, names), labels.affine), path)
        yield path, {**info, "values": OWN_LABELS}


@contextmanager
def client_errors(path: Path, name: str) -> Iterator[None]:
    """Convert errors about a file to ServeError, which names it as the client knows it; 404 if it was removed."""
    try:
        yield
    except (LumbarsegError, OSError) as error:
        if not path.exists():
            raise ServeError(f"{name} was removed; fetch the list again", 404) from error
        raise ServeError(str(error).replace(str(path), name), 422) from error


def read_exam_image(path: Path, name: str) -> Volume:
    """Read an exam that the client knows as `name`; ServeError when it cannot be read."""
    with client_errors(path, name):
        return read_image(path)


def _is_same_image(uploaded: Volume, stored: Volume) -> bool:
    """Return whether two files, perhaps of two programs, hold the same voxels."""
    try:
        array = align_to_grid(uploaded, stored.grid).array
    except ServeError:
        return False
    return bool(np.allclose(array, stored.array, rtol=1e-4))


def convert_dicom_studies(folder: Path) -> Iterator[str]:
    """Write the DICOM studies in a folder as NIfTI files beside them, unless they exist; yield a message for each."""
    for exam in _find_dicom_exams(folder):
        parts = exam.relative_to(folder).parts
        name = re.sub(r"[^\w.-]+", "_", "_".join(parts) or exam_name(exam)).strip("._") or "exam"
        target = folder / f"{name}.nii.gz"
        if target.exists():
            continue
        try:
            write_image(read_exam(exam).volume, target)
            yield f"{'/'.join(parts) or exam.name}: DICOM, converted to {target.name}"
        except LumbarsegError as error:
            yield f"skipped: {error}"


def _find_dicom_exams(folder: Path) -> Iterator[Path]:
    """Yield the folders of DICOM studies: the folder itself, and those below it except the labels."""
    if contains_dicom(folder):
        yield folder
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir() or entry.name.startswith(".") or entry.name == "labels":
            continue
        try:
            yield from (exam for exam in find_exams([entry]) if exam.is_dir())
        except LumbarsegError:
            continue  # it contains no exam
