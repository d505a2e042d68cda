"""Data augmentation: small random affine distortions."""

import math
from typing import Annotated

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from torch import Tensor

from lenet.config import Config


class AugmentConfig(Config):
    """The section `train.augment` of params.yaml: the largest distortion of each kind, or 0 for none."""

    rotation: Annotated[float, Field(ge=0, le=180)]
    shift: Annotated[float, Field(ge=0, le=14)]
    scale: Annotated[float, Field(ge=0, lt=1)]
    shear: Annotated[float, Field(ge=0, le=1)]

    @property
    def enabled(self) -> bool:
        """Whether images are distorted at all."""
        return any((self.rotation, self.shift, self.scale, self.shear))


def random_warps(n: int, size: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Draw `n` affine maps for images of `size`×`size` pixels: float32 n×2×3.

    A map takes the coordinates of a pixel of the distorted image (see `coordinates`) to those in the original. It
    rotates, scales and shears about the centre and then shifts, by random amounts up to those in `config`.
    """
    angle, scale, shear, *shift = (2 * torch.rand(5, n, generator=generator) - 1).unbind()
    angle = angle * math.radians(config.rotation)
    scale = 1 + scale * config.scale
    shear = shear * config.shear
    cos, sin = angle.cos() * scale, angle.sin() * scale
    dx, dy = (amount * config.shift * 2 / size for amount in shift)
    columns = [cos, cos * shear - sin, dx, sin, sin * shear + cos, dy]  # rotation · scale · [[1, shear], [0, 1]], shift
    return torch.stack(columns, dim=1).view(n, 2, 3)


def coordinates(size: int) -> Tensor:
    """Return the homogeneous coordinates x, y, 1 of the pixel centres of a `size`×`size` image: float32 3×size².

    x and y range from -1 to 1 between the edges of the image.
    """
    centres = (2 * torch.arange(size) + 1) / size - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)]).flatten(1)


def distort(images: Tensor, warps: Tensor, pixels: Tensor) -> Tensor:
    """Return `images` (N×1×H×H, values from 0 to 255) distorted by `warps` (N×2×3): float32 of the same shape.

    `pixels` is `coordinates(H)`. Interpolation is bilinear, and everything outside the image is 0.
    """
    n, _, height, width = images.shape
    # The same as PyTorch's affine_grid, which is slower: it multiplies image by image.
    grid = (warps @ pixels).view(n, 2, height, width).permute(0, 2, 3, 1)
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
