"""The browser page: how it is assembled, and what it does in a real browser."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import tiny
from tests.io.make_dicom import T1, T2, write_series
from tests.packaging.page_modules import node_modules_or_skip

from benchmarks import browser, readme
from benchmarks import page as benchmark
from lumbarseg.batch.demo import synthetic_exam
from lumbarseg.cli.main import main
from lumbarseg.errors import FileError, ModelError, PackagingError
from lumbarseg.inference import Model, bundled_model_path
from lumbarseg.io import read_exam, read_image, read_labels, write_image
from lumbarseg.measurement import measure_structures
from lumbarseg.packaging import npm_packages, page_tables
from lumbarseg.packaging.browser_page import CONTENT_SECURITY_POLICY, escape_script, gzip_base64, write_page
from lumbarseg.packaging.javascript_bundle import bundle_modules
from lumbarseg.preprocessing import PreprocessingSpec
from lumbarseg.resampling import reorient
from lumbarseg.segmentation import UserLevels, segment
from lumbarseg.volume import Volume


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    node_modules_or_skip(testing=False)
    return write_page(bundled_model_path(), tmp_path_factory.mktemp("page") / "lumbarseg.html").path


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic exam, its middle slices only: half the work."""
    image = synthetic_exam(193).image
    path = tmp_path_factory.mktemp("phantom") / "phantom.nii.gz"
    sagittal = image.grid.axis_codes.index(next(letter for letter in image.grid.axis_codes if letter in "LR"))
    selection = [slice(None)] * 3
    selection[sagittal] = slice(3, -3)
    affine = image.affine.copy()
    affine[:3, 3] += 3 * affine[:3, sagittal]
    write_image(Volume(image.array[tuple(selection)], affine), path)
    return path


def drive_page(page_path: Path, steps: list[dict[str, Any]], **plan: Any) -> dict[str, Any]:
    if browser.chromium() is None:
        pytest.skip("Chromium is not installed, in which the page is tried")
    node_modules_or_skip(testing=True)
    return browser.drive(page_path, steps, **plan)


def agreement(labels: np.ndarray, truth: np.ndarray) -> float:
    """Share of the voxels that are foreground in either of two label maps in which they agree."""
    return float((labels == truth)[(labels > 0) | (truth > 0)].mean())


