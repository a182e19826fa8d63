"""Report the current phase of a computation, such as "loading smollm2-135m", to a listener."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_LISTENER: ContextVar[Callable[[str], None] | None] = ContextVar("workbench_phases", default=None)


def say(phase: str) -> None:
    """Report `phase`, a short text, to the listener of this thread. If there is no listener, do nothing."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(phase)


@contextmanager
def heard(by: Callable[[str], None]) -> Iterator[None]:
    """Call ``by(phase)`` for each phase that this thread reports inside the with block."""
    token = _LISTENER.set(by)
    try:
        yield
    finally:
        _LISTENER.reset(token)
