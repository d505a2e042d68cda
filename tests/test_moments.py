import numpy as np
import pytest

from lenet.data.moments import mean_and_std


@pytest.mark.parametrize("shape", [(1, 28, 28), (777, 28, 28), (10,)])
def test_agrees_with_numpy(shape):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    mean, std = mean_and_std(images)
    assert mean == pytest.approx((images / 255).mean(), rel=1e-12)
    assert std == pytest.approx((images / 255).std(), rel=1e-12)


def test_a_constant_image_has_no_deviation():
    assert mean_and_std(np.full((3, 3), 51, np.uint8)) == (0.2, 0.0)
