"""Faults that would matter, planted in a copy of the project one at a time: a quick test must fail on each.

Tools such as mutmut and cosmic-ray exchange operators and constants everywhere, thousands of times, but can't think of
training on the validation images.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT, SEED, TRACKED


class Fault(NamedTuple):
    """In `file`, `new` stands for `old`, which is there once; `test` of the module tests/test_`module`.py notices."""

    file: str
    old: str
    new: str
    module: str
    test: str


FAULTS = {
    # Training.
    "the validation images are trained on": Fault(
        "stages/train.py",
        "fit(lenet5, *train_set,",
        "fit(lenet5, images, labels,",
        *("training", "test_the_held_out_images_are_not_trained_on"),
    ),
    "the initial weights ignore the seed": Fault(
        "stages/train.py",
        "torch.manual_seed(train.seed)",
        "torch.manual_seed(0)",
        *("training", "test_the_initial_weights_follow_from_seed_stats_and_params"),
    ),
    "mean and deviation are exchanged": Fault(
        "stages/train.py",
        "LeNet5(*stats.read(),",
        "LeNet5(*stats.read()[::-1],",
        *("training", "test_the_initial_weights_follow_from_seed_stats_and_params"),
    ),
    "the order of the images ignores the seed": Fault(
        "lenet/training.py",
        "torch.randperm(n, generator=generator)",
        "torch.randperm(n, generator=torch.Generator().manual_seed(0))",
        *("training", "test_the_seed_decides_order_and_distortions"),
    ),
    "the distortions ignore the seed": Fault(
        "lenet/training.py",
        "random_warps(n, size, config.augment, generator)]",
        "random_warps(n, size, config.augment, torch.Generator().manual_seed(0))]",
        *("training", "test_the_seed_decides_order_and_distortions"),
    ),
    "order and distortions ignore the seed": Fault(
        "lenet/training.py",
        "torch.Generator().manual_seed(config.seed)",
        "torch.Generator().manual_seed(0)",
        *("training", "test_the_seed_decides_order_and_distortions"),
    ),
    "the same order each epoch": Fault(
        "lenet/training.py",
        "torch.randperm(n, generator=generator)",
        "torch.randperm(n, generator=torch.Generator().manual_seed(config.seed))",
        *("training", "test_each_epoch_takes_every_image_once_in_another_order_and_distortion"),
    ),
    "the same distortions each epoch": Fault(
        "lenet/training.py",
        "random_warps(n, size, config.augment, generator)]",
        "random_warps(n, size, config.augment, torch.Generator().manual_seed(config.seed))]",
        *("training", "test_each_epoch_takes_every_image_once_in_another_order_and_distortion"),
    ),
    "images are drawn with replacement": Fault(
        "lenet/training.py",
        "torch.randperm(n, generator=generator)",
        "torch.randint(n, (n,), generator=generator)",
        *("training", "test_each_epoch_takes_every_image_once_in_another_order_and_distortion"),
    ),
    "the training accuracy is against labels in another order": Fault(
        "lenet/training.py",
        "accuracy(logits, labels[order])",
        "accuracy(logits, labels)",
        *("training", "test_the_rows_say_what_the_steps_did"),
    ),
    "the learning rate in the history is the first step's": Fault(
        "lenet/training.py", "lrs[end - 1]", "lrs[first]", "training", "test_the_rows_say_what_the_steps_did"
    ),
    "the temperature is fitted on the training images": Fault(
        "stages/train.py",
        '("validation", val_set) if',
        '("validation", train_set) if',
        *("training", "test_the_model_is_calibrated_after_label_smoothing"),
    ),
    "AdamW decays like Adam": Fault(
        "lenet/optimizers.py", 'self.name == "adamw"', "False", "training", "test_the_optimizers_are_pytorchs"
    ),
    "AdamW does not decay": Fault(
        "lenet/optimizers.py",
        "adam(weights, g, m, v, [], steps, lr=lr, weight_decay=decay,",
        'adam(weights, g, m, v, [], steps, lr=lr, weight_decay=decay * (self.name != "adamw"),',
        *("training", "test_the_optimizers_are_pytorchs"),
    ),
    "the momentum of RMSprop is ignored": Fault(
        "lenet/optimizers.py",
        "rmsprop(weights, g, v, [], m, steps, lr=lr, momentum=momentum,",
        "rmsprop(weights, g, v, [], m, steps, lr=lr, momentum=0,",
        *("training", "test_the_optimizers_are_pytorchs"),
    ),
    "a model with dropout is trained on several threads": Fault(
        "lenet/training.py",
        "threads > 1 and state_changes(model, images) else",
        "threads < 1 else",
        *("training", "test_a_model_whose_state_changes_is_trained_on_one_thread"),
    ),
    "batch normalisation passes for a layer without state": Fault(
        "lenet/training.py",
        'return "changes its buffers" if changed else ""',
        'return ""',
        *("training", "test_a_model_whose_state_changes_is_trained_on_one_thread"),
    ),
    "the fingerprint ignores the threads": Fault(
        "lenet/training.py",
        "images[:0], labels[:0], config, threads)",
        "images[:0], labels[:0], config)",
        *("training", "test_the_fingerprint_is_that_of_the_threads"),
    ),
    "validation is of all images": Fault(
        "stages/train.py",
        "fit(lenet5, *train_set, *val_set,",
        "fit(lenet5, *train_set, images, labels,",
        *("pipeline", "test_metrics_and_tables"),
    ),
    "the metrics of training are those of validation": Fault(
        "stages/train.py",
        '"loss": last.train_loss, "accuracy": last.train_accuracy',
        '"loss": last.val_loss, "accuracy": last.val_accuracy',
        *("pipeline", "test_metrics_and_tables"),
    ),
    "the optimizer is always SGD": Fault(
        "lenet/training.py",
        "Optimizer(weights, config.optimizer,",
        'Optimizer(weights, "sgd",',
        *("training", "test_the_optimizer_is_that_of_the_params"),
    ),
    "predictions are made in training mode": Fault(
        "lenet/model.py",
        "model.eval()\n    batches",
        "batches",
        *("model", "test_predictions_are_made_in_eval_mode"),
    ),
    # Distortions.
    "images are not distorted": Fault(
        "lenet/steps.py",
        "images = distort(images, warps, self.pixels)",
        "images = images.float()",
        *("training", "test_a_step_is_taken_on_distorted_images"),
    ),
    "distortions go one way only": Fault(
        "lenet/augment.py",
        "(2 * torch.rand(5, n, generator=generator) - 1)",
        "torch.rand(5, n, generator=generator)",
        *("augment", "test_a_map_rotates_scales_and_shears_by_amounts_of_their_own"),
    ),
    "the nearest pixel instead of bilinear interpolation": Fault(
        "lenet/augment.py", '"bilinear"', '"nearest"', "augment", "test_half_a_pixel_between_two_is_their_mean"
    ),
    "the border is repeated outside the image": Fault(
        "lenet/augment.py", '"zeros"', '"border"', "augment", "test_what_comes_in_from_outside_is_paper"
    ),
    "both shifts are equal": Fault(
        "lenet/augment.py",
        "    columns = [",
        "    dy = dx\n    columns = [",
        *("augment", "test_a_map_rotates_scales_and_shears_by_amounts_of_their_own"),
    ),
    "the shear depends on the scale": Fault(
        "lenet/augment.py",
        "shear = shear * config.shear",
        "shear = shear * config.shear / scale",
        *("augment", "test_a_map_rotates_scales_and_shears_by_amounts_of_their_own"),
    ),
    # Scores and pictures.
    "the confusion is transposed": Fault(
        "stages/evaluate.py",
        '{"actual": test.labels, "predicted": predicted}',
        '{"actual": predicted, "predicted": test.labels}',
        *("pipeline", "test_the_tables_are_of_the_test_images"),
    ),
    "the calibration is drawn as if all predictions were correct": Fault(
        "stages/plot.py",
        "correct.to_numpy(), evaluate)",
        "np.ones(len(correct)), evaluate)",
        *("pipeline", "test_pictures_and_page_show_what_is_recorded"),
    ),
    "the calibration is drawn of the errors": Fault(
        "stages/plot.py",
        'predicted["actual"] == predicted["predicted"]',
        'predicted["actual"] != predicted["predicted"]',
        *("pipeline", "test_pictures_and_page_show_what_is_recorded"),
    ),
    "the calibration interval is drawn around the confidence": Fault(
        "lenet/figures.py",
        "wilson(accuracy * counts",
        "wilson(confidence * counts",
        *("figures", "test_calibration_shows_every_bin_and_its_interval"),
    ),
    "the calibration interval on the page is around the confidence": Fault(
        "lenet/report/page.py",
        'wilson(table["accuracy"] *',
        'wilson(table["confidence"] *',
        *("pipeline", "test_pictures_and_page_show_what_is_recorded"),
    ),
    "the page's answer is not the largest": Fault(
        "lenet/report/page.js",
        ".sort((a, b) => b.probability - a.probability)",
        ".sort((a, b) => a.probability - b.probability)",
        *("pipeline", "test_the_page_answers_as_the_model_does"),
    ),
    # Tools.
    "compare takes no notice of the data": Fault(
        "tools/compare.py",
        'for stage in behind(path) for dep in stage["deps"]}',
        'for stage in behind(path) for dep in stage["deps"] if not dep["path"].startswith("data/")}',
        *("compare", "test_the_code_behind_a_metric"),
    ),
    "compare takes metrics of an earlier run": Fault(
        "tools/compare.py",
        'return "" if stale or not deps',
        'return "" if not deps',
        *("compare", "test_a_metric_that_is_older_than_what_it_comes_from"),
    ),
    "compare counts a repeated run twice": Fault(
        "tools/compare.py",
        ".drop_duplicates()",
        "",
        *("compare", "test_the_same_run_counts_once_but_not_that_of_other_code"),
    ),
    "lock's status is always 0": Fault(
        "tools/lock.py",
        "return 1 if lines else",
        "return 0 if lines else",
        "lock",
        "test_the_status_says_whether_it_is_in_sync",
    ),
    "verify lets a forged metric through": Fault(
        "tools/verify.py",
        "checks.contradictions(recorded, files) if checks else []",
        "[]",
        *("verify", "test_a_forged_record_is_false_as_a_user_sees_it"),
    ),
    "verify accepts a stage that did not run": Fault(
        "tools/verify.py",
        "[stage for stage in recorded.hashes if stage not in ran])",
        "[])",
        *("verify", "test_what_a_run_proves"),
    ),
    "verify leaves a stage the history": Fault(
        "tools/verify.py",
        "    _forget_history(clone)\n    ran",
        "    ran",
        *("verify", "test_what_a_run_proves"),
    ),
    "bytecode runs instead of its source": Fault(
        "stages/launch/source.py",
        "FileFinder(folder, (_FromSource,",
        "FileFinder(folder, (SourceFileLoader,",
        *("launcher", "test_code_is_loaded_from_its_source"),
    ),
    "an experiment is known without its code": Fault(
        "tools/fleet/queue.py",
        '[tree["dvc.yaml"], code, params, words]',
        '[tree["dvc.yaml"], params, words]',
        *("fleet", "test_what_an_experiment_is_known_by"),
    ),
    "two experiments run in one clone": Fault(
        "tools/fleet/work.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        *("fleet", "test_experiments_that_run_at_once_have_a_clone_each"),
    ),
    "a worker ends with its scheduler": Fault(
        "tools/fleet/cluster.py",
        "    while not work.LEFT:\n",
        "    if not work.LEFT:\n",
        *("fleet", "test_a_worker_goes_on_when_its_scheduler_comes_back"),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_can_be_planted(name):
    """Or the table needs an edit, because the code or a test has changed."""
    file, old, _, module, test = FAULTS[name]
    assert (ROOT / file).read_text().count(old) == 1
    assert f"\ndef {test}(" in (ROOT / f"tests/test_{module}.py").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_noticed(name, tmp_path: Path, request: pytest.FixtureRequest):
    file, old, new, module, test = FAULTS[name]
    env = dict(os.environ)
    if module in ("pipeline", "verify"):  # run only what depends on the fault again
        env[SEED] = str(request.getfixturevalue("finished").root / ".dvc/cache")
    for path in [*TRACKED, "tests", "pyproject.toml", "docs", "README.md"]:
        copy = tmp_path / "project" / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / path).is_dir():
            shutil.copytree(ROOT / path, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / path, copy)
    faulty = tmp_path / "project" / file
    faulty.write_text(faulty.read_text().replace(old, new))
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider"]
    command += ["--basetemp", str(tmp_path / "pytest"), f"tests/test_{module}.py", "-k", test]
    done = subprocess.run(command, cwd=tmp_path / "project", env=env, text=True, stdout=subprocess.PIPE, timeout=600)
    if "skipped" in done.stdout.splitlines()[-1]:
        pytest.skip("its test is skipped here")
    # Not an error in the code that the fault has broken.
    assert re.search(r"^E +(assert |AssertionError|Failed: DID NOT RAISE)", done.stdout, re.M), done.stdout
    assert done.returncode == 1
