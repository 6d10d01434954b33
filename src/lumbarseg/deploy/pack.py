"""One zip file that installs lumbarseg, with a model, on computers without network."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from packaging.utils import parse_wheel_filename

from lumbarseg.errors import DeployError
from lumbarseg.files.disk import reading, refusal
from lumbarseg.model import Model, shipped
from lumbarseg.model.run import checked

from . import archive, licences, own
from .targets import Target
from .wheels import gather

FOLDER = "lumbarseg-offline"
"""What the zip file unpacks to."""
SUMS = "SHA256SUMS"
_INSTALLER = ("install.py", "install.sh", "install.bat", "README.txt")


@dataclass(frozen=True)
class Packed:
    """A pack as written. size: bytes; digest: its SHA-256; wheels: how many; model: its file, None the shipped one."""

    path: Path
    size: int
    digest: str
    wheels: int
    model: str | None


def pack(model: Path, out: Path, targets: Sequence[Target], tell: Callable[[str], None] = lambda text: None) -> Packed:
    """Everything that the targets need to install and run lumbarseg, with `model` answering where none is named.

    Wheels are fetched by pip, over the network, in the versions that run here. ModelError when the model is not sound,
    DeployError when a wheel is not to be had, FileError when `out` cannot be written.
    """
    card = Model.load(model).card
    brought = None if card.digest == checked(_bytes(shipped())).digest else _portable(model)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".lumbarseg-", dir=out.parent) as work:
            wheels = _wheels(Path(work), targets, tell)
            entries: dict[str, bytes | Path] = {f"wheels/{name}": path for name, path in wheels.items()}
            if brought:
                entries[f"model/{brought}"] = model
            texts = licences.texts(wheels.values()) | {"model.txt": licences.of_model(brought or "shipped", card)}
            entries |= {f"licences/{name}": text for name, text in texts.items()}
            entries |= _installer(_version(wheels), targets, brought)
            entries[SUMS] = _sums(entries)
            tell("writing")
            archive.write({f"{FOLDER}/{name}": content for name, content in entries.items()}, out)
    except OSError as error:
        raise refusal(out, error, "written") from error
    return Packed(out, out.stat().st_size, _digest(out), len(wheels), brought)


def _wheels(work: Path, targets: Sequence[Target], tell: Callable[[str], None]) -> dict[str, Path]:
    """Names and files of all wheels; those that several targets share are there once."""
    tell("lumbarseg's own wheel")
    mine = own.wheel(work)
    found = {}
    for number, target in enumerate(targets):
        tell(str(target))
        folder = work / str(number)
        folder.mkdir()
        for wheel in gather(mine, target, folder):
            if found.setdefault(wheel.name, wheel) != wheel:
                os.unlink(wheel)  # room on the disk
    return found


def _version(wheels: Mapping[str, Path]) -> str:
    return next(str(parse_wheel_filename(name)[1]) for name in wheels if name.startswith("lumbarseg-"))


def _installer(version: str, targets: Sequence[Target], model: str | None) -> dict[str, bytes]:
    """The programs that install, filled with what they are for, and what they read."""
    pythons = sorted({target.python for target in targets}, key=lambda text: int(text.partition(".")[2]), reverse=True)
    words = {
        "@VERSION@": version,
        "@PYTHONS@": " ".join(pythons),
        "@COMMANDS@": " ".join(f"python{python}" for python in pythons),
        "@TARGETS@": "\n".join(f"  {target}" for target in targets),
        "@MODEL@": f"model/{model}" if model else "inside the wheel of lumbarseg",
    }
    files = {}
    for name in _INSTALLER:
        text = (resources.files(__package__) / "installer" / name).read_text(encoding="utf-8")
        for word, value in words.items():
            text = text.replace(word, value)
        files[name] = text.replace("\n", "\r\n").encode() if name.endswith((".bat", ".txt")) else text.encode()
    made_for = [{"system": t.kind.system, "machine": t.kind.machine, "python": t.python} for t in targets]
    about = {"version": version, "model": model, "targets": made_for}
    return files | {"pack.json": (json.dumps(about, indent=1) + "\n").encode()}


def _sums(entries: Mapping[str, bytes | Path]) -> bytes:
    """A line for each file, as `sha256sum -c` reads them."""
    digests = {
        name: hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else _digest(content)
        for name, content in entries.items()
    }
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()


def _portable(model: Path) -> str:
    """A model file's name, in letters that every file system takes."""
    return re.sub(r"[^\w.-]+", "_", model.stem, flags=re.ASCII) + ".onnx"


def _bytes(path: Path) -> bytes:
    with reading(path) as stream:
        return stream.read()


def _digest(path: Path) -> str:
    with reading(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
