"""Write requirements/*.txt from the environment that runs this: every package the project needs, at its exact version.

python scripts/lock.py        after the newer versions were installed by hand and the suite passed with them
"""

from __future__ import annotations

import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
CORE, TEST = ROOT / "requirements" / "core.txt", ROOT / "requirements" / "test.txt"


def closure(wanted: list[str]) -> dict[str, str]:
    """Names and versions of `wanted` and of everything they need in turn; a local version part (+cpu) is left out."""
    found: dict[str, str] = {}
    todo = [Requirement(line) for line in wanted]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        installed = distribution(name)
        extras = requirement.extras or {""}
        if name in found and not requirement.extras:
            continue
        found[name] = installed.version.partition("+")[0]
        for line in installed.requires or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(needed)
    return found


def main() -> None:
    """Both lock files: what answers needs, and what the whole suite needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for path, wanted in (
        (CORE, project["dependencies"]),
        (TEST, project["dependencies"] + extras["dicom"] + extras["cluster"] + extras["train"] + extras["dev"]),
    ):
        lines = [f"{name}=={version}" for name, version in sorted(closure(wanted).items())]
        path.write_text("# written by scripts/lock.py\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
