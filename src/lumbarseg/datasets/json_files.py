"""JSON files, and line numbers of values in them, for error messages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from lumbarseg.errors import DatasetError

_KEY_PATH = re.compile(r"(\w+)(?:\[(\w+)\])?(?:: (\w+)(?:\[(\w+)\])?)?: ")
_SPACE = re.compile(r"\s*")
_DECODER = json.JSONDecoder()


def read_json_object(path: Path, hint: str = "check the path") -> tuple[str, dict[str, Any]]:
    """Return the text of a JSON file and the object in it; DatasetError, with `hint` where the file is missing."""
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text)
    except FileNotFoundError:
        raise DatasetError(f"{path}: not found; {hint}") from None
    except json.JSONDecodeError as error:
        reason = f"line {error.lineno}, column {error.colno}: not JSON: {error.msg}"
        raise DatasetError(f"{path}: {reason}; is another program writing it?") from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise DatasetError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(values, dict):
        raise DatasetError(f"{path}: must hold one JSON object")
    return text, values


def with_line_number(message: str, text: str) -> str:
    """Return a message that starts with the keys of a value ("cases[3]: split: ...") after that value's line number."""
    match = _KEY_PATH.match(message)
    keys = [key for key in match.groups() if key] if match else []
    return f"line {find_line(text, keys)}: {message}"


def find_line(text: str, keys: list[str]) -> int:
    """Return the line, from 1, of the value that `keys` lead to in valid JSON; of the last value that exists."""
    position = _skip_whitespace(text, 0)
    for key in keys:
        child = _find_child(text, position, key)
        if child is None:
            break
        position = child
    return text.count("\n", 0, position) + 1


def _find_child(text: str, position: int, key: str) -> int | None:
    """Return where the value of `key`, or the item of that number, starts in the object or list at `position`."""
    opening, position = text[position], _skip_whitespace(text, position + 1)
    index = 0
    while opening in "{[" and text[position] not in "}]":
        name = str(index)
        if opening == "{":
            name, position = _DECODER.raw_decode(text, position)
            position = _skip_whitespace(text, _skip_whitespace(text, position) + 1)  # past the colon
        if name == key:
            return position
        position = _skip_whitespace(text, _DECODER.raw_decode(text, position)[1])
        if text[position] == ",":
            position = _skip_whitespace(text, position + 1)
        index += 1
    return None


def _skip_whitespace(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position
