"""`python -m tools.predict` finds the digit in a picture, whatever paper, size and format it has."""

import contextlib
import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lenet.data import dataset
from lenet.doubt import doubt
from lenet.errors import PipelineError
from lenet.ink import convert, like_mnist
from lenet.model import LeNet5, to_bytes
from tools.predict import read, words

# An F, which no turn and no mirror makes another F.
F = [[(0.35, 0.8), (0.35, 0.2), (0.7, 0.2)], [(0.35, 0.5), (0.6, 0.5)]]


def drawn(side: int = 600, ink: object = 20, paper: object = 235, mode: str = "L", pen: float = 1 / 15) -> Image.Image:
    picture = Image.new(mode, (side, side), paper)
    for stroke in F:
        ImageDraw.Draw(picture).line([(x * side, y * side) for x, y in stroke], ink, int(side * pen))
    return picture


def saved(picture: Image.Image, folder: Path, kind: str = "png", **options: object) -> Path:
    path = folder / f"picture.{kind}"
    picture.save(path, **options)
    return path


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown after a quarter turn to the right
    return exif


PICTURES = {
    "light on dark": lambda folder: saved(drawn(ink=230, paper=15), folder),
    "pale": lambda folder: saved(drawn(ink=180, paper=235), folder),
    "colours": lambda folder: saved(drawn(ink=(20, 30, 120), paper=(250, 240, 200), mode="RGB"), folder),
    "JPEG": lambda folder: saved(drawn(), folder, "jpg", quality=50),
    "turned by EXIF": lambda folder: saved(drawn().rotate(90), folder, "jpg", exif=turned()),
    "black on transparent": lambda folder: saved(drawn(ink=(0, 0, 0, 255), paper=(0, 0, 0, 0), mode="RGBA"), folder),
    "white on transparent": lambda folder: saved(drawn(ink=(255,) * 4, paper=(255, 255, 255, 0), mode="RGBA"), folder),
    "grey and alpha": lambda folder: saved(drawn().convert("LA"), folder),
    "a palette": lambda folder: saved(drawn().convert("P"), folder),
    "one bit": lambda folder: saved(drawn(paper=255, ink=0).convert("1"), folder),
    "sixteen bits": lambda folder: saved(Image.fromarray(np.array(drawn()).astype(np.uint16) * 257), folder),
    "several megapixels": lambda folder: saved(drawn(3000), folder, "jpg"),
    "small": lambda folder: saved(drawn(90), folder),
    "wide": lambda folder: saved(drawn().crop((-900, 0, 700, 600)).point(lambda grey: grey or 235), folder),
    "cut close": lambda folder: saved(drawn().crop((180, 90, 440, 500)), folder),
    "a shadow": lambda folder: saved(
        Image.fromarray((np.array(drawn()) * np.linspace(0.5, 1, 600)).astype(np.uint8)), folder
    ),
    "specks": lambda folder: saved(specks(drawn()), folder),
    "a blot far away": lambda folder: saved(blot(drawn(), (540, 60, 592, 112), 20), folder),
    "a faint blot": lambda folder: saved(blot(drawn(), (470, 250, 560, 360), 180), folder),
    "WebP": lambda folder: saved(drawn(), folder, "webp"),
    "BMP": lambda folder: saved(drawn().convert("RGB"), folder, "bmp"),
    "TIFF": lambda folder: saved(drawn().convert("CMYK"), folder, "tiff"),
    "floating point": lambda folder: saved(drawn().convert("F"), folder, "tiff"),
    "the first of a GIF": lambda folder: saved(
        drawn(), folder, "gif", save_all=True, append_images=[drawn().rotate(180)]
    ),
    "a wrong name": lambda folder: saved(drawn(), folder, "png").rename(folder / "picture.txt"),
    "a thin pen": lambda folder: saved(drawn(pen=0.01), folder),
    "a frame": lambda folder: saved(framed(drawn()), folder),
    "a sheet on a table": lambda folder: saved(sheet(drawn(300)), folder),
    "ruled": lambda folder: saved(ruled(drawn()), folder),
    "a hard shadow": lambda folder: saved(
        Image.fromarray((np.array(drawn()) * np.repeat([0.5, 1], 300)).astype(np.uint8)), folder
    ),
}


