"""A real DICOMweb server on this computer alone: Orthanc with its plug-in, in a folder of its own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicomweb_client import DICOMwebClient

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "reader", "a secret of the tests"
_PATIENCE = 60.0  # s, on a busy machine


def program() -> str | None:
    """Where Orthanc is."""
    found = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    return found if found and PLUGIN.is_file() else None


needs_orthanc = pytest.mark.skipif(program() is None, reason="Orthanc with its DICOMweb plug-in is not installed")


@contextmanager
def running(folder: Path, **settings: Any) -> Iterator[str]:
    """The address of a server's DICOMweb; it is ended with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir(parents=True)
    described = {
        "StorageDirectory": str(folder),
        "HttpPort": port,
        "RemoteAccessAllowed": False,  # it listens everywhere, and refuses who is not here
        "DicomServerEnabled": False,
        "Plugins": [str(PLUGIN)],
        **settings,
    }
    (folder / "orthanc.json").write_text(json.dumps(described))
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen([program() or "", folder / "orthanc.json"], stdout=log, stderr=log)
        try:
            _wait(port, process)
            yield f"http://127.0.0.1:{port}/dicom-web"
        finally:
            process.kill()
            process.wait()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("Orthanc did not start; its log.txt says why")


def put(url: str, files: Iterable[Path]) -> None:
    """Store DICOM files on a server."""
    DICOMwebClient(url).store_instances([pydicom.dcmread(path) for path in files])
