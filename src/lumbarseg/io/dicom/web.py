"""Studies on a DICOMweb server: the one series that is wanted is fetched, objects made from it are sent back.

DICOM PS3.18: QIDO-RS and metadata of WADO-RS tell what a study holds before any pixel is asked for; STOW-RS stores.
Who asks is told the server through the environment (LUMBARSEG_DICOMWEB_USER and LUMBARSEG_DICOMWEB_PASSWORD, or
LUMBARSEG_DICOMWEB_TOKEN) or a netrc file, never through an address, which reports and lists of processes show.
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
_USER, _PASSWORD, _TOKEN = (f"LUMBARSEG_DICOMWEB_{what}" for what in ("USER", "PASSWORD", "TOKEN"))
_UID = r"\d+(?:\.\d+)*"
_ADDRESS = re.compile(rf"(https?://[^/\s]+(?:/[^\s]*?)?)/studies/({_UID})(?:/series/({_UID}))?/?")
_IMAGES = ("MR", "CT")
_TIMEOUT = (10.0, 120.0)  # s, to be connected and between two pieces of an answer
_ANY_SYNTAX = (("application/dicom", "*"),)


@dataclass(frozen=True)
class StudyAddress:
    """A study on a server, or one of its series."""

    server_url: str
    study_uid: str
    series_uid: str | None = None

    def __str__(self) -> str:
        return f"{PREFIX}{self.server_url}/studies/{self.study_uid}" + (
            f"/series/{self.series_uid}" if self.series_uid else ""
        )


def parse_address(text: str) -> StudyAddress:
    """ "dicomweb:https://server/path/studies/1.2.3", or the same with "/series/4.5.6"; FileError when it is neither."""
    found = _ADDRESS.fullmatch(text.removeprefix(PREFIX))
    if not found:
        raise FileError(f"{text}: no address of a study; write {PREFIX}https://SERVER/PATH/studies/UID")
    if "@" in found[1].split("/")[2]:
        raise FileError(
            f"{PREFIX}{found[1].rpartition('@')[2]}: a password in an address is seen by others; set {_USER} and "
            f"{_PASSWORD}, or use a netrc file"
        )
    return StudyAddress(found[1], found[2], found[3])


def fetch_series(address: StudyAddress, folder: Path, requested: str | None = None) -> None:
    """Put the files of one series of a study into a new folder: the best for this package, or that of the address.

    wish: number or part of the name of the series. FileError says what the server refused or the study does not hold.
    """
    with _connect(address) as client:
        found = client.search_for_series(address.study_uid, fields=["Modality"])
        every = {_first_value(row, "0020000E"): _first_value(row, "00080060") for row in found}
        kinds = {uid: kind or "?" for uid, kind in every.items() if uid and address.series_uid in (None, uid)}
        if not kinds:
            raise FileError(f"{address}: the server holds no such study, or nothing of it; check the address")
        images = [uid for uid, kind in kinds.items() if kind in _IMAGES]
        if not images:
            raise FileError(f"{address}: no MR series in this study, only {', '.join(sorted(set(kinds.values())))}")
        chosen = _select_series_uid(
            address, _fetch_headers(client, address.study_uid, images, folder), folder, requested
        )
        for dataset in client.iter_series(address.study_uid, chosen, media_types=_ANY_SYNTAX):
            name = re.sub("[^0-9.]", "", str(dataset.SOPInstanceUID))  # the same each time: it counts as content
            with atomic_write(folder / f"{name}.dcm") as file:
                dataset.save_as(file, enforce_file_format=True)


def store_objects(address: StudyAddress, paths: Sequence[Path]) -> None:
    """Send DICOM objects to the study that they belong to; FileError when the server does not take all of them."""
    import pydicom

    datasets = [pydicom.dcmread(path) for path in paths]
    with _connect(address) as client:
        answer = client.store_instances(datasets, study_instance_uid=address.study_uid)
    failed = answer.get("FailedSOPSequence") or ()
    taken = answer.get("ReferencedSOPSequence") or ()
    if failed or len(taken) < len(datasets):
        reasons = sorted({f"{item.get('FailureReason', 0):04X}H" for item in failed})
        why = f" ({', '.join(reasons)})" if reasons else ""
        raise FileError(f"{address}: the server took {len(taken)} of {len(datasets)} objects{why}; look into its log")


def _fetch_headers(client: Any, study: str, series: Sequence[str], folder: Path) -> list[SliceHeader]:
    """The headers of every image of some series, from what the server tells of them without pixels."""
    from pydicom import Dataset

    found = []
    for uid in series:
        for said in client.retrieve_series_metadata(study, uid):
            with suppress(Exception):  # a malformed one makes pydicom raise almost anything; others may do
                found += parse_slice_headers(folder, Dataset.from_json(said, bulk_data_uri_handler=lambda *_: b""))
    return found


def _select_series_uid(address: StudyAddress, heads: Sequence[SliceHeader], folder: Path, requested: str | None) -> str:
    """The series of the first candidate that makes a stack."""
    try:
        candidates = select_series(folder, heads, requested).candidates
        whole = next((series for series in candidates if _is_complete_stack(series)), candidates[0])
        return whole.slices[0].series_uid
    except FileError as error:
        raise FileError(str(error).replace(str(folder), str(address))) from error


def _is_complete_stack(series: ImageStack) -> bool:
    try:
        build_stack(series.name, list(series.slices))
    except FileError:
        return False
    return True


def _first_value(row: dict[str, Any], tag: str) -> str | None:
    """The first value of an attribute in DICOM's JSON."""
    values = (row.get(tag) or {}).get("Value") or [None]
    return None if values[0] is None else str(values[0])