def specks(picture: Image.Image) -> Image.Image:
    for x, y in ((30, 40), (560, 570), (500, 60)):
        ImageDraw.Draw(picture).ellipse((x, y, x + 8, y + 8), 20)
    return picture


def blot(picture: Image.Image, box: tuple[int, int, int, int], grey: int) -> Image.Image:
    ImageDraw.Draw(picture).ellipse(box, grey)
    return picture


def framed(picture: Image.Image) -> Image.Image:
    ImageDraw.Draw(picture).rectangle((60, 60, 540, 540), outline=20, width=6)
    return picture


def sheet(picture: Image.Image) -> Image.Image:
    table = Image.new("L", (700, 600), 90)
    turned = picture.rotate(5, expand=True, fillcolor=90)
    table.paste(turned, (200, 150))
    return table.rotate(-5, fillcolor=90)


def ruled(picture: Image.Image) -> Image.Image:
    page = np.array(picture)
    page[20::45] = np.minimum(page[20::45], 190)
    return Image.fromarray(page)


@pytest.mark.parametrize("name", PICTURES)
def test_the_digit_is_found(name, tmp_path):
    seen = like_mnist(read(PICTURES[name](tmp_path))).astype(float)
    expected = like_mnist(np.array(drawn())).astype(float)
    assert np.abs(seen - expected).sum() < 0.25 * expected.sum()


def test_the_rule_of_mnist():
    seen = like_mnist(np.array(drawn()))
    rows, columns = np.nonzero(seen)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, pytest.approx(12, abs=1))
    centre = (seen * np.indices((28, 28))).sum((1, 2)) / seen.sum()
    np.testing.assert_allclose(centre, 14, atol=0.51)
    assert (seen.dtype, seen.max()) == (np.uint8, 255)


def test_a_digit_of_mnist_stays_what_it_is():
    """Where the box and the centre are MNIST's already, nothing changes."""
    image = np.zeros((28, 28), np.uint8)
    image[5:25, 11:18] = 255  # a block of ink
    seen = like_mnist(image)
    np.testing.assert_array_equal(seen, image)


def test_thin_lines_become_as_thick_as_those_of_mnist():
    thin, thick = (like_mnist(np.array(drawn(pen=pen))).sum() for pen in (0.005, 1 / 15))
    assert thin > 0.7 * thick


def test_several_digits():
    with pytest.raises(PipelineError, match="more than one digit"):
        like_mnist(np.hstack([np.array(drawn())] * 2))


def test_a_digit_in_two_strokes_is_one():
    page = np.array(drawn())
    page[280:310] = 235  # cut the F in two
    like_mnist(page)


def test_noise_is_no_ink():
    noise = np.random.default_rng(0).normal(200, 5, (300, 400)).clip(0, 255).astype(np.uint8)
    with pytest.raises(PipelineError, match="no ink"):
        like_mnist(noise)


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (3, 2), (8, 8), (28, 28), (200, 30)])
def test_whatever_it_shows_there_is_an_answer(shape):
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with contextlib.suppress(PipelineError):
        assert like_mnist(noise).shape == (28, 28)


def test_doubt():
    assert doubt([0.1, 0.85, 0.05]) == []
    assert doubt([0.3, 0.65, 0.05]) == [1, 0]
    assert doubt([0.1, 0.2, 0.3, 0.4]) == [3, 2]
    assert doubt([0.2, 0.8]) == []


def test_the_answer_in_words(monkeypatch):
    monkeypatch.setattr("tools.predict.CLASSES", ("cat", "dog", "fly"))
    assert words([0.0001, 0.9999, 0], False) == "dog (99.9 %)"
    assert words([0, 1.0, 0], True) == "dog (100 %), cat (0.0 %), fly (0.0 %)"
    assert words([0.04, 0.951, 0.009], False) == "dog (95.1 %), cat (4.0 %)"
    assert words([0.4, 0.595, 0.005], False) == "not sure: dog or cat? dog (59.5 %), cat (40.0 %)"


