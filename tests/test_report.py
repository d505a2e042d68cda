"""The report in a real browser: it computes what PyTorch computes, shows the data of the run, and makes no requests."""

import base64
import html
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import fakes
import numpy as np
import pandas as pd
import pytest
import torch
import variants
from browser import dump, needs_browser
from conftest import PARAMS, PIPELINE, ROOT, Project, configured
from PIL import Image
from scipy import ndimage
from torch import nn

from lenet import palette
from lenet.data import dataset
from lenet.doubt import SURE
from lenet.evaluation import EvaluateConfig, confidences, reliability
from lenet.ink import like_mnist
from lenet.model import LeNet5, predict
from lenet.report import network
from lenet.report.page import ReportConfig, _network, page
from tools.dev import animation
from tools.dev.browser import Browser
from tools.errors import ToolError

only_for_drawings = pytest.mark.skipif(not dataset.LIKE_MNIST, reason="pictures of this data set are only resized")

# Drawings, as strokes in fractions of the pad: an L, which is asymmetric; a dot; and a digit of two strokes.
L = [[(0.5, 0.1), (0.5, 0.5), (0.5, 0.9), (0.7, 0.9), (0.9, 0.9)]]
DOT = [[(0.2, 0.2)]]
TREMBLING = [[(0.2, 0.2), (0.203, 0.2), (0.202, 0.203)]]
TWO = [[(0.3, 0.2), (0.7, 0.2), (0.5, 0.8)], [(0.35, 0.5), (0.65, 0.5)]]

# Fractions and the digits after the point with which the page shows them.
FRACTIONS = [(1, 1), (0.9997, 1), (0.9994, 1), (0.9997, 0), (0.5, 0), (0.0006, 1), (0.0003, 1), (0, 1)]
# Probabilities of the classes: of 7 the first number, and of 1 what is left; or nothing drawn.
ANSWERS = [[{7: first, 1: 1 - first}.get(label, 0) for label in range(10)] for first in (0.9997, SURE, SURE - 0.01)]
ANSWERS.append(None)


def metrics(**val: dict) -> dict:
    return {
        "download": {"train": {"images": 60}, "test": {"images": 1000}},
        "stats": {"mean": 0.13, "std": 0.31},
        "train": {"loss": 0.1, "accuracy": 0.9, "numerics": ["0123456789abcdef"]},
        "evaluate": val | {"test": {"accuracy": 0.1, "loss": 2.3, "calibration_error": 0.05}},
    }


@pytest.fixture(scope="module")
def made() -> SimpleNamespace:
    """A page about an untrained network, which misreads most of 1,000 images, and the data it was made from."""
    torch.manual_seed(0)
    model = LeNet5(0.13, 0.31).eval()
    images, labels = fakes.digits(1000)
    images[0, :4] = 255  # the largest value, at the edge
    logits = predict(model, torch.from_numpy(images)[:, None])
    confidence, predicted = confidences(logits)
    predictions = pd.DataFrame({"actual": labels, "predicted": predicted, "confidence": confidence})
    bins = reliability(confidence, predicted == labels, configured(EvaluateConfig, "evaluate"))
    history = pd.DataFrame(
        {"epoch": [1, 2], "lr": [0.1, 0.0], "train_loss": [1.0, 0.5], "train_accuracy": [0.5, 1.0]}
        | {"val_loss": [np.nan] * 2, "val_accuracy": [np.nan] * 2}
    )

    given = {"metrics": metrics(), "history": history, "config": configured(ReportConfig, "report")}
    given |= {"predictions": predictions, "images": images, "bins": bins}

    def make(**changes: object) -> str:
        return page(model, PARAMS, **given | changes).decode()

    return SimpleNamespace(make=make, given=given, images=images, logits=logits, predictions=predictions, bins=bins)


