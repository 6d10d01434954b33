"""Licence texts of the packages and the model in an offline pack."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from email.message import Message
from pathlib import Path

from lumbarseg.inference import ModelCard

from .wheels import read_metadata

NO_TEXT_REMARK = " (its wheel contains no text)"
_LICENCE_FILE_NAME = re.compile(r"(?i)(licen[cs]e|copying|notice|copyright|authors)")
_CODE_SUFFIXES = (".py", ".pyc", ".pyi", ".so", ".dll", ".json", ".xml")


def collect_licence_files(wheels: Iterable[Path]) -> dict[str, bytes]:
    """Return a text file for each package ("numpy-2.4.6.txt") and "index.txt"; wheels of one version share a file."""
    licences: dict[str, str] = {}
    texts: dict[str, dict[bytes, str]] = {}
    for wheel in sorted(wheels):
        metadata = read_metadata(wheel)
        package = f"{metadata['Name']}-{metadata['Version']}"
        licences[package] = licence_name(metadata)
        with zipfile.ZipFile(wheel) as archive:
            for name in filter(_is_licence_file, sorted(archive.namelist())):
                texts.setdefault(package, {}).setdefault(archive.read(name), name)
    index = [
        f"{package:32s} {licence}{'' if package in texts else NO_TEXT_REMARK}\n"
        for package, licence in sorted(licences.items())
    ]
    files = {
        f"{package}.txt": b"\n".join(b"=== %s\n\n%s\n" % (name.encode(), text.strip()) for text, name in parts.items())
        for package, parts in texts.items()
    }
    return files | {"index.txt": "".join(index).encode()}


def licence_name(metadata: Message) -> str:
    """Return the declared licence: License-Expression, else classifiers, else the first line of License."""
    if metadata.get("License-Expression"):
        return str(metadata["License-Expression"])
    classifiers = [str(text).rpartition(" :: ") for text in metadata.get_all("Classifier") or ()]
    names = [name for kind, _, name in classifiers if kind.startswith("License")]
    return ", ".join(names) or (str(metadata.get("License") or "").strip().splitlines() or ["not stated"])[0]


def describe_model_licence(model_name: str, card: ModelCard) -> str:
    """Return what a model card says about training data, licences and limits."""
    lines = [f"model {model_name}", f"digest {card.digest}"]
    for key in ("name", "data", "licences", "limits"):
        value = card.details.get(key) or "not stated"
        lines += [f"{key}:", *(f"  {part}" for part in (value if isinstance(value, list) else [value]))]
    return "\n".join(lines) + "\n"


def _is_licence_file(path: str) -> bool:
    name = path.rpartition("/")[2]
    is_code = name.lower().endswith(_CODE_SUFFIXES)
    return bool(name) and not is_code and (".dist-info/licenses/" in path or bool(_LICENCE_FILE_NAME.search(name)))
