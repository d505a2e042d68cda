import pytest
import torch
from conftest import configured

from lenet.compute import ComputeConfig, prepare
from lenet.errors import PipelineError


@pytest.fixture
def settings_restored():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("default")
    torch.utils.deterministic.fill_uninitialized_memory = True


def test_what_is_not_deterministic_is_refused(settings_restored):
    torch.set_num_threads(3)
    assert prepare(configured(ComputeConfig, "compute", device="cpu", threads=3)) == torch.device("cpu")
    assert torch.get_num_threads() == 1  # each of ours computes alone
    assert torch.backends.cudnn.conv.fp32_precision == torch.backends.cuda.matmul.fp32_precision == "ieee"
    index = torch.tensor([0, 0])  # which of the two values is put there last?
    with pytest.raises(RuntimeError, match="deterministic"):
        torch.zeros(2).put_(index, torch.tensor([1.0, 2.0]))


@pytest.fixture
def gpu(monkeypatch, settings_restored):
    """A machine with a GPU, which `prepare` finds unusable for the reason given."""

    def gpu(reason: str) -> None:
        def ones(*_: int, **__: str) -> None:
            raise torch.OutOfMemoryError(f"{reason}\nadvice")

        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch, "ones", ones)

    return gpu


def test_a_gpu_that_does_not_work_is_not_used(gpu, capsys):
    gpu("CUDA out of memory")
    assert prepare(configured(ComputeConfig, "compute", device="auto")) == torch.device("cpu")
    assert capsys.readouterr().err == "warning: the GPU does not work: CUDA out of memory; using the CPU\n"
    with pytest.raises(
        PipelineError, match=r"^compute\.device is cuda, but the GPU does not work: CUDA out of memory: use"
    ):
        prepare(configured(ComputeConfig, "compute", device="cuda"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_no_gpu(settings_restored):
    with pytest.raises(
        PipelineError, match=r"^compute\.device is cuda, but PyTorch finds no GPU here: use auto or cpu"
    ):
        prepare(configured(ComputeConfig, "compute", device="cuda"))
