"""Numerics: the device, instruction set, libraries and number of threads that a result was computed with.

Two runs of the same code, params, data and packages agree to the bit if they have the same numerics. A fingerprint, a
hash of the results for fixed inputs, identifies the numerics.
"""

import hashlib
import platform
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from lenet.data.dataset import CLASSES
from lenet.errors import PipelineError
from lenet.metrics import cross_entropy
from lenet.model import LeNet5, predict


def fingerprint(results: Iterable[Tensor]) -> str:
    """Return a hash of the bits of `results`, 16 hexadecimal digits."""
    content = hashlib.sha256()
    for tensor in results:
        content.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()[:16]


def machine(device: torch.device) -> dict[str, str]:
    """Return the device, for a GPU its name and compute capability, and the versions of PyTorch and Python."""
    name = device.type
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        name = f"{torch.cuda.get_device_name(device)}, {major}.{minor}"
    python = ".".join(platform.python_version_tuple()[:2])
    return {"device": name, "torch": torch.__version__, "python": python}


def fixed_images(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return `n` fixed images of noise, uint8 n×1×28×28, and fixed labels, int64 n."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (n, 1, 28, 28), generator=generator, dtype=torch.uint8)
    return images.to(device), (torch.arange(n) % len(CLASSES)).to(device)


def same_twice(compute: Callable[[], str], what: str) -> str:
    """Return the fingerprint that `compute` gives; raise PipelineError (status 1) if it gives another the next time."""
    first, second = compute(), compute()
    if first != second:
        raise PipelineError(
            f"{what} is not deterministic: the same computation gave {first}, and then {second}; look for what the "
            "model or the training step shares between threads, or draws from a generator without a seed",
            status=1,
        )
    return first


def fingerprint_of_evaluation(device: torch.device) -> str:
    """Return the fingerprint of `predict` and `cross_entropy` on `device`.

    Raises PipelineError (status 1) if two evaluations differ.
    """
    images, labels = fixed_images(1003, device)  # two full batches and a short one

    def once() -> str:
        logits = predict(_fixed_model(device), images)
        return fingerprint([logits, logits.double().softmax(1), torch.tensor(cross_entropy(logits, labels))])

    return same_twice(once, "evaluation")


def fingerprint_of_machine(device: torch.device) -> str:
    """Return the fingerprint of the model's logits and gradient on `device`, which depends on no param."""
    images, labels = fixed_images(64, device)
    model = _fixed_model(device)
    logits = model(images)
    gradient = torch.autograd.grad(nn.functional.cross_entropy(logits, labels), list(model.parameters()))
    return fingerprint([logits, *gradient])


def _fixed_model(device: torch.device) -> LeNet5:
    """Return an untrained LeNet-5 with fixed weights, without changing the state of PyTorch's random generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LeNet5(0.1307, 0.3081).to(device).eval()
