"""Where in a JSON text a value stands, so that an error can name the line."""

from __future__ import annotations

import json
import re

_KEYS = re.compile(r"(\w+)(?:\[(\w+)\])?(?:: (\w+)(?:\[(\w+)\])?)?: ")
_SPACE = re.compile(r"\s*")
_DECODER = json.JSONDecoder()


def located(message: str, text: str) -> str:
    """`message`, which begins with the place of a value ("cases[3]: split: ..."), with that value's line before it."""
    found = _KEYS.match(message)
    keys = [key for key in found.groups() if key] if found else []
    return f"line {line_of(text, keys)}: {message}"


def line_of(text: str, keys: list[str]) -> int:
    """The line, from 1, of the value that `keys` lead to in valid JSON; of the last that is there, where one is not."""
    place = _after_space(text, 0)
    for key in keys:
        inner = _child(text, place, key)
        if inner is None:
            break
        place = inner
    return text.count("\n", 0, place) + 1


def _child(text: str, place: int, key: str) -> int | None:
    """Where the value of `key`, or the item of that number, begins in the object or list that begins at `place`."""
    opening, place = text[place], _after_space(text, place + 1)
    number = 0
    while opening in "{[" and text[place] not in "}]":
        name = str(number)
        if opening == "{":
            name, place = _DECODER.raw_decode(text, place)
            place = _after_space(text, _after_space(text, place) + 1)  # past the colon
        if name == key:
            return place
        place = _after_space(text, _DECODER.raw_decode(text, place)[1])
        if text[place] == ",":
            place = _after_space(text, place + 1)
        number += 1
    return None


def _after_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place
