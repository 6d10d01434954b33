"""What the documentation says is what the program does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image
from tests.datasets.small_phantoms import exam

from lumbarseg.cli.main import build_parser
from lumbarseg.io import write_image
from lumbarseg.measurement import MEASUREMENT_NAMES
from lumbarseg.report.exam_report import UNITS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


COMMANDS = [
    line.partition(" #")[0].strip()
    for page in PAGES
    for block in blocks(page, "")
    for line in block.splitlines()
    if line.startswith("lumbarseg ")
]


def test_the_pages_show_commands() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_pages_is_understood(command: str) -> None:
    arguments = shlex.split(command.partition(" > ")[0])
    assert callable(build_parser(arguments[1]).parse_args(arguments[1:]).run)


def test_the_table_of_labels_is_the_one_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    table = __import__("table")
    assert table.PAGE.read_text() == table.filled(table.PAGE.read_text())
    assert "| 1 | L1 | body |" in table.rows()


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


NEEDS_SLICER = "slicer.md"
"""Its Python block is for the console of 3D Slicer."""
PYTHON_PAGES = [page for page in PAGES if blocks(page, "python") and page.name != NEEDS_SLICER]


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=lambda page: page.name)
def test_python_blocks_run(
    page: Path, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The blocks of a page run one after the other, as a reader would type them, in a folder with exam.nii.gz."""
    write_image(exam(1, seed=3).image, tmp_path / "exam.nii.gz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Image.Image, "show", lambda image: image.verify())
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), names)
    if page.name == "python.md":
        assert "'L9' is not a vertebra" in capsys.readouterr().out
        files = {"exam_labels.nii.gz", "exam.seg.nrrd", "exam.png", "exam_report.json"}
        assert files <= {path.name for path in tmp_path.iterdir()}


def test_reference_names_existing_modules() -> None:
    modules = [
        line.split()[1]
        for page in (ROOT / "docs" / "reference").glob("*.md")
        for line in page.read_text().splitlines()
        if line.startswith("::: ")
    ]
    assert "lumbarseg.api" in modules
    for module in modules:
        path = ROOT / "src" / Path(*module.split("."))
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), module


def test_drawings_of_measurements_are_those_of_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    script = __import__("draw_measurements")
    assert {path.stem for path in script.FOLDER.glob("*.svg")} == set(script.DRAWINGS)
    view = script.measured_slice()
    for name, drawing in script.DRAWINGS.items():
        texts = [
            re.sub(r"[\d.]+(?= mm|°|<)", "", " ".join(re.findall(r">([^<]+<)/text>", svg)))
            for svg in (script.render_svg(drawing, view), (script.FOLDER / f"{name}.svg").read_text())
        ]
        assert texts[0] and texts[0] == texts[1], name


def test_measurements_of_the_report_are_defined() -> None:
    page = (ROOT / "docs" / "measurements.md").read_text()
    for name in MEASUREMENT_NAMES:
        assert f"`{name}_{UNITS[name]}`" in page, name


def test_navigation_lists_every_page() -> None:
    listed = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE))
    docs = ROOT / "docs"
    assert listed == {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
