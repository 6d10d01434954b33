"""One HTML file that names a spine in a browser: opened from the disk, it holds all it needs and asks for nothing."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from dataclasses import dataclass
from pathlib import Path

from lumbarseg import __version__
from lumbarseg.errors import DeployError, ModelError
from lumbarseg.files.disk import reading, replacing
from lumbarseg.model import Card, Model
from lumbarseg.report.facts import NOTICE
from lumbarseg.report.html import NOTE, STYLE

from . import licences, npm, scripts, table

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'wasm-unsafe-eval' blob:; worker-src blob:; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; connect-src data: blob:"
)
"""What the browser itself allows the page: nothing from elsewhere, and nothing to elsewhere."""

_ORT = "onnxruntime-web/dist/"
_NIIVUE = "@niivue/niivue/dist/niivue.umd.js"
_PLACE = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class Made:
    """A page as written. size: bytes; digest: of the model inside."""

    path: Path
    size: int
    digest: str


def page(model: Path, out: Path) -> Made:
    """Write the page that answers with `model`.

    ModelError when the model is not sound or not one that a browser can run, DeployError when packages of npm are
    missing, FileError when `out` cannot be written.
    """
    if out.is_dir() or out.resolve() == model.resolve():
        raise DeployError(f"{out}: a folder, or the model itself; name the .html file to write")
    card = Model.load(model, "cpu").card
    if card.spec.tile:
        raise ModelError(f"{model}: reads squares of one size, which the page cannot; use the command")
    folder = npm.modules()
    with reading(model) as stream:
        text = _text(stream.read(), model.stem, card, folder)
    with replacing(out) as file:
        file.write(text)
    return Made(out, len(text), card.digest)


def _text(model: bytes, name: str, card: Card, folder: Path) -> bytes:
    """The whole page, UTF-8."""
    own = npm.sources()

    def read(module: str) -> str:
        return table.script() if module == "table" else (own / f"{module}.js").read_text(encoding="utf-8")

    parts = {
        "policy": POLICY,
        "style": STYLE + (own / "page.css").read_text(encoding="utf-8"),
        "notice": html.escape(NOTICE),
        "sizes": html.escape(NOTE),
        "made": html.escape(f"lumbarseg {__version__} · model {card.digest[:12]}"),
        "licences": html.escape(_licences(folder, name, card)),
        "ort": inlined((folder / _ORT / "ort.wasm.min.js").read_text(encoding="utf-8")),
        "glue": inlined((folder / _ORT / "ort-wasm-simd-threaded.mjs").read_text(encoding="utf-8")),
        "wasm": packed((folder / _ORT / "ort-wasm-simd-threaded.wasm").read_bytes()),
        "model": packed(model),
        "network": inlined(scripts.joined("network", read)),
        "engine": inlined(scripts.joined("engine", read)),
        "card": inlined(json.dumps(table.card(card))),
        "niivue": inlined((folder / _NIIVUE).read_text(encoding="utf-8")),
        "app": inlined(scripts.joined("app", read)),
    }
    frame = (own / "page.html").read_text(encoding="utf-8")
    return _PLACE.sub(lambda place: parts[place[1]], frame).encode()


def inlined(script: str) -> str:
    """A script as it may stand inside an element: nothing in it ends the element early or keeps it from ending."""
    if re.search(r"<!--.*<script", script, re.IGNORECASE | re.DOTALL):
        raise DeployError("a script of the page would not end where it should: it holds <!-- and <script")
    return re.sub(r"</(?=script)", r"<\\/", script, flags=re.IGNORECASE)


def packed(data: bytes) -> str:
    """Bytes as base64 of gzip, always the same for the same bytes."""
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def _licences(folder: Path, model: str, card: Card) -> str:
    """Names, versions and licence texts of everything inside."""
    own = f"lumbarseg {__version__} (Apache-2.0, whose text stands under flatbuffers)"
    parts = [own, licences.of_model(model, card).decode().strip()]
    parts += [f"{p.name} {p.version} ({p.licence})\n\n{p.text}".strip() for p in npm.licences(folder)]
    return f"\n\n{'-' * 72}\n\n".join(parts)
