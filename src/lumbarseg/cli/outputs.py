"""What an answer can be written as: one table, and the files that an exam's answer becomes.

A new form is one row of FORMS: its suffix, the function that writes it, and, where not every exam can be written so,
the one that refuses an exam before it is segmented.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import values

if TYPE_CHECKING:
    from lumbarseg.files import Exam
    from lumbarseg.files.derived import Maker

    from .answers import Answer


def _any(_: Exam) -> None:
    """Every exam can be written so."""


@dataclass(frozen=True)
class Form:
    """One thing to write. suffix: behind the exam's name; write(given, exam, path): whole or not at all.

    check(exam): LumbarsegError where this exam cannot be written so, asked before it is segmented. given.labels are in
    the package's own values, posterior elements as asked for. exam.path: where the exam was read from. needs: forms
    without which it is of no use; they are written, too.
    """

    suffix: str
    write: Callable[[Answer, Exam, Path], None]
    check: Callable[[Exam], None] = _any
    needs: tuple[str, ...] = ()


def _nifti(given: Answer, _: Exam, path: Path) -> None:
    from lumbarseg.files import write_labels

    write_labels(values.encoded(given), path, values.table(given.wish.scheme, given.wish.parts))


def _segnrrd(given: Answer, _: Exam, path: Path) -> None:
    from lumbarseg.files import segnrrd

    segnrrd.write(values.encoded(given), values.segments(given), path)


def _itksnap(given: Answer, _: Exam, path: Path) -> None:
    from lumbarseg.files import itksnap

    rows = values.table(given.wish.scheme, given.wish.parts)
    itksnap.write([(row.label, row.name, row.colour) for row in rows], path)


def _dicomseg(kind: str) -> Callable[[Answer, Exam, Path], None]:
    def write(given: Answer, exam: Exam, path: Path) -> None:
        from lumbarseg.files import dicomseg

        dicomseg.write(given.labels, values.own_segments(given), exam.source, _maker(given), path, kind)

    return write


def _dicomsr(given: Answer, _: Exam, path: Path) -> None:
    from lumbarseg.files import dicomseg, dicomsr

    segmentation = path.with_name(path.name.removesuffix(dicomsr.SUFFIX) + dicomseg.SUFFIX)
    sizes = dicomsr.Sizes(values.sizes(given, dicomsr.QUANTITIES), given.facts["lordosis_l1_s1_deg"])
    dicomsr.write(sizes, segmentation, _maker(given), path)


def _source(exam: Exam) -> None:
    from lumbarseg.files import derived

    derived.check(exam.path, exam.source)


def _maker(given: Answer) -> Maker:
    from lumbarseg.files.derived import Maker

    wish, model = given.wish, given.facts["model"]
    guided = bool(wish.lowest or wish.pins or wish.clicks)
    return Maker(given.facts["program"]["version"], model["name"], model["digest"], guided)


def _report(given: Answer, _: Exam, path: Path) -> None:
    from lumbarseg.files import replacing

    with replacing(path) as file:
        file.write((json.dumps(given.facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def _picture(given: Answer, _: Exam, path: Path) -> None:
    from lumbarseg.files import replacing

    with replacing(path) as file:
        file.write(given.picture)


FORMS: dict[str, Form] = {
    "nifti": Form("_labels.nii.gz", _nifti),
    "seg-nrrd": Form(".seg.nrrd", _segnrrd),
    "itksnap": Form("_labels.txt", _itksnap, needs=("nifti",)),
    "dicom-seg": Form(".seg.dcm", _dicomseg("BINARY"), _source),
    "dicom-labelmap": Form(".labelmap.dcm", _dicomseg("LABELMAP"), _source),
    "dicom-sr": Form(".sr.dcm", _dicomsr, _source, needs=("dicom-seg",)),
}
"""Forms of the label map by name; the first one is written where none is asked for."""
DEFAULT = (next(iter(FORMS)),)
_ALWAYS = {"report": Form("_report.json", _report), "picture": Form(".png", _picture)}
_LABELS = {"labels": FORMS["nifti"]}  # the name that programs know it by


def formats(text: str) -> tuple[str, ...]:
    """ "nifti,seg-nrrd": names of forms, each once."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    unknown = [name for name in names if name not in FORMS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no form of an answer; choose among {', '.join(FORMS)}")
    return names


def asked(args: argparse.Namespace) -> tuple[str, ...]:
    """The forms that a command line asks for."""
    names = [name for names in args.format for name in names]
    names += ["dicom-seg"] if args.store else []
    return tuple(dict.fromkeys(form for name in names for form in (*FORMS[name].needs, name))) or DEFAULT


def paths(folder: Path, stem: str, forms: Iterable[str] = DEFAULT) -> dict[str, Path]:
    """The files that an exam's answer becomes, by what they are: "labels" (NIfTI), other forms, "report", "picture"."""
    named = {"labels" if name == "nifti" else name: FORMS[name] for name in forms} | _ALWAYS
    return {name: folder / f"{stem}{form.suffix}" for name, form in named.items()}


def check(exam: Exam, files: Iterable[str]) -> None:
    """LumbarsegError where an exam cannot be written as one of `files`."""
    for form in _forms(files):
        form.check(exam)


def write(given: Answer, exam: Exam, files: dict[str, Path]) -> None:
    """Write an answer's files, each whole or not at all."""
    for form, path in zip(_forms(files), files.values(), strict=True):
        form.write(given, exam, path)


def _forms(files: Iterable[str]) -> Sequence[Form]:
    table = FORMS | _LABELS | _ALWAYS
    return [table[name] for name in files]
