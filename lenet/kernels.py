"""The gradient of LeNet-5 on a GPU in eight kernels, written in Triton; nothing here runs on a CPU.

PyTorch takes about sixty kernels, most of which take longer to start than to run. Here, a program of a kernel computes
a layer, and whatever follows it, for one image, in float32. No sum depends on the order in which programs run, so equal
inputs give equal bits. The layouts in memory are those of lenet/model.py (weights: channels_last); `d2` is the gradient
of the loss with respect to layer 2, and so on.
"""

# ruff: noqa: N803
import torch
import triton
import triton.language as tl
from torch import Tensor, nn

# The shapes of the parameters of LeNet-5, in the order of its layers.
PARAMETERS = [(6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,), (120, 16, 5, 5), (120,), (84, 120), (84,), (10, 84), (10,)]
SIZES = [torch.Size(shape).numel() for shape in PARAMETERS]
GROUPS = 16  # of images, whose shares of the gradient of a convolution are summed side by side
NAN = tl.constexpr(tl.PropagateNan.ALL)  # as in PyTorch


@triton.jit
def standardise(images, index, warps, mean, std, x, WARPED: tl.constexpr):
    """Distort image `index[b]` as `distort` does, standardise it, and pad it to 32×32."""
    b, p = tl.program_id(0), tl.arange(0, 1024)
    row, column = p // 32 - 2, p % 32 - 2
    inside = (row >= 0) & (row < 28) & (column >= 0) & (column < 28)
    image = images + tl.load(index + b) * 784
    if WARPED:
        u, v, warp = (2 * column + 1) / 28 - 1, (2 * row + 1) / 28 - 1, warps + b * 6
        across = ((tl.load(warp) * u + tl.load(warp + 1) * v + tl.load(warp + 2) + 1) * 28 - 1) / 2
        down = ((tl.load(warp + 3) * u + tl.load(warp + 4) * v + tl.load(warp + 5) + 1) * 28 - 1) / 2
        pixel = tl.zeros([1024], tl.float32)
        for corner in tl.static_range(4):
            i, j = tl.floor(down) + corner // 2, tl.floor(across) + corner % 2
            known = inside & (i >= 0) & (i < 28) & (j >= 0) & (j < 28)
            value = tl.load(image + (i * 28 + j).to(tl.int32), mask=known, other=0).to(tl.float32)
            pixel += (1 - tl.abs(down - i)) * (1 - tl.abs(across - j)) * value
    else:
        pixel = tl.load(image + row * 28 + column, mask=inside, other=0).to(tl.float32)
    tl.store(x + b * 1024 + p, tl.where(inside, (pixel / 255 - tl.load(mean)) / tl.load(std), 0.0))


@triton.jit
def convolve(x, weight, bias, y, choice, C: tl.constexpr, H: tl.constexpr, P: tl.constexpr, P2: tl.constexpr,
             OUT: tl.constexpr, OUT2: tl.constexpr):  # fmt: skip
    """Convolve, pool and rectify the `C` maps of `x`, H×H: `OUT` maps of P×P; `choice` is what pooling has chosen."""
    b, o, p = tl.program_id(0), tl.arange(0, OUT2)[:, None], tl.arange(0, P2)[None, :]
    known, place = p < P * P, x + b * C * H * H + p // P * 2 * H + p % P * 2
    start = tl.zeros([OUT2, P2], tl.float32) + tl.load(bias + o, mask=o < OUT, other=0.0)
    v0, v1, v2, v3 = start, start, start, start  # the four values that a pool chooses from
    for i in range(5):
        for jc in tl.static_range(5 * C):  # unrolled, so that many loads are under way at once
            j, c = jc // C, jc % C
            w = tl.load(weight + (o * 25 + i * 5 + j) * C + c, mask=o < OUT, other=0.0)
            at = place + c * H * H + i * H + j
            v0 += w * tl.load(at, mask=known, other=0.0)
            v1 += w * tl.load(at + 1, mask=known, other=0.0)
            v2 += w * tl.load(at + H, mask=known, other=0.0)
            v3 += w * tl.load(at + H + 1, mask=known, other=0.0)
    best = tl.maximum(tl.maximum(v0, v1, NAN), tl.maximum(v2, v3, NAN), NAN)
    first = tl.where(v0 == best, 0, tl.where(v1 == best, 1, tl.where(v2 == best, 2, 3)))  # of equal ones, as in PyTorch
    to = (b * OUT + o) * P * P + p
    tl.store(y + to, tl.maximum(best, 0.0, NAN), mask=known & (o < OUT))
    tl.store(choice + to, first.to(tl.int8), mask=known & (o < OUT))


@triton.jit
def matrix(weight, ROWS: tl.constexpr, COLUMNS: tl.constexpr, R2: tl.constexpr, first, C2: tl.constexpr):
    """Return `C2` columns of a weight matrix from column `first`, zero where there is none."""
    i, j = tl.arange(0, R2)[:, None], first + tl.arange(0, C2)[None, :]
    return tl.load(weight + i * COLUMNS + j, mask=(i < ROWS) & (j < COLUMNS), other=0.0)


