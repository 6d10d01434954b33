"""Images and labels that belong together, found by what their paths look like."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from lumbarseg.errors import DatasetError
from lumbarseg.io.dicom import reader
from lumbarseg.io.discovery import IMAGE_SUFFIXES

_PATTERN_FIELD = re.compile(r"\{(\w+)(?::([^{}]+))?\}|(\*\*/)|(\*)|(\?)|(\[[^\]/]+\])")
_INVALID_CHARACTERS = re.compile(r"[^A-Za-z0-9._-]+")
_SUFFIX = "(?:" + "|".join(re.escape(suffix) for suffix in IMAGE_SUFFIXES) + ")"
_MACOS_FOLDER = "__MACOSX"  # what zip files from one system bring along


def find_pairs(source: Path, images: str, labels: str) -> tuple[dict[str, tuple[Path, Path]], list[tuple[str, str]]]:
    """Name to image and labels, and (name, reason) of exams that are not complete.

    images, labels: paths below `source` with {name} in them, which must be the same in both. `*` stands for any text
    and `**/` for any folders; {name:GLOB} says what a name looks like. A pattern without a suffix means any format that
    can be read, of images a folder of DICOM files as well. DatasetError when nothing fits.
    """
    found = {
        "image": _matching_paths(source, images, folders=True),
        "labels": _matching_paths(source, labels, folders=False),
    }
    both = {path for _, path in found["image"]} & {path for _, path in found["labels"]}
    vague = min(("image", images), ("labels", labels), key=lambda part: _literal_length(part[1]))[0]
    found[vague] = [(name, path) for name, path in found[vague] if path not in both]
    if not found["image"] or not found["labels"]:
        missing = images if not found["image"] else labels
        raise DatasetError(f"{source}: holds no file like {missing}; say what they are called: --images and --labels")
    parts = {part: _group_by_name(rows) for part, rows in found.items()}
    pairs, refused = {}, []
    for name in sorted({*parts["image"], *parts["labels"]}):
        reason = _incomplete_reason(parts["image"].get(name, []), parts["labels"].get(name, []), (images, labels), name)
        if reason:
            refused.append((clean_case_name(name), reason))
        else:
            pairs[name] = (parts["image"][name][0], parts["labels"][name][0])
    times = Counter(map(clean_case_name, pairs))
    twins = [name for name in pairs if times[clean_case_name(name)] > 1]
    refused += [
        (clean_case_name(name), f"{pairs.pop(name)[0].name}: two exams under one name; rename one") for name in twins
    ]
    return pairs, refused


def clean_case_name(name: str) -> str:
    """A name with letters, digits, '.', '_' and '-' alone, as a prepared dataset needs it."""
    return _INVALID_CHARACTERS.sub("-", name).lstrip("._-")[:120] or "exam"


def patients_from_names(names: list[str], pattern: str | None) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Name to patient, and (name, reason) of those in which the pattern finds none.

    pattern: a regular expression, whose first group, or all of it, is the patient. Without: what stands before the
    first underscore, or the second where the first part has no digit and is the same in all names.
    """
    if pattern is None:
        first = {name.partition("_")[0] for name in names}
        shared = len(first) == 1 and len(names) > 1 and not re.search(r"\d", next(iter(first)))
        return {name: "_".join(name.split("_")[: 2 if shared else 1]) for name in names}, []
    try:
        searched = {name: re.search(pattern, name) for name in names}
    except re.error as error:
        raise DatasetError(f"--patient {pattern}: no regular expression: {error}") from error
    known = {name: (match[1] if match.re.groups else match[0]) or "" for name, match in searched.items() if match}
    reason = f"no patient in this name by --patient {pattern}; change the pattern, or the name"
    return {n: p for n, p in known.items() if p}, [(clean_case_name(n), reason) for n in names if not known.get(n)]


