"""Stub of ITK, which MONAI Label imports for its own writers; label maps are written by lumbarseg.io instead."""
