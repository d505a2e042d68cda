"""The pipeline with models that people may make of LeNet-5, edited as docs/make-it-yours.md says."""

import re

import pytest
from conftest import STAGES, Project

THREE = """
    one=nn.Conv2d(1, 8, 3, bias=False), norm=nn.BatchNorm2d(8), relu1=nn.ReLU(), pool=nn.AvgPool2d(2),
    two=nn.Conv2d(8, 40, 3), tanh=nn.Tanh(), three=nn.Conv2d(40, 8, 3), relu3=nn.ReLU(),
    flatten=nn.Flatten(), dropout=nn.Dropout(0.1), last=nn.Linear(8 * 9 * 9, len(CLASSES)),
"""
MLP = "flatten=nn.Flatten(), hidden=nn.Linear(784, 200), relu=nn.ReLU(), last=nn.Linear(200, len(CLASSES)),"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layers", "warned", "alive"),
    [
        (
            THREE,
            "warning: the model draws random numbers in training, so it is trained on one thread instead of 2",
            True,
        ),
        (MLP, "", True),
        (MLP.replace("ReLU", "GELU"), "", False),
    ],
)
def test_another_model(layers, warned, alive, project: Project):
    model = project.root / "lenet/model.py"
    text, n = re.subn(r"(?<=OrderedDict\()\n.*?(?=\n        \)\))", layers, model.read_text(), flags=re.S)
    assert n == 1
    model.write_text(text)
    project.edit("params.yaml", "threads: 1", "threads: 2")
    printed = project.run("dvc", "repro")
    assert re.findall("Running stage '(.*)'", printed) == STAGES[2:]
    assert re.findall("^warning: the model.*", printed, re.M) == ([warned] if warned else [])
    page = (project.root / "report.html").read_text()
    assert ('"layers":[[' in page) == alive
    assert ("relu is a GELU" in page) != alive
    project.commit("Another model")
    project.run("python", "-m", "tools.lock")
    before = (project.root / "dvc.lock").read_bytes()
    project.run("dvc", "repro", "--force")
    assert (project.root / "dvc.lock").read_bytes() == before