@pytest.fixture(scope="module")
def seen(made, tmp_path_factory) -> dict:
    return visit(made.make(), made.images, tmp_path_factory.mktemp("browser"), fractions=FRACTIONS, answers=ANSWERS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as started:
        yield started


def visit(text: str, images: np.ndarray, folder: Path, **more: list) -> dict:
    """Return what tests/probe.js sees on the page `text`."""
    wanted = (
        {"images": base64.b64encode(images.tobytes()).decode(), "drawings": [L, DOT, TREMBLING, TWO]}
        | {"strokes": [], "networks": [], "fractions": [], "answers": []}
        | more
    )
    # In a block, so that its names don't clash with the page's.
    probe = f"{{ const wanted = {json.dumps(wanted)};\n{(ROOT / 'tests/probe.js').read_text()} }}"
    (folder / "page.html").write_text(text.replace("</body>", f"<script>{probe}</script></body>"))
    body = re.search(r"<body[^>]*>(.*)</body>", dump(folder / "page.html", folder / "profile"), re.S)[1]
    assert body.startswith("{"), f"the page's scripts failed: {body[-2000:]}"
    found = json.loads(html.unescape(body))
    assert found["errors"] == []
    return found


@pytest.mark.parametrize("colour", [palette.BLUE, palette.ORANGE])
def test_colours_are_legible_as_text_on_white(colour):
    red, green, blue = (((int(colour[at : at + 2], 16) / 255 + 0.055) / 1.055) ** 2.4 for at in (1, 3, 5))
    assert 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05) >= 4.5  # the contrast that WCAG 2 AA requires


def test_equal_runs_give_equal_pages(made):
    assert made.make() == made.make()


def test_the_page_makes_no_requests(made):
    text = made.make().replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(
        r"""(?:src|href)\s*=|https?:|@import|url\(|fetch\(|XMLHttp|import\(|WebSocket|sendBeacon""", text
    )


def test_data_cannot_end_the_script(made, monkeypatch):
    monkeypatch.setattr("lenet.report.page.CLASSES", ("</script><b>", *"123456789"))
    assert made.make().count("</script>") == 2


def test_the_page_shows_the_data_of_the_run(made):
    assert "validation accuracy" not in made.make()
    validated = made.make(metrics=metrics(val={"accuracy": 0.9876, "loss": 0.1}))
    assert '["validation accuracy","98.76%","on held-out training images"]' in validated
    correct = (made.predictions["actual"] == made.predictions["predicted"]).sum()
    assert f'["test accuracy","{correct / 10:.2f}%","95% interval: ' in validated
    assert f'["test errors","{1000 - correct}","of 1,000 {dataset.ITEM}s"]' in validated
    first, second, *_ = PARAMS["train"].items()
    assert '["train","{}: {}, {}: {}, '.format(*first, *second) in validated
    assert '["numerics of train","0123456789abcdef"]' in validated


def test_every_part_of_the_page_is_a_dep():
    parts = {f"lenet/report/{path.name}" for path in (ROOT / "lenet/report").iterdir() if path.is_file()}
    assert len(parts) >= 7
    assert parts - {"lenet/report/__init__.py"} == {
        dep for dep in PIPELINE["report"].deps if dep.startswith("lenet/report/")
    }


@needs_browser
def test_the_page_computes_what_pytorch_computes(made, seen):
    logits = made.logits.numpy()
    assert np.abs(np.array(seen["logits"]) - logits).max() <= 1e-6 * np.abs(logits).max()
    assert (np.argmax(seen["logits"], 1) == logits.argmax(1)).all()
    expected = torch.tensor([1000.0, 1001, 999]).double().softmax(0)
    np.testing.assert_allclose(seen["softmax"], expected, rtol=1e-12)
    assert seen["maps"] == 6 + 6 + 6 + 16 + 16 + 1 + 1 + 1


