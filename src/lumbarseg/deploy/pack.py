"""One zip file that installs lumbarseg, with a model, on computers without network."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from lumbarseg.errors import DeployError
from lumbarseg.files.disk import reading, refusal
from lumbarseg.model import Model, shipped
from lumbarseg.model.run import checked

from . import archive, licences, own
from .targets import Target
from .wheels import gather, metadata

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


def pack(model: Path, out: Path, targets: Sequence[Target], tell: Callable[[str], object]) -> Packed:
    """Everything that the targets need to install and run lumbarseg, with `model` answering where none is named.

    Wheels are fetched by pip, over the network, in the versions that run here. ModelError when the model is not sound,
    DeployError when a wheel is not to be had, FileError when `out` cannot be written.
    """
    if out.is_dir() or out.resolve() == model.resolve():
        raise DeployError(f"{out}: a folder, or the model itself; name the zip file to write")
    card = Model.load(model).card
    brought = None if card.digest == checked(_bytes(shipped())).digest else _portable(model)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".lumbarseg-", dir=out.parent) as work:
            chosen = _chosen(Path(work), targets, tell)
            wheels = {path.name: path for paths in chosen.values() for path in paths}
            entries: dict[str, bytes | Path] = {f"wheels/{name}": path for name, path in wheels.items()}
            if brought:
                entries[f"model/{brought}"] = model
            texts = licences.texts(wheels.values()) | {"model.txt": licences.of_model(brought or "shipped", card)}
            entries |= {f"licences/{name}": text for name, text in texts.items()}
            entries |= _installer(chosen, brought)
            entries[SUMS] = _sums(entries)
            archive.write({f"{FOLDER}/{name}": content for name, content in entries.items()}, out)
            tell("written")
    except OSError as error:
        raise refusal(out, error, "written") from error
    return Packed(out, out.stat().st_size, _digest(out), len(wheels), brought)


def _chosen(work: Path, targets: Sequence[Target], tell: Callable[[str], object]) -> dict[Target, list[Path]]:
    """The wheels of each target; those that several targets share are there once."""
    mine = own.wheel(work)
    tell("lumbarseg's own wheel")
    seen: dict[str, Path] = {}
    chosen = {}
    for number, target in enumerate(targets):
        folder = work / str(number)
        folder.mkdir()
        chosen[target] = gather(mine, target, folder)
        for wheel in chosen[target]:
            if seen.setdefault(wheel.name, wheel) != wheel:
                wheel.unlink()  # room on the disk
        tell(str(target))
    return {target: [seen[wheel.name] for wheel in wheels] for target, wheels in chosen.items()}


def _installer(chosen: Mapping[Target, Sequence[Path]], model: str | None) -> dict[str, bytes]:
    """The programs that install, filled with what they are for, and what they read."""
    targets = list(chosen)
    version = next(metadata(wheel)["Version"] for wheel in chosen[targets[0]] if wheel.name.startswith("lumbarseg-"))
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
    made_for = [
        {"system": target.kind.system, "machine": target.kind.machine, "python": target.python}
        | {"wheels": [wheel.name for wheel in wheels]}
        for target, wheels in chosen.items()
    ]
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
    found = hashlib.sha256()
    with reading(path) as stream:
        while block := stream.read(1 << 20):
            found.update(block)
    return found.hexdigest()
