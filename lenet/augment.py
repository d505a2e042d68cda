"""Small random distortions, so that the network never sees the same digit twice."""

import math
from typing import Annotated

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from torch import Tensor

from lenet.config import Config

_KNOTS = 7  # across and down, from edge to edge of the image: the elastic displacements are drawn there


class AugmentConfig(Config):
    """The section `train.augment` of params.yaml: the size of the distortions of each kind, zero for none."""

    rotation: Annotated[float, Field(ge=0, le=180)]
    shift: Annotated[float, Field(ge=0, le=14)]
    scale: Annotated[float, Field(ge=0, lt=1)]
    shear: Annotated[float, Field(ge=0, le=1)]
    elastic: Annotated[float, Field(ge=0, le=14)]

    @property
    def enabled(self) -> bool:
        """Whether anything is distorted at all."""
        return any((self.rotation, self.shift, self.scale, self.shear, self.elastic))


def random_warps(n: int, size: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Draw `n` warps for images of `size`×`size` pixels; return them as float32, n×2×52, for `distort`.

    A warp says where each pixel of the result comes from: its two rows are the coordinates x and y in the source, from
    -1 to 1 across the image, each a sum of the functions that `warp_basis` returns, with these weights. The first three
    are an affine map, which rotates, scales and shears about the centre and then shifts, by amounts uniform in ± the
    config's. The others are displacements at knots, normally distributed with a standard deviation of `elastic` pixels:
    smooth random fields, as in Simard, Steinkraus and Platt, "Best Practices for Convolutional Neural Networks" (2003).
    """
    angle, scale, shear, *shift = (2 * torch.rand(5, n, generator=generator) - 1).unbind()
    angle = angle * math.radians(config.rotation)
    scale = 1 + scale * config.scale
    shear = shear * config.shear
    cos, sin = angle.cos() * scale, angle.sin() * scale
    dx, dy = (amount * config.shift * 2 / size for amount in shift)
    columns = [cos, cos * shear - sin, dx, sin, sin * shear + cos, dy]  # rotation · scale · [[1, shear], [0, 1]], shift
    warps = torch.empty(n, 2, 3 + _KNOTS**2)
    warps[:, :, :3] = torch.stack(columns, dim=1).view(n, 2, 3)
    bends = torch.randn(n, 2, _KNOTS**2, generator=generator)
    torch.mul(bends, config.elastic * 2 / size, out=warps[:, :, 3:])
    return warps


def warp_basis(size: int) -> Tensor:
    """Return the functions that make up a warp, at each pixel of an image of `size`×`size`: float32, 52×size².

    They are x, y, 1, and for each of 7×7 knots the smooth bump (by bicubic interpolation) that is 1 there and 0 at the
    other knots.
    """
    centres = (2 * torch.arange(size) + 1) / size - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    unit = torch.eye(_KNOTS**2).view(-1, 1, _KNOTS, _KNOTS)
    bumps = F.interpolate(unit, (size, size), mode="bicubic", align_corners=True)
    return torch.cat([torch.stack([x, y, torch.ones_like(x)]), bumps[:, 0]]).flatten(1)


def distort(images: Tensor, warps: Tensor, basis: Tensor) -> Tensor:
    """Return `images` (N×1×H×W, pixels from 0 to 255) distorted by `warps` (N×2×52): float32 of the same shape.

    `basis` is `warp_basis(H)`. Bilinear; what comes from outside the image is black (0).
    """
    n, _, height, width = images.shape
    grid = (warps @ basis).view(n, 2, height, width).permute(0, 2, 3, 1)
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