@needs_browser
def test_the_page_runs_other_models(made, tmp_path):
    models = [variants.make(name) for name in variants.ALIVE]
    logits = [predict(model, torch.from_numpy(made.images[:20])[:, None]).numpy() for model in models]
    networks = [_network(model, made.images[:2]) for model in models]
    found = visit(made.make(), made.images[:20], tmp_path, networks=networks)["networks"]
    for name, theirs, expected in zip(variants.ALIVE, found, logits, strict=True):
        assert np.abs(np.array(theirs) - expected).max() <= 1e-5 * np.abs(expected).max(), name


@pytest.mark.parametrize(("name", "reason"), [(name, reason) for name, (_, reason) in variants.LEFT_OUT.items()])
def test_a_model_that_the_page_cannot_run_is_left_out(name, reason, made):
    assert _network(variants.make(name), made.images[:3])["reason"].startswith(reason)


@needs_browser
def test_a_page_without_a_network_says_why(made, tmp_path):
    text = page(variants.make("GELU"), PARAMS, **made.given).decode()
    probe = "document.body.replaceChildren($('layers').textContent, '|', $('gallery').children.length)"
    (tmp_path / "page.html").write_text(text.replace("</body>", f"<script>{probe}</script></body>"))
    body = re.search(r"<body[^>]*>(.*)</body>", dump(tmp_path / "page.html", tmp_path / "profile"), re.S)[1]
    said, images = html.unescape(body).split("|")
    assert said.startswith("This page can't run the network, because F6_relu is a GELU(")
    assert int(images) == 300


def box(ink: np.ndarray) -> tuple[int, int]:
    rows, columns = np.nonzero(ink)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


@needs_browser
@only_for_drawings
def test_a_drawing_is_converted_to_the_format_of_mnist(seen):
    upright, dot, trembling, two = (np.array(drawing["input"]).reshape(28, 28) for drawing in seen["drawings"])
    assert box(upright) == pytest.approx((20, 11), abs=1)
    assert box(two)[1] < box(two)[0] == 20
    assert max(box(dot)) <= max(box(trembling)) <= 4
    for ink in (upright, dot, two, trembling):
        assert ink.max() >= 250
        centre = (ink * np.indices((28, 28))).sum((1, 2)) / ink.sum()
        np.testing.assert_allclose(centre, 14, atol=0.5)
    assert all(drawing["bold"] == 2 for drawing in seen["drawings"])  # the predicted class and its probability
    doubtful = r"not sure: (\d) or (?!\1)\d\?"  # the network is untrained
    assert all(re.fullmatch(doubtful, drawing["prediction"]) for drawing in seen["drawings"])
    # Lines are as wide as in MNIST: the ink of a stroke is its length times 2.4.
    assert upright.sum() / 255 == pytest.approx(2.4 * (17.6 + 8.8), rel=0.1)
    rows, columns = np.nonzero(np.array(seen["asDrawn"]).reshape(28, 28))  # a line from (7, 7) to (7, 21), not centred
    assert (rows.mean(), columns.mean()) == (pytest.approx(13.5), pytest.approx(6.5))
    assert seen["undone"] == [2, 0]
    assert seen["cleared"] == {"strokes": 0, "prediction": "The pad is empty", "blank": True}


@needs_browser
def test_the_pad_shows_what_is_drawn(seen):
    """Its pixels, reduced to 28×28, are those of the same strokes as the network would get them."""
    assert seen["start"]["hint"] == f"draw {dataset.A_ITEM}"
    for drawing in seen["drawings"]:
        on_pad, as_drawn = (np.array(drawing[key]).reshape(28, 28) for key in ("onPad", "asDrawn"))
        assert drawing["hint"]  # is hidden
        assert on_pad.sum() == pytest.approx(as_drawn.sum() / 255, rel=0.1)
        assert np.abs(on_pad - as_drawn / 255).max() < 0.3
    _, dot, trembling, _ = (np.sum(drawing["onPad"]) for drawing in seen["drawings"])
    assert np.pi * 1.2**2 == pytest.approx(dot, rel=0.1) == pytest.approx(trembling, rel=0.1)


