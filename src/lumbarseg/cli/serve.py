"""`lumbarseg serve STUDIES`: MONAI Label's server with our models, for 3D Slicer and OHIF."""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path
from typing import Any

from lumbarseg.errors import ServeError

from . import console, options

DESCRIPTION = (
    "Starts MONAI Label's server with lumbarseg's models for a folder of exams, or for a DICOMweb server, on this\n"
    "computer alone. The first start makes an environment of its own (about 2 GB) and leaves yours as it is;\n"
    "later ones take some seconds. Models and runs lie in the app's folder: an .onnx file or a run put into its\n"
    "model folder is offered at once. Ctrl-C ends the server. See docs/annotate.md."
)
EXAMPLE = "lumbarseg serve exams"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument(
        "studies", nargs="?", metavar="STUDIES", help="folder of exams, or http://... of a DICOMweb server"
    )
    parser.add_argument(
        "--port", type=options.non_negative_int, default=8000, metavar="N", help="default: %(default)s; 0: any"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="NAME", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--token", default="", metavar="TEXT", help="that every request must carry; the password in 3D Slicer"
    )
    parser.add_argument(
        "--origin",
        action="append",
        default=[],
        type=_origin_argument,
        metavar="URL",
        help="a web page elsewhere that may ask",
    )
    parser.add_argument(
        "--app",
        type=Path,
        default=Path("lumbarseg-app"),
        metavar="FOLDER",
        help="models and runs (default: %(default)s)",
    )
    parser.add_argument("--env", type=Path, metavar="DIR", help="the environment (default: in your cache folder)")
    parser.add_argument("--install", action="store_true", help="only make the environment")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from lumbarseg.server import environment
    from lumbarseg.server.launcher import running_server

    plan = None if args.install and not args.studies else _server_options(args)
    folder = (args.env or environment.default_folder()).expanduser().absolute()
    python = environment.ensure_installed(folder, _print)
    if args.install or plan is None:
        print(python)
        return console.EXIT_OK
    if plan.token and not plan.local:
        console.print_warning(f"others can reach this server on {plan.host}; what they send and get is not encrypted")
    signal.signal(signal.SIGTERM, _raise_interrupt)
    start = time.monotonic()
    with running_server(plan, python, folder) as server:
        for message in server.messages():
            if "ready" in message:
                _print_ready(plan, message, time.monotonic() - start)
            else:
                _print(str(message.get("stage", "")))
        try:
            code = server.wait()
        except KeyboardInterrupt:
            _print("stopping")
            return console.EXIT_OK
    return (
        console.EXIT_OK
        if code == 0
        else console.print_error(f"the server ended with code {code}; see {plan.app / 'logs' / 'app.log'}")
    )


def _server_options(args: argparse.Namespace) -> Any:
    from lumbarseg.server.launcher import ServerOptions

    if not args.studies:
        raise ServeError("name the folder of exams, or the address of a DICOMweb server: lumbarseg serve STUDIES")
    plan = ServerOptions(args.studies, args.app, args.host, args.port, args.token, tuple(args.origin))
    if not plan.is_dicomweb and not Path(plan.studies).is_dir():
        raise ServeError(f"{plan.studies}: no folder; make it, and put exams into it")
    return plan


def _print_ready(server_options: Any, message: dict[str, Any], seconds: float) -> None:
    """What the server offers, for a person."""
    exams = message["exams"]
    host = (
        server_options.host
        if ":" not in server_options.host or server_options.host.startswith("[")
        else f"[{server_options.host}]"
    )
    print(f"answers at http://{host}:{message['ready']} after {seconds:.0f} s; Ctrl-C ends it")
    print(f"  {exams['total']} exams, {exams['completed']} with a label; models: {', '.join(message['models'])}")
    print(f"  models and runs: {server_options.app.resolve()}", flush=True)


def _print(text: str) -> None:
    print(text, flush=True)


def _raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _origin_argument(text: str) -> str:
    from lumbarseg.server.access_control import parse_origin

    try:
        return parse_origin(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
