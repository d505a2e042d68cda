"""The report's page, in a real browser: it reads as PyTorch does, shows what the run gave, and needs no network."""

import base64
import html
import itertools
import json
import re
from pathlib import Path
from types import SimpleNamespace

import fakes
import numpy as np
import pandas as pd
import pytest
import torch
from browser import dump, needs_browser
from conftest import PARAMS, PIPELINE, ROOT, Project, configured

from lenet.evaluation import EvaluateConfig, confidences, reliability
from lenet.ink import like_mnist
from lenet.model import LeNet5, predict
from lenet.report.page import ReportConfig, page

# In shares of the drawing: an L, which is not symmetrical, in one stroke, a dot, and two strokes.
L = [[(0.5, 0.1), (0.5, 0.5), (0.5, 0.9), (0.7, 0.9), (0.9, 0.9)]]
DOT = [[(0.2, 0.2)]]
TWO = [[(0.3, 0.2), (0.7, 0.2), (0.5, 0.8)], [(0.35, 0.5), (0.65, 0.5)]]


def metrics(**val: dict) -> dict:
    return {
        "download": {"train": {"images": 60}, "test": {"images": 1000}},
        "stats": {"mean": 0.13, "std": 0.31},
        "train": {"loss": 0.1, "accuracy": 0.9, "numerics": ["0123456789abcdef"]},
        "evaluate": val | {"test": {"accuracy": 0.1, "loss": 2.3, "calibration_error": 0.05}},
    }


@pytest.fixture(scope="module")
def made() -> SimpleNamespace:
    """A page on an untrained network, which misreads most of 1,000 images, and what went into it."""
    torch.manual_seed(0)
    model = LeNet5(0.13, 0.31).eval()
    images, labels = fakes.digits(1000)
    images[0, :4] = 255  # the largest value there can be, up to the edge
    logits = predict(model, torch.from_numpy(images)[:, None])
    confidence, predicted = confidences(logits)
    predictions = pd.DataFrame({"actual": labels, "predicted": predicted, "confidence": confidence})
    bins = reliability(confidence, predicted == labels, configured(EvaluateConfig, "evaluate"))
    history = pd.DataFrame(
        {"epoch": [1, 2], "lr": [0.1, 0.0], "train_loss": [1.0, 0.5], "train_accuracy": [0.5, 1.0]}
        | {"val_loss": [np.nan] * 2, "val_accuracy": [np.nan] * 2}
    )

    def make(**changes: object) -> str:
        given = {"metrics": metrics(), "history": history, "config": configured(ReportConfig, "report")} | changes
        return page(model, PARAMS, predictions=predictions, images=images, bins=bins, **given).decode()

    return SimpleNamespace(make=make, model=model, images=images, logits=logits, predictions=predictions, bins=bins)


@pytest.fixture(scope="module")
def seen(made, tmp_path_factory) -> dict:
    return visit(made.make(), made.images, tmp_path_factory.mktemp("browser"))


def visit(text: str, images: np.ndarray, folder: Path, **more: list) -> dict:
    """Return what tests/probe.js finds on the page `text`."""
    wanted = {"images": base64.b64encode(images.tobytes()).decode(), "drawings": [L, DOT, TWO], "strokes": []} | more
    # In a block, so that its names are not the page's.
    probe = f"{{ const wanted = {json.dumps(wanted)};\n{(ROOT / 'tests/probe.js').read_text()} }}"
    (folder / "page.html").write_text(text.replace("</body>", f"<script>{probe}</script></body>"))
    body = re.search(r"<body>(.*)</body>", dump(folder / "page.html", folder / "profile"), re.S)[1]
    assert body.startswith("{"), f"the page's scripts failed: {body[-2000:]}"
    found = json.loads(html.unescape(body))
    assert found["errors"] == []
    return found


def test_equal_runs_give_equal_pages(made):
    assert made.make() == made.make()


