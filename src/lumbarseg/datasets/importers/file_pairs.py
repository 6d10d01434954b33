"""Images and labels that belong together, found by patterns of their paths."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from lumbarseg.errors import DatasetError
from lumbarseg.io.dicom.files import contains_dicom
from lumbarseg.io.discovery import IMAGE_SUFFIXES

_PATTERN_FIELD = re.compile(r"\{(\w+)(?::([^{}]+))?\}|(\*\*/)|(\*)|(\?)|(\[[^\]/]+\])")
_INVALID_CHARACTERS = re.compile(r"[^A-Za-z0-9._-]+")
_SUFFIX = "(?:" + "|".join(re.escape(suffix) for suffix in IMAGE_SUFFIXES) + ")"
_LABEL_SUFFIX = rf"(?:\.seg\.nrrd|{_SUFFIX})"
_MACOS_FOLDER = "__MACOSX"  # in ZIP files made on macOS

Refusals = list[tuple[str, str]]
"""(name, reason) of exams that cannot be used."""


def find_pairs(
    source: Path, images: str, labels: str, not_found: str = ""
) -> tuple[dict[str, tuple[Path, Path]], Refusals]:
    """Return image and labels by exam name, and the exams that are incomplete; DatasetError when nothing matches.

    Parameters
    ----------
    images, labels : patterns of paths below `source` with {name} in them, which must be the same in both. `*` stands
        for any text, `**/` for any folders, and {name:GLOB} says what a name looks like. A pattern without a suffix
        matches every format that can be read, and for images a folder of DICOM files too.
    not_found : message of the error when nothing matches
    """
    matching = {
        "image": _matching_paths(source, images, with_folders=True),
        "labels": _matching_paths(source, labels, with_folders=False),
    }
    both = {path for _, path in matching["image"]} & {path for _, path in matching["labels"]}
    vaguer = "image" if _literal_length(images) <= _literal_length(labels) else "labels"
    matching[vaguer] = [(name, path) for name, path in matching[vaguer] if path not in both]
    for part, pattern in (("image", images), ("labels", labels)):
        if not matching[part]:
            default = f"holds no file like {pattern}; give their names with --images and --labels"
            raise DatasetError(f"{source}: {not_found or default}")
    image_paths, label_paths = (_group_by_name(matching[part]) for part in ("image", "labels"))
    pairs, refused = {}, []
    for name in sorted({*image_paths, *label_paths}):
        reason = _incomplete_reason(image_paths.get(name, []), label_paths.get(name, []), (images, labels), name)
        if reason:
            refused.append((clean_case_name(name), reason))
        else:
            pairs[name] = (image_paths[name][0], label_paths[name][0])
    counts = Counter(map(clean_case_name, pairs))
    repeated = [name for name in pairs if counts[clean_case_name(name)] > 1]
    reason = "two exams under one name; rename one"
    refused += [(clean_case_name(name), f"{pairs.pop(name)[0].name}: {reason}") for name in repeated]
    return pairs, refused


def clean_case_name(name: str) -> str:
    """Return a name of letters, digits, '.', '_' and '-' only, as a prepared dataset needs it."""
    return _INVALID_CHARACTERS.sub("-", name).lstrip("._-")[:120] or "exam"


def patients_from_names(names: list[str], pattern: str | None) -> tuple[dict[str, str], Refusals]:
    """Return the patient of each name, and the names in which the pattern finds none.

    pattern: a regular expression whose first group, or all of it, is the patient. Without one: the part before the
    first underscore, or before the second where the first part has no digit and is the same in all names.
    """
    if pattern is None:
        first_parts = {name.partition("_")[0] for name in names}
        is_shared = len(first_parts) == 1 and len(names) > 1 and not re.search(r"\d", next(iter(first_parts)))
        return {name: "_".join(name.split("_")[: 2 if is_shared else 1]) for name in names}, []
    try:
        matches = {name: re.search(pattern, name) for name in names}
    except re.error as error:
        raise DatasetError(f"--patient {pattern}: no regular expression: {error}") from error
    patients = {name: match[1 if match.re.groups else 0] for name, match in matches.items() if match}
    reason = f"no patient in this name by --patient {pattern}; change the pattern, or the name"
    unknown = [(clean_case_name(name), reason) for name in names if not patients.get(name)]
    return {name: patient for name, patient in patients.items() if patient}, unknown


def walk_paths(source: Path) -> Iterator[str]:
    """Yield the relative paths of folders and files below `source`, without hidden ones and those of macOS."""

    def refuse(error: OSError) -> None:
        raise DatasetError(f"{error.filename}: cannot be read: {error.strerror}") from error

    for parent, folders, names in os.walk(source, onerror=refuse):
        folders[:] = sorted(name for name in folders if name[0] != "." and name != _MACOS_FOLDER)
        for name in sorted([*folders, *names]):
            if name[0] != ".":
                yield Path(parent, name).relative_to(source).as_posix()


def image_files(image: Path) -> tuple[Path, ...]:
    """Return the files of an image: itself, or all in a folder of DICOM files."""
    return tuple(image / path for path in walk_paths(image) if (image / path).is_file()) if image.is_dir() else (image,)


def image_path(first_file: Path) -> Path:
    """Return the path of the image with this first file: the file, or its folder when it is a DICOM slice."""
    return first_file if first_file.name.lower().endswith(IMAGE_SUFFIXES) else first_file.parent


def _matching_paths(source: Path, pattern: str, with_folders: bool) -> list[tuple[str, Path]]:
    """Return (name, path) of all files, and folders of DICOM files, that match a pattern."""
    pattern = pattern.strip("/").removeprefix("./")
    if "{name" not in pattern:
        raise DatasetError(f"{pattern}: does not say where the name of an exam is; write {{name}} there")
    has_suffix = pattern.lower().endswith(IMAGE_SUFFIXES)
    exact = _compile_pattern(pattern, "")
    file_pattern = exact if has_suffix else _compile_pattern(pattern, _SUFFIX if with_folders else _LABEL_SUFFIX)
    matching = []
    for relative in walk_paths(source):
        path = source / relative
        if match := file_pattern.fullmatch(relative):
            if not path.is_dir():
                matching.append((match["name"], path))
        elif with_folders and not has_suffix and path.is_dir() and (match := exact.fullmatch(relative)):
            matching += [(match["name"], path)] if contains_dicom(path) else []
    return matching


def _compile_pattern(pattern: str, suffix: str) -> re.Pattern[str]:
    """Return a path pattern as a regular expression with the group `name`."""
    text, last, fields = "", 0, set[str]()
    for match in _PATTERN_FIELD.finditer(pattern):
        text += re.escape(pattern[last : match.start()])
        last = match.end()
        field, shape, any_folders, any_text, any_character, choice = match.groups()
        if field in fields:
            text += f"(?P={field})"
        elif field:
            fields.add(field)
            text += f"(?P<{field}>{_compile_pattern(shape, '').pattern if shape else '[^/]+?'})"
        elif any_folders:
            text += "(?:[^/]+/)*"
        else:
            text += "[^/]*" if any_text else "[^/]" if any_character else choice.replace("[!", "[^", 1)
    try:
        return re.compile(text + re.escape(pattern[last:]) + suffix)
    except re.error as error:
        raise DatasetError(f"{pattern}: no pattern of paths: {error}") from error


def _literal_length(pattern: str) -> int:
    """Return the number of literal characters; a file that matches two patterns belongs to the more literal one."""
    return len(_PATTERN_FIELD.sub("", pattern))


def _group_by_name(rows: list[tuple[str, Path]]) -> dict[str, list[Path]]:
    paths: dict[str, list[Path]] = {}
    for name, path in rows:
        paths.setdefault(name, []).append(path)
    return paths


def _incomplete_reason(images: list[Path], labels: list[Path], patterns: tuple[str, str], name: str) -> str:
    """Return why an exam cannot be used; "" when there is one image and one label map."""
    expected = [re.sub(r"\{name(?::[^{}]+)?\}", name, pattern).removeprefix("**/") for pattern in patterns]
    if not labels:
        return f"{images[0].name}: its labels are missing: {expected[1]}"
    if not images:
        return f"{labels[0].name}: its image is missing: {expected[0]}"
    for paths, description in ((images, "images"), (labels, "label maps")):
        if len(paths) > 1:
            return f"{' and '.join(path.name for path in paths)}: {len(paths)} {description} of one exam; keep one"
    return ""
