"""Where in a JSON text a value stands, so that an error can name the line."""

from __future__ import annotations

import json
import re

_KEY_PATH = re.compile(r"(\w+)(?:\[(\w+)\])?(?:: (\w+)(?:\[(\w+)\])?)?: ")
_SPACE = re.compile(r"\s*")
_DECODER = json.JSONDecoder()


def with_line_number(message: str, text: str) -> str:
    """`message`, which begins with the place of a value ("cases[3]: split: ..."), with that value's line before it."""
    found = _KEY_PATH.match(message)
    keys = [key for key in found.groups() if key] if found else []
    return f"line {find_line(text, keys)}: {message}"


def find_line(text: str, keys: list[str]) -> int:
    """The line, from 1, of the value that `keys` lead to in valid JSON; of the last that is there, where one is not."""
    place = _skip_whitespace(text, 0)
    for key in keys:
        inner = _find_child(text, place, key)
        if inner is None:
            break
        place = inner
    return text.count("\n", 0, place) + 1


def _find_child(text: str, position: int, key: str) -> int | None:
    """Where the value of `key`, or the item of that number, begins in the object or list that begins at `place`."""
    opening, position = text[position], _skip_whitespace(text, position + 1)
    number = 0
    while opening in "{[" and text[position] not in "}]":
        name = str(number)
        if opening == "{":
            name, position = _DECODER.raw_decode(text, position)
            position = _skip_whitespace(text, _skip_whitespace(text, position) + 1)  # past the colon
        if name == key:
            return position
        position = _skip_whitespace(text, _DECODER.raw_decode(text, position)[1])
        if text[position] == ",":
            position = _skip_whitespace(text, position + 1)
        number += 1
    return None


def _skip_whitespace(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position
