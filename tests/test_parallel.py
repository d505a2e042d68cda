import threading
from itertools import repeat

import pytest
import torch

from lenet.parallel import Threads

CPU = torch.device("cpu")


@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_results_stand_in_the_order_of_the_calls(n):
    assert Threads(n, CPU).map(pow, range(7), repeat(2)) == [0, 1, 4, 9, 16, 25, 36]
    assert Threads(n, CPU).map(pow, [], repeat(2)) == []


def test_threads_run_side_by_side():
    all_there = threading.Barrier(3)
    assert sorted(Threads(3, CPU).map(lambda _: all_there.wait(timeout=60), range(6))) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_one_thread_is_this_one(device):
    """For a GPU, there is no more than one: what it captures as a graph must come from one thread."""
    threads = Threads(1 if device == "cpu" else 4, torch.device(device))
    assert threads.map(lambda _: threading.get_ident(), "ab") == [threading.get_ident()] * 2


def test_an_error_in_any_thread_is_raised():
    def fail_at(call: int, failing: int) -> int:
        if call == failing:
            raise ValueError(call)
        return call

    threads = Threads(3, CPU)
    for failing in range(3):
        with pytest.raises(ValueError, match=str(failing)):
            threads.map(fail_at, range(3), repeat(failing))
    assert threads.map(fail_at, range(3), repeat(3)) == [0, 1, 2]
