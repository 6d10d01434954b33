"""Read DICOM series and studies; write segmentation and report objects; exchange both with DICOMweb servers."""
