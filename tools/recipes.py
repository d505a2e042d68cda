"""The recipes whose results are in the README, each as the params that differ from params.yaml."""

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

NO_DISTORTIONS = {f"train.augment.{kind}": 0 for kind in ("rotation", "shift", "scale", "shear")}
TUTORIAL = NO_DISTORTIONS | {
    "split.folds": 1,
    "train.epochs": 1,
    "train.batch_size": 64,
    "train.label_smoothing": 0,
    "train.lr": 0.01,
    "train.momentum": 0.5,
    "train.weight_decay": 0,
    "train.schedule": "constant",
    "train.warmup": 0,
}
LONG = {"split.folds": 1, "train.epochs": 80, "train.init": "kaiming"}
QUICK = {
    "split.folds": 1,
    "train.epochs": 2,
    "train.batch_size": 64,
    "train.init": "kaiming",
    "train.lr": 0.05,
    "train.augment.rotation": 5,
    "train.augment.shift": 1,
    "train.augment.scale": 0.05,
    "train.augment.shear": 0.05,
}


class Recipe(NamedTuple):
    """The changes to params.yaml, and the number of seeds with which it is run."""

    changes: dict[str, Any]
    seeds: int = 10


RECIPES = {
    "the default": Recipe({}),
    "the long run": Recipe(LONG),
    "the quick run": Recipe(QUICK, 30),
    "the tutorial's": Recipe(TUTORIAL),
}


def matching(results: pd.DataFrame, params: Mapping[str, Any], recipe: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows of `results`, a table written by tools.compare, for `params` changed by `recipe`.

    `params` is the content of params.yaml. The runs in the table used one thread each.
    """
    wanted = pd.json_normalize(dict(params)).iloc[0].to_dict() | {"compute.threads": 1} | recipe
    shared = {name: value for name, value in wanted.items() if name in results}
    return results[(results[list(shared)] == pd.Series(shared, dtype=object)).all(axis=1)]


def changed(params: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of `params`, the content of params.yaml, with `changes`, whose keys are like `train.lr`."""
    result = copy.deepcopy(dict(params))
    for name, value in changes.items():
        *sections, key = name.split(".")
        place = result
        for section in sections:
            place = place[section]
        place[key] = value
    return result
