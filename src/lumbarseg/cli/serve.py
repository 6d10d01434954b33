"""`lumbarseg serve STUDIES`: MONAI Label's server with lumbarseg's models, for 3D Slicer and OHIF."""

from __future__ import annotations

import argparse
import functools
import signal
import time
from pathlib import Path

from lumbarseg.errors import ServeError
from lumbarseg.server import environment
from lumbarseg.server.access_control import parse_origin
from lumbarseg.server.launcher import ServerOptions, ServerStatus, require_free_port, running_server

from . import console, options

DESCRIPTION = (
    "Starts MONAI Label's server with lumbarseg's models for a folder of exams, or for a DICOMweb server; it listens\n"
    "on this computer only. The first start installs an environment of its own (about 2 GB) and changes nothing else;\n"
    "later starts take seconds. Models and runs are in the app's folder: an .onnx file or a run in its folder model\n"
    "is available at once. Ctrl-C stops the server. See docs/annotate.md."
)
EXAMPLE = "lumbarseg serve exams"
_MAX_PORT = 65535
_print = functools.partial(print, flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument("studies", nargs="?", metavar="STUDIES", help="folder of exams, or root of a DICOMweb server")
    parser.add_argument("--port", type=_port_argument, default=8000, metavar="N", help="0: any free one (%(default)s)")
    parser.add_argument("--host", default="127.0.0.1", metavar="NAME", help="address to listen on (%(default)s)")
    parser.add_argument("--token", default="", metavar="TEXT", help="of every request; the password in 3D Slicer")
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        type=_origin_argument,
        metavar="URL",
        help="allow requests from another web page",
    )
    default = Path("lumbarseg-app")
    parser.add_argument("--app", type=Path, default=default, metavar="FOLDER", help="models and runs (%(default)s)")
    parser.add_argument("--env", type=Path, metavar="DIR", help="the environment (default: in your cache folder)")
    parser.add_argument("--install", action="store_true", help="only install the environment")


def run(args: argparse.Namespace) -> int:
    """Install the environment if needed, then serve until Ctrl-C."""
    server_options = None if args.install and not args.studies else _server_options(args)
    folder = (args.env or environment.default_folder()).expanduser().absolute()
    with console.progress_bar("packages") as bar:
        python = environment.ensure_installed(folder, _print, bar.advance)
    if args.install or server_options is None:
        print(python)
        return console.EXIT_OK
    if server_options.token and not server_options.is_local:
        console.print_warning(f"other computers can reach this server on {server_options.host}, without encryption")
    signal.signal(signal.SIGTERM, _raise_interrupt)
    start = time.monotonic()
    with running_server(server_options, python, folder) as server:
        _print_ready(server_options, server.wait_until_ready(_print), time.monotonic() - start)
        try:
            code = server.wait()
        except KeyboardInterrupt:
            _print("stopping")
            return console.EXIT_OK
    log_file = server_options.app / "logs" / "app.log"
    return console.print_error(f"the server ended with code {code}; see {log_file}") if code else console.EXIT_OK


def _server_options(args: argparse.Namespace) -> ServerOptions:
    if not args.studies:
        raise ServeError("name the folder of exams, or the address of a DICOMweb server: lumbarseg serve STUDIES")
    result = ServerOptions(args.studies, args.app, args.host, args.port, args.token, tuple(args.allow_origin))
    if not result.is_dicomweb and not Path(result.studies).is_dir():
        raise ServeError(f"{result.studies}: not a folder; create it and put exams into it")
    if not args.install:
        require_free_port(result.host, result.port)
    return result


def _print_ready(server_options: ServerOptions, status: ServerStatus, seconds: float) -> None:
    host = server_options.host.strip("[]")
    host = f"[{host}]" if ":" in host else host
    _print(f"ready at http://{host}:{status.port} after {seconds:.0f} s; Ctrl-C stops it")
    _print(f"  {status.exams} exams, {status.completed} with a label; models: {', '.join(status.models)}")
    _print(f"  models and runs: {server_options.app.resolve()}")


def _raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _port_argument(text: str) -> int:
    port = options.non_negative_int(text)
    if port > _MAX_PORT:
        raise argparse.ArgumentTypeError(f"must be at most {_MAX_PORT}, not {port}")
    return port


def _origin_argument(text: str) -> str:
    try:
        return parse_origin(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
