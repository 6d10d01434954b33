"""Packs with real wheels: what is in them, and that they install and run without network."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename
from tests import tiny

from benchmarks import offline
from lumbarseg import Model, bundled_model_path
from lumbarseg.batch.demo import synthetic_exam
from lumbarseg.cli.main import main
from lumbarseg.errors import ModelError, PackagingError
from lumbarseg.inference.card import BLANK_DIGEST, ModelCard
from lumbarseg.io import write_image
from lumbarseg.packaging.offline_pack import CHECKSUM_FILE, PACK_FOLDER, write_pack
from lumbarseg.packaging.targets import Target, current_platform

onnx = pytest.importorskip("onnx")

CURRENT_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHER_TARGETS = [
    Target("macos", CURRENT_PYTHON),
    Target("windows", CURRENT_PYTHON),
    Target("macos", "3.13" if CURRENT_PYTHON != "3.13" else "3.12"),
]


@pytest.fixture(scope="module")
def own_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers as the shipped one does, and is another."""
    try:
        proto = onnx.load(str(bundled_model_path()))
    except ModelError as error:
        pytest.skip(str(error))
    card = ModelCard.from_metadata({entry.key: entry.value for entry in proto.metadata_props})
    del proto.metadata_props[:]
    path = tmp_path_factory.mktemp("model") / "my model.onnx"
    path.write_bytes(
        tiny.sealed(proto, replace(card, digest=BLANK_DIGEST, details={"name": "mine", "licences": ["my own"]}))
    )
    return path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--platform", "solaris"], "no pack for platform 'solaris'; choose from linux"),
        (["--python", "3.9"], "no pack for Python '3.9'; choose from 3.11, 3.12, 3.13"),
        (["nothere.onnx"], "nothere.onnx: cannot be read: not found; check the path"),
        (["liar.onnx"], "liar.onnx: its content does not match its digest"),
        (["liar.onnx", "-o", "liar.onnx"], "liar.onnx: a folder, or the model itself"),
        (["-o", "."], ".: a folder, or the model itself"),
    ],
)
def test_bad_input_fails_before_any_download(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    data = tiny.write(tmp_path / "liar.onnx").read_bytes()
    (tmp_path / "liar.onnx").write_bytes(data.replace(b'"seed": 0', b'"seed": 1'))
    options = [word for word in arguments if word.endswith(".onnx") or word.startswith("-")]
    assert main(["pack", *arguments, *(["--python", "3.11"] if not options else [])]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lumbarseg: error: ") and expected in line
    assert [path.name for path in tmp_path.iterdir()] == ["liar.onnx"]


@contextmanager
def needing_the_index() -> Iterator[None]:
    """Skip what needs the package index where there is none."""
    try:
        yield
    except (PackagingError, RuntimeError) as error:
        if "cannot be reached" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder with blanks in its name that other users can enter; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory(prefix="a computer ") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.slow
def test_a_pack_installs_and_runs_offline_for_another_user(own_model: Path, elsewhere: Path) -> None:
    try:
        other = offline.create_offline_user(elsewhere)
    except RuntimeError as error:
        pytest.skip(str(error))
    with needing_the_index():
        pack = offline.make_pack(elsewhere / "my pack.zip", offline.version_of(other.python), own_model)
    assert pack["bytes"] < 250e6
    write_image(synthetic_exam(193).image, elsewhere / "spine.nii.gz")
    like, _ = offline.use_pack(other, elsewhere / "my pack.zip", elsewhere / "spine.nii.gz")
    assert like["answer"].endswith("L1 L2 L3 L4 L5")
    info = json.loads(other.run("lumbarseg", "info", "--json")[1])
    assert (Path(info["model"]).name, info["digest"]) == ("my_model.onnx", Model.load(own_model).card.digest)
    report = json.loads((other.home / "my answers" / "spine_report.json").read_text())
    assert info["digest"] in json.dumps(report)

    other.run("sh", f"{PACK_FOLDER}/install.sh")  # again, in the place of the first
    (wheel,) = (other.home / PACK_FOLDER / "wheels").glob("scipy-*.whl")
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"x")
    with pytest.raises(RuntimeError, match="does not match its checksum"):
        other.run("sh", f"{PACK_FOLDER}/install.sh")
    assert other.run("lumbarseg", "--version")[1].startswith("lumbarseg ")


@pytest.fixture(scope="module")
def other_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack for macOS and Windows with the shipped model, unpacked."""
    folder = tmp_path_factory.mktemp("other_pack")
    with needing_the_index():
        write_pack(bundled_model_path(), folder / "pack.zip", OTHER_TARGETS, print)
    with zipfile.ZipFile(folder / "pack.zip") as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    return folder / PACK_FOLDER


def supported(target: Target) -> set[Tag]:
    python = (3, int(target.python.partition(".")[2]))
    platforms = [
        *target.platform_spec.platform_tags,
        *(["macosx_10_9_universal2"] if target.platform == "macos" else []),
    ]
    interpreter = f"cp3{python[1]}"
    return {*cpython_tags(python, [interpreter], platforms), *compatible_tags(python, interpreter, platforms)}


@pytest.mark.slow
def test_wheels_fit_their_target_in_the_installed_version(other_pack: Path) -> None:
    about = json.loads((other_pack / "pack.json").read_text())
    names = {path.name for path in (other_pack / "wheels").iterdir()}
    assert names == {name for target in about["targets"] for name in target["wheels"]}
    for target, report in zip(OTHER_TARGETS, about["targets"], strict=True):
        wheels = {parse_wheel_filename(name)[0]: parse_wheel_filename(name) for name in report["wheels"]}
        assert {"lumbarseg", "pip", "onnxruntime", "numpy", "scipy"} <= set(wheels)
        for name, (_, result, _, tags) in wheels.items():
            assert tags & supported(target), f"{name} does not fit {target}"
            if name not in ("lumbarseg", "pip", "colorama"):  # colorama: Windows only
                assert str(result) == version(name).partition("+")[0]


@pytest.mark.slow
@pytest.mark.parametrize("target", OTHER_TARGETS[:2], ids=str)
def test_pip_resolves_all_dependencies_from_the_pack(target: Target, other_pack: Path, tmp_path: Path) -> None:
    """Of this Python: pip reads conditions of requirements as if the target's were the one that runs it."""
    arguments = [
        "install",
        "--dry-run",
        "--no-index",
        "--find-links",
        other_pack / "wheels",
        "--target",
        tmp_path / "x",
    ]
    command = [sys.executable, "-m", "pip", *map(str, arguments), *target.pip_options, "lumbarseg"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PIP_CONFIG_FILE": os.devnull})
    assert done.returncode == 0, done.stderr
    assert "onnxruntime-" + version("onnxruntime") in done.stdout.replace("\n", " ")


@pytest.mark.slow
def test_checksums_and_licences_are_complete(other_pack: Path) -> None:
    sums = dict(line.split("  ", 1)[::-1] for line in (other_pack / CHECKSUM_FILE).read_text().splitlines())
    files = {path.relative_to(other_pack).as_posix(): path for path in other_pack.rglob("*") if path.is_file()}
    assert set(sums) == set(files) - {CHECKSUM_FILE}
    assert all(hashlib.sha256(files[name].read_bytes()).hexdigest() == digest for name, digest in sums.items())
    index = (other_pack / "licences" / "index.txt").read_text()
    for name in files:
        if name.startswith("wheels/"):
            package = "-".join(name.removeprefix("wheels/").split("-")[:2])
            assert package in index
            assert f"licences/{package}.txt" in files or "(its wheel contains no text)" in index
    assert "SPIDER" in (other_pack / "licences" / "model.txt").read_text()
    assert b"Apache License" in (other_pack / "licences" / f"lumbarseg-{version_there(other_pack)}.txt").read_bytes()


def version_there(other_pack: Path) -> str:
    return str(json.loads((other_pack / "pack.json").read_text())["version"])


def test_the_current_platform_is_a_target() -> None:
    assert str(Target(current_platform(), "3.11")).endswith(", Python 3.11")
