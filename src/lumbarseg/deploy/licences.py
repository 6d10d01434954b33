"""Licences of everything in a pack, as texts."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping
from email.message import Message
from pathlib import Path

from lumbarseg.model import Card

from .wheels import metadata

_TEXT = re.compile(r"(?i)^[^/]*(licen[cs]e|copying|notice|copyright|authors)[^/]*$")
_CODE = (".py", ".pyc", ".pyi", ".so", ".dll", ".json", ".xml")


def texts(wheels: Iterable[Path]) -> dict[str, bytes]:
    """One text file for each package ("numpy-2.4.6.txt") and an index of all; wheels of one version become one file."""
    stated: dict[str, str] = {}
    found: dict[str, dict[bytes, str]] = {}
    for wheel in sorted(wheels):
        about = metadata(wheel)
        name = f"{about['Name']}-{about['Version']}"
        stated[name] = licence(about)
        for place, text in _texts(wheel):
            found.setdefault(name, {}).setdefault(text, place)
    index = [f"{name:32s} {told}{'' if name in found else NO_TEXT}" for name, told in sorted(stated.items())]
    files = {f"{name}.txt": _joined(parts) for name, parts in found.items()}
    return files | {"index.txt": ("\n".join(index) + "\n").encode()}


NO_TEXT = " (its wheel carries no text)"


def licence(about: Message) -> str:
    """What a package calls its licence: the expression, else the classifiers, else the first line of the text."""
    if about.get("License-Expression"):
        return str(about["License-Expression"])
    classifiers = [str(text).rpartition(" :: ") for text in about.get_all("Classifier") or ()]
    told = [name for kind, _, name in classifiers if kind.startswith("License")]
    return ", ".join(told) or (str(about.get("License") or "").strip().splitlines() or ["not said"])[0]


def of_model(name: str, card: Card) -> bytes:
    """What a model's card says about its data and licences, as text."""
    lines = [f"model {name}", f"digest {card.digest}"]
    for key in ("name", "data", "licences", "limits"):
        told = card.about.get(key)
        parts = told if isinstance(told, list) else [told] if told else ["not said"]
        lines += [f"{key}:", *(f"  {part}" for part in parts)]
    return ("\n".join(lines) + "\n").encode()


def _texts(wheel: Path) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in sorted(archive.namelist()) if _is_text(n)]
        return [(name, archive.read(name)) for name in names]


def _is_text(name: str) -> bool:
    base = name.rpartition("/")[2]
    return not base.lower().endswith(_CODE) and (".dist-info/licenses/" in name or bool(_TEXT.match(base)))


def _joined(parts: Mapping[bytes, str]) -> bytes:
    return b"\n\n".join(b"=== " + place.encode() + b"\n\n" + text.strip() for text, place in parts.items()) + b"\n"
