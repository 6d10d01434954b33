"""The server's process: MONAI Label with our app behind the guard. Begun by `serve.server` in its own environment.

Everything it must know stands in the environment variables LUMBARSEG_SERVE_* and MONAI_LABEL_*. It tells the process
that began it what happens, one JSON object per line on standard output, and ends with it.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import logging.handlers
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lumbarseg.errors import FileError, GridError, LumbarsegError, ModelError, SegmentError, ServeError

from .access_control import AccessControl, AccessRules

_MESSAGE_STREAM = sys.stdout
_LOG_FORMAT = "[%(asctime)s] [%(process)s] [%(levelname)s] (%(name)s) - %(message)s"


def send_message(**values: Any) -> None:
    """One line for the process that began this one."""
    _MESSAGE_STREAM.write(json.dumps(values) + "\n")
    _MESSAGE_STREAM.flush()


def http_status(error: Exception) -> int:
    """The HTTP status of an error: 4xx where the request or its exam is the cause."""
    if isinstance(error, ServeError):
        return error.status
    if isinstance(error, FileError | GridError | SegmentError):
        return 422
    return 409 if isinstance(error, ModelError) else 400


def configure_logging(app: Path) -> None:
    """All messages into logs/app.log of the app's folder, which GET /logs/ shows."""
    (app / "logs").mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(
        app / "logs" / "app.log", maxBytes=10_000_000, backupCount=3, encoding="utf-8"
    )
    handler.setFormatter(logging.Formatter(_LOG_FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def create_application(origins: Sequence[str] = ()) -> Any:
    """MONAI Label's application, with our routes first and errors told as JSON.

    origins: of pages that may read answers; its own setting for that lets every page do so, or, where it is set, breaks
    the processes that it begins.
    """
    from fastapi import Request
    from fastapi.middleware.cors import CORSMiddleware
    from fastapi.responses import JSONResponse
    from monailabel.app import app
    from monailabel.interfaces.exception import MONAILabelException

    from .routes import router

    app.user_middleware[:] = [layer for layer in app.user_middleware if layer.cls is not CORSMiddleware]
    if origins:
        words = {"allow_credentials": True, "allow_methods": ["*"], "allow_headers": ["*"]}
        app.add_middleware(CORSMiddleware, allow_origins=list(origins), **words)
    theirs = list(app.router.routes)
    app.include_router(router)
    ours = [route for route in app.router.routes if route not in theirs]
    app.router.routes[:] = [*ours, *theirs]

    def told(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, http_status(error))

    def refused(_: Request, error: Exception) -> JSONResponse:
        text = str(getattr(error, "msg", error))
        return JSONResponse({"detail": text}, 404 if "not found" in text.lower() else 400)

    def fault(_: Request, error: Exception) -> JSONResponse:
        reason = (
            "not enough memory for this exam" if isinstance(error, MemoryError) else f"a fault of the server: {error}"
        )
        return JSONResponse({"detail": f"{reason}; logs/app.log of the app's folder tells more"}, 500)

    app.add_exception_handler(LumbarsegError, told)
    app.add_exception_handler(MONAILabelException, refused)
    app.add_exception_handler(Exception, fault)
    return app


def main() -> None:
    """Serve until the process that began this one ends, or says so."""
    import uvicorn

    app = Path(os.environ["MONAI_LABEL_APP_DIR"])
    host, port = os.environ["LUMBARSEG_SERVE_HOST"], int(os.environ["LUMBARSEG_SERVE_PORT"])
    rules = AccessRules(
        token=os.environ.get("LUMBARSEG_SERVE_TOKEN", ""),
        origins=tuple(os.environ.get("LUMBARSEG_SERVE_ORIGINS", "").split()),
        is_local=os.environ.get("LUMBARSEG_SERVE_LOCAL") == "1",
        allow_proxy=os.environ["MONAI_LABEL_STUDIES"].startswith("http"),
    )
    configure_logging(app)
    send_message(stage="starting MONAI Label")
    with contextlib.redirect_stdout(io.StringIO()):
        guarded = AccessControl(create_application(rules.origins), rules)
    send_message(stage="reading the exams")

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started:
                send_message(**_ready_message(self.servers[0].sockets[0].getsockname()[1]))

    config = uvicorn.Config(guarded, host=host, port=port, log_config=None, access_log=True, lifespan="on")
    server = Server(config)
    threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
    server.run()


def _ready_message(port: int) -> dict[str, Any]:
    """What the server offers, now that it answers."""
    from monailabel.interfaces.utils.app import app_instance

    info = app_instance().info()
    return {"ready": port, "models": list(info["models"]), "exams": info["datastore"]}


def _stop_at_end_of_input(server: Any) -> None:
    """Stop when standard input ends: the process that began this one is gone."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdin.read()
    server.should_exit = True


if __name__ == "__main__":
    main()
