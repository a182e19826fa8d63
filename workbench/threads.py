"""Torch's threads while runs are under way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Threads:
    """Torch's threads while runs, which may overlap, are under way: the fewest that one asks for; at the end what they were."""

    def __init__(self) -> None:
        self.lock, self.asked, self.before = threading.Lock(), [], 0

    def change(self, how: Callable[[int], None], count: int) -> None:
        """Add `count` to what is asked for, or remove it."""
        import torch

        with self.lock:
            if not self.asked:
                self.before = torch.get_num_threads()
            how(count)
            torch.set_num_threads(min(self.asked, default=self.before))


_THREADS = _Threads()


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch's threads inside the block, in this process."""
    _THREADS.change(_THREADS.asked.append, count)
    try:
        yield
    finally:
        _THREADS.change(_THREADS.asked.remove, count)
