"""What MONAI Label loads."""

from lumbarseg.serve.app import LumbarApp  # noqa: F401
