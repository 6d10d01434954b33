"""Stands for pydicom-seg, which MONAI Label imports for DICOM SEG; lumbarseg.files writes that instead."""
