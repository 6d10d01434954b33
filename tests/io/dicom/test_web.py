"""Studies on a real DICOMweb server, and every failure of a server."""

from __future__ import annotations

import http.server
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid
from tests.io.dicom.examples import (
    PROVENANCE,
    SAGITTAL,
    volume_along,
    with_frame_of_reference,
    write_segmentation,
)
from tests.io.make_dicom import AXIAL, LOCALISER, STUDY, T1, T2, write_series
from tests.io.orthanc import PASSWORD, USER, needs_orthanc, put, running

from lumbarseg.errors import FileError
from lumbarseg.io import read_exam
from lumbarseg.io.dicom import sr, web
from lumbarseg.io.dicom.sr import Measurements
from lumbarseg.io.dicom.web import StudyAddress

DICOMwebClient = pytest.importorskip("dicomweb_client").DICOMwebClient
pytest.importorskip("highdicom")

IMAGE_STUDY = generate_uid(entropy_srcs=["a study without slices"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a server with a study of five series, and a study without slices."""
    folder = tmp_path_factory.mktemp("server")
    study = folder / "study"
    write_series(study, volume_along("LPS", 3), LOCALISER)
    write_series(study, volume_along("PIR", 9), with_frame_of_reference(T1))
    write_series(study, SAGITTAL, with_frame_of_reference(T2))
    gaps = write_series(
        study, volume_along("PIR", 14), with_frame_of_reference(replace(T2, description="T2 gaps", number=9))
    )
    for path in gaps[3:5]:  # it has the most slices, but is not a stack
        path.unlink()
    write_series(study, volume_along("LPS", 20), with_frame_of_reference(AXIAL))
    paths = [*study.iterdir()]
    (picture,) = write_series(folder / "other", volume_along("PIR", 1), replace(T2, study=IMAGE_STUDY, modality="OT"))
    with running(folder / "orthanc") as url:
        put(url, [*paths, picture])
        yield url


@needs_orthanc
def test_only_the_selected_series_is_fetched(server: str, tmp_path: Path) -> None:
    web.fetch_series(StudyAddress(server, STUDY), tmp_path / "exam")
    exam = read_exam(tmp_path / "exam")
    assert len(list((tmp_path / "exam").iterdir())) == 9
    assert exam.metadata["series"] == "T2_TSE_SAG"
    assert np.array_equal(exam.volume.array, SAGITTAL.array)
    assert exam.volume.grid.same_as(SAGITTAL.grid, 1e-3)


@needs_orthanc
def test_a_series_can_be_requested(server: str, tmp_path: Path) -> None:
    web.fetch_series(StudyAddress(server, STUDY), tmp_path / "requested", "T1")
    assert read_exam(tmp_path / "requested").metadata["series"] == "T1_TSE_SAG"
    uid = pydicom.dcmread(next((tmp_path / "requested").iterdir())).SeriesInstanceUID
    web.fetch_series(StudyAddress(server, STUDY, uid), tmp_path / "uid")
    assert read_exam(tmp_path / "uid").metadata["series"] == "T1_TSE_SAG"
    with pytest.raises(FileError, match=rf"studies/{STUDY}: no series 't9' in it; it holds") as refusal:
        web.fetch_series(StudyAddress(server, STUDY), tmp_path / "none", "T9")
    assert str(tmp_path) not in str(refusal.value)


@needs_orthanc
def test_derived_objects_are_stored_and_read_back(server: str, tmp_path: Path) -> None:
    address = StudyAddress(server, STUDY)
    web.fetch_series(address, tmp_path / "exam")
    write_segmentation(read_exam(tmp_path / "exam"), tmp_path / "a.seg.dcm")
    sr.write(Measurements({"L3": {"volume_ml": 30.0}}, 40.0), tmp_path / "a.seg.dcm", PROVENANCE, tmp_path / "a.sr.dcm")
    paths = [tmp_path / "a.seg.dcm", tmp_path / "a.sr.dcm"]
    web.store_objects(address, paths)
    web.store_objects(address, paths)  # storing twice is no error
    client = DICOMwebClient(server)
    for path in paths:
        sent = pydicom.dcmread(path)
        (stored,) = client.retrieve_series(STUDY, sent.SeriesInstanceUID)
        assert stored == sent
    web.fetch_series(address, tmp_path / "second")
    assert read_exam(tmp_path / "second").metadata["series"] == "T2_TSE_SAG"


@needs_orthanc
@pytest.mark.parametrize(
    ("study", "line"),
    [("1.2.3.4", "has no such study"), (IMAGE_STUDY, "no MR series in this study, only OT")],
)
def test_a_study_without_an_exam_is_one_line(server: str, study: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=line):
        web.fetch_series(StudyAddress(server, study), tmp_path / "exam")


@needs_orthanc
def test_a_wrong_path_on_the_server_is_one_line(server: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"nothing of that name \(404\)"):
        web.fetch_series(StudyAddress(server.removesuffix("/dicom-web") + "/wrong", STUDY), tmp_path / "exam")


@needs_orthanc
def test_another_study_is_not_stored(server: str, tmp_path: Path) -> None:
    web.fetch_series(StudyAddress(server, STUDY), tmp_path / "exam")
    write_segmentation(read_exam(tmp_path / "exam"), tmp_path / "a.seg.dcm")
    with pytest.raises(FileError, match="the server"):
        web.store_objects(StudyAddress(server, IMAGE_STUDY), [tmp_path / "a.seg.dcm"])


@needs_orthanc
def test_credentials_come_from_the_environment_or_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with running(tmp_path / "orthanc", AuthenticationEnabled=True, RegisteredUsers={USER: PASSWORD}) as url:
        address = StudyAddress(url, STUDY)
        with pytest.raises(FileError, match=r"refuses access .*LUMBARSEG_DICOMWEB_USER"):
            web.fetch_series(address, tmp_path / "a")
        monkeypatch.setenv("LUMBARSEG_DICOMWEB_USER", USER)
        monkeypatch.setenv("LUMBARSEG_DICOMWEB_PASSWORD", "wrong")
        with pytest.raises(FileError, match=r"\(401\)") as refusal:
            web.fetch_series(address, tmp_path / "a")
        assert "wrong" not in str(refusal.value)
        monkeypatch.setenv("LUMBARSEG_DICOMWEB_PASSWORD", PASSWORD)
        with pytest.raises(FileError, match="has no such study"):
            web.fetch_series(address, tmp_path / "a")
        monkeypatch.delenv("LUMBARSEG_DICOMWEB_USER")
        (tmp_path / "netrc").write_text(f'machine 127.0.0.1 login {USER} password "{PASSWORD}"\n')
        (tmp_path / "netrc").chmod(0o600)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        with pytest.raises(FileError, match="has no such study"):
            web.fetch_series(address, tmp_path / "a")


def test_no_server_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # bound, but not listening
        address = StudyAddress(f"http://127.0.0.1:{listener.getsockname()[1]}/dicom-web", STUDY)
        with pytest.raises(FileError, match="no server responds there"):
            web.fetch_series(address, tmp_path / "exam")


def test_a_silent_server_is_a_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_TIMEOUT", (5.0, 0.5))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = StudyAddress(f"http://127.0.0.1:{silent.getsockname()[1]}/dicom-web", STUDY)
        with pytest.raises(FileError, match=r"the server stopped responding"):
            web.fetch_series(address, tmp_path / "exam")


class _Page(http.server.BaseHTTPRequestHandler):
    """A web server without DICOMweb. status, body: of every response."""

    status, body = 200, b"<html>hello</html>"

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def serve_page(page: type[_Page], context: ssl.SSLContext | None = None) -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), page) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "line"),
    [
        (200, b"<html>hello</html>", "does not support DICOMweb"),
        (200, b"{}", "does not support DICOMweb|has no such study"),
        (500, b"broken", r"the server reports an error \(500\)"),
        (503, b"", r"the server reports an error \(503\)"),
        (403, b"", r"refuses access \(403\)"),
    ],
)
def test_a_server_without_dicomweb_is_one_line(status: int, body: bytes, line: str, tmp_path: Path) -> None:
    page = type("Page", (_Page,), {"status": status, "body": body})
    with serve_page(page) as port, pytest.raises(FileError, match=line) as refusal:
        web.fetch_series(StudyAddress(f"http://127.0.0.1:{port}/dicom-web", STUDY), tmp_path / "exam")
    assert "\n" not in str(refusal.value)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_an_untrusted_certificate_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = tmp_path / "own.pem"
    kind = ["-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(pem), "-out", str(tmp_path / "cert.pem")]
    subprocess.run(["openssl", "req", "-x509", *kind, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", pem)
    with serve_page(_Page, context) as port:
        address = StudyAddress(f"https://127.0.0.1:{port}/dicom-web", STUDY)
        with pytest.raises(FileError, match=r"certificate is not trusted.*REQUESTS_CA_BUNDLE"):
            web.fetch_series(address, tmp_path / "exam")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "cert.pem"))
        with pytest.raises(FileError, match="does not support DICOMweb"):
            web.fetch_series(address, tmp_path / "exam")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("dicomweb:https://pacs.example/dicom-web/studies/1.2.3", ("https://pacs.example/dicom-web", "1.2.3", None)),
        ("dicomweb:http://h:8042/a/b/studies/1.2/series/3.4/", ("http://h:8042/a/b", "1.2", "3.4")),
        ("dicomweb:https://h/studies/1", ("https://h", "1", None)),
    ],
)
def test_addresses(text: str, address: tuple[str, str, str | None]) -> None:
    assert web.parse_address(text) == StudyAddress(*address)
    assert str(web.parse_address(text)) == text.rstrip("/")


@pytest.mark.parametrize(
    "text",
    ["dicomweb:", "dicomweb:https://h/1.2", "dicomweb:ftp://h/studies/1", "dicomweb:https://h/studies/../..", "x"],
)
def test_other_texts_are_not_addresses(text: str) -> None:
    with pytest.raises(FileError, match="not the address of a study"):
        web.parse_address(text)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(FileError, match="LUMBARSEG_DICOMWEB_USER") as refusal:
        web.parse_address("dicomweb:https://me:hunter2@h/studies/1.2")
    assert "hunter2" not in str(refusal.value)


def test_without_the_client_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "find_spec", lambda name: None)
    with pytest.raises(FileError, match=r"pip install 'lumbarseg\[dicom\]'"):
        web.fetch_series(StudyAddress("http://127.0.0.1:1", STUDY), tmp_path / "exam")
