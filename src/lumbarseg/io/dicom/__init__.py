"""DICOM: reading series and studies, and writing segmentation and report objects."""
