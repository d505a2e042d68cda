import pytest
import torch

from lenet.augment import AugmentConfig, distort, random_maps

NONE = AugmentConfig(rotation=0, shift=0, scale=0, shear=0)


@pytest.fixture
def image() -> torch.Tensor:
    """A dot, right of the centre and above it."""
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[0, 0, 8:12, 18:22] = 255
    return image


def draw(n: int = 1000, **changes: float) -> torch.Tensor:
    config = AugmentConfig(**{"rotation": 0, "shift": 0, "scale": 0, "shear": 0} | changes)
    return random_maps(n, 28, config, torch.Generator().manual_seed(0))


def test_no_distortion_is_the_identity(image):
    assert not NONE.enabled
    maps = draw()
    torch.testing.assert_close(maps, torch.eye(2, 3).expand(1000, 2, 3))
    torch.testing.assert_close(distort(image, maps[:1]), image.float(), rtol=0, atol=1e-3)


def test_a_shift_by_whole_pixels_moves_the_image(image):
    maps = torch.eye(2, 3)[None].clone()
    maps[0, 0, 2] = 3 * 2 / 28  # the source of each pixel lies 3 pixels to its right
    torch.testing.assert_close(distort(image, maps), image.roll(-3, 3).float(), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "amount", "measure", "largest"),
    [
        ("shift", 2, lambda maps: maps[:, :, 2].abs(), 2 * 2 / 28),
        ("rotation", 10, lambda maps: torch.atan2(maps[:, 1, 0], maps[:, 0, 0]).abs().rad2deg(), 10),
        ("scale", 0.1, lambda maps: (torch.det(maps[:, :, :2]).sqrt() - 1).abs(), 0.1),
        ("shear", 0.3, lambda maps: maps[:, 0, 1].abs(), 0.3),
    ],
)
def test_the_amounts_fill_their_range(kind, amount, measure, largest):
    amounts = measure(draw(**{kind: amount}))
    assert 0.98 * largest < amounts.max() <= largest * 1.001
    assert amounts.mean() == pytest.approx(largest / 2, rel=0.1)  # uniform


def test_rotation_keeps_areas_and_angles():
    linear = draw(rotation=45)[:, :, :2]
    torch.testing.assert_close(linear @ linear.mT, torch.eye(2).expand(1000, 2, 2))