@needs_browser
def test_what_is_nearly_certain_is_not_called_certain(seen):
    assert seen["percent"] == ["100.0%", ">99.9%", "99.9%", ">99%", "50%", "0.1%", "<0.1%", "0.0%"]


@needs_browser
def test_the_answer_is_a_class_or_a_doubt(seen):
    names = dataset.CLASSES
    sure, doubtful = f"{names[7]} >99.9%", f"not sure: {names[7]} or {names[1]}?"
    assert seen["answers"] == [sure, f"{names[7]} {SURE:.1%}", doubtful, "The pad is empty"]


@needs_browser
@only_for_drawings
@pytest.mark.parametrize("number", [0, 3])
def test_the_page_and_predict_convert_alike(number, seen):
    """`like_mnist`, given the drawing as a large picture, agrees with what the page makes of its strokes."""
    strokes = [np.array(stroke) * 1000 for stroke in (L, DOT, TREMBLING, TWO)[number]]
    extent = np.ptp(np.concatenate(strokes), axis=0).max()
    width = 2.4 * extent / (20 - 2.4)  # 2.4 pixels of the input
    places = np.moveaxis(np.indices((1200, 1200)), 0, -1)[..., ::-1] - 100
    away = np.full((1200, 1200), np.inf)
    for stroke in strokes:
        for a, b in itertools.pairwise(stroke):
            along = (((places - a) @ (b - a)) / ((b - a) @ (b - a))).clip(0, 1)[..., None]
            away = np.minimum(away, np.linalg.norm(places - a - along * (b - a), axis=-1))
    picture = np.where(away < width / 2, 30, 230).astype(np.uint8)
    ours, theirs = (
        like_mnist(picture).astype(float),
        np.array(seen["drawings"][number]["input"]).reshape(28, 28),
    )
    # Rounding differs: a line may be shifted by half a pixel, but not by a whole one.
    assert np.abs(ours - theirs).sum() < 0.4 * theirs.sum()


@needs_browser
def test_a_cell_lists_its_images(made, seen):
    wrong = made.predictions[made.predictions["actual"] != made.predictions["predicted"]]
    shown = wrong.sort_values("confidence", ascending=False, kind="stable").head(300)
    assert seen["all"] == shown[["actual", "predicted"]].to_numpy().tolist()
    assert seen["listed"].startswith(f"The 300 most confident of {len(wrong)} errors: actual → predicted class")
    first = wrong.groupby(["actual", "predicted"]).size()
    (actual, predicted), count = first.index[0], first.iloc[0]
    names = dataset.CLASSES[actual], dataset.CLASSES[predicted]
    assert seen["label"] == f"{count}: actual {names[0]}, predicted {names[1]}"
    there = [[actual, predicted]] * ((shown["actual"] == actual) & (shown["predicted"] == predicted)).sum()
    assert seen["focused"]["of"] == there
    assert seen["focused"]["text"].endswith(f"{count} errors: actual {names[0]}, predicted {names[1]}")
    assert seen["left"] == 300
    assert seen["selected"] == [len(there), "true"]
    assert seen["deselected"] == [300, "false"]
    assert seen["clicked"] == made.images[shown.index[0]].ravel().tolist()
    assert seen["redrawn"] == seen["clicked"]
    assert seen["drawnOver"] == 1
    totals = [*np.bincount(made.predictions["actual"]), *np.bincount(made.predictions["predicted"], minlength=10), 1000]
    assert seen["totals"] == ["", *map(str, totals)]


