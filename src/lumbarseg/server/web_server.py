"""The server process: MONAI Label with the lumbarseg app behind access control, started by `server.launcher`.

It is configured by the environment variables LUMBARSEG_SERVE and MONAI_LABEL_*. It reports its state to the process
that started it, one JSON object per line on standard output, and ends with that process.
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
    """Send one line to the process that started this one."""
    _MESSAGE_STREAM.write(json.dumps(values) + "\n")
    _MESSAGE_STREAM.flush()


def http_status(error: Exception) -> int:
    """Return the HTTP status of an error: 4xx where the request or its exam is the cause."""
    if isinstance(error, ServeError):
        return error.status
    if isinstance(error, FileError | GridError | SegmentError):
        return 422
    return 409 if isinstance(error, ModelError) else 400


def configure_logging(app: Path) -> None:
    """Write all messages to logs/app.log in the app's folder, which GET /logs/ shows."""
    (app / "logs").mkdir(parents=True, exist_ok=True)
    path = app / "logs" / "app.log"
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=10_000_000, backupCount=3, encoding="utf-8")
    handler.setFormatter(logging.Formatter(_LOG_FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def create_application(origins: Sequence[str] = ()) -> Any:
    """Return MONAI Label's FastAPI application, with the routes of this package first and errors as JSON.

    origins: web pages that may read responses. MONAI Label's own setting for that allows every page by default, and
    when it is set, breaks the processes that MONAI Label starts.
    """
    from fastapi.middleware.cors import CORSMiddleware
    from monailabel.app import app

    from .routes import router

    app.user_middleware[:] = [layer for layer in app.user_middleware if layer.cls is not CORSMiddleware]
    if origins:
        allowed = {"allow_credentials": True, "allow_methods": ["*"], "allow_headers": ["*"]}
        app.add_middleware(CORSMiddleware, allow_origins=list(origins), **allowed)
    default_routes = list(app.router.routes)
    app.include_router(router)
    added_routes = [route for route in app.router.routes if route not in default_routes]
    app.router.routes[:] = [*added_routes, *default_routes]
    _add_error_handlers(app)
    return app


def _add_error_handlers(app: Any) -> None:
    from fastapi import Request
    from fastapi.responses import JSONResponse
    from monailabel.interfaces.exception import MONAILabelException

    def package_error(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, http_status(error))

    def monailabel_error(_: Request, error: Exception) -> JSONResponse:
        text = str(getattr(error, "msg", error))
        return JSONResponse({"detail": text}, 404 if "not found" in text.lower() else 400)

    def server_fault(_: Request, error: Exception) -> JSONResponse:
        reason = "not enough memory for this exam" if isinstance(error, MemoryError) else f"internal error: {error}"
        return JSONResponse({"detail": f"{reason}; see logs/app.log in the app's folder"}, 500)

    app.add_exception_handler(LumbarsegError, package_error)
    app.add_exception_handler(MONAILabelException, monailabel_error)
    app.add_exception_handler(Exception, server_fault)


def main() -> None:
    """Serve until the process that started this one ends or closes its end of standard input."""
    import uvicorn

    options = json.loads(os.environ["LUMBARSEG_SERVE"])
    rules = AccessRules(**options["rules"])
    configure_logging(Path(os.environ["MONAI_LABEL_APP_DIR"]))
    send_message(stage="starting MONAI Label")
    with contextlib.redirect_stdout(io.StringIO()):
        application = AccessControl(create_application(rules.origins), rules)
        from monailabel.interfaces.utils.app import app_instance
    send_message(stage="reading the exams")

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started:
                info = app_instance().info()
                port = self.servers[0].sockets[0].getsockname()[1]
                send_message(ready=port, models=list(info["models"]), exams=info["datastore"])

    server = Server(
        uvicorn.Config(application, host=options["host"], port=options["port"], log_config=None, lifespan="on")
    )
    threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
    server.run()


def _stop_at_end_of_input(server: Any) -> None:
    """Stop the server when standard input ends, because the process that started this one is gone."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdin.read()
    server.should_exit = True


if __name__ == "__main__":
    main()
