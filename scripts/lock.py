"""Write requirements/*.txt from the environment that runs this: every package that is needed, with its exact version.

python scripts/lock.py        after newer versions were installed and all tests passed with them
"""

from __future__ import annotations

import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
CORE, TEST = ROOT / "requirements" / "core.txt", ROOT / "requirements" / "test.txt"


def closure(requirements: list[str]) -> dict[str, str]:
    """Return names and versions of requirements and of all that they need in turn, without local parts (+cpu)."""
    versions: dict[str, str] = {}
    queue = [Requirement(line) for line in requirements]
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        installed = distribution(name)
        extras = requirement.extras or {""}
        if name in versions and not requirement.extras:
            continue
        versions[name] = installed.version.partition("+")[0]
        for line in installed.requires or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                queue.append(needed)
    return versions


def main() -> None:
    """Write both lock files: of the core, and of all tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for path, requirements in (
        (CORE, project["dependencies"]),
        (TEST, project["dependencies"] + extras["dicom"] + extras["cluster"] + extras["train"] + extras["dev"]),
    ):
        lines = [f"{name}=={version}" for name, version in sorted(closure(requirements).items())]
        path.write_text("# written by scripts/lock.py\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
