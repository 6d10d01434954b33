"""Start the annotation server as a child process, wait until it is ready, and stop it."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from lumbarseg.errors import ServeError
from lumbarseg.io import atomic_write

from . import environment
from .access_control import LOOPBACK_HOSTS, AccessRules

APP_MAIN = '"""App that MONAI Label loads."""\n\nfrom lumbarseg.server.app import LumbarApp  # noqa: F401\n'
"""Content of apps/lumbarseg/main.py, which every app folder must contain."""
_STUBS = Path(__file__).parent / "stubs"
_OTHER_PORT = "; choose another port with --port, or any free one with --port 0"
_STOP_TIMEOUT = 10.0  # seconds from the request to stop until the server is killed


@dataclass(frozen=True)
class ServerOptions:
    """Options of the server.

    studies: folder of exams, or root address of a DICOMweb server; app: folder of models and runs; port: 0 for any
    free one; token: required unless the server listens on this computer only; origins: other web pages that may send
    requests.
    """

    studies: str
    app: Path
    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.is_local and not self.token:
            raise ServeError(f"on {self.host} other computers can reach this server: protect it with --token")
        if self.token and (len(self.token) < 8 or not self.token.isprintable() or " " in self.token):
            raise ServeError("a token must have at least 8 characters and no blanks")

    @property
    def is_local(self) -> bool:
        """Whether the server listens on this computer only."""
        return self.host in (*LOOPBACK_HOSTS, "::1")

    @property
    def is_dicomweb(self) -> bool:
        """Whether the exams are on a DICOMweb server."""
        return self.studies.startswith(("http://", "https://"))

    def environment_variables(self) -> dict[str, str]:
        """Return the environment variables that configure the server process."""
        app = self.app.resolve()
        rules = AccessRules(self.token, self.origins, self.is_local, allow_proxy=self.is_dicomweb)
        return {
            "MONAI_LABEL_APP_DIR": str(app),
            "MONAI_LABEL_STUDIES": self.studies if self.is_dicomweb else str(Path(self.studies).resolve()),
            "MONAI_LABEL_TRACKING_ENABLED": "false",
            "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",  # it would start a process after each request
            "MONAI_LABEL_SESSION_PATH": str(app / "sessions"),
            "MONAI_LABEL_DICOMWEB_SEARCH_FILTER": json.dumps({"Modality": "MR"}),
            "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(app / "dicom"),
            "MONAI_LABEL_DICOMWEB_CACHE_EXPIRY": "30",
            "MONAI_LABEL_SERVER_PORT": str(self.port),
            "LUMBARSEG_SERVE": json.dumps({"host": self.host.strip("[]"), "port": self.port, "rules": asdict(rules)}),
        }


def require_free_port(host: str, port: int) -> None:
    """Raise ServeError when a server cannot listen on this port of this address."""
    try:
        address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(address[0], address[1]) as probe:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else a port just closed seems in use
            probe.bind(address[4])
    except OSError as error:
        advice = "; choose an address of this computer with --host" if _is_unknown(error) else _OTHER_PORT
        raise ServeError(
            f"cannot listen on {host}, port {port}: {(error.strerror or str(error)).lower()}{advice}"
        ) from None


def _is_unknown(error: OSError) -> bool:
    """Return whether an error of a socket says that the address is not one of this computer."""
    return isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL


def create_app_folder(app: Path) -> None:
    """Create the folders and main.py that MONAI Label needs; ServeError when the folder contains another app."""
    main = app / "main.py"
    text = main.read_text(encoding="utf-8", errors="replace") if main.is_file() else ""
    if text and "lumbarseg" not in text:
        raise ServeError(f"{main}: belongs to another app; choose a new folder with --app")
    for folder in (app / "model", app / "runs", app / "logs"):
        folder.mkdir(parents=True, exist_ok=True)
    if not text or "lumbarseg.serve." in text:  # the name of the package before version 0.1
        with atomic_write(main) as file:
            file.write(APP_MAIN.encode())


@dataclass(frozen=True)
class ServerStatus:
    """What a server offers once it is ready. completed: exams with a final label."""

    port: int
    models: tuple[str, ...]
    exams: int
    completed: int


class ServerProcess:
    """The process of a server."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str], log_file: Path) -> None:
        self.process, self._errors, self._log_file = process, errors, log_file

    def wait_until_ready(self, log: Callable[[str], None] = lambda _: None) -> ServerStatus:
        """Wait until the server answers requests, logging its progress; ServeError when it ends before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with suppress(ValueError):
                message = json.loads(line)
                if "ready" in message:
                    exams = message["exams"]
                    return ServerStatus(message["ready"], tuple(message["models"]), exams["total"], exams["completed"])
                log(str(message.get("stage", "")))
        reason = self._exit_reason()
        if "address already in use" in reason.lower():
            reason += _OTHER_PORT
        raise ServeError(f"the server ended before it was ready: {reason}")

    def wait(self) -> int:
        """Wait for the end of the server; return its exit code."""
        return self.process.wait()

    def _exit_reason(self) -> str:
        self.process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        if not lines and self._log_file.is_file():
            log_text = self._log_file.read_text(encoding="utf-8", errors="replace")
            lines = [line.partition(") - ")[2] for line in log_text.splitlines() if "[ERROR]" in line]
        return lines[-1] if lines else f"exit code {self.process.returncode}; see {self._log_file}"


@contextmanager
def running_server(
    options: ServerOptions, python: Path, environment_folder: Path, extra_variables: Mapping[str, str] | None = None
) -> Iterator[ServerProcess]:
    """Run the server until the block ends, with the interpreter of its environment."""
    create_app_folder(options.app)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MONAI_LABEL_", "PYTHON"))}
    variables = {
        **inherited,
        **options.environment_variables(),
        "PYTHONPATH": os.pathsep.join([str(environment.package_path(environment_folder)), str(_STUBS)]),
        "PYTHONUNBUFFERED": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",  # else every thread that segments keeps memory of its own
        **(extra_variables or {}),
    }
    command = [str(python), "-m", "lumbarseg.server.web_server"]
    pipe, log_file = subprocess.PIPE, options.app / "logs" / "app.log"
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(  # noqa: S603
            command, stdin=pipe, stdout=pipe, stderr=errors, text=True, env=variables, cwd=options.app
        ) as process,
    ):
        try:
            yield ServerProcess(process, errors, log_file)
        finally:
            with suppress(subprocess.TimeoutExpired, OSError, ValueError):
                process.communicate(timeout=_STOP_TIMEOUT)  # closing its input stops it
            process.kill()