def test_the_page_is_self_contained(page_path: Path) -> None:
    text = page_path.read_text(encoding="utf-8")
    assert f'content="{CONTENT_SECURITY_POLICY}"' in text and "{{" not in text.split("<script")[0]
    assert not re.search(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=", text.replace("data:", ""))
    model = re.search(r'id="model">([^<]+)<', text)
    assert model and gzip.decompress(b64decode(model[1])) == bundled_model_path().read_bytes()
    for package in npm_packages.packages_in_page(npm_packages.ensure_node_modules()):
        assert f"{package.name} {package.version} ({package.licence})" in text
    assert "Copyright (c) 2021, Niivue" in text and "Microsoft Corporation" in text
    assert "SPIDER" in text and "CC BY 4.0" in text  # what the model was trained on
    frame = (npm_packages.page_source_folder() / "page.html").read_text(encoding="utf-8")
    assert text.lower().count("</script") == frame.count("</script")


def test_the_page_is_reproducible(page_path: Path, tmp_path: Path) -> None:
    assert write_page(bundled_model_path(), tmp_path / "again.html").path.read_bytes() == page_path.read_bytes()


def test_the_command_writes_a_page_with_another_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node_modules_or_skip(testing=False)
    model, out = tiny.write(tmp_path / "mine.onnx"), tmp_path / "new" / "mine.html"
    assert main(["page", str(model), "-o", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["bytes"] == out.stat().st_size and report["model"] == Model.load(model, "cpu").card.digest
    assert gzip_base64(model.read_bytes()) in out.read_text(encoding="utf-8")


def test_invalid_models_and_outputs_raise_errors(tmp_path: Path) -> None:
    model = tiny.write(tmp_path / "model.onnx")
    with pytest.raises(PackagingError, match="name the"):
        write_page(model, model)
    with pytest.raises(PackagingError, match="a folder"):
        write_page(model, tmp_path)
    with pytest.raises(ModelError):
        write_page(tmp_path / "none.onnx", tmp_path / "page.html")
    square = tmp_path / "square.onnx"
    square.write_bytes(tiny.sealed(tiny.proto(), tiny.ModelCard(PreprocessingSpec(tile=64))))
    with pytest.raises(ModelError, match="tiles of a fixed size"):
        write_page(square, tmp_path / "page.html")
    node_modules_or_skip(testing=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError):
        write_page(model, tmp_path / "file" / "page.html")


def test_missing_npm_or_network_raises_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUMBARSEG_NPM", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackagingError, match="npm is not installed"):
        npm_packages.ensure_node_modules()
    fails = tmp_path / "npm"
    fails.write_text("#!/bin/sh\necho 'npm error network no route' >&2\nexit 1\n")
    fails.chmod(0o755)
    with pytest.raises(PackagingError, match=r"no route.*is there a network"):
        npm_packages.ensure_node_modules()
    assert not any((tmp_path / "cache").iterdir())


def test_npm_packages_are_pinned_with_digests() -> None:
    lock = json.loads((npm_packages.page_source_folder() / "package-lock.json").read_text())["packages"]
    dependencies = json.loads((npm_packages.page_source_folder() / "package.json").read_text())
    assert all(about["integrity"].startswith("sha512-") for name, about in lock.items() if name)
    for name, version in (dependencies["dependencies"] | dependencies["devDependencies"]).items():
        assert lock[f"node_modules/{name}"]["version"] == version


def test_a_module_that_cannot_be_bundled_raises_an_error(tmp_path: Path) -> None:
    node_modules = node_modules_or_skip(testing=False)
    (tmp_path / "bad.js").write_text('import { nothing } from "page/volume.js";\nconsole.log(nothing);\n')
    with pytest.raises(PackagingError, match=r"bad\.js: esbuild cannot bundle it"):
        bundle_modules(tmp_path / "bad.js", node_modules)


def test_scripts_are_escaped() -> None:
    assert escape_script('x = "</script>" + "</SCRIPT";') == 'x = "<\\/script>" + "<\\/SCRIPT";'
    with pytest.raises(PackagingError, match="cannot be embedded"):
        escape_script('"<!--" + "<script"')
    assert gzip.decompress(b64decode(gzip_base64(b"abc"))) == b"abc"


def test_the_javascript_contains_no_level_names() -> None:
    level_name = re.compile(r"""["'`](?:T(?:1[0-2]|[1-9])|L[1-6]|S1)(?:-\w\d+)?(?: arch)?["'`]""")
    for path in npm_packages.page_source_folder().glob("*.js"):
        assert not level_name.search(path.read_text(encoding="utf-8")), f"{path.name}: ask anatomy.js for it"
    assert '"L5"' in page_tables.tables_script()


@pytest.mark.slow
def test_the_page_segments_renames_cancels_and_rejects(page_path: Path, phantom: Path, tmp_path: Path) -> None:
    (tmp_path / "noise.nii").write_bytes(b"no exam " * 100)
    ct = read_image(phantom)
    write_image(Volume(ct.array - 1000, ct.affine), tmp_path / "ct.nii.gz")
    saved = {name: str(tmp_path / f"{name}.nii.gz") for name in ("first", "other", "back", "again")}
    steps = [
        {"open": str(phantom), "save": saved["first"]},
        {"name": [1, "L6"], "save": saved["other"]},
        {"undo": True, "save": saved["back"]},
        {"cancel": str(phantom)},
        {"open": str(phantom), "save": saved["again"]},
        {"click": [0.3, 0.5]},
        {"open": str(tmp_path / "noise.nii")},
        {"open": str(tmp_path / "ct.nii.gz")},
    ]
    report = drive_page(page_path, steps)
    assert all(address.startswith(browser.OWN) for address in report["requests"]), report["requests"]
    assert not [line for line in report["messages"] if line.startswith("error")], report["messages"]
    model = Model.load(bundled_model_path(), "cpu")
    volume = read_image(phantom)
    truth = {None: segment(volume, model), "L6": segment(volume, model, UserLevels("L6"))}
    for name, lowest in (("first", None), ("other", "L6"), ("back", None), ("again", None)):
        labels = read_labels(Path(saved[name]))
        assert labels.grid.same_as(volume.grid)
        assert agreement(labels.array, truth[lowest].labels.array) >= 0.999
    first, other, back, _, second, location, noise, air = report["steps"]
    assert first["names"] == back["names"] == second["names"] == [level.name for level in truth[None].levels]
    assert other["names"] == [level.name for level in truth["L6"].levels]
    assert "not a NIfTI file" in noise["refused"] and "looks like CT" in air["refused"]
    assert re.match(r"Selected: \S", location["here"])
    volumes = {row.name: row.volume for row in measure_structures(truth[None].labels)}
    row = next(text for text in first["sizes"] if text.startswith("L3"))
    assert f"{volumes['L3']:.1f}" in row


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ({"without": "DecompressionStream"}, "DecompressionStream"),
        ({"without": "WebAssembly"}, "WebAssembly"),
        ({"flags": ["--disable-3d-apis"]}, "WebGL2"),
    ],
)
def test_missing_browser_features_are_named(page_path: Path, plan: dict[str, Any], expected: str) -> None:
    assert expected in drive_page(page_path, [], **plan)["unable"]


@pytest.mark.slow
def test_a_dicom_study_is_labelled_as_by_the_command(page_path: Path, phantom: Path, tmp_path: Path) -> None:
    exam = reorient(read_image(phantom), "PIR")
    exam = Volume(np.rint(exam.array).astype(np.int16), exam.affine)
    write_series(tmp_path / "study" / "t2", exam, T2, shuffle=1)
    write_series(tmp_path / "study" / "t1", Volume(exam.array // 2, exam.affine), T1)
    archive = shutil.make_archive(str(tmp_path / "exam"), "zip", tmp_path / "study")
    files = {name: tmp_path / name for name in ("folder.nii.gz", "zip.nii.gz", "report.html", "table.csv")}
    steps = [
        {"folder": str(tmp_path / "study"), "save": str(files["folder.nii.gz"])},
        {"series": 1},
        {"open": archive, "save": str(files["zip.nii.gz"])},
        {"view": "coronal"},
        {"view": "3-D"},
        {"download": "#report", "save": str(files["report.html"])},
        {"download": "#table", "save": str(files["table.csv"])},
    ]
    report = drive_page(page_path, steps)
    assert all(address.startswith(browser.OWN) for address in report["requests"]), report["requests"]
    assert not [line for line in report["messages"] if line.startswith("error")], report["messages"]
    first, second, *_ = report["steps"]
    assert first["examName"] == "T2_TSE_SAG" and second["examName"] == "T1_TSE_SAG"
    assert [title.split(":")[0] for title in first["series"]] == ["3 T2_TSE_SAG", "2 T1_TSE_SAG"]
    expected = segment(read_exam(tmp_path / "study").volume, Model.load(bundled_model_path(), "cpu"))
    for name in ("folder.nii.gz", "zip.nii.gz"):
        labels = reorient(read_labels(files[name]), expected.labels.grid.axis_codes)
        assert np.allclose(labels.affine, expected.labels.affine, atol=1e-2)
        assert agreement(labels.array, expected.labels.array) >= 0.995
    names = [level.name for level in expected.levels]
    assert first["names"] == names and set(names) <= set(first["namesOnSlices"])
    page = files["report.html"].read_text(encoding="utf-8")
    assert "data:image/png" in page and "<select" not in page and "not for diagnosis" in page
    assert not re.search(r"(?:src|href)=\"(?!data:)", page) and all(f"{name}</td>" in page for name in names)
    rows = files["table.csv"].read_text(encoding="utf-8").splitlines()
    assert rows[0].startswith("exam,name,kind") and any(row.startswith("T2_TSE_SAG,L3,body") for row in rows)
    assert "<small>±" in page


@pytest.mark.slow
def test_a_real_exam_is_labelled_as_by_the_command(page_path: Path, real: Path, tmp_path: Path) -> None:
    path = real / "siegen" / "10_image.nii.gz"
    report = drive_page(page_path, [{"open": str(path), "save": str(tmp_path / "labels.nii.gz")}])
    assert all(address.startswith(browser.OWN) for address in report["requests"])
    expected = segment(read_image(path), Model.load(bundled_model_path(), "cpu"))
    assert agreement(read_labels(tmp_path / "labels.nii.gz").array, expected.labels.array) >= 0.995
    assert report["steps"][0]["names"] == [level.name for level in expected.levels]


def test_the_docs_contain_the_measured_figures() -> None:
    text = benchmark.DOCS.read_text()
    assert readme.fill_readme(text, "x").count("\nx\n") == 1
    assert readme.fill_readme(text, benchmark.format_results(json.loads(benchmark.RESULTS.read_text()))) == text
