"""`lumbarseg serve STUDIES`: MONAI Label's server with our models, for 3D Slicer and OHIF."""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path
from typing import Any

from lumbarseg.errors import ServeError

from . import options, say


def add(commands: options.Commands) -> None:
    """The command's words."""
    parser = options.command(
        commands,
        "serve",
        "annotate in 3D Slicer or OHIF, and train on what you correct",
        "Starts MONAI Label's server with lumbarseg's models for a folder of exams, or for a DICOMweb server, on this\n"
        "computer alone. The first start makes an environment of its own (about 2 GB) and leaves yours as it is;\n"
        "later ones take some seconds. Models and runs lie in the app's folder: an .onnx file or a run put into its\n"
        "model folder is offered at once. Ctrl-C ends the server. See docs/annotate.md.",
        "lumbarseg serve exams",
    )
    parser.add_argument(
        "studies", nargs="?", metavar="STUDIES", help="folder of exams, or http://... of a DICOMweb server"
    )
    parser.add_argument("--port", type=options.natural, default=8000, metavar="N", help="default: %(default)s; 0: any")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="NAME", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--token", default="", metavar="TEXT", help="that every request must carry; the password in 3D Slicer"
    )
    parser.add_argument(
        "--origin", action="append", default=[], type=_origin, metavar="URL", help="a web page elsewhere that may ask"
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
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from lumbarseg.serve import environment
    from lumbarseg.serve.server import begun

    plan = None if args.install and not args.studies else _plan(args)
    folder = (args.env or environment.place()).expanduser().absolute()
    python = environment.ready(folder, _told)
    if args.install or plan is None:
        print(python)
        return say.DONE
    if plan.token and not plan.local:
        say.warning(f"others can reach this server on {plan.host}; what they send and get is not encrypted")
    signal.signal(signal.SIGTERM, _stop)
    start = time.monotonic()
    with begun(plan, python, folder) as server:
        for message in server.messages():
            if "ready" in message:
                _ready(plan, message, time.monotonic() - start)
            else:
                _told(str(message.get("stage", "")))
        try:
            code = server.wait()
        except KeyboardInterrupt:
            _told("stopping")
            return say.DONE
    return (
        say.DONE if code == 0 else say.error(f"the server ended with code {code}; see {plan.app / 'logs' / 'app.log'}")
    )


def _plan(args: argparse.Namespace) -> Any:
    from lumbarseg.serve.server import Plan

    if not args.studies:
        raise ServeError("name the folder of exams, or the address of a DICOMweb server: lumbarseg serve STUDIES")
    plan = Plan(args.studies, args.app, args.host, args.port, args.token, tuple(args.origin))
    if not plan.remote and not Path(plan.studies).is_dir():
        raise ServeError(f"{plan.studies}: no folder; make it, and put exams into it")
    return plan


def _ready(plan: Any, message: dict[str, Any], seconds: float) -> None:
    """What the server offers, for a person."""
    exams = message["exams"]
    host = plan.host if ":" not in plan.host or plan.host.startswith("[") else f"[{plan.host}]"
    print(f"answers at http://{host}:{message['ready']} after {seconds:.0f} s; Ctrl-C ends it")
    print(f"  {exams['total']} exams, {exams['completed']} with a label; models: {', '.join(message['models'])}")
    print(f"  models and runs: {plan.app.resolve()}", flush=True)


def _told(text: str) -> None:
    print(text, flush=True)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _origin(text: str) -> str:
    from lumbarseg.serve.guard import origin_of

    try:
        return origin_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
