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


def test_wheels_of_one_version_share_a_file_without_duplicate_texts(tmp_path: Path) -> None:
    result = licences.collect_licence_files(
        [
            wheel(
                tmp_path, "any", "License-Expression: MIT\n", thing_LICENSE="Do what you like.", thing_licence="no.py"
            ),
            wheel(
                tmp_path, "win_amd64", "License-Expression: MIT\n", thing_LICENSE="Do what you like.", x_NOTICE="Oh."
            ),
        ]
    )
    text = result["thing-1.txt"].decode()
    assert text.count("Do what you like.") == 1
    assert "=== x/NOTICE\n\nOh." in text
    assert result["index.txt"].decode().split() == ["thing-1", "MIT"]


def test_a_package_without_a_licence_text_is_marked(tmp_path: Path) -> None:
    result = licences.collect_licence_files(
        [wheel(tmp_path, "any", "License: Apache 2.0\n", **{"thing_LICENSE.py": "x = 1"})]
    )
    assert set(result) == {"index.txt"}
    assert result["index.txt"].decode().rstrip().endswith("Apache 2.0 (its wheel contains no text)")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("License-Expression", "MIT"), ("License", "long")], "MIT"),
        ([("Classifier", "License :: OSI Approved :: BSD License"), ("License", "Copyright\nof many")], "BSD License"),
        ([("License", "Copyright\nof many")], "Copyright"),
        ([("Classifier", "Topic :: Odd")], "not stated"),
    ],
)
def test_licence_name_of_a_package(headers: list[tuple[str, str]], expected: str) -> None:
    about = Message()
    for name, value in headers:
        about[name] = value
    assert licences.licence_name(about) == expected


def test_model_licence_lists_data_and_licences() -> None:
    text = licences.describe_model_licence(
        "mine.onnx", ModelCard(PreprocessingSpec(), details={"data": ["phantoms", "SPIDER"], "licences": "CC BY 4.0"})
    )
    assert text.split("\n")[0] == "model mine.onnx"
    assert "data:\n  phantoms\n  SPIDER\nlicences:\n  CC BY 4.0\nlimits:\n  not stated\n" in text