OTHER_FILES = {
    b"%PDF-1.7": "is a PDF: save its page as a PNG",
    b"\0\0\0\x18ftypheic": "is HEIC, a photo of an iPhone: share or export it as JPEG",
    b'<?xml version="1.0"?><svg>': "is SVG, a drawing of lines: save it as PNG",
    b"": "is empty",
    b"hello": "is no picture that can be read (PNG, JPEG, WEBP, BMP, TIFF, GIF), or it is damaged",
}


@pytest.mark.parametrize("content", OTHER_FILES)
def test_other_files_get_an_answer_that_helps(content, tmp_path):
    (tmp_path / "file.png").write_bytes(content)
    with pytest.raises(PipelineError, match="^" + re.escape(OTHER_FILES[content])):
        read(tmp_path / "file.png")


@pytest.mark.parametrize("shape", [(1, 1), (40, 60), (900, 9)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_no_ink(shape, value):
    with pytest.raises(PipelineError, match="no ink"):
        like_mnist(np.full(shape, value, np.uint8))


def test_a_data_set_that_is_not_drawn(monkeypatch):
    """Its pictures are only resized, and only turned dark where their border is light."""
    monkeypatch.setattr(dataset, "LIKE_MNIST", False)
    image = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    image[0] = image[-1] = 0
    image[:, [0, -1]] = 0
    np.testing.assert_array_equal(convert(image), image)
    np.testing.assert_array_equal(convert(255 - image), image)
    tall = convert(np.pad(np.full((200, 100), 200, np.uint8), 4))
    rows, columns = np.nonzero(tall)
    assert (np.ptp(rows), np.ptp(columns)) == (pytest.approx(27, abs=1), pytest.approx(13, abs=1))
    assert abs(columns.mean() - 13.5) <= 0.5


def test_as_a_user_sees_it(tmp_path, monkeypatch, tool):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dataset, "LIKE_MNIST", True)
    trained = to_bytes(LeNet5(0.13, 0.31))
    out = {"path": "models/lenet5.safetensors", "md5": hashlib.md5(trained).hexdigest()}
    (tmp_path / "dvc.lock").write_text(json.dumps({"stages": {"train": {"outs": [out]}}}))
    status, _, errors = tool("predict", "a.png")
    assert (status, errors.startswith("error: there is neither ")) == (2, True)
    for folder in ("release", "models"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "lenet5.safetensors").write_bytes(trained)
    saved(drawn(), tmp_path)
    Image.new("L", (20, 20), 255).save("blank.png")
    buffer = io.BytesIO()
    drawn().save(buffer, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(buffer.getvalue()[:2000])
    (tmp_path / "empty.png").touch()
    names = ["picture.png", "blank.png", "cut.jpg", "empty.png", "nowhere.png", "models"]
    status, printed, errors = tool("predict", "--save", "seen", *names)
    assert status == 2
    assert re.fullmatch(r"picture\.png: not sure: .* or .*\? (.+ \(\d+\.\d %\)(, )?)+\n", printed)
    assert errors.splitlines() == [
        "model: models/lenet5.safetensors",
        "error: blank.png shows no ink (dark on light paper or light on dark paper)",
        "error: cut.jpg can't be read: it is damaged",
        "error: empty.png is empty",
        "error: nowhere.png can't be read: No such file or directory",
        "error: models can't be read: Is a directory",
    ]
    (tmp_path / "models/lenet5.safetensors").write_bytes(to_bytes(LeNet5(0.2, 0.3)))
    assert tool("predict", "picture.png") == (0, printed, "model: release/lenet5.safetensors\n")
    status, lines, _ = tool("predict", "--json", "picture.png", "blank.png")
    seen, blank = map(json.loads, lines.splitlines())
    assert (status, set(blank)) == (2, {"file", "error"})
    assert (list(seen["probabilities"]), seen["sure"]) == (list(dataset.CLASSES), False)
    assert seen["probability"] == seen["probabilities"][seen["class"]] == max(seen["probabilities"].values())
    _, everything, _ = tool("predict", "--all", "picture.png")
    assert everything.count("%") == len(dataset.CLASSES)
    kept = np.array(Image.open("seen/picture.png"))
    assert (kept == 255 - like_mnist(read(Path("picture.png")))).all()
