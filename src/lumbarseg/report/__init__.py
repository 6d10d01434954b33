"""One result told three ways: facts for programs, a picture, a page."""

from .facts import About, facts

__all__ = ["About", "facts"]
