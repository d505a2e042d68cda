"""Threads that each compute a part of the batch.

PyTorch's own threads share each operation instead, and wait for each other at its end. LeNet-5's operations take
microseconds, so on a busy processor PyTorch's threads would wait nearly all the time.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch


class Threads:
    """A pool of `n` threads, including the calling thread; on a GPU, only the calling thread is used."""

    def __init__(self, n: int, device: torch.device) -> None:
        self.n = n if device.type == "cpu" else 1
        self._others = ThreadPoolExecutor(self.n - 1) if self.n > 1 else None

    def map(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        """Return the results of `function` for the `arguments`, in order, as the built-in `map` does."""
        calls = list(zip(*arguments, strict=False))
        results: list[Any] = [None] * len(calls)

        def work(first: int) -> None:
            for i in range(first, len(calls), self.n):
                results[i] = function(*calls[i])

        others = [self._others.submit(work, first) for first in range(1, self.n)] if self._others else []
        work(0)
        for other in others:
            other.result()
        return results