def test_the_page_asks_for_nothing(made):
    text = made.make().replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(
        r"""(?:src|href)\s*=|https?:|@import|url\(|fetch\(|XMLHttp|import\(|WebSocket|sendBeacon""", text
    )


def test_no_data_can_end_the_script(made, monkeypatch):
    monkeypatch.setattr("lenet.report.page.CLASSES", ("</script><b>", *"123456789"))
    assert made.make().count("</script>") == 2


def test_what_the_page_says_is_of_the_run(made):
    assert "validation accuracy" not in made.make()
    validated = made.make(metrics=metrics(val={"accuracy": 0.9876, "loss": 0.1}))
    assert '["validation accuracy","98.76 %","on training images held out"]' in validated
    correct = (made.predictions["actual"] == made.predictions["predicted"]).sum()
    assert f'["test accuracy","{correct / 10:.2f} %","95 % interval ' in validated
    assert f'["misread","{1000 - correct}","of 1,000 test digits"]' in validated
    assert '["train","seed 0, epochs 20, batch_size 128, optimizer sgd, ' in validated
    assert "schedule linear" in validated
    assert '["numerics of train","0123456789abcdef"]' in validated


def test_every_part_of_the_page_is_a_dep():
    parts = {
        f"lenet/report/{path.name}"
        for path in (ROOT / "lenet/report").iterdir()
        if path.suffix in (".html", ".css", ".js")
    }
    assert len(parts) >= 5
    assert parts == {dep for dep in PIPELINE["report"].deps if dep.startswith("lenet/report/")} - {
        "lenet/report/page.py"
    }


@needs_browser
def test_the_page_reads_as_pytorch_does(made, seen):
    logits = made.logits.numpy()
    assert np.abs(np.array(seen["logits"]) - logits).max() <= 1e-6 * np.abs(logits).max()
    assert (np.argmax(seen["logits"], 1) == logits.argmax(1)).all()
    expected = torch.tensor([1000.0, 1001, 999]).double().softmax(0)
    np.testing.assert_allclose(seen["softmax"], expected, rtol=1e-12)
    assert seen["maps"] == 6 + 6 + 6 + 16 + 16 + 1 + 1


def box(ink: np.ndarray) -> tuple[int, int]:
    rows, columns = np.nonzero(ink)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


@needs_browser
def test_a_drawing_becomes_like_mnist(seen):
    upright, dot, two = (np.array(drawing["given"]).reshape(28, 28) for drawing in seen["drawings"])
    assert box(upright) == pytest.approx((20, 11), abs=1)
    assert box(two)[1] < box(two)[0] == 20
    assert max(box(dot)) <= 4
    for ink in (upright, dot, two):
        assert ink.max() >= 250
        centre = (ink * np.indices((28, 28))).sum((1, 2)) / ink.sum()
        np.testing.assert_allclose(centre, 14, atol=0.5)
    assert [drawing["bold"] for drawing in seen["drawings"]] == [2, 2, 2]  # the digit and its probability
    assert all(re.fullmatch(r"\d, \d+\xa0%", drawing["answer"]) for drawing in seen["drawings"])
    # The lines are as wide as they are in MNIST: a stroke's ink is that of its length times 2.4.
    assert upright.sum() / 255 == pytest.approx(2.4 * (17.6 + 8.8), rel=0.1)
    assert seen["undone"] == [2, 0]
    assert seen["cleared"] == {"strokes": 0, "answer": "nothing drawn", "ink": 0}


