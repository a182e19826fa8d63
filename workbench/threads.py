"""Set the number of PyTorch threads during runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Threads:
    """The number of PyTorch threads during runs that may overlap in time.

    The smallest number that any current run requests is used. When no run is left, the number from before the first run is
    restored.
    """

    def __init__(self) -> None:
        self.lock, self.asked, self.before = threading.Lock(), [], 0

    def change(self, how: Callable[[int], None], count: int) -> None:
        """Call ``how(count)``, which adds or removes a request for `count` threads, and update the number of threads."""
        import torch

        with self.lock:
            if not self.asked:
                self.before = torch.get_num_threads()
            how(count)
            torch.set_num_threads(min(self.asked, default=self.before))


_THREADS = _Threads()


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Request `count` PyTorch threads inside the with block. The setting applies to the whole process; see `_Threads`."""
    _THREADS.change(_THREADS.asked.append, count)
    try:
        yield
    finally:
        _THREADS.change(_THREADS.asked.remove, count)
