"""What can go wrong, as a tree.

LumbarsegError
├── FileError      a file cannot be read or written
│   └── VolumeChoiceError  a file holds several volumes, and none was chosen
├── GridError      voxels without a usable place in space
├── DatasetError   a prepared dataset breaks its own rules
├── ModelError     a model file is malformed, or the engine refuses it
├── SegmentError   the exam is readable, but no lumbar spine can be named in it
├── BatchError     a batch of exams cannot go on
│   └── WorkerDiedError    the processes that worked on an item died
├── PackagingError a pack or a page for other computers cannot be made
└── ServeError     a request to the annotation server is refused, or the server cannot be set up

A message is one line for a person: which file, what is wrong, what to do.
"""

from __future__ import annotations

import errno

_SYSTEM_REASONS = {
    errno.ENOENT: "not found; check the path",
    errno.EACCES: "no permission; change it, or work on a copy",
    errno.EPERM: "no permission; change it, or work on a copy",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.ENOSPC: "the disk is full; make room, or choose another folder",
    errno.EDQUOT: "the disk quota is used up; make room, or choose another folder",
    errno.EFBIG: "the file would be larger than the system allows; choose another folder",
    errno.EISDIR: "it is a folder, not a file",
    errno.ENOTDIR: "part of the path is a file, not a folder; check the path",
    errno.EEXIST: "part of the path is a file, not a folder; check the path",
    errno.ENAMETOOLONG: "the name is too long for the system; choose a shorter one",
}


class LumbarsegError(Exception):
    """The root of everything this package raises on purpose."""


class FileError(LumbarsegError):
    """A file cannot be read or written."""


class VolumeChoiceError(FileError):
    """A file holds several volumes, and none was chosen."""


class GridError(LumbarsegError):
    """Voxels have no usable place in space."""


class DatasetError(LumbarsegError):
    """A prepared dataset breaks its own rules."""


class ModelError(LumbarsegError):
    """A model file is malformed, or the engine refuses it."""


class SegmentError(LumbarsegError):
    """No lumbar spine can be named in a readable exam."""


class BatchError(LumbarsegError):
    """A batch of exams cannot go on."""


class WorkerDiedError(BatchError):
    """The processes that worked on an item died. cause: how, for example "killed by SIGKILL"."""

    def __init__(self, cause: str) -> None:
        super().__init__(
            f"the processes that worked on it died ({cause}); it may need more memory than there is: run it again with "
            "fewer --jobs"
        )


class PackagingError(LumbarsegError):
    """A pack or a page for other computers cannot be made."""


class ServeError(LumbarsegError):
    """A request to the annotation server is refused, or the server cannot be set up. status: of the HTTP answer."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


def printable_line(text: object) -> str:
    """Return `text` as one line of printable characters."""
    single_line = " ".join(str(text).split())
    return "".join(c if c.isprintable() else "?" for c in single_line)


def describe_system_error(error: OSError) -> str:
    """Return what is wrong and what to do, for the usual errors of files; else the system's words."""
    return _SYSTEM_REASONS.get(error.errno or 0, error.strerror or str(error))


def describe_error(error: BaseException) -> str:
    """Return one line that says what failed: with the file where one is known, and the system's reason."""
    if isinstance(error, MemoryError):
        return "not enough memory for this; close other programs, use fewer --jobs or a smaller exam"
    if isinstance(error, OSError) and error.strerror:
        reason = describe_system_error(error)
        return printable_line(f"{error.filename}: {reason}" if error.filename else reason)
    return printable_line(error)


def describe_bug(error: Exception) -> str:
    """Return one line for an error that is not expected anywhere, with the request to report it."""
    return printable_line(
        f"a fault of this program: {type(error).__name__}: {error}; "
        "please report it with what LUMBARSEG_DEBUG=1 in the environment prints"
    )
