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
from lumbarseg.errors import ModelError, PackagingError
from lumbarseg.inference import Model, ModelCard
from lumbarseg.io.file_access import atomic_write, open_for_reading
from lumbarseg.report import html as report_html
from lumbarseg.report.exam_page import MEASUREMENT_NOTE
from lumbarseg.report.exam_report import NOTICE

from . import javascript_bundle, licences, npm_packages, page_tables

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'wasm-unsafe-eval' blob:; worker-src blob:; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; connect-src data: blob:"
)
"""What the browser itself allows the page: nothing from elsewhere, and nothing to elsewhere."""

_ONNXRUNTIME_FOLDER = "onnxruntime-web/dist/"
_NIIVUE = "@niivue/niivue/dist/niivue.umd.js"
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class PageResult:
    """A page as written. size: bytes; digest: of the model inside."""

    path: Path
    size: int
    model_digest: str


def write_page(model: Path, out: Path) -> PageResult:
    """Write the page that answers with `model`.

    ModelError when the model is not sound or not one that a browser can run, PackagingError when packages of npm are
    missing, FileError when `out` cannot be written.
    """
    if out.is_dir() or out.resolve() == model.resolve():
        raise PackagingError(f"{out}: a folder, or the model itself; name the .html file to write")
    card = Model.load(model, "cpu").card
    if card.spec.tile:
        raise ModelError(f"{model}: reads squares of one size, which the page cannot; use the command")
    folder = npm_packages.ensure_node_modules()
    with open_for_reading(model) as stream:
        text = _page_html(stream.read(), model.stem, card, folder)
    with atomic_write(out) as file:
        file.write(text)
    return PageResult(out, len(text), card.digest)


def _page_html(model: bytes, name: str, card: ModelCard, folder: Path) -> bytes:
    """The whole page, UTF-8."""
    own = npm_packages.page_source_folder()

    def read(module: str) -> str:
        return (
            page_tables.tables_script()
            if module == "tables_from_python"
            else (own / f"{module}.js").read_text(encoding="utf-8")
        )

    parts = {
        "policy": CONTENT_SECURITY_POLICY,
        "style": report_html.stylesheet("report") + (own / "page.css").read_text(encoding="utf-8"),
        "notice": html.escape(NOTICE),
        "measurement_note": html.escape(MEASUREMENT_NOTE),
        "versions": html.escape(f"lumbarseg {__version__} · model {card.digest[:12]}"),
        "licences": html.escape(_licence_text(folder, name, card)),
        "ort": escape_script((folder / _ONNXRUNTIME_FOLDER / "ort.wasm.min.js").read_text(encoding="utf-8")),
        "glue": escape_script(
            (folder / _ONNXRUNTIME_FOLDER / "ort-wasm-simd-threaded.mjs").read_text(encoding="utf-8")
        ),
        "wasm": gzip_base64((folder / _ONNXRUNTIME_FOLDER / "ort-wasm-simd-threaded.wasm").read_bytes()),
        "model": gzip_base64(model),
        "network_worker": escape_script(javascript_bundle.bundle_modules("network_worker", read)),
        "exam_worker": escape_script(javascript_bundle.bundle_modules("exam_worker", read)),
        "card": escape_script(json.dumps(page_tables.card_for_page(card))),
        "niivue": escape_script((folder / _NIIVUE).read_text(encoding="utf-8")),
        "app": escape_script(javascript_bundle.bundle_modules("app", read)),
    }
    frame = (own / "page.html").read_text(encoding="utf-8")
    return _PLACEHOLDER.sub(lambda place: parts[place[1]], frame).encode()


def escape_script(script: str) -> str:
    """A script as it may stand inside an element: nothing in it ends the element early or keeps it from ending."""
    if re.search(r"<!--.*<script", script, re.IGNORECASE | re.DOTALL):
        raise PackagingError("a script of the page would not end where it should: it holds <!-- and <script")
    return re.sub(r"</(?=script)", r"<\\/", script, flags=re.IGNORECASE)


def gzip_base64(data: bytes) -> str:
    """Bytes as base64 of gzip, always the same for the same bytes."""
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def _licence_text(folder: Path, model: str, card: ModelCard) -> str:
    """Names, versions and licence texts of everything inside."""
    own = f"lumbarseg {__version__} (Apache-2.0, whose text stands under flatbuffers)"
    parts = [own, licences.describe_model_licence(model, card).decode().strip()]
    parts += [
        f"{p.name} {p.version} ({p.licence})\n\n{p.licence_text}".strip() for p in npm_packages.packages_in_page(folder)
    ]
    return f"\n\n{'-' * 72}\n\n".join(parts)
