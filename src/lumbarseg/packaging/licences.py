"""Licences of everything in a pack, as texts."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping
from email.message import Message
from pathlib import Path

from lumbarseg.inference import ModelCard

from .wheels import read_metadata

_LICENCE_FILE_NAME = re.compile(r"(?i)^[^/]*(licen[cs]e|copying|notice|copyright|authors)[^/]*$")
_CODE_SUFFIXES = (".py", ".pyc", ".pyi", ".so", ".dll", ".json", ".xml")


def collect_licence_files(wheels: Iterable[Path]) -> dict[str, bytes]:
    """One text file for each package ("numpy-2.4.6.txt") and an index of all; wheels of one version become one file."""
    stated: dict[str, str] = {}
    found: dict[str, dict[bytes, str]] = {}
    for wheel in sorted(wheels):
        about = read_metadata(wheel)
        name = f"{about['Name']}-{about['Version']}"
        stated[name] = licence_name(about)
        for place, text in _read_licence_texts(wheel):
            found.setdefault(name, {}).setdefault(text, place)
    index = [f"{name:32s} {told}{'' if name in found else NO_TEXT_REMARK}" for name, told in sorted(stated.items())]
    files = {f"{name}.txt": _join_texts(parts) for name, parts in found.items()}
    return files | {"index.txt": ("\n".join(index) + "\n").encode()}


NO_TEXT_REMARK = " (its wheel carries no text)"


def licence_name(metadata: Message) -> str:
    """What a package calls its licence: the expression, else the classifiers, else the first line of the text."""
    if metadata.get("License-Expression"):
        return str(metadata["License-Expression"])
    classifiers = [str(text).rpartition(" :: ") for text in metadata.get_all("Classifier") or ()]
    told = [name for kind, _, name in classifiers if kind.startswith("License")]
    return ", ".join(told) or (str(metadata.get("License") or "").strip().splitlines() or ["not said"])[0]


def describe_model_licence(model_name: str, card: ModelCard) -> bytes:
    """What a model's card says about its data and licences, as text."""
    lines = [f"model {model_name}", f"digest {card.digest}"]
    for key in ("name", "data", "licences", "limits"):
        told = card.details.get(key)
        parts = told if isinstance(told, list) else [told] if told else ["not said"]
        lines += [f"{key}:", *(f"  {part}" for part in parts)]
    return ("\n".join(lines) + "\n").encode()


def _read_licence_texts(wheel: Path) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in sorted(archive.namelist()) if _is_licence_file(n)]
        return [(name, archive.read(name)) for name in names]


def _is_licence_file(name: str) -> bool:
    base = name.rpartition("/")[2]
    return not base.lower().endswith(_CODE_SUFFIXES) and (
        ".dist-info/licenses/" in name or bool(_LICENCE_FILE_NAME.match(base))
    )


def _join_texts(parts: Mapping[bytes, str]) -> bytes:
    return b"\n\n".join(b"=== " + place.encode() + b"\n\n" + text.strip() for text, place in parts.items()) + b"\n"
