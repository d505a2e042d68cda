"""Threads that compute side by side, each with a part of the work.

PyTorch's own threads share each operation instead, and wait for one another at its end. LeNet-5's operations take
microseconds, so where other programs use the processor, too, they wait nearly all the time.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch


class Threads:
    """`n` threads, this one among them; on a GPU only this one, for a GPU computes side by side by itself."""

    def __init__(self, n: int, device: torch.device) -> None:
        self.n = n if device.type == "cpu" else 1
        self._others = ThreadPoolExecutor(self.n - 1) if self.n > 1 else None

    def map(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        """Return the results of `function` for the `arguments` in their order, as the built-in `map` does."""
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