@triton.jit
def head(s4, labels, index, w5, b5, w6, b6, w7, b7, h5, h6, logits, d7, d6, d5, d4, n, smoothing):
    """Compute C5, F6, F7 and the gradient of the loss with respect to all of their inputs and outputs (d4 to d7)."""
    b, j, k = tl.program_id(0), tl.arange(0, 128), tl.arange(0, 16)
    total = tl.zeros([128], tl.float32)
    for first in tl.static_range(0, 512, 128):
        column = first + j  # C5's weights are in channels_last order
        x = tl.load(s4 + b * 400 + column % 16 * 25 + column // 16, mask=column < 400, other=0.0)
        total += tl.sum(matrix(w5, 120, 400, 128, first, 128) * x[None, :], 1)
    x5 = tl.maximum(total + tl.load(b5 + j, mask=j < 120, other=0.0), 0.0, NAN)
    weight6, weight7 = matrix(w6, 84, 120, 128, 0, 128), matrix(w7, 10, 84, 16, 0, 128)
    x6 = tl.sum(weight6 * x5[None, :], 1) + tl.load(b6 + j, mask=j < 84, other=0.0)
    x6 = tl.maximum(x6, 0.0, NAN)
    x7 = tl.sum(weight7 * x6[None, :], 1) + tl.load(b7 + k, mask=k < 10, other=-float("inf"))
    wanted = smoothing / 10 + tl.where(k == tl.load(labels + tl.load(index + b)), 1 - smoothing, 0.0)
    power = tl.exp(x7 - tl.max(x7, 0))
    g7 = tl.where(k < 10, power / tl.sum(power, 0) - wanted, 0.0) / n
    g6 = tl.where(x6 > 0, tl.sum(weight7 * g7[:, None], 0), 0.0)
    g5 = tl.where(x5 > 0, tl.sum(weight6 * g6[:, None], 0), 0.0)
    tl.store(h5 + b * 120 + j, x5, mask=j < 120)
    tl.store(h6 + b * 84 + j, x6, mask=j < 84)
    tl.store(logits + b * 10 + k, x7, mask=k < 10)
    tl.store(d7 + b * 10 + k, g7, mask=k < 10)
    tl.store(d6 + b * 84 + j, g6, mask=j < 84)
    tl.store(d5 + b * 120 + j, g5, mask=j < 120)
    for first in tl.static_range(0, 512, 128):
        column = first + j  # C5's weights are in channels_last order
        x = tl.load(s4 + b * 400 + column % 16 * 25 + column // 16, mask=column < 400, other=0.0)
        g4 = tl.sum(matrix(w5, 120, 400, 128, first, 128) * g5[:, None], 0)
        to = d4 + b * 400 + column % 16 * 25 + column // 16
        tl.store(to, tl.where(x > 0, g4, 0.0), mask=column < 400)


@triton.jit
def backward_input(d4, choice, weight, s2, d2, P2: tl.constexpr):
    """Compute the gradient with respect to C3's input before ReLU, `d2`, from that of its pooled output, `d4`."""
    b, c = tl.program_id(0), tl.arange(0, 8)[:, None]
    p = tl.program_id(1) * P2 + tl.arange(0, P2)[None, :]
    total = tl.zeros([8, P2], tl.float32)
    for tap in range(25):
        i, j = p // 14 - tap // 5, p % 14 - tap % 5
        known = (p < 196) & (i >= 0) & (i < 10) & (j >= 0) & (j < 10)
        pooled, corner = b * 400 + i // 2 * 5 + j // 2, i % 2 * 2 + j % 2
        for o in tl.static_range(16):
            chosen = tl.load(choice + pooled + o * 25, mask=known, other=0) == corner
            w = tl.load(weight + (o * 25 + tap) * 6 + c, mask=c < 6, other=0.0)
            total += w * tl.where(chosen, tl.load(d4 + pooled + o * 25, mask=known, other=0.0), 0.0)
    to, kept = b * 1176 + c * 196 + p, (p < 196) & (c < 6)
    tl.store(d2 + to, tl.where(tl.load(s2 + to, mask=kept, other=0.0) > 0, total, 0.0), mask=kept)


@triton.jit
def backward_weight(x, d, choice, shares, n, C: tl.constexpr, H: tl.constexpr, P: tl.constexpr, P2: tl.constexpr,
                    OUT: tl.constexpr, T2: tl.constexpr):  # fmt: skip
    """Compute a group's share of the gradient of channel `o`: of the weights of a convolution, and then of its bias."""
    o, group, p, t = tl.program_id(0), tl.program_id(1), tl.arange(0, P2), tl.arange(0, T2)[None, :]
    total, known, groups = tl.zeros([P2, T2], tl.float32), p < P * P, tl.num_programs(1)
    for b in range(group, n, groups):
        at = (b * OUT + o) * P * P + p
        gradient = tl.load(d + at, mask=known, other=0.0)
        chosen = tl.load(choice + at, mask=known, other=0).to(tl.int32)
        place = (p // P * 2 + chosen // 2) * H + p % P * 2 + chosen % 2
        seen = x + b * C * H * H + place[:, None] + t % C * H * H + t // C // 5 * H + t // C % 5
        total += gradient[:, None] * tl.load(seen, mask=known[:, None] & (t < 25 * C), other=1.0)  # 1: for the bias
    to = shares + (group * OUT + o) * (25 * C + 1) + tl.arange(0, T2)
    tl.store(to, tl.sum(total, 0), mask=tl.arange(0, T2) <= 25 * C)


@triton.jit
def sums(s4, h5, h6, d5, d6, d7, shares1, shares3, gradient, n, groups):
    """Add up what each image, or group of images, contributes to the gradient of a row of weights and of its bias."""
    row, k = tl.program_id(0), tl.arange(0, 512)
    if row < 120:
        x, d, inputs, rows, o, first = s4, d5, 400, 120, row, 2572
    elif row < 204:
        x, d, inputs, rows, o, first = h5, d6, 120, 84, row - 120, 50692
    elif row < 214:
        x, d, inputs, rows, o, first = h6, d7, 84, 10, row - 204, 60856
    elif row < 220:
        x, d, inputs, rows, o, first = shares1, shares1, 25, 6, row - 214, 0
    else:
        x, d, inputs, rows, o, first = shares3, shares3, 150, 16, row - 220, 156
    product = row < 214  # of d and x; the shares of a convolution, which end with that of its bias, are only added
    count, width = tl.where(product, n, groups), tl.where(product, inputs, inputs + 1)
    x, stride = x + tl.where(product, 0, o * width), tl.where(product, width, rows * width)
    total = tl.zeros([16, 512], tl.float32)
    for start in range(0, count, 16):
        b = start + tl.arange(0, 16)
        factor = tl.load(d + b * rows + o, mask=product & (b < count), other=0.0)
        factor = tl.where(product | (b >= count), factor, 1.0)
        known = (b < count)[:, None] & (k < width)[None, :]
        total += factor[:, None] * tl.load(x + b[:, None] * stride + k[None, :], mask=known, other=1.0)  # 1: as above
    column = tl.where(row < 120, k % 25 * 16 + k // 25, k)  # C5's weights are in channels_last order
    to = first + tl.where(k < inputs, o * inputs + column, rows * inputs + o)
    tl.store(gradient + to, tl.sum(total, 0), mask=k <= inputs)


class Gradient:
    """Computes what `Steps.gradient` computes, for LeNet-5 on a GPU."""

    def __init__(self, model: nn.Module, images: Tensor, labels: Tensor, label_smoothing: float) -> None:
        self.weights, self.buffers = list(model.parameters()), list(model.buffers())
        self.images, self.labels, self.label_smoothing = images, labels, label_smoothing

    def __call__(self, index: Tensor, warps: Tensor | None, batch_size: int) -> tuple[Tensor, list[Tensor]]:
        """Return the logits and the gradients, as `Steps.gradient` does."""
        n, device = len(index), index.device
        (w1, b1, w3, b3, w5, b5, w6, b6, w7, b7), (mean, std) = self.weights, self.buffers
        sizes = (1024, 1176, 400, 120, 84, 10, 10, 84, 120, 400, 1176)
        x, s2, s4, h5, h6, logits, d7, d6, d5, d4, d2 = (torch.empty(n, size, device=device) for size in sizes)
        choice2, choice4 = (torch.empty(n, size, device=device, dtype=torch.int8) for size in (1176, 400))
        shares1, shares3 = (torch.empty(GROUPS, size, device=device) for size in (6 * 26, 16 * 151))
        gradient = torch.empty(sum(SIZES), device=device)
        standardise[n,](self.images, index, index if warps is None else warps, mean, std, x, WARPED=warps is not None)
        convolve[n,](x, w1, b1, s2, choice2, 1, 32, 14, 256, 6, 8, num_warps=8)
        convolve[n,](s2, w3, b3, s4, choice4, 6, 14, 5, 32, 16, 16)
        head[n,](s4, self.labels, index, w5, b5, w6, b6, w7, b7, h5, h6, logits, d7, d6, d5, d4,
                 batch_size, self.label_smoothing)  # fmt: skip
        backward_input[n, 7](d4, choice4, w3, s2, d2, P2=32, num_warps=1)
        backward_weight[6, GROUPS](x, d2, choice2, shares1, n, 1, 32, 14, 256, 6, 32)
        backward_weight[16, GROUPS](s2, d4, choice4, shares3, n, 6, 14, 5, 32, 16, 256)
        sums[236,](s4, h5, h6, d5, d6, d7, shares1, shares3, gradient, n, GROUPS, num_warps=8)
        pairs = zip(gradient.split(SIZES), self.weights, strict=True)
        return logits, [part.as_strided(w.shape, w.stride(), part.storage_offset()) for part, w in pairs]
