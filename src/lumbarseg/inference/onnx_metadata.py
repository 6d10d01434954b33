"""The metadata of an ONNX file, read without any engine: so a malicious file is refused before an engine loads it.

An ONNX file is a protocol buffer: fields with a number and a wire type. Only the fields of the model itself are read
(onnx.proto3: ModelProto); the graph is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lumbarseg.errors import ModelError

_IR_VERSION, _GRAPH, _OPSETS, _METADATA, _FUNCTIONS = 1, 7, 8, 14, 25
_VARINT, _FIXED_SIZES, _LENGTH_DELIMITED = 0, {1: 8, 5: 4}, 2  # wire types
_LOCATION = b"\x0a\x08location"  # first field of an entry that says where a tensor's bytes lie outside


def read_onnx_metadata(data: bytes) -> dict[str, str]:
    """Return the metadata entries of an ONNX file.

    Raises
    ------
    ModelError
        When it is no ONNX file, uses custom operators, or keeps weights in other files.
    """
    try:
        fields = list(_iter_fields(data))
        entries = [dict(_iter_fields(value)) for number, value in fields if number == _METADATA]
        opsets = [dict(_iter_fields(value)) for number, value in fields if number == _OPSETS]
        metadata = {entry.get(1, b"").decode(): entry.get(2, b"").decode() for entry in entries}
        domains = {opset.get(1, b"").decode() for opset in opsets}
    except (ValueError, TypeError, AttributeError, IndexError) as error:  # the last but one: a number instead of bytes
        raise ModelError("no ONNX file, or a damaged one; download it again") from error
    numbers = {number for number, _ in fields}
    if not {_IR_VERSION, _GRAPH, _OPSETS} <= numbers:
        raise ModelError("no ONNX file, or a damaged one; download it again")
    custom = sorted(domains - {"", "ai.onnx"})
    if custom or _FUNCTIONS in numbers:
        raise ModelError(f"needs custom operators ({', '.join(custom) or 'functions'}), which are never run")
    if _LOCATION in data:
        raise ModelError("keeps weights in other files, which are never read; export it as one file")
    return metadata


def _iter_fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield number and value, int or bytes, of each field; ValueError or IndexError when the bytes are no fields."""
    position = 0
    while position < len(data):
        key, position = _read_varint(data, position)
        number, wire_type = key >> 3, key & 7
        if number == 0 or wire_type not in (_VARINT, _LENGTH_DELIMITED, *_FIXED_SIZES):
            raise ValueError("not a field")
        if wire_type == _VARINT:
            value, position = _read_varint(data, position)
            yield number, value
            continue
        size = _FIXED_SIZES.get(wire_type, 0)
        if wire_type == _LENGTH_DELIMITED:
            size, position = _read_varint(data, position)
        if position + size > len(data):
            raise ValueError("the field is cut off")
        yield number, data[position : position + size]
        position += size


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Read an integer in groups of seven bits, lowest first; return it and the position after it."""
    value = 0
    for group in range(10):
        byte = data[position + group]
        value |= (byte & 127) << 7 * group
        if byte < 128:
            return value, position + group + 1
    raise ValueError("not a number")