@needs_browser
@pytest.mark.parametrize("number", [0, 2])
def test_page_and_predict_have_one_rule(number, seen):
    """The drawing as a large picture, read by `like_mnist`, is what the page makes of its strokes."""
    strokes = [np.array(stroke) * 1000 for stroke in (L, DOT, TWO)[number]]
    extent = np.ptp(np.concatenate(strokes), axis=0).max()
    width = 2.4 * extent / (20 - 2.4)  # as wide here as 2.4 pixels are there
    places = np.moveaxis(np.indices((1200, 1200)), 0, -1)[..., ::-1] - 100
    away = np.full((1200, 1200), np.inf)
    for stroke in strokes:
        for a, b in itertools.pairwise(stroke):
            along = (((places - a) @ (b - a)) / ((b - a) @ (b - a))).clip(0, 1)[..., None]
            away = np.minimum(away, np.linalg.norm(places - a - along * (b - a), axis=-1))
    picture = np.where(away < width / 2, 30, 230).astype(np.uint8)
    ours, theirs = (
        like_mnist(picture).astype(float),
        np.array(seen["drawings"][number]["given"]).reshape(28, 28),
    )
    # Whole pixels here, parts of them there: a line may be half a pixel beside the other, but not a whole one.
    assert np.abs(ours - theirs).sum() < 0.4 * theirs.sum()


@needs_browser
def test_a_cell_shows_its_digits(made, seen):
    wrong = made.predictions[made.predictions["actual"] != made.predictions["predicted"]]
    shown = wrong.sort_values("confidence", ascending=False, kind="stable").head(300)
    assert seen["all"] == shown[["actual", "predicted"]].to_numpy().tolist()
    assert (
        seen["shown"]
        == f"Misread: {len(wrong)}, the most confident first. The page holds the 300 most confident of them."
    )
    first = wrong.groupby(["actual", "predicted"]).size()
    (actual, predicted), count = first.index[0], first.iloc[0]
    assert seen["label"] == f"{count}: {actual} taken for {predicted}"
    there = [[actual, predicted]] * ((shown["actual"] == actual) & (shown["predicted"] == predicted)).sum()
    assert seen["focused"]["of"] == there
    assert seen["focused"]["words"].startswith(f"{actual} taken for {predicted}: {count}.")
    assert seen["left"] == 300
    assert seen["kept"] == [len(there), "true"]
    assert seen["given_up"] == [300, "false"]
    assert seen["clicked"] == made.images[shown.index[0]].ravel().tolist()
    totals = [*np.bincount(made.predictions["actual"]), *np.bincount(made.predictions["predicted"], minlength=10), 1000]
    assert seen["kinds"]["totals"] == ["", *map(str, totals)]


@needs_browser
def test_values_are_read_off_by_keyboard_and_all_is_named(made, seen):
    assert seen["last"] == "Loss (nats), epoch 2:  training 0.5000"  # and no validation: there was none
    assert seen["previous"] == "Loss (nats), epoch 1:  training 1.0000"
    assert seen["unnamed"] == 0
    assert len(seen["bars"]) == 2 * (made.bins.counts > 0).sum()
    assert seen["start"]["given"] == made.images[0].ravel().tolist()


@needs_browser
def test_a_phone_need_not_scroll_sideways(made, tmp_path):
    """In a frame of 360 pixels, for a window of Chromium can't be so narrow."""
    measure = "document.body.replaceChildren(document.documentElement.scrollWidth + ' of ' + innerWidth)"
    (tmp_path / "page.html").write_text(made.make().replace("</body>", f"<script>{measure}</script></body>"))
    frame = '<body><iframe width="360" height="800" style="border: 0" srcdoc="{}"></iframe><script>{}</script></body>'
    inner = "document.querySelector('iframe').contentDocument.body.textContent"
    copy = f"onload = () => document.body.replaceChildren({inner})"
    text = (tmp_path / "page.html").read_text()
    (tmp_path / "frame.html").write_text(frame.format(html.escape(text), copy))
    body = re.search(r"<body>(.*)</body>", dump(tmp_path / "frame.html", tmp_path / "profile"), re.S)[1]
    width, of = body.strip().split(" of ")
    assert of == "360"
    assert int(width) <= 360


def test_a_run_writes_the_page(finished: Project):
    text = (finished.root / "report.html").read_text()
    assert '"test accuracy"' in text
    assert "MNIST: 200 training and 100 test images" in text
