"""Stands for pydicom-seg, which MONAI Label imports for DICOM SEG; lumbarseg.io writes that instead."""
