from __future__ import annotations

from email.message import Message
from pathlib import Path

import pytest

from lumbarseg.inference import ModelCard
from lumbarseg.packaging import licences, zip_archive
from lumbarseg.preprocessing import PreprocessingSpec


def wheel(folder: Path, tag: str, about: str, **files: str) -> Path:
    path = folder / f"thing-1-py3-none-{tag}.whl"
    entries = {name.replace("_", "/", 1): text.encode() for name, text in files.items()}
    zip_archive.write_zip({"thing-1.dist-info/METADATA": f"Name: thing\nVersion: 1\n{about}".encode(), **entries}, path)
    return path


def test_texts_of_one_version_become_one_file_each_told_once(tmp_path: Path) -> None:
    found = licences.collect_licence_files(
        [
            wheel(
                tmp_path, "any", "License-Expression: MIT\n", thing_LICENSE="Do what you like.", thing_licence="no.py"
            ),
            wheel(
                tmp_path, "win_amd64", "License-Expression: MIT\n", thing_LICENSE="Do what you like.", x_NOTICE="Oh."
            ),
        ]
    )
    text = found["thing-1.txt"].decode()
    assert text.count("Do what you like.") == 1
    assert "=== x/NOTICE\n\nOh." in text
    assert found["index.txt"].decode().split() == ["thing-1", "MIT"]


def test_a_package_without_a_text_is_told(tmp_path: Path) -> None:
    found = licences.collect_licence_files(
        [wheel(tmp_path, "any", "License: Apache 2.0\n", **{"thing_LICENSE.py": "x = 1"})]
    )
    assert set(found) == {"index.txt"}
    assert found["index.txt"].decode().rstrip().endswith("Apache 2.0 (its wheel carries no text)")


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ([("License-Expression", "MIT"), ("License", "long")], "MIT"),
        ([("Classifier", "License :: OSI Approved :: BSD License"), ("License", "Copyright\nof many")], "BSD License"),
        ([("License", "Copyright\nof many")], "Copyright"),
        ([("Classifier", "Topic :: Odd")], "not said"),
    ],
)
def test_what_a_package_calls_its_licence(headers: list[tuple[str, str]], told: str) -> None:
    about = Message()
    for name, value in headers:
        about[name] = value
    assert licences.licence_name(about) == told


def test_the_model_tells_its_data_and_licences() -> None:
    text = licences.describe_model_licence(
        "mine.onnx", ModelCard(PreprocessingSpec(), details={"data": ["phantoms", "SPIDER"], "licences": "CC BY 4.0"})
    )
    assert text.decode().split("\n")[0] == "model mine.onnx"
    assert "data:\n  phantoms\n  SPIDER\nlicences:\n  CC BY 4.0\nlimits:\n  not said\n" in text.decode()
