"""Fetch one series of a study from a DICOMweb server, and store derived objects in the study.

DICOM PS3.18: QIDO-RS and the metadata of WADO-RS describe a study before any pixel is transferred; STOW-RS stores.
Credentials come from the environment (LUMBARSEG_DICOMWEB_USER and LUMBARSEG_DICOMWEB_PASSWORD, or
LUMBARSEG_DICOMWEB_TOKEN) or a netrc file, never from an address, which reports and process lists show.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lumbarseg.errors import FileError

from ..file_access import atomic_write
from .headers import SliceHeader, parse_slice_headers
from .series import ImageStack
from .series_selection import select_series
from .stacks import build_stack

PREFIX = "dicomweb:"
_USER, _PASSWORD, _TOKEN = (f"LUMBARSEG_DICOMWEB_{name}" for name in ("USER", "PASSWORD", "TOKEN"))
_UID = r"\d+(?:\.\d+)*"
_ADDRESS = re.compile(rf"(https?://[^/\s]+(?:/[^\s]*?)?)/studies/({_UID})(?:/series/({_UID}))?/?")
_IMAGE_MODALITIES = ("MR", "CT")
_TIMEOUT = (10.0, 120.0)  # s, to connect and between two parts of a response
_NO_RESPONSE = "no server responds there; check the address, and that the server runs"
_NETWORK_FAILURES = {  # by the name of the exception of requests
    "SSLError": "the server's certificate is not trusted; name the certificate file of its authority in "
    "REQUESTS_CA_BUNDLE, or check the address",
    "ConnectTimeout": "the server does not respond; try again later",
    "ReadTimeout": "the server stopped responding; try again later",
    "ConnectionError": _NO_RESPONSE,
    "ProxyError": _NO_RESPONSE,
}
_ANY_SYNTAX = (("application/dicom", "*"),)


@dataclass(frozen=True)
class StudyAddress:
    """A study on a server, or one of its series."""

    server_url: str
    study_uid: str
    series_uid: str | None = None

    def __str__(self) -> str:
        study = f"{PREFIX}{self.server_url}/studies/{self.study_uid}"
        return f"{study}/series/{self.series_uid}" if self.series_uid else study


def parse_address(text: str) -> StudyAddress:
    """Parse "dicomweb:https://SERVER/PATH/studies/UID" with an optional "/series/UID".

    Raises
    ------
    FileError
        If the text is no such address, or contains a password.
    """
    match = _ADDRESS.fullmatch(text.removeprefix(PREFIX))
    if not match:
        raise FileError(f"{text}: not the address of a study; write {PREFIX}https://SERVER/PATH/studies/UID")
    if "@" in match[1].split("/")[2]:
        raise FileError(
            f"{PREFIX}{match[1].rpartition('@')[2]}: others can read a password in an address; set {_USER} and "
            f"{_PASSWORD}, or use a netrc file"
        )
    return StudyAddress(match[1], match[2], match[3])


def fetch_series(address: StudyAddress, folder: Path, requested: str | None = None) -> None:
    """Download the files of one series of a study into a new folder.

    Parameters
    ----------
    requested
        Number or part of the name of the series; default: that of the address, else the best for this package.

    Raises
    ------
    FileError
        If the server refuses, or the study has no such series.
    """
    with _connect(address) as client:
        rows = client.search_for_series(address.study_uid, fields=["Modality"])
        modalities = {_first_value(row, "0020000E"): _first_value(row, "00080060") or "?" for row in rows}
        modalities = {uid: name for uid, name in modalities.items() if uid and address.series_uid in (None, uid)}
        if not modalities:
            raise FileError(f"{address}: the server has no such study, or no series of it; check the address")
        images = [uid for uid, modality in modalities.items() if modality in _IMAGE_MODALITIES]
        if not images:
            raise FileError(
                f"{address}: no MR series in this study, only {', '.join(sorted(set(modalities.values())))}"
            )
        headers = _fetch_headers(client, address.study_uid, images, folder)
        selected = _select_series_uid(address, headers, folder, requested)
        for dataset in client.iter_series(address.study_uid, selected, media_types=_ANY_SYNTAX):
            name = re.sub("[^0-9.]", "", str(dataset.SOPInstanceUID))  # the same each time, because names are hashed
            with atomic_write(folder / f"{name}.dcm") as file:
                dataset.save_as(file, enforce_file_format=True)


def store_objects(address: StudyAddress, paths: Sequence[Path]) -> None:
    """Send DICOM objects to the study they belong to; raise `FileError` if the server does not accept all of them."""
    import pydicom

    datasets = [pydicom.dcmread(path) for path in paths]
    with _connect(address) as client:
        response = client.store_instances(datasets, study_instance_uid=address.study_uid)
    failed = response.get("FailedSOPSequence") or ()
    stored = response.get("ReferencedSOPSequence") or ()
    if failed or len(stored) < len(datasets):
        codes = sorted({f"{item.get('FailureReason', 0):04X}H" for item in failed})
        reasons = f" ({', '.join(codes)})" if codes else ""
        raise FileError(
            f"{address}: the server accepted {len(stored)} of {len(datasets)} objects{reasons}; look into its log"
        )


def _fetch_headers(client: Any, study_uid: str, series_uids: Sequence[str], folder: Path) -> list[SliceHeader]:
    """Return the headers of all images of some series, from the server's metadata without pixels."""
    from pydicom import Dataset

    headers = []
    for uid in series_uids:
        for attributes in client.retrieve_series_metadata(study_uid, uid):
            with suppress(Exception):  # a malformed image makes pydicom raise almost anything; others may be sound
                dataset = Dataset.from_json(attributes, bulk_data_uri_handler=lambda *_: b"")
                headers += parse_slice_headers(folder, dataset)
    return headers


