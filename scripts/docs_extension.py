"""Extension of griffe for the documentation site: the docstrings of this package describe parameters after the colon.

numpydoc has the type there; here the types are in the signature, so the text becomes the description.
"""

from __future__ import annotations

from typing import Any

from griffe import Docstring, Extension, Module, Object, Parser


class DescriptionsAfterColon(Extension):
    """Move the text after the colon of parameters and attributes from their type to their description."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Change all docstrings of a loaded package."""
        _move_descriptions(pkg)


def _move_descriptions(item: Object) -> None:
    if item.docstring:
        item.docstring.parser = Parser.numpy
        _change(item.docstring, item)
    for member in item.members.values():
        if not member.is_alias:
            _move_descriptions(member)  # type: ignore[arg-type]


def _change(docstring: Docstring, item: Object) -> None:
    members = {name: member for name, member in item.members.items() if not member.is_alias}
    annotations = {name: member.annotation for name, member in members.items() if member.is_attribute}
    if item.is_function:
        annotations = {parameter.name: parameter.annotation for parameter in item.parameters}  # type: ignore[attr-defined]
    for section in docstring.parsed:
        if section.kind.value in ("parameters", "attributes"):
            for row in section.value:
                if row.annotation is not None:
                    row.description = " ".join(filter(None, [str(row.annotation), row.description]))
                    row.annotation = annotations.get(row.name)
