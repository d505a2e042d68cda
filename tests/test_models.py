"""The pipeline with other models and another data set, edited as docs/make-it-yours.md says."""

import re
from pathlib import Path

import fakes
import pytest
from conftest import LR, STAGES, Project
from PIL import Image

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


@pytest.mark.slow
def test_another_data_set(project: Project, tmp_path: Path):
    content = fakes.files(train=300, test=100, classes=5)
    fakes.write_mirror(tmp_path / "five", content)
    project.env["MNIST_MIRROR"] = str(tmp_path / "five")
    classes = ("an empty ring", "a stroke", "a swan's neck", "two bows, open to the left", "a chair upside down")
    dataset = project.root / "lenet/data/dataset.py"
    text = fakes.dataset(dataset.read_text(), content)
    for name, value in {
        "TITLE": "Signs",
        "ITEM, A_ITEM": ("sign", "a sign"),
        "LIKE_MNIST": False,
        "CLASSES": classes,
    }.items():
        text, n = re.subn(f"^{name} = .*", f"{name} = {value!r}", text, flags=re.M)
        assert n == 1
    dataset.write_text(text)
    project.edit("params.yaml", "epochs: 2", "epochs: 12")
    project.edit("params.yaml", LR, "\n  lr: 0.02 ")
    (project.root / "data/mnist").rename(tmp_path / "elsewhere")
    assert project.repro() == STAGES
    page = (project.root / "report.html").read_text()
    assert "draw a sign" in page
    assert all(name.replace("'", "\\u0027") in page or name in page for name in classes)
    images, labels = fakes.digits(20, seed=2, classes=5)
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    names = [str(tmp_path / f"{n}.png") for n in range(20)]
    _, *lines = project.run("python", "-m", "tools.predict", *names).splitlines()  # the model's name comes first
    right = [f".png: {classes[label]} (" in line for line, label in zip(lines, labels, strict=True)]
    assert sum(right) >= 18, lines
    project.commit("Another data set")
    assert project.run("python", "-m", "tools.verify").endswith("(identical to the bit)\n")
