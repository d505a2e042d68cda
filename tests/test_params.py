"""The values in params.yaml, and what is said of wrong ones."""

import re
import shutil

import pytest
from conftest import ROOT

from lenet.compute import ComputeConfig
from lenet.errors import PipelineError
from lenet.evaluate import EvaluateConfig
from lenet.figures import PlotConfig
from lenet.folds import SplitConfig
from lenet.train import TrainConfig
from stages import params

SECTIONS = {
    "split": SplitConfig,
    "compute": ComputeConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "plot": PlotConfig,
}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_committed_values_are_valid(section):
    params.read(section, SECTIONS[section])


def change(**lines: str) -> None:
    text = params.PATH.read_text()
    for key, value in lines.items():
        text, n = re.subn(rf"^( +{key}:) \S+", rf"\1 {value}", text, flags=re.MULTILINE)
        assert n == 1
    params.PATH.write_text(text)


@pytest.mark.parametrize(("written", "value"), [("1e-5", 1e-5), ("1e-05", 1e-5), (".5", 0.5), ("2", 2.0)])
def test_numbers_are_read_as_dvc_reads_them(written, value):
    change(lr=written)
    assert params.read("train", TrainConfig).lr == value


@pytest.mark.parametrize("written", ["1:30", "on", "0.1x", "'0.1'", ".nan", "-.inf", "null", "[0.1]", "{a: 1}"])
def test_what_is_no_number_is_refused(written):
    change(lr=written.replace(" ", ""))
    with pytest.raises(PipelineError, match=r"^params\.yaml: train\.lr is .*, but must be a number above 0"):
        params.read("train", TrainConfig)


@pytest.mark.parametrize(
    ("section", "lines", "message"),
    [
        (
            "split",
            {"fold": "5"},
            "split.fold is 5, but split.folds is 5: set split.fold to 0 to 4, or raise split.folds",
        ),
        ("train", {"optimizer": "adam"}, "train.momentum is 0.9, but train.optimizer is adam, which takes none"),
        ("train", {"momentum": "0"}, "train.nesterov is true, but train.optimizer is sgd with a train.momentum of 0"),
        ("train", {"optimizer": "rmsprop"}, "train.nesterov is true, but train.optimizer is rmsprop"),
    ],
)
def test_values_that_contradict_each_other(section, lines, message):
    change(**lines)
    with pytest.raises(PipelineError, match=re.escape(f"params.yaml: {message}")):
        params.read(section, SECTIONS[section])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"train: [", "is no YAML"),
        (b"train: \xff", "is no YAML"),
        (b"train: !!python/object/apply:os.getcwd []", "is no YAML"),
        (b"train: {lr: 1}\ntrain: {lr: 2}", "is no YAML"),
        (b"", "the section train is missing"),
        (b"- 1", "the section train is missing"),
        (b"train:", "train is empty, but must be a section"),
    ],
)
def test_a_file_that_is_no_params_file(content, message):
    params.PATH.write_bytes(content)
    with pytest.raises(PipelineError, match=rf"^params\.yaml:? .*{message}") as caught:
        params.read("train", TrainConfig)
    assert "\n" not in str(caught.value)


def test_no_file():
    params.PATH.unlink()
    with pytest.raises(PipelineError, match="can't be read: No such file or directory; run from the project's folder"):
        params.read("train", TrainConfig)
