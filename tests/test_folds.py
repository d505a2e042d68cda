import numpy as np
import pytest
from conftest import configured

from lenet.data.folds import SplitConfig, split


@pytest.mark.parametrize(("n", "folds"), [(60_000, 5), (100, 7), (3, 3)])
def test_folds_are_disjoint_complete_and_even(n, folds):
    parts = [split(n, configured(SplitConfig, "split", folds=folds, fold=fold)) for fold in range(folds)]
    for train, val in parts:
        np.testing.assert_array_equal(np.sort(np.concatenate([train, val])), np.arange(n))
    np.testing.assert_array_equal(np.sort(np.concatenate([val for _, val in parts])), np.arange(n))
    sizes = [len(val) for _, val in parts]
    assert max(sizes) - min(sizes) <= 1


def test_one_fold_trains_on_everything():
    train, val = split(10, configured(SplitConfig, "split", folds=1, fold=0))
    np.testing.assert_array_equal(train, np.arange(10))
    assert len(val) == 0


def test_the_permutation_never_changes():
    _, val = split(60_000, configured(SplitConfig, "split", folds=5, fold=0))
    assert (len(val), val[:5].tolist(), int(val.sum())) == (12_000, [14, 17, 22, 24, 29], 358_807_233)
