"""The server as a child process: begun with everything it must know, followed until it answers, and ended."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lumbarseg.errors import ServeError
from lumbarseg.io import atomic_write

from . import environment
from .access_control import LOOPBACK_HOSTS

APP_MAIN = '"""What MONAI Label loads."""\n\nfrom lumbarseg.server.app import LumbarApp  # noqa: F401\n'
"""apps/lumbarseg/main.py, which an app folder must hold."""
_STUBS = Path(__file__).parent / "standins"
_STOP_TIMEOUT = 10.0  # seconds for a server that was told to stop


@dataclass(frozen=True)
class ServerOptions:
    """What to serve. studies: a folder or a DICOMweb root; app: folder of models and runs; port: 0 for any.

    token: needed where the address is not this computer's own; origins: of web pages that may ask, too.
    """

    studies: str
    app: Path
    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.is_local and not self.token:
            raise ServeError(f"on {self.host} others can reach this server: give it a --token that they must know")
        if self.token and (len(self.token) < 8 or not self.token.isprintable() or " " in self.token):
            raise ServeError("a token is at least 8 characters, without blanks")

    @property
    def is_local(self) -> bool:
        """Whether the address is this computer's own."""
        return self.host in (*LOOPBACK_HOSTS, "::1")

    @property
    def is_dicomweb(self) -> bool:
        """Whether exams lie on a DICOMweb server."""
        return self.studies.startswith(("http://", "https://"))

    def environment_variables(self) -> dict[str, str]:
        """The environment variables that tell the server so."""
        app = self.app.resolve()
        studies = self.studies if self.is_dicomweb else str(Path(self.studies).resolve())
        return {
            "MONAI_LABEL_APP_DIR": str(app),
            "MONAI_LABEL_STUDIES": studies,
            "MONAI_LABEL_TRACKING_ENABLED": "false",
            "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",  # a process of its own after each request
            "MONAI_LABEL_SESSION_PATH": str(app / "sessions"),
            "MONAI_LABEL_DICOMWEB_SEARCH_FILTER": json.dumps({"Modality": "MR"}),
            "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(app / "dicom"),
            "MONAI_LABEL_DICOMWEB_CACHE_EXPIRY": "30",
            "MONAI_LABEL_SERVER_PORT": str(self.port),
            "LUMBARSEG_SERVE_HOST": self.host.strip("[]"),
            "LUMBARSEG_SERVE_PORT": str(self.port),
            "LUMBARSEG_SERVE_TOKEN": self.token,
            "LUMBARSEG_SERVE_ORIGINS": " ".join(self.origins),
            "LUMBARSEG_SERVE_LOCAL": "1" if self.is_local else "",
        }


def create_app_folder(app: Path) -> None:
    """An app folder as MONAI Label wants it, where it is missing; ServeError when the folder holds another app."""
    main = app / "main.py"
    if main.is_file() and "lumbarseg" not in main.read_text(encoding="utf-8", errors="replace"):
        raise ServeError(f"{main}: is another app's; give --app a new folder")
    for folder in (app / "model", app / "runs", app / "logs"):
        folder.mkdir(parents=True, exist_ok=True)
    if not main.is_file():
        with atomic_write(main) as file:
            file.write(APP_MAIN.encode())


class ServerProcess:
    """A server's process. `ready` follows it until it answers."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str], log: Path) -> None:
        self.process, self._errors, self._log = process, errors, log

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the server tells until it answers, that with "ready" last; ServeError when it ends before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with suppress(ValueError):
                told = json.loads(line)
                yield told
                if "ready" in told:
                    return
        raise ServeError(f"the server ended before it answered: {self._exit_reason()}")

    def wait(self) -> int:
        """Its exit code, when it ends."""
        return self.process.wait()

    def _exit_reason(self) -> str:
        self.process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        if not lines and self._log.is_file():
            text = self._log.read_text(encoding="utf-8", errors="replace")
            lines = [line.partition(") - ")[2] for line in text.splitlines() if "[ERROR]" in line]
        return lines[-1] if lines else f"exit code {self.process.returncode}; see {self._log}"


@contextmanager
def running_server(
    options: ServerOptions, python: Path, folder: Path, extra_variables: Mapping[str, str] | None = None
) -> Iterator[ServerProcess]:
    """The server of a plan, run by `python` of the environment in `folder`, until the block ends."""
    create_app_folder(options.app)
    path = os.pathsep.join([str(environment.package_path(folder)), str(_STUBS)])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MONAI_LABEL_", "PYTHON"))}
    variables = {
        **kept,
        **options.environment_variables(),
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
        "OPENBLAS_NUM_THREADS": "1",
        **(extra_variables or {}),
    }
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(  # noqa: S603
            [str(python), "-m", "lumbarseg.server.web_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=variables,
            cwd=options.app,
        )
        try:
            yield ServerProcess(process, errors, options.app / "logs" / "app.log")
        finally:
            _stop_process(process)


def _stop_process(process: subprocess.Popen[str]) -> None:
    """Stop a server: by the end of its input, and if it does not listen, by force."""
    with suppress(OSError):
        if process.stdin:
            process.stdin.close()
    try:
        process.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()
