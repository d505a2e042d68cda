"""The split of the training images into folds for training and validation."""

from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from lenet.config import Config


class SplitConfig(Config):
    """The section `split` of params.yaml."""

    folds: Annotated[int, Field(ge=1, le=100)]
    fold: Annotated[int, Field(ge=0, lt=100)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.fold >= self.folds:
            allowed = "0" if self.folds == 1 else f"0 to {self.folds - 1}"
            raise ValueError(
                f"split.fold is {self.fold}, but split.folds is {self.folds}: "
                f"set split.fold to {allowed}, or raise split.folds"
            )
        return self


def split(n: int, config: SplitConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices, ascending, of the training images and of the validation images among `n` images.

    A fixed permutation of the images is cut into `folds` parts whose sizes differ by at most one; part `fold` is for
    validation. Over all folds, each image is a validation image exactly once. With one fold, there is no validation.

    The permutation does not depend on `train.seed`, so that runs with different seeds are compared on the same images.
    It is needed because MNIST's order is not random: easy and hard images alternate.
    """
    if config.folds == 1:
        return np.arange(n), np.arange(0)
    # NumPy guarantees that the stream of RandomState, unlike that of its newer generators, never changes.
    parts = np.array_split(np.random.RandomState(1998).permutation(n), config.folds)
    held_out = np.sort(parts[config.fold])
    return np.setdiff1d(np.arange(n), held_out, assume_unique=True), held_out
