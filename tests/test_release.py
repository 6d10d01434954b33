"""Version, changelog, citation and the files of a release agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

import lumbarseg

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_one_version_in_package_changelog_and_citation() -> None:
    headings = re.findall(r"^## (\S+) \((.+)\)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    citation = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), flags=re.MULTILINE)
    assert headings[0][0] == lumbarseg.__version__ == (citation and citation[1])
    assert re.fullmatch(r"unreleased|\d{4}-\d\d-\d\d", headings[0][1])


def test_hosted_workflow_tests_every_supported_python() -> None:
    supported = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)}
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text()
    (versions,) = re.findall(r"python: \[(.+)\]", workflow)
    assert set(versions.replace('"', "").split(", ")) == supported
    assert PROJECT["requires-python"] == f">={min(supported, key=lambda v: int(v.partition('.')[2]))}"


def test_locked_versions_are_within_the_bounds_of_the_project() -> None:
    rows = (ROOT / "requirements" / "core.txt").read_text().splitlines()
    locked = dict(row.split("==") for row in rows if "==" in row)
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert [s.operator for s in requirement.specifier] == [">="], "`make test-lowest` installs lower bounds"
        assert requirement.specifier.contains(locked[requirement.name])
