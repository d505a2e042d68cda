"""Train LeNet-5 in JAX, for comparison with `python -m tools.bench gpu`: a whole epoch is one compiled scan.

    python -m tools.dev.jax_scan     print the seconds of four epochs (the first with compilation), as JSON

The recipe is the tutorial's, in float32. JAX is not among this project's packages.
"""

import json
import os
import time
from importlib.util import find_spec
from typing import Any

import numpy as np

from stages.artifacts import mnist
from tools.errors import ToolError, run

BATCH, LR, MOMENTUM = 64, 0.01, 0.5
# The shapes of the weights and their fan-in: C1 and C3, height × width × inputs × outputs; C5, F6 and F7.
LAYERS = [((5, 5, 1, 6), 25), ((5, 5, 6, 16), 150), ((400, 120), 400), ((120, 84), 120), ((84, 10), 84)]


def main() -> None:
    """Train for four epochs."""
    if not find_spec("jax"):
        raise ToolError("JAX is not installed: pip install 'jax[cuda13]'")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave memory to other processes
    import jax
    import jax.numpy as jnp
    from jax import lax

    jax.config.update("jax_default_matmul_precision", "highest")
    digits, rng = mnist.read("train"), np.random.default_rng(0)
    images = ((jnp.asarray(digits.images, jnp.float32) / 255 - 0.1307) / 0.3081)[..., None]
    labels = jnp.asarray(digits.labels, jnp.int32)

    def logits(weights: Any, x: Any) -> Any:
        for (w, b), padding in zip(weights[:2], ("SAME", "VALID"), strict=True):
            x = lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")) + b
            x = lax.reduce_window(jax.nn.relu(x), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = x.reshape(len(x), -1)
        for w, b in weights[2:4]:
            x = jax.nn.relu(x @ w + b)
        return x @ weights[4][0] + weights[4][1]

    def loss(weights: Any, index: Any) -> Any:
        scores = jax.nn.log_softmax(logits(weights, images[index]))
        return -jnp.take_along_axis(scores, labels[index, None], 1).mean()

    def step(state: Any, index: Any) -> Any:
        weights, momentum = state
        value, gradient = jax.value_and_grad(loss)(weights, index)
        momentum = jax.tree.map(lambda m, g: MOMENTUM * m + g, momentum, gradient)
        return (jax.tree.map(lambda w, m: w - LR * m, weights, momentum), momentum), value

    @jax.jit  # type: ignore[untyped-decorator]
    def epoch(state: Any, key: Any) -> Any:
        order = jax.random.permutation(key, len(labels))
        return lax.scan(step, state, order[: len(order) // BATCH * BATCH].reshape(-1, BATCH))

    # Uniform within 1 / √fan-in, as PyTorch draws them.
    weights = [
        tuple(jnp.asarray(rng.uniform(-1, 1, size) / fan_in**0.5, jnp.float32) for size in (shape, shape[-1:]))
        for shape, fan_in in LAYERS
    ]
    state, seconds = (weights, jax.tree.map(jnp.zeros_like, weights)), []
    for number in range(4):
        start = time.perf_counter()
        state, losses = epoch(state, jax.random.key(number))
        losses.block_until_ready()
        seconds.append(time.perf_counter() - start)
    print(json.dumps(seconds))


if __name__ == "__main__":
    run(main)
