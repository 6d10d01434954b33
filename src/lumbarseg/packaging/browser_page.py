"""The browser page: one HTML file with a model inside, which segments exams when it is opened from disk."""

from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

from lumbarseg import __version__
from lumbarseg.anatomy import STRUCTURES
from lumbarseg.errors import ModelError, PackagingError
from lumbarseg.inference import Model, ModelCard
from lumbarseg.io.file_access import atomic_write, open_for_reading
from lumbarseg.report.exam_page import ERROR_NOTE, MEASUREMENT_NOTE
from lumbarseg.report.exam_report import NOTICE
from lumbarseg.report.html import stylesheet

from .javascript_bundle import bundle_modules
from .licences import describe_model_licence
from .npm_packages import ensure_node_modules, packages_in_page, page_source_folder
from .page_tables import card_for_page

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'wasm-unsafe-eval' blob:; worker-src blob:; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; connect-src data: blob:"
)
"""The browser allows the page no connection to another computer."""

_ONNXRUNTIME_FOLDER = "onnxruntime-web/dist"
_NIIVUE = "@niivue/niivue/dist/niivue.umd.js"
_DCM2NIIX = "@niivue/dcm2niix/dist/dcm2niix.jpeg.wasm"
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class PageResult:
    """A page as written. size: bytes; model_digest: of the model inside."""

    path: Path
    size: int
    model_digest: str


def write_page(model: Path, out: Path) -> PageResult:
    """Write the page that segments with a model.

    Raises
    ------
    ModelError
        When the model is invalid or cannot run in a browser.
    PackagingError
        When npm packages are missing.
    FileError
        When `out` cannot be written.
    """
    if out.is_dir() or out.resolve() == model.resolve():
        raise PackagingError(f"{out}: a folder, or the model itself; name the .html file to write")
    card = Model.load(model, "cpu").card
    if card.spec.tile:
        raise ModelError(f"{model}: needs tiles of a fixed size, which the page does not support; use the command")
    node_modules = ensure_node_modules()
    with open_for_reading(model) as stream:
        page = _page_html(stream.read(), model.stem, card, node_modules)
    with atomic_write(out) as file:
        file.write(page)
    return PageResult(out, len(page), card.digest)


def _page_html(model: bytes, model_name: str, card: ModelCard, node_modules: Path) -> bytes:
    """Return the complete page, UTF-8."""
    source, onnxruntime = page_source_folder(), node_modules / _ONNXRUNTIME_FOLDER
    parts = {
        "policy": CONTENT_SECURITY_POLICY,
        "style": stylesheet("report") + _read_text(source / "page.css"),
        "notice": escape(NOTICE),
        "measurement_note": escape(f"{MEASUREMENT_NOTE} {ERROR_NOTE}"),
        "structures": "".join(f"<option>{s.name}</option>" for s in STRUCTURES if s.kind in card.output_kinds),
        "versions": escape(f"lumbarseg {__version__} · model {card.digest[:12]}"),
        "licences": escape(_licence_text(node_modules, model_name, card)),
        "ort": escape_script(_read_text(onnxruntime / "ort.wasm.min.js")),
        "glue": escape_script(_read_text(onnxruntime / "ort-wasm-simd-threaded.mjs")),
        "wasm": gzip_base64((onnxruntime / "ort-wasm-simd-threaded.wasm").read_bytes()),
        "dcm2niix": gzip_base64((node_modules / _DCM2NIIX).read_bytes()),
        "model": gzip_base64(model),
        "card": escape_script(json.dumps(card_for_page(card))),
        "niivue": escape_script(_read_text(node_modules / _NIIVUE)),
        **{
            name: escape_script(bundle_modules(name, node_modules)) for name in ("network_worker", "exam_worker", "app")
        },
    }
    return _PLACEHOLDER.sub(lambda match: parts[match[1]], _read_text(source / "page.html")).encode()


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def escape_script(script: str) -> str:
    """Escape a script so that it neither ends its element early nor prevents its end."""
    if re.search(r"<!--.*<script", script, re.IGNORECASE | re.DOTALL):
        raise PackagingError("a script of the page cannot be embedded: it contains <!-- and <script")
    return re.sub(r"</(?=script)", r"<\\/", script, flags=re.IGNORECASE)


def gzip_base64(data: bytes) -> str:
    """Return bytes as base64 of gzip; the same bytes give the same text."""
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def _licence_text(node_modules: Path, model_name: str, card: ModelCard) -> str:
    """Return names, versions and licence texts of everything in the page."""
    parts = [f"lumbarseg {__version__} (Apache-2.0, see the text under flatbuffers)"]
    parts.append(describe_model_licence(model_name, card).strip())
    parts += [f"{p.name} {p.version} ({p.licence})\n\n{p.licence_text}".strip() for p in packages_in_page(node_modules)]
    return f"\n\n{'-' * 72}\n\n".join(parts)