@needs_browser
def test_arrow_keys_select_an_epoch_and_everything_has_a_label(made, seen):
    assert seen["last"] == "Loss (nats), epoch 2: training 0.5000"  # this run had no validation
    assert seen["previous"] == "Loss (nats), epoch 1: training 1.0000"
    assert seen["unlabelled"] == 0
    assert seen["colours"] == [palette.BLUE, palette.ORANGE]
    counts = made.bins.counts[made.bins.counts > 0]
    assert len(seen["bars"]) == 2 * len(counts)
    assert seen["opacities"] == pytest.approx(palette.opacity(counts))
    assert not any(seen["start"]["input"])


def places(browser: Browser, *selectors: str) -> dict[str, tuple[float, float, float, float]]:
    """Return the left, top, right and bottom edge of the elements, in CSS pixels of the screen."""
    script = "{left, top, right, bottom} = document.querySelector(selector).getBoundingClientRect()"
    found = browser.run(
        f"{json.dumps(selectors)}.map(selector => {{ const {script}; return [left, top, right, bottom]; }})"
    )
    return dict(zip(selectors, found, strict=True))


def touch(browser: Browser, kind: str, *points: tuple[float, float]) -> None:
    """Touch the pad at `points`, in fractions of it; at none, when the finger is lifted."""
    left, top, right, bottom = places(browser, "#pad")["#pad"]
    at = [{"x": left + x * (right - left), "y": top + y * (bottom - top)} for x, y in points]
    browser("Input.dispatchTouchEvent", type=kind, touchPoints=at)


TOPS = "(elements => [...elements].map(element => element.getBoundingClientRect().top))"
# The next frame, and the network's run after it.
SETTLED = "new Promise(resolve => requestAnimationFrame(() => setTimeout(() => setTimeout(resolve))))"


@needs_browser
@pytest.mark.parametrize(("width", "height"), [(390, 844), (360, 640)])
def test_all_that_one_needs_while_drawing_is_on_one_screen(width, height, made, browser, tmp_path):
    (tmp_path / "page.html").write_text(made.make())
    browser.open(tmp_path / "page.html", width, height)
    others = browser.run(f"{TOPS}(document.querySelectorAll('h1, h2, main > p, button, small, .tile'))")
    assert places(browser, "#pad")["#pad"][1] < min(others)  # the pad is the first thing on the page
    touch(browser, "touchStart", (0.3, 0.2))
    for y in np.linspace(0.2, 0.9, 8):
        touch(browser, "touchMove", (0.5, float(y)))
    browser.run(SETTLED)  # the finger is down
    assert browser.run("scrollY") == 0
    assert browser.run("strokes.length") == 1
    boxes = places(browser, "#pad", "#answer", "#answer b", "#undo", "#clear", "#probabilities", "#input")
    for name, (left, top, right, bottom) in boxes.items():
        assert 0 <= left < right <= width, name
        assert 0 <= top < bottom <= height, name
    pad, answer = boxes["#pad"], boxes["#answer b"]
    assert answer[0] >= pad[2]  # beside the pad
    assert answer[3] <= pad[3]
    assert browser.run("rows.every(([name, , number]) => name.textContent && number.textContent)")
    assert browser.run("$('answer').getAttribute('role')") == "status"
    touch(browser, "touchEnd")
    browser.run("data.sure = 0, redraw()")
    if max(map(len, dataset.CLASSES)) == 1:
        assert browser.run("parseFloat(getComputedStyle(document.querySelector('#answer b')).fontSize)") >= 60


GARMENTS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
# Labels that are not on one line, or reach out of their element or of the screen.
LABELS = "button, th, td, figcaption, dt, summary, b, main span, .hint, .tile small:first-child"
BAD_LABELS = """(selector => [...document.querySelectorAll(selector)]
  .filter(element => element.checkVisibility() && element.textContent && !element.childElementCount)
  .filter(element => {
    const range = document.createRange();
    range.selectNodeContents(element);
    const [text, box] = [range, element].map(it => it.getBoundingClientRect());
    const left = Math.max(box.left - 1, 0), right = Math.min(box.right + 1, innerWidth);
    const within = text.left >= left && text.right <= right;
    return !within || range.getClientRects().length > 1 && !element.matches("#answer b, p span");
  }).map(element => element.outerHTML.slice(0, 200)))"""


