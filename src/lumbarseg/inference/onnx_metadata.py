"""The outermost layer of an ONNX file, read without any engine: so a file is refused before one sees it.

An ONNX file is a protocol buffer: fields with a number and a kind. Only the fields of the model itself are read
(onnx.proto3: ModelProto); the graph is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lumbarseg.errors import ModelError

_IR_VERSION, _GRAPH, _OPSETS, _METADATA, _FUNCTIONS = 1, 7, 8, 14, 25
_LOCATION = b"\x0a\x08location"  # first field of an entry that says where a tensor's bytes lie outside


@dataclass(frozen=True)
class OnnxInfo:
    """domains: of the operators; metadata: the file's own entries."""

    domains: frozenset[str]
    metadata: dict[str, str]


def read_onnx_info(data: bytes) -> OnnxInfo:
    """What an ONNX file says about itself; ModelError when it is none, or asks for more than plain operators."""
    try:
        parts = list(_iter_fields(data))
        entries = [dict(_iter_fields(_message_bytes(value))) for number, value in parts if number == _METADATA]
        opsets = [dict(_iter_fields(_message_bytes(value))) for number, value in parts if number == _OPSETS]
        metadata = {_decode_text(entry.get(1)): _decode_text(entry.get(2)) for entry in entries}
        domains = frozenset(_decode_text(opset.get(1)) for opset in opsets)
    except (ValueError, TypeError, IndexError) as error:
        raise ModelError("no ONNX file, or a damaged one; get it again") from error
    numbers = {number for number, _ in parts}
    if not {_IR_VERSION, _GRAPH, _OPSETS} <= numbers:
        raise ModelError("no ONNX file, or a damaged one; get it again")
    strange = sorted(domains - {"", "ai.onnx"})
    if strange or _FUNCTIONS in numbers:
        raise ModelError(f"asks for operators of its own ({', '.join(strange) or 'functions'}), which are never run")
    if _LOCATION in data:
        raise ModelError("keeps weights in other files, which are never read; export it as one file")
    return OnnxInfo(domains, metadata)


def _iter_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field; ValueError or IndexError when the bytes end early or mean nothing."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        number, kind = key >> 3, key & 7
        if number == 0 or kind not in (0, 1, 2, 5):
            raise ValueError("not a field")
        if kind == 0:
            value, at = _read_varint(data, at)
            yield number, value
            continue
        size, at = _read_varint(data, at) if kind == 2 else ((8 if kind == 1 else 4), at)
        if at + size > len(data):
            raise ValueError("cut off")
        yield number, data[at : at + size]
        at += size


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A whole number in groups of seven bits, lowest first, and where it ends."""
    value = 0
    for place in range(10):
        byte = data[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise ValueError("not a number")


def _message_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise TypeError("a number, where a message is meant")
    return value


def _decode_text(value: int | bytes | None) -> str:
    if isinstance(value, int):
        raise TypeError("a number, where text is meant")
    return (value or b"").decode()
