"""What is being done before there is anything to show: "loading smollm2-135m", "block 3 of 5"; said to whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_LISTENER: ContextVar[Callable[[str], None] | None] = ContextVar("workbench_phases", default=None)


def say(phase: str) -> None:
    """Say what is being done now, in this thread; without a listener nothing happens."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(phase)


@contextmanager
def heard(by: Callable[[str], None]) -> Iterator[None]:
    """Inside the block ``by(phase)`` hears what is said in this thread."""
    token = _LISTENER.set(by)
    try:
        yield
    finally:
        _LISTENER.reset(token)