@contextmanager
def _connect(address: StudyAddress) -> Iterator[Any]:
    """A client of the server; whatever goes wrong with it becomes a FileError of one line."""
    if find_spec("dicomweb_client") is None:
        raise FileError(f"{address}: to talk to a server, install dicomweb-client: pip install 'lumbarseg[dicom]'")
    from dicomweb_client import DICOMwebClient
    from dicomweb_client.session_utils import create_session

    session = create_session()
    if token := os.environ.get(_TOKEN):
        session.headers["Authorization"] = f"Bearer {token}"
    elif user := os.environ.get(_USER):
        session.auth = (user, os.environ.get(_PASSWORD, ""))
    for name in ("dicomweb_client", "retrying"):  # what they have to say is in their exceptions
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with warnings.catch_warnings(), session:
        warnings.simplefilter("ignore")
        try:
            client = DICOMwebClient(address.server_url, session=session, timeout=_TIMEOUT)
            client.set_http_retry_params(retry=False)
            yield client
        except FileError:
            raise
        except Exception as error:  # of a server that is none of DICOMweb the client raises almost anything
            raise FileError(f"{address}: {_explain_failure(error)}") from error


def _explain_failure(error: Exception) -> str:
    """What to do about a failed request."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    name = type(error).__name__
    if status in (401, 403):
        return (
            f"the server asks who you are, or does not let you in ({status}); set {_USER} and {_PASSWORD}, or "
            f"{_TOKEN}, or use a netrc file"
        )
    if status == 404:
        return "nothing of that name on the server (404); check the address"
    if status is not None:
        return f"the server answers {status}; look into its log, or try again later"
    if name == "SSLError":
        return (
            "the server's certificate is not trusted; give the file of who signed it in REQUESTS_CA_BUNDLE, or check "
            "the address"
        )
    if name in ("ConnectTimeout", "ReadTimeout", "Timeout"):
        return f"no answer within {_TIMEOUT[name != 'ConnectTimeout']:g} s; try again later"
    if name in ("ConnectionError", "ProxyError"):
        return "no server answers there; check the address, and that it runs"
    if isinstance(error, OSError) and not isinstance(error, ValueError):
        return f"the connection broke ({name}); try again"
    return f"what answers there does not speak DICOMweb ({name}); check the address"
