"""`python -m tools.predict` finds the digit in a picture, whatever paper, size and format it has."""

import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lenet.data import dataset
from lenet.errors import PipelineError
from lenet.ink import convert, like_mnist
from lenet.model import LeNet5, to_bytes
from tools.predict import read

# An F, which no turn and no mirror makes another F.
F = [[(0.35, 0.8), (0.35, 0.2), (0.7, 0.2)], [(0.35, 0.5), (0.6, 0.5)]]


def drawn(side: int = 600, ink: object = 20, paper: object = 235, mode: str = "L") -> Image.Image:
    picture = Image.new(mode, (side, side), paper)
    for stroke in F:
        ImageDraw.Draw(picture).line([(x * side, y * side) for x, y in stroke], ink, side // 15)
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
}


def specks(picture: Image.Image) -> Image.Image:
    for x, y in ((30, 40), (560, 570), (500, 60)):
        ImageDraw.Draw(picture).ellipse((x, y, x + 8, y + 8), 20)
    return picture


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
    first, *_, last = dataset.CLASSES
    assert re.fullmatch(rf"picture\.png: .* \({first} \d+\.\d%, .*, {last} \d+\.\d%\)\n", printed)
    assert errors.splitlines() == [
        "model: models/lenet5.safetensors",
        "error: blank.png shows no ink (dark on light paper or light on dark paper)",
        "error: cut.jpg can't be read: it is damaged",
        "error: empty.png is not a PNG or JPEG, or is too large",
        "error: nowhere.png can't be read: No such file or directory",
        "error: models can't be read: Is a directory",
    ]
    (tmp_path / "models/lenet5.safetensors").write_bytes(to_bytes(LeNet5(0.2, 0.3)))
    assert tool("predict", "picture.png") == (0, printed, "model: release/lenet5.safetensors\n")
    kept = np.array(Image.open("seen/picture.png"))
    assert (kept == 255 - like_mnist(read(Path("picture.png")))).all()
