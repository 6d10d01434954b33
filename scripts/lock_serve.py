"""Write requirements/serve.txt from the environment that runs this: MONAI Label's, as `lumbarseg serve` makes it.

    .venv-serve/bin/python scripts/lock_serve.py     after tests/server passed in it

MONAI Label's own requirements cannot be installed (docs/annotate.md), so all installed packages are
listed, except those that only tests and pip need. Local version parts (+cpu) are left out.
"""

from __future__ import annotations

from importlib.metadata import distributions
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "requirements" / "serve.txt"
TOOLS = {"pip", "wheel", "pytest", "iniconfig", "pluggy", "pygments", "dcmqi", "lumbarseg", "itk"}


def main() -> None:
    """Write the lock file."""
    versions = {d.metadata["Name"]: d.version.partition("+")[0] for d in distributions()}
    rows = sorted(
        (name.lower(), f"{name}=={version}") for name, version in versions.items() if name.lower() not in TOOLS
    )
    LOCK.write_text("# written by scripts/lock_serve.py\n" + "".join(f"{row}\n" for _, row in rows))


if __name__ == "__main__":
    main()
