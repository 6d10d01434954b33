"""Datastore of a DICOMweb server: fetch a series when it is needed, and store final labels there as DICOM SEG.

MONAI Label's own datastore reads series with SimpleITK and writes all segments with one code; this one uses
`lumbarseg.io`, with the codes of each level. Fetched series and all labels are kept in the app's folder.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from dicomweb_client.session_utils import create_session_from_user_pass
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMwebClientX, DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore
from monailabel.datastore.utils.dicom import dicom_web_download_series, dicom_web_upload_dcm
from monailabel.interfaces.datastore import DefaultLabelTag

import lumbarseg
from lumbarseg.anatomy import STRUCTURES
from lumbarseg.errors import ServeError
from lumbarseg.io import read_exam, read_labels, write_image
from lumbarseg.io.dicom import seg
from lumbarseg.io.dicom.derived_objects import Provenance
from lumbarseg.volume import Volume

from .datastore import client_errors, validate_tag, validated_label
from .label_values import described_segment

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


def create_dicomweb_datastore(address: str) -> DicomwebSeriesDatastore:
    """Connect to a DICOMweb root, with the login of MONAI_LABEL_DICOMWEB_USERNAME and _PASSWORD."""
    name, password = settings.MONAI_LABEL_DICOMWEB_USERNAME, settings.MONAI_LABEL_DICOMWEB_PASSWORD
    client = DICOMwebClientX(
        url=address.rstrip("/"),
        session=create_session_from_user_pass(name, password) if name and password else None,
        qido_url_prefix=settings.MONAI_LABEL_QIDO_PREFIX,
        wado_url_prefix=settings.MONAI_LABEL_WADO_PREFIX,
        stow_url_prefix=settings.MONAI_LABEL_STOW_PREFIX,
    )
    return DicomwebSeriesDatastore(
        client,
        settings.MONAI_LABEL_DICOMWEB_SEARCH_FILTER,
        settings.MONAI_LABEL_DICOMWEB_CACHE_PATH,
        fetch_by_frame=False,
        convert_to_nifti=True,
    )


class DicomwebSeriesDatastore(DICOMWebDatastore):
    """The MR series of a DICOMweb server; the name of an exam is its SeriesInstanceUID."""

    @property
    def folder(self) -> Path:
        """Folder of the table of exams and labels."""
        return Path(self._datastore_path)

    def fetch_series(self, image_id: str) -> Path:
        """Fetch a series unless it was fetched before; return the folder of its files, or raise ServeError."""
        if not _UID.fullmatch(image_id) or len(image_id) > 64:
            raise ServeError(f"{image_id!r} is not a SeriesInstanceUID", 404)
        folder = Path(self._datastore.image_path()).resolve() / image_id
        if not folder.is_dir() or not any(folder.iterdir()):
            try:
                dicom_web_download_series(None, image_id, str(folder), self._client, False)
            except (IndexError, KeyError) as error:
                raise ServeError(f"the DICOM server has no series {image_id}", 404) from error
            except Exception as error:  # of requests, and of servers whose answer is not DICOM
                raise ServeError(f"the DICOM server does not send the series {image_id}: {error}", 502) from error
        return folder

    def get_image_uri(self, image_id: str) -> str:
        """Return the path of a series as a NIfTI file, which 3D Slicer can read."""
        folder = self.fetch_series(image_id)
        path = folder.with_name(f"{image_id}.nii.gz")
        if not path.is_file():
            with client_errors(folder, f"series {image_id}"):
                write_image(read_exam(folder).volume, path)
        if image_id not in self._datastore.objects:
            with tempfile.TemporaryDirectory() as temporary:
                copy = Path(temporary) / path.name
                copy.write_bytes(path.read_bytes())
                LocalDatastore.add_image(self, image_id, str(copy), self._dicom_info(image_id))
        return str(path)

    def get_label_uri(self, label_id: str, label_tag: str, image_id: str = "") -> str:  # noqa: ARG002
        """Return the path of a label that was saved here, "" for none."""
        return str(LocalDatastore.get_label_uri(self, label_id, validate_tag(str(label_tag))))

    def get_labeled_images(self, label_tag: str | None = None, labels: Sequence[str] | None = None) -> list[str]:
        """List the series with a final label that was saved here."""
        return list(LocalDatastore.get_labeled_images(self, label_tag, labels))

    def get_unlabeled_images(self, label_tag: str | None = None, labels: Sequence[str] | None = None) -> list[str]:
        """List the other series."""
        return sorted(set(self.list_images()) - set(self.get_labeled_images(label_tag, labels)))

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """List series and labels, as paths."""
        return list(LocalDatastore.datalist(self, full_path))

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:  # noqa: ARG002
        """Refuse: exams are sent to the DICOM server directly."""
        raise ServeError("exams are on a DICOM server; send the images there", 405)

    def remove_image(self, image_id: str) -> None:  # noqa: ARG002
        """Refuse: series are removed on the DICOM server directly."""
        raise ServeError("exams are on a DICOM server; remove the series there", 405)

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Store a label here, and a final one on the server as DICOM SEG; ServeError as `validated_label`."""
        tag = validate_tag(str(getattr(label_tag, "value", label_tag)))
        image = Path(self.get_image_uri(image_id))
        if tag == DefaultLabelTag.ORIGINAL.value:
            return str(LocalDatastore.save_label(self, image_id, label_filename, tag, label_info))
        with validated_label(image, Path(label_filename), label_info) as (path, info):
            if tag == DefaultLabelTag.FINAL.value:
                info["SeriesInstanceUID"] = self._upload_seg(image_id, read_labels(path), info)
            return str(LocalDatastore.save_label(self, image_id, str(path), tag, info))

    def _upload_seg(self, image_id: str, labels: Volume, info: dict[str, Any]) -> str:
        """Store a label on the server; return the SeriesInstanceUID of its DICOM SEG."""
        with tempfile.TemporaryDirectory(prefix="lumbarseg-") as folder:
            path = Path(folder) / f"label{seg.SUFFIX}"
            self.write_seg(image_id, labels, path, str(info.get("model") or "person"), guided=True)
            try:
                return str(dicom_web_upload_dcm(str(path), self._client))
            except Exception as error:
                raise ServeError(f"the DICOM server does not accept the segmentation: {error}", 502) from error

    def write_seg(
        self, image_id: str, labels: Volume, path: Path, model: str, digest: str = "", guided: bool = False
    ) -> None:
        """Write labels in package values as a DICOM SEG that refers to the series; FileError when they are empty.

        guided: whether a person took part in the segmentation.
        """
        exam = read_exam(self.fetch_series(image_id))
        provenance = Provenance(lumbarseg.__version__, model, digest or "none", guided)
        present = set(np.unique(labels.array).tolist())
        segments = [described_segment(structure) for structure in STRUCTURES if structure.label in present]
        seg.write(labels, segments, exam.source_images, provenance, path)