@needs_browser
@pytest.mark.parametrize(
    "classes", [pytest.param(dataset.CLASSES, marks=pytest.mark.slow), GARMENTS], ids=["own", "long"]
)
def test_labels_fit_screens_of_all_widths(classes, made, browser, tmp_path, monkeypatch):
    monkeypatch.setattr("lenet.report.page.CLASSES", classes)
    (tmp_path / "page.html").write_text(made.make(metrics=metrics(val={"accuracy": 0.9, "loss": 0.1})))
    for width, scheme in itertools.product((360, 390, 768, 1280), ("light", "dark")):
        browser.open(tmp_path / "page.html", width, 844, scheme)
        for doubt in (0, 1):
            browser.run(f"data.sure = {doubt}, setDrawing([[[0.3, 0.2], [0.5, 0.8]]])")
            browser.run("for (const cell of rows[0]) cell.classList.add('best'); rows[0][2].textContent = '>99.9%'")
            assert browser.run("document.documentElement.scrollWidth") <= width
            assert browser.run(f"{BAD_LABELS}('{LABELS}')") == [], (width, doubt)


def first_layers(model: LeNet5) -> list[nn.Module]:
    """Return the layers of `model` before the second one with weights."""
    later = [i for i, layer in enumerate(model) if i and isinstance(layer, nn.Conv2d | nn.Linear | nn.Flatten)]
    return list(model)[: later[0]]


