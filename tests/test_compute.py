import pytest
import torch
from conftest import configured

from lenet.compute import ComputeConfig, prepare


@pytest.fixture
def settings_restored():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("default")
    torch.utils.deterministic.fill_uninitialized_memory = True


def test_what_is_not_deterministic_is_refused(settings_restored):
    assert prepare(configured(ComputeConfig, "compute", device="cpu", threads=3)) == torch.device("cpu")
    assert torch.get_num_threads() == 1  # each of ours computes alone
    index = torch.tensor([0, 0])  # which of the two values is put there last?
    with pytest.raises(RuntimeError, match="deterministic"):
        torch.zeros(2).put_(index, torch.tensor([1.0, 2.0]))