def _select_series_uid(
    address: StudyAddress, headers: Sequence[SliceHeader], folder: Path, requested: str | None
) -> str:
    """Return the series of the first candidate that makes a stack."""
    try:
        candidates = select_series(folder, headers, requested).candidates
    except FileError as error:
        raise FileError(str(error).replace(str(folder), str(address))) from error
    stack = next((stack for stack in candidates if _is_complete_stack(stack)), candidates[0])
    return stack.slices[0].series_uid


def _is_complete_stack(stack: ImageStack) -> bool:
    try:
        build_stack(stack.name, stack.slices)
    except FileError:
        return False
    return True


def _first_value(row: dict[str, Any], tag: str) -> str:
    """Return the first value of an attribute in DICOM's JSON, "" if it is missing."""
    values = (row.get(tag) or {}).get("Value") or [None]
    return "" if values[0] is None else str(values[0])


@contextmanager
def _connect(address: StudyAddress) -> Iterator[Any]:
    """Yield a client of the server; any failure becomes a `FileError` of one line."""
    if find_spec("dicomweb_client") is None:
        raise FileError(f"{address}: to use a DICOM server, install dicomweb-client: pip install 'lumbarseg[dicom]'")
    from dicomweb_client import DICOMwebClient
    from dicomweb_client.session_utils import create_session

    session = create_session()
    if token := os.environ.get(_TOKEN):
        session.headers["Authorization"] = f"Bearer {token}"
    elif user := os.environ.get(_USER):
        session.auth = (user, os.environ.get(_PASSWORD, ""))
    for name in ("dicomweb_client", "retrying"):  # their exceptions carry the same information
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with warnings.catch_warnings(), session:
        warnings.simplefilter("ignore")
        try:
            client = DICOMwebClient(address.server_url, session=session, timeout=_TIMEOUT)
            client.set_http_retry_params(retry=False)
            yield client
        except FileError:
            raise
        except Exception as error:  # with a server that is not DICOMweb, the client raises almost anything
            raise FileError(f"{address}: {_explain_failure(error)}") from error


def _explain_failure(error: Exception) -> str:
    """Return what to do about a failed request."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    name = type(error).__name__
    if status in (401, 403):
        return f"the server refuses access ({status}); set {_USER} and {_PASSWORD}, or {_TOKEN}, or use a netrc file"
    if status == 404:
        return "the server has nothing of that name (404); check the address"
    if status is not None:
        return f"the server reports an error ({status}); look into its log, or try again later"
    if name in _NETWORK_FAILURES:
        return _NETWORK_FAILURES[name]
    if isinstance(error, OSError) and not isinstance(error, ValueError):
        return f"the connection broke ({name}); try again"
    return f"the server there does not support DICOMweb ({name}); check the address"
