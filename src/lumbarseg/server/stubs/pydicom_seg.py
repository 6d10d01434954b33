"""Stub of pydicom-seg, which MONAI Label imports for DICOM SEG; lumbarseg.io writes it instead."""
