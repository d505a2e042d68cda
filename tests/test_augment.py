import pytest
import torch
from conftest import configured

from lenet.augment import AugmentConfig, coordinates, distort, random_warps

NONE = {"rotation": 0, "shift": 0, "scale": 0, "shear": 0}
PIXELS = coordinates(28)
IDENTITY = torch.eye(2, 3)


@pytest.fixture
def image() -> torch.Tensor:
    """A dot, right of the centre and above it."""
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[0, 0, 8:12, 18:22] = 255
    return image


def draw(n: int = 1000, **changes: float) -> torch.Tensor:
    config = configured(AugmentConfig, "train.augment", **NONE | changes)
    return random_warps(n, 28, config, torch.Generator().manual_seed(0))


def test_no_distortion_is_the_identity(image):
    assert not configured(AugmentConfig, "train.augment", **NONE).enabled
    warps = draw()
    torch.testing.assert_close(warps, IDENTITY.expand(1000, 2, 3))
    torch.testing.assert_close(distort(image, warps[:1], PIXELS), image.float(), rtol=0, atol=1e-3)


def test_a_shift_by_whole_pixels_moves_the_image(image):
    warp = IDENTITY.clone()
    warp[0, 2] = 3 * 2 / 28  # the source of each pixel lies 3 pixels to its right
    torch.testing.assert_close(distort(image, warp[None], PIXELS), image.roll(-3, 3).float(), rtol=0, atol=1e-3)


def test_half_a_pixel_between_two_is_their_mean(image):
    warp = IDENTITY.clone()
    warp[0, 2] = 2.5 * 2 / 28
    mean = (image.roll(-2, 3).float() + image.roll(-3, 3)) / 2
    torch.testing.assert_close(distort(image, warp[None], PIXELS), mean, rtol=0, atol=1e-3)


def test_what_comes_in_from_outside_is_paper():
    warp = IDENTITY.clone()
    warp[1, 2] = -3 * 2 / 28  # the source of each pixel lies 3 pixels above it
    image = torch.full((1, 1, 28, 28), 255, dtype=torch.uint8)
    expected = image.float()
    expected[:, :, :3] = 0
    torch.testing.assert_close(distort(image, warp[None], PIXELS), expected, rtol=0, atol=1e-3)


def test_the_map_is_pytorchs():
    warps = draw(8, rotation=45, shift=3, scale=0.2, shear=0.3)
    expected = torch.nn.functional.affine_grid(warps, [8, 1, 28, 28], align_corners=False)
    grid = (warps @ PIXELS).view(8, 2, 28, 28).permute(0, 2, 3, 1)
    torch.testing.assert_close(grid, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "amount", "measure", "largest"),
    [
        ("shift", 2, lambda warps: warps[:, :, 2].abs(), 2 * 2 / 28),
        ("rotation", 10, lambda warps: torch.atan2(warps[:, 1, 0], warps[:, 0, 0]).abs().rad2deg(), 10),
        ("scale", 0.1, lambda warps: (torch.det(warps[:, :, :2]).sqrt() - 1).abs(), 0.1),
        ("shear", 0.3, lambda warps: warps[:, 0, 1].abs(), 0.3),
    ],
)
def test_the_amounts_fill_their_range(kind, amount, measure, largest):
    amounts = measure(draw(**{kind: amount}))
    assert 0.98 * largest < amounts.max() <= largest * 1.001
    assert amounts.mean() == pytest.approx(largest / 2, rel=0.1)  # uniform


def test_rotation_keeps_areas_and_angles():
    linear = draw(rotation=45)[:, :, :2]
    torch.testing.assert_close(linear @ linear.mT, torch.eye(2).expand(1000, 2, 2))


def test_a_map_rotates_scales_and_shears_by_amounts_of_their_own():
    """The matrix is a rotation times an upper triangular one: a scale times a shear."""
    warps = draw(rotation=45, shift=2, scale=0.1, shear=0.3)
    angle = torch.atan2(warps[:, 1, 0], warps[:, 0, 0])
    rotations = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    upper = rotations.mT @ warps[:, :, :2]
    scale, shear = upper[:, 0, 0], upper[:, 0, 1] / upper[:, 0, 0]
    torch.testing.assert_close(upper[:, 1, 1], scale)
    shifts = warps[:, :, 2].unbind(1)
    amounts = [(angle.rad2deg(), 45), (scale - 1, 0.1), (shear, 0.3), *((shift, 2 * 2 / 28) for shift in shifts)]
    for amount, largest in amounts:
        assert -1.001 * largest <= amount.min() < -0.98 * largest
        assert 0.98 * largest < amount.max() <= 1.001 * largest
    correlations = torch.corrcoef(torch.stack([angle, scale, shear, *shifts]))
    assert (correlations - torch.eye(5)).abs().max() < 0.1
