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

from lumbarseg.errors import PackagingError
from lumbarseg.inference import Model, bundled_model_path
from lumbarseg.inference.model import read_verified_card
from lumbarseg.io.file_access import open_for_reading, to_file_error

from . import licences, own_wheel, zip_archive
from .targets import Target
from .wheels import collect_wheels, read_metadata

PACK_FOLDER = "lumbarseg-offline"
"""What the zip file unpacks to."""
CHECKSUM_FILE = "SHA256SUMS"
_INSTALLER_FILES = ("install.py", "install.sh", "install.bat", "README.txt")


@dataclass(frozen=True)
class PackResult:
    """A pack as written. size: bytes; digest: its SHA-256; wheels: how many; model: its file, None the shipped one."""

    path: Path
    size: int
    sha256: str
    wheel_count: int
    model_file: str | None


def write_pack(model: Path, out: Path, targets: Sequence[Target], report_step: Callable[[str], object]) -> PackResult:
    """Everything that the targets need to install and run lumbarseg, with `model` answering where none is named.

    Wheels are fetched by pip, over the network, in the versions that run here. ModelError when the model is not sound,
    PackagingError when a wheel is not to be had, FileError when `out` cannot be written.
    """
    if out.is_dir() or out.resolve() == model.resolve():
        raise PackagingError(f"{out}: a folder, or the model itself; name the zip file to write")
    card = Model.load(model).card
    brought = (
        None
        if card.digest == read_verified_card(_read_bytes(bundled_model_path())).digest
        else _portable_file_name(model)
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".lumbarseg-", dir=out.parent) as work:
            chosen = _wheels_by_target(Path(work), targets, report_step)
            wheels = {path.name: path for paths in chosen.values() for path in paths}
            entries: dict[str, bytes | Path] = {f"wheels/{name}": path for name, path in wheels.items()}
            if brought:
                entries[f"model/{brought}"] = model
            texts = licences.collect_licence_files(wheels.values()) | {
                "model.txt": licences.describe_model_licence(brought or "shipped", card)
            }
            entries |= {f"licences/{name}": text for name, text in texts.items()}
            entries |= _installer_files(chosen, brought)
            entries[CHECKSUM_FILE] = _checksum_lines(entries)
            zip_archive.write_zip({f"{PACK_FOLDER}/{name}": content for name, content in entries.items()}, out)
            report_step("written")
    except OSError as error:
        raise to_file_error(out, error, "written") from error
    return PackResult(out, out.stat().st_size, _sha256(out), len(wheels), brought)


def _wheels_by_target(
    work: Path, targets: Sequence[Target], report_step: Callable[[str], object]
) -> dict[Target, list[Path]]:
    """The wheels of each target; those that several targets share are there once."""
    mine = own_wheel.build_own_wheel(work)
    report_step("lumbarseg's own wheel")
    seen: dict[str, Path] = {}
    chosen = {}
    for number, target in enumerate(targets):
        folder = work / str(number)
        folder.mkdir()
        chosen[target] = collect_wheels(mine, target, folder)
        for wheel in chosen[target]:
            if seen.setdefault(wheel.name, wheel) != wheel:
                wheel.unlink()  # room on the disk
        report_step(str(target))
    return {target: [seen[wheel.name] for wheel in wheels] for target, wheels in chosen.items()}


def _installer_files(chosen: Mapping[Target, Sequence[Path]], model: str | None) -> dict[str, bytes]:
    """The programs that install, filled with what they are for, and what they read."""
    targets = list(chosen)
    version = next(
        read_metadata(wheel)["Version"] for wheel in chosen[targets[0]] if wheel.name.startswith("lumbarseg-")
    )
    pythons = sorted({target.python for target in targets}, key=lambda text: int(text.partition(".")[2]), reverse=True)
    words = {
        "@VERSION@": version,
        "@PYTHONS@": " ".join(pythons),
        "@COMMANDS@": " ".join(f"python{python}" for python in pythons),
        "@TARGETS@": "\n".join(f"  {target}" for target in targets),
        "@MODEL@": f"model/{model}" if model else "inside the wheel of lumbarseg",
    }
    files = {}
    for name in _INSTALLER_FILES:
        text = (resources.files(__package__) / "installer" / name).read_text(encoding="utf-8")
        for word, value in words.items():
            text = text.replace(word, value)
        files[name] = text.replace("\n", "\r\n").encode() if name.endswith((".bat", ".txt")) else text.encode()
    made_for = [
        {"system": target.platform_spec.system, "machine": target.platform_spec.machine, "python": target.python}
        | {"wheels": [wheel.name for wheel in wheels]}
        for target, wheels in chosen.items()
    ]
    about = {"version": version, "model": model, "targets": made_for}
    return files | {"pack.json": (json.dumps(about, indent=1) + "\n").encode()}


def _checksum_lines(entries: Mapping[str, bytes | Path]) -> bytes:
    """A line for each file, as `sha256sum -c` reads them."""
    digests = {
        name: hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else _sha256(content)
        for name, content in entries.items()
    }
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()


def _portable_file_name(model: Path) -> str:
    """A model file's name, in letters that every file system takes."""
    return re.sub(r"[^\w.-]+", "_", model.stem, flags=re.ASCII) + ".onnx"


def _read_bytes(path: Path) -> bytes:
    with open_for_reading(path) as stream:
        return stream.read()


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with open_for_reading(path) as stream:
        while block := stream.read(1 << 20):
            found.update(block)
    return found.hexdigest()
