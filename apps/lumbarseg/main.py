"""App that MONAI Label loads."""

from lumbarseg.server.app import LumbarApp  # noqa: F401
