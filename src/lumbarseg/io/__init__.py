"""Read and write images and label maps. The content of a file decides its format; all geometry is RAS+ in mm."""

from .discovery import exam_name, find_exams, list_folder
from .exam import LoadedExam, read_exam, read_image, read_labels
from .file_access import atomic_path, atomic_write, file_fingerprint, write_csv, write_json
from .nifti_writer import write_image, write_labels
from .raw_image import SourceImages

__all__ = [
    "LoadedExam",
    "SourceImages",
    "atomic_path",
    "atomic_write",
    "exam_name",
    "file_fingerprint",
    "find_exams",
    "list_folder",
    "read_exam",
    "read_image",
    "read_labels",
    "write_csv",
    "write_image",
    "write_json",
    "write_labels",
]
