"""The interface of all executors, and the one that needs no other process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def raise_failure(_: Any, error: Exception) -> Any:
    """Raise the error of an item: what executors do where no other `on_failure` is given."""
    raise error


class Executor(Protocol):
    """Applies a function to items."""

    def map(
        self, function: Callable[[T], R], items: Iterable[T], on_failure: Callable[[T, Exception], R] = raise_failure
    ) -> Iterator[R]:
        """Yield the result of `function` for each item; items are taken only shortly before they are worked on.

        Parameters
        ----------
        function : picklable where other processes call it
        on_failure : called with an item and its error, also `WorkerDiedError`; returns the result of that item
        """
        ...


class SerialExecutor:
    """Works on one item after the other, in this process."""

    def map(
        self, function: Callable[[T], R], items: Iterable[T], on_failure: Callable[[T, Exception], R] = raise_failure
    ) -> Iterator[R]:
        """Yield the results in the order of the items."""
        for item in items:
            try:
                result = function(item)
            except Exception as error:
                result = on_failure(item, error)
            yield result