def walk_paths(source: Path) -> Iterator[str]:
    """Paths of folders and files below `source`, from there on, hidden ones and leftovers of zip files left out."""

    def refuse(error: OSError) -> None:
        raise DatasetError(f"{error.filename}: cannot be read: {error.strerror}") from error

    for place, folders, names in os.walk(source, onerror=refuse):
        folders[:] = sorted(name for name in folders if name[0] != "." and name != _MACOS_FOLDER)
        for name in sorted([*folders, *names]):
            if name[0] != ".":
                yield Path(place, name).relative_to(source).as_posix()


def image_files(image: Path) -> tuple[Path, ...]:
    """The files that reading an image opens: itself, or all in a folder of DICOM files."""
    return tuple(image / path for path in walk_paths(image) if (image / path).is_file()) if image.is_dir() else (image,)


def image_path(first_file: Path) -> Path:
    """What to read of an image whose first file this is: the file, or its folder when it is a slice."""
    return first_file if first_file.name.lower().endswith(IMAGE_SUFFIXES) else first_file.parent


def _matching_paths(source: Path, pattern: str, folders: bool) -> list[tuple[str, Path]]:
    """(name, path) of all files, or folders of DICOM files, that a pattern means."""
    plain = pattern.strip("/").removeprefix("./")
    if "{name" not in plain:
        raise DatasetError(f"{pattern}: says not where an exam's name stands; write {{name}} there")
    suffixed = plain.lower().endswith(IMAGE_SUFFIXES)
    exact = _compile_pattern(plain, "")
    files = exact if suffixed else _compile_pattern(plain, _SUFFIX)
    found = []
    for relative in walk_paths(source):
        path = source / relative
        if match := files.fullmatch(relative):
            if not path.is_dir():
                found.append((match["name"], path))
        elif folders and not suffixed and path.is_dir() and (match := exact.fullmatch(relative)):
            found += [(match["name"], path)] if reader.contains_dicom(path) else []
    return found


def _compile_pattern(pattern: str, suffix: str) -> re.Pattern[str]:
    """A path pattern as a regular expression with the group `name`."""
    text, last, seen = "", 0, set[str]()
    for match in _PATTERN_FIELD.finditer(pattern):
        text += re.escape(pattern[last : match.start()])
        last = match.end()
        field, shape, deep, some, one, choice = match.groups()
        if field in seen:
            text += f"(?P={field})"
        elif field:
            seen.add(field)
            text += f"(?P<{field}>{_glob_pattern(shape) if shape else '[^/]+?'})"
        else:
            text += "(?:[^/]+/)*" if deep else "[^/]*" if some else "[^/]" if one else choice.replace("[!", "[^", 1)
    try:
        return re.compile(text + re.escape(pattern[last:]) + suffix)
    except re.error as error:
        raise DatasetError(f"{pattern}: no pattern of paths: {error}") from error


def _glob_pattern(shape: str) -> str:
    return _compile_pattern(shape, "").pattern


def _literal_length(pattern: str) -> int:
    """How much of a pattern is said letter by letter; of a file that two patterns mean, the longer one has it."""
    return len(_PATTERN_FIELD.sub("", pattern))


def _group_by_name(rows: list[tuple[str, Path]]) -> dict[str, list[Path]]:
    named: dict[str, list[Path]] = {}
    for name, path in rows:
        named.setdefault(name, []).append(path)
    return named


def _incomplete_reason(images: list[Path], labels: list[Path], patterns: tuple[str, str], name: str) -> str:
    """Why an exam cannot be used; "" when there is one image and one label map."""
    for one, other, pattern, what in ((images, labels, patterns[1], "labels"), (labels, images, patterns[0], "image")):
        if not other:
            wanted = re.sub(r"\{name(?::[^{}]+)?\}", name, pattern)
            return (
                f"{one[0].name}: its {what} are missing: {wanted}"
                if what == "labels"
                else (f"{one[0].name}: its image is missing: {wanted}")
            )
    for paths, what in ((images, "images"), (labels, "label maps")):
        if len(paths) > 1:
            return f"{' and '.join(path.name for path in paths)}: {len(paths)} {what} of one exam; keep one"
    return ""