@needs_browser
@pytest.mark.parametrize(
    "name", ["LeNet-5", "tanh", "average pooling", "batch normalisation", "three convolutions", "a small kernel"]
)
def test_the_convolution_shows_what_pytorch_computes(name, made, browser, tmp_path):
    small = {"C1": nn.Conv2d(1, 6, 2, padding=2), "S2": nn.MaxPool2d(4, 2)}  # 31×31, then 14×14
    model = variants.lenet5(**small) if name == "a small kernel" else variants.make(name)
    image, convolution = made.images[3], model[0]
    standardised = model.standardise(torch.from_numpy(image)[None, None])
    convolved, last = convolution(standardised).detach(), nn.Sequential(*first_layers(model))(standardised).detach()
    sobel = [ndimage.sobel(standardised[0, 0], axis, mode="constant") for axis in (1, 0)]
    size, stride, padding = convolution.kernel_size, convolution.stride, convolution.padding
    pools = [network._pooling("", layer) for layer in first_layers(model) if hasattr(layer, "ceil_mode")]

    # `made` holds the predictions of another model, which the page shows all the same.
    (tmp_path / "page.html").write_text(page(model, PARAMS, **made.given).decode())
    browser.open(tmp_path / "page.html", 390, 844)
    browser.run(f"setDrawing([], decode('{base64.b64encode(image.tobytes()).decode()}'))")
    kernels, learned = browser.run("document.querySelectorAll('#kernels button').length"), convolution.out_channels
    assert kernels == learned + (2 if min(size) >= 3 else 0)
    assert browser.run("$('sobel').hidden") == (kernels == learned)
    checked = 0
    for kernel, key in itertools.product((0, learned - 1, *range(learned, kernels)), ("Right", "Down", "Up", "Left")):
        press = f"input.dispatchEvent(new KeyboardEvent('keydown', {{key: 'Arrow{key}'}}))"
        label, said = browser.run(
            f"document.querySelectorAll('#kernels button')[{kernel}].click(), (input => ({press}, "
            "[input.getAttribute('aria-label'), $('sum').textContent]))(document.querySelector('#slide canvas'))"
        )
        place = [int(number) - 1 for number in re.findall(r"\d+", label)]
        total, *others = (float(value) for value in re.findall(r"(?<=: )-?\d+\.\d{4}", said.replace("\u2212", "-")))
        if kernel >= learned:
            row, column = (at * stride[axis] - padding[axis] + (size[axis] - 1) // 2 for axis, at in enumerate(place))
            assert total == pytest.approx(sobel[kernel - learned][row, column], abs=1e-4)
        else:
            bias = 0 if convolution.bias is None else convolution.bias[kernel].item()
            assert total + bias == pytest.approx(convolved[0, kernel, *place].item(), abs=1.5e-4)
            assert (total, *others)[bias != 0] == pytest.approx(convolved[0, kernel, *place].item(), abs=1e-4)
            for pool in pools:
                place = [(at + pool["padding"][axis]) // pool["stride"][axis] for axis, at in enumerate(place)]
            assert others[-1] == pytest.approx(last[0, kernel, *place].item(), abs=1e-4)
        checked += abs(total) > 0.1
    assert checked


@needs_browser
@pytest.mark.parametrize("name", ["an MLP", "normalised pixels"])
def test_without_a_convolution_of_the_pixels_there_is_none_to_show(name, made, browser, tmp_path):
    (tmp_path / "page.html").write_text(page(variants.make(name), PARAMS, **made.given).decode())
    browser.open(tmp_path / "page.html", 390, 844)
    assert browser.run("$('convolution').hidden")
    assert browser.run("setDrawing([[[0.3, 0.2], [0.5, 0.8]]]), $('answer').textContent").startswith("not sure")


@needs_browser
def test_the_kernel_moves_by_the_pointer_and_by_steps(made, browser, tmp_path):
    (tmp_path / "page.html").write_text(made.make())
    browser.open(tmp_path / "page.html", 1280, 900)
    label = "document.querySelector('#slide canvas').getAttribute('aria-label')"
    browser.run("document.querySelector('#slide canvas').scrollIntoView()")
    left, top, right, bottom = places(browser, "#slide canvas")["#slide canvas"]
    browser.point("mouseMoved", (left + right) / 2, (top + bottom) / 2)
    assert browser.run(label).endswith("row 15, column 15")
    browser.point("mouseMoved", left + 8, bottom - 8)  # inside its rounded corner
    assert browser.run(label).endswith("row 28, column 1")
    for button, place in (("step", "row 28, column 2"), ("back", "row 28, column 1"), ("back", "row 27, column 28")):
        assert browser.run(f"$('{button}').click(), {label}").endswith(place)
    assert [browser.run("$('play').click(), $('play').textContent") for _ in range(2)] == ["Pause", "Play"]


@needs_browser
def test_the_animation_shows_a_digit_being_drawn(made, browser, tmp_path):
    (tmp_path / "page.html").write_text(made.make())
    browser.open(tmp_path / "page.html", animation.WIDTH, animation.HEIGHT)
    frames = animation.draw(browser, animation.five(4))
    assert {frame.size for frame in frames} == {(animation.WIDTH, animation.HEIGHT)}
    pad = tuple(places(browser, "#pad")["#pad"])
    ink = [(np.asarray(frame.crop(pad).convert("L")) < 60).sum() for frame in frames]
    assert len(ink) == 1 + 4 + 2 + 1
    assert (np.diff(ink[:-1]) > 0).all()
    assert ink[-1] >= ink[-2] > 5000


def test_the_animation_needs_a_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ToolError, match=r"report\.html is missing: run dvc repro"):
        animation.main()


def test_the_committed_animation_is_small():
    with Image.open(ROOT / animation.DRAWING) as drawing:
        assert drawing.n_frames > 20
        assert drawing.size == (animation.WIDTH, animation.HEIGHT)
    assert (ROOT / animation.DRAWING).stat().st_size <= 600_000


def test_a_run_writes_the_page(finished: Project):
    text = (finished.root / "report.html").read_text()
    assert '"test accuracy"' in text
    assert "MNIST: 200 training and 100 test images" in text
