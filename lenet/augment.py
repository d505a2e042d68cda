"""Small random distortions, so that the network never sees the same digit twice."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lenet.config import Range


@dataclass(frozen=True)
class AugmentConfig:
    """The section `train.augment` of params.yaml: the largest distortion of each kind, zero for none."""

    rotation: Annotated[float, Range(least=0, most=180)]
    shift: Annotated[float, Range(least=0, most=14)]
    scale: Annotated[float, Range(least=0, below=1)]
    shear: Annotated[float, Range(least=0, most=1)]

    @property
    def enabled(self) -> bool:
        """Whether anything is distorted at all."""
        return any((self.rotation, self.shift, self.scale, self.shear))


def random_maps(n: int, size: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Draw `n` affine maps for images of `size`×`size` pixels; return them as float32, n×2×3, for `distort`.

    Each rotates, scales and shears about the centre and then shifts, by amounts uniform in ± the config's. An image's
    maps lead from a place in the result to the place in the source, in units in which the image spans -1 to 1.
    """
    angle, scale, shear, *shift = (2 * torch.rand(5, n, generator=generator) - 1).unbind()
    angle = angle * math.radians(config.rotation)
    scale = 1 + scale * config.scale
    shear = shear * config.shear
    cos, sin = angle.cos() * scale, angle.sin() * scale
    columns = [cos, cos * shear - sin, sin, sin * shear + cos]  # rotation · scale · [[1, shear], [0, 1]]
    dx, dy = (amount * config.shift * 2 / size for amount in shift)
    return torch.stack([columns[0], columns[1], dx, columns[2], columns[3], dy], dim=1).view(n, 2, 3)


def distort(images: Tensor, maps: Tensor) -> Tensor:
    """Return `images` (N×1×H×W, pixels from 0 to 255) distorted by `maps` (N×2×3): float32 of the same shape.

    Bilinear; what comes from outside the image is black (0).
    """
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
