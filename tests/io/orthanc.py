"""Run Orthanc with its DICOMweb plug-in as a local server."""

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

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "reader", "a secret of the tests"
_START_TIMEOUT = 60.0  # s, on a busy machine


def find_program() -> str | None:
    """Return the path of Orthanc, None if it is not installed with its plug-in."""
    path = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    return path if path and PLUGIN.is_file() else None


needs_orthanc = pytest.mark.skipif(find_program() is None, reason="Orthanc with its DICOMweb plug-in is not installed")


@contextmanager
def running(folder: Path, **settings: Any) -> Iterator[str]:
    """Start a server, yield the address of its DICOMweb service, and stop the server at the end of the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir(parents=True)
    configuration = {
        "StorageDirectory": str(folder),
        "HttpPort": port,
        "RemoteAccessAllowed": False,  # it listens on all interfaces, but refuses remote clients
        "DicomServerEnabled": False,
        "Plugins": [str(PLUGIN)],
        **settings,
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen([find_program() or "", folder / "orthanc.json"], stdout=log, stderr=log)
        try:
            _wait(port, process)
            yield f"http://127.0.0.1:{port}/dicom-web"
        finally:
            process.kill()
            process.wait()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("Orthanc did not start; see its log.txt")


def put(url: str, files: Iterable[Path]) -> None:
    """Store DICOM files on a server."""
    from dicomweb_client import DICOMwebClient

    DICOMwebClient(url).store_instances([pydicom.dcmread(path) for path in files])
