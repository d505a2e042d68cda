"""Measure how `tools.predict` reads pictures, on pictures that this file draws.

    python -m tools.dev.pictures docs/pictures.csv docs/no-digit.csv

draws pictures as photographs, scans, screenshots and drawing programs give them, and writes a row for each kind. The
digits are validation images of MNIST drawn again with a pen, strokes that are defined here, and fonts. The second table
says which share of pictures without a digit each measure of doubt notices, at one false alarm in a hundred validation
images. No test image is used.
"""

import argparse
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from skimage.morphology import skeletonize
from torch import Tensor, nn

from lenet.data import folds
from lenet.data.dataset import CLASSES, TITLE
from lenet.doubt import doubt
from lenet.errors import PipelineError
from lenet.ink import like_mnist
from lenet.model import NAME, LeNet5, from_bytes, predict
from stages.artifacts import mnist
from stages.launch.pipeline import load
from tools.errors import run
from tools.predict import recorded_model

Random = np.random.Generator
Ink = np.ndarray  # the share of each pixel that is covered by ink, float H×W, 0 to 1

FONTS = [
    "DejaVuSans",
    "DejaVuSans-Oblique",
    "DejaVuSerif",
    "DejaVuSansMono",
    "STIXGeneral",
    "cmr10",
    "cmss10",
    "cmtt10",
]

# The strokes of a digit, drawn by hand in one way or another: points (x, y) in a unit square, joined by round curves.
# A point that is given twice is a corner.
STROKES = {
    "0": [[[(5, 0), (1, 1), (0, 5), (1, 9), (5, 10), (8, 9), (9, 5), (8, 1), (4, 0)]]],
    "1": [[[(5, 0), (5, 10)]], [[(3, 2), (5, 0), (5, 0), (5, 10)], [(2, 10), (8, 10)]]],
    "2": [[[(1, 3), (2, 0), (7, 0), (8, 4), (1, 10), (1, 10), (9, 10)]]],
    "3": [[[(1, 1), (5, -1), (9, 2), (6, 5), (4, 5), (4, 5), (7, 5), (9, 8), (5, 11), (1, 9)]]],
    "4": [[[(3, 0), (1, 6), (1, 6), (9, 6)], [(7, 3), (6, 10)]], [[(6, 0), (0, 7), (0, 7), (9, 7)], [(6, 0), (6, 10)]]],
    "5": [[[(2, 0), (2, 4), (2, 4), (6, 3), (9, 6), (6, 10), (1, 9)], [(2, 0), (8, 0)]]],
    "6": [[[(7, 0), (3, 2), (1, 7), (3, 10), (7, 10), (8, 7), (5, 5), (1, 7)]]],
    "7": [[[(1, 0), (9, 0), (9, 0), (4, 10)]], [[(1, 0), (9, 0), (9, 0), (4, 10)], [(3, 5), (8, 5)]]],
    "8": [[[(8, 1), (5, 0), (1, 1), (2, 4), (8, 6), (8, 10), (2, 10), (1, 7), (8, 4), (8, 1), (7, 0)]]],
    "9": [[[(8, 2), (4, 0), (1, 3), (4, 6), (8, 2), (8, 2), (8, 6), (7, 10)]]],
}  # fmt: skip
SHAPES = {
    "cross": [[(0, 0), (10, 10)], [(10, 0), (0, 10)]],
    "triangle": [[(5, 0), (5, 0), (10, 9), (10, 9), (0, 9), (0, 9), (5, 0)]],
    "square": [[(0, 0), (0, 0), (9, 0), (9, 0), (9, 9), (9, 9), (0, 9), (0, 9), (0, 0)]],
    "star": [[(2, 10), (5, 0), (5, 0), (8, 10), (8, 10), (0, 4), (0, 4), (10, 4), (10, 4), (2, 10)]],
    "heart": [[(5, 10), (0, 4), (1, 0), (4, 0), (5, 3), (5, 3), (6, 0), (9, 0), (10, 4), (5, 10)]],
    "arrow": [[(0, 5), (10, 5)], [(6, 1), (10, 5), (10, 5), (6, 9)]],
    "check": [[(0, 6), (3, 10), (3, 10), (10, 0)]],
    "house": [[(0, 10), (0, 4), (0, 4), (5, 0), (5, 0), (10, 4), (10, 4), (10, 10), (10, 10), (0, 10)]],
    "waves": [[(0, 3), (2, 0), (4, 3), (6, 0), (8, 3), (10, 0)], [(0, 8), (2, 5), (4, 8), (6, 5), (8, 8), (10, 5)]],
}
PLUS = [[(5, 0), (5, 10)], [(0, 5), (10, 5)]]
LETTERS = "AEFHKMNPRTVWXYaehkmnrtvwx"


def curved(points: list[tuple[float, float]]) -> np.ndarray:
    """Return a smooth line, N×2, along `points` (Chaikin's algorithm)."""
    line = np.array(points, float)
    for _ in range(4):
        a, b = line[:-1], line[1:]
        line = np.concatenate(
            [line[:1], np.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], 1).reshape(-1, 2), line[-1:]]
        )
    return line


def pen(lines: list[np.ndarray], height: float, width: float, random: Random, turn: float = 8) -> Ink:
    """Return `lines` (each N×2: x, y), a little slanted and turned, drawn with their longer side `height`.

    The `width` of the pen is a share of `height`, `turn` in degrees.
    """
    angle, shear, narrow = np.radians(random.uniform(-turn, turn)), random.uniform(-0.2, 0.2), random.uniform(0.75, 1)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ [[narrow, -shear], [0, 1]]
    lines = [line @ matrix.T for line in lines]
    low, high = (function(np.concatenate(lines), axis=0) for function in (np.min, np.max))
    scale, margin = height * (1 - width) / (high - low).max(), height * width / 2 + 2
    size = np.ceil((high - low) * scale + 2 * margin).astype(int) + 1
    page = Image.new("1", (int(size[0]), int(size[1])))
    for line in lines:
        ImageDraw.Draw(page).line([tuple(point) for point in (line - low) * scale + margin], 1)
    drawn: Ink = (height * width / 2 + 0.5 - ndimage.distance_transform_edt(~np.array(page))).clip(0, 1)
    return drawn


def strokes(shape: list[list[tuple[int, int]]], random: Random) -> list[np.ndarray]:
    """Return the strokes of a drawing, as an unsteady hand draws them."""
    moved = {point: np.array(point) + random.normal(0, 0.35, 2) for stroke in shape for point in stroke}
    return [curved([tuple(moved[point]) for point in stroke]) for stroke in shape]


def skeleton(image: np.ndarray) -> list[np.ndarray]:
    """Return the strokes of a digit of MNIST: a line between each two pixels of its skeleton that touch."""
    large = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC))
    pixels = {(int(x), int(y)) for y, x in np.argwhere(skeletonize(ndimage.gaussian_filter(large, 3) > 100))}
    steps = ((1, 0), (0, 1), (1, 1), (1, -1))
    return [
        np.array([(x, y), (x + dx, y + dy)])
        for x, y in sorted(pixels)
        for dx, dy in steps
        if (x + dx, y + dy) in pixels
    ]


def letter(text: str, height: float, random: Random) -> Ink:
    """Return `text` in one of FONTS, with its longer side `height`."""
    path = Path(matplotlib.get_data_path(), "fonts/ttf", f"{random.choice(FONTS)}.ttf")
    page = Image.new("L", (600, 600))
    ImageDraw.Draw(page).text((300, 300), text, 255, ImageFont.truetype(path, 300), anchor="mm")
    page = page.crop(page.getbbox())
    scale = height / max(page.size)
    return np.asarray(page.resize([max(1, round(side * scale)) for side in page.size], Image.Resampling.BOX)) / 255


class Hand:
    """Writes digits: those of `images` (uint8 N×28×28) with these `labels`, and its own."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, random: Random) -> None:
        self.images, self.labels, self.random = images, labels, random

    def digit(self, label: int, height: float, width: float, turn: float = 8) -> Ink:
        """Return the digit `label`, `height` pixels high or wide, drawn with a pen of `width`, a share of that."""
        if self.random.random() < 0.5:
            shapes = STROKES[str(label)]
            lines = strokes(shapes[self.random.integers(len(shapes))], self.random)
        else:
            lines = skeleton(self.images[self.random.choice(np.flatnonzero(self.labels == label))])
        return pen(lines, height, width, self.random, turn)


def sheet(random: Random, low: int = 250, high: int = 900) -> np.ndarray:
    """Return an empty page, float H×W, of some size and brightness."""
    height = random.integers(low, high)
    return np.full((height, int(height * random.uniform(0.7, 1.4))), random.uniform(0.75, 1))


def put(page: np.ndarray, ink: Ink, tone: float | np.ndarray, random: Random, box: tuple[int, ...] = ()) -> None:
    """Draw `ink` of the brightness `tone` somewhere within `page`, or its `box` (top, left, bottom, right)."""
    top, left, bottom, right = box or (0, 0, *page.shape)
    y, x = (int(random.uniform(a, max(a, b))) for a, b in ((top, bottom - ink.shape[0]), (left, right - ink.shape[1])))
    part = page[y : y + ink.shape[0], x : x + ink.shape[1]]
    ink = ink[: part.shape[0], : part.shape[1]]
    part += ink * (tone - part)


def camera(page: np.ndarray, random: Random) -> np.ndarray:
    """Return `page` as a camera shows it: with a slope in the light, blurred, and with noise."""
    slope = 1 - random.uniform(0, 0.35) * ramp(page.shape, random, 1)
    result: np.ndarray = ndimage.gaussian_filter(page * slope, random.uniform(0.3, 1.5)) + random.normal(
        0, random.uniform(0, 0.02), page.shape
    )
    return result


def ramp(shape: tuple[int, ...], random: Random, width: float) -> np.ndarray:
    """Return 0 on one side of a line across the page, 1 on the other, and a slope of `width` between."""
    angle = random.uniform(0, 2 * np.pi)
    y, x = np.indices(shape) / max(shape) - np.array(shape)[:, None, None] / 2 / max(shape)
    across = x * np.cos(angle) + y * np.sin(angle) + random.uniform(-0.25, 0.25)
    result: np.ndarray = (across / width + 0.5).clip(0, 1)
    return result


def grain(shape: tuple[int, ...], random: Random, size: float) -> np.ndarray:
    """Return noise of about unit deviation with spots of `size` pixels."""
    noise = ndimage.gaussian_filter(random.normal(size=shape), size)
    result: np.ndarray = noise / noise.std()
    return result


def lines(page: np.ndarray, random: Random, across: bool) -> None:
    """Print lines on `page`; and others `across` them."""
    step = max(page.shape) / random.uniform(6, 18)
    tone, width = page[0, 0] * random.uniform(0.6, 0.88), random.integers(1, 3)
    for axis in range(1 + across):
        for at in np.arange(random.uniform(0, step), page.shape[axis] - width, step).astype(int):
            page.swapaxes(0, axis)[at : at + width] = tone


def frame(page: np.ndarray, box: tuple[int, ...], tone: float, width: int) -> None:
    """Draw the edges of a `box`."""
    top, left, bottom, right = box
    for part in (
        page[top : top + width, left:right],
        page[bottom - width : bottom, left:right],
        page[top:bottom, left : left + width],
        page[top:bottom, right - width : right],
    ):
        part[:] = tone


def dark(random: Random) -> float:
    """Return the brightness of some dark ink."""
    return random.uniform(0, 0.3)


def plain(hand: Hand, label: int, random: Random, **options: float) -> np.ndarray:
    """Draw dark ink on a light page."""
    page = sheet(random)
    put(page, on(page, hand, label, random, **options), dark(random), random)
    return page


def on(
    page: np.ndarray,
    hand: Hand,
    label: int,
    random: Random,
    low: float = 0.35,
    high: float = 0.8,
    thin: float = 0.06,
    thick: float = 0.15,
    turn: float = 8,
) -> Ink:
    """Return a digit for `page`: its height `low` to `high` of the page's, its pen `thin` to `thick` of its own."""
    return hand.digit(label, random.uniform(low, high) * min(page.shape), random.uniform(thin, thick), turn)


def as_mnist(hand: Hand, label: int, random: Random) -> np.ndarray:
    """Show an image of MNIST as it is, or enlarged, or in dark on light."""
    image: np.ndarray = hand.images[random.choice(np.flatnonzero(hand.labels == label))] / 255
    if random.random() < 0.5:
        image = ndimage.zoom(image, random.integers(2, 12), order=1)
    return image if random.random() < 0.5 else 1 - image


def printed(hand: Hand, label: int, random: Random) -> np.ndarray:
    """Draw a digit of a font."""
    page = sheet(random)
    put(page, letter(str(label), random.uniform(0.15, 0.8) * min(page.shape), random), dark(random), random)
    return page


def pencil(hand: Hand, label: int, random: Random) -> np.ndarray:
    """Draw a thin, grainy, grey line."""
    page = sheet(random)
    ink = on(page, hand, label, random, thin=0.02, thick=0.06)
    put(
        page,
        ink * (0.75 + 0.2 * grain(ink.shape, random, 0.7)).clip(0.2, 1),
        page[0, 0] * random.uniform(0.4, 0.7),
        random,
    )
    return camera(page, random)


def chalk(hand: Hand, label: int, random: Random) -> np.ndarray:
    """Draw with chalk on a board that was wiped."""
    page = np.full_like(sheet(random), random.uniform(0.1, 0.35))
    page = page + random.uniform(0, 0.03) * grain(page.shape, random, 30) + 0.015 * grain(page.shape, random, 1)
    ink = on(page, hand, label, random, thin=0.04, thick=0.1)
    put(page, ink * (0.75 + 0.25 * grain(ink.shape, random, 1)).clip(0.1, 1), random.uniform(0.7, 0.95), random)
    return camera(page, random)


def shaded(width: float) -> Callable[[Hand, int, Random], np.ndarray]:
    """Return a function that draws a page with a shadow, whose edge has a `width` of the page's."""

    def picture(hand: Hand, label: int, random: Random) -> np.ndarray:
        page = plain(hand, label, random, thin=0.03)
        return camera(
            page * (1 - random.uniform(0.25, 0.6) * ramp(page.shape, random, width * random.uniform(0.5, 1.5))), random
        )

    return picture


def on_lines(across: bool) -> Callable[[Hand, int, Random], np.ndarray]:
    """Return a function that draws on ruled paper, or on squared paper if there are lines `across`."""

    def picture(hand: Hand, label: int, random: Random) -> np.ndarray:
        page = sheet(random)
        lines(page, random, across)
        put(page, on(page, hand, label, random, low=0.25, thin=0.04), dark(random), random)
        return camera(page, random)

    return picture


def boxed(hand: Hand, label: int, random: Random) -> np.ndarray:
    """Draw in a cell of a form, perhaps with its neighbours' edges."""
    page = sheet(random, 80, 500)
    side, width, tone = min(page.shape), int(random.integers(1, 5)), random.uniform(0, 0.5)
    margin = int(side * random.uniform(0.03, 0.15))
    box = (margin, margin, page.shape[0] - margin, page.shape[1] - margin)
    if random.random() < 0.3:  # a row of cells, cut out around one of them
        page[box[0] : box[0] + width] = page[box[2] - width : box[2]] = tone
    frame(page, box, tone, width)
    inner = tuple(np.add(box, int(0.06 * side) * np.array([1, 1, -1, -1])))
    put(page, on(page, hand, label, random, low=0.35, high=0.65), dark(random), random, inner)
    return camera(page, random)


def table(hand: Hand, label: int, random: Random) -> np.ndarray:
    """Draw on a sheet on a table, which is darker."""
    page = sheet(random)
    y, x = np.indices(page.shape)
    wood = 0.05 * np.sin(grain(page.shape, random, 20) + y / random.uniform(5, 30)) * (random.random() < 0.5)
    ground = random.uniform(0.15, 0.6) + wood
    angle = np.radians(random.uniform(-12, 12))
    centre = np.array(page.shape) * random.uniform(0.45, 0.55, 2)
    turned = [
        (y - centre[0]) * np.cos(angle) - (x - centre[1]) * np.sin(angle),
        (y - centre[0]) * np.sin(angle) + (x - centre[1]) * np.cos(angle),
    ]
    half = np.array(page.shape) * random.uniform(0.3, 0.4, 2)
    inside = (abs(turned[0]) < half[0]) & (abs(turned[1]) < half[1])
    ink = hand.digit(label, random.uniform(0.8, 1.2) * half.min(), random.uniform(0.04, 0.13))
    box = [*(centre - 0.7 * half), *(centre + 0.7 * half)]
    put(page, ink, dark(random), random, tuple(map(int, box)))
    return camera(np.where(inside, page, ground), random)


def screenshot(hand: Hand, label: int, random: Random) -> np.ndarray:
    """Show a drawing program, with a field to draw in and buttons."""
    page = sheet(random, 400, 900)
    page[:] = random.choice([1, 0.94, 0.2])
    height, width = page.shape
    text = 0.1 if page[0, 0] > 0.5 else 0.9
    box = (int(0.15 * height), int(0.12 * width), int(0.75 * height), int(0.88 * width))
    field = random.choice([1.0, 0.0])
    page[box[0] : box[2], box[1] : box[3]] = field
    frame(page, box, random.choice([0.5, 0.7, 0.0]), int(random.integers(1, 4)))
    if random.random() < 0.5:
        page[: height // 20] = random.uniform(0.2, 0.8)
    for i, _ in enumerate(("Clear", "Predict")):
        left = int((0.15 + 0.4 * i) * width)
        button = (int(0.82 * height), left, int(0.9 * height), left + width // 4)
        page[button[0] : button[2], button[1] : button[3]] = random.choice([0.85, page[0, 0]])
        frame(page, button, 0.5, 1)
        for j, sign in enumerate("Clear" if i else "Guess"):
            put(
                page,
                letter(sign, 0.03 * height, random),
                text,
                random,
                (button[0] + 8, left + 10 + j * width // 24, 0, 0),
            )
    put(page, on(page, hand, label, random, low=0.25, high=0.45), 1 - field, random, tuple(np.add(box, [9, 9, -9, -9])))
    return page


def nested(hand: Hand, label: int, random: Random) -> np.ndarray:
    """Put a picture within a margin, such as a figure or the scan of a photograph has."""
    inner = [plain, as_mnist, inverted][random.integers(3)](hand, label, random)
    margin = int(max(inner.shape) * random.uniform(0.1, 0.4))
    around = 1.0 if inner[0, 0] < 0.5 else random.uniform(0.1, 0.5)
    return np.pad(inner, [(margin, int(margin * random.uniform(0.5, 1.5))), (margin, margin)], constant_values=around)


def inverted(hand: Hand, label: int, random: Random) -> np.ndarray:
    """Draw light ink on a dark page."""
    return 1 - plain(hand, label, random)


def pixels(hand: Hand, label: int, random: Random) -> np.ndarray:
    """Draw with few pixels, without shades."""
    side = random.integers(24, 64)
    page = np.ones((side, side))
    ink = on(page, hand, label, random, 0.6, 0.9, 0.06, 0.12)
    put(page, (ink > 0.4) * 1.0, 0, random)
    return page if random.random() < 0.7 else 1 - page


def photo(hand: Hand, label: int, random: Random) -> np.ndarray:
    """Photograph a page, with lines, a shadow, or the table beside it."""
    page = sheet(random)
    if random.random() < 0.5:
        lines(page, random, random.random() < 0.5)
    put(
        page,
        on(page, hand, label, random, low=0.2, high=0.7, thin=0.025, thick=0.1),
        dark(random),
        random,
        tuple(int(share * side) for share in (0.1, 0.9) for side in page.shape),
    )
    if random.random() < 0.4:
        page *= 1 - random.uniform(0.2, 0.5) * ramp(page.shape, random, random.uniform(0.01, 0.6))
    if random.random() < 0.4:  # the table beside the sheet
        side = np.rot90(page, int(random.integers(4)))
        side[:, : int(0.08 * random.random() * side.shape[1])] = random.uniform(0.1, 0.5)
    y, x = np.indices(page.shape) / np.array(page.shape)[:, None, None] - 0.5
    return camera(page * (1 - random.uniform(0, 1) * (y**2 + x**2)), random)


def several(hand: Hand, label: int, random: Random) -> np.ndarray:
    """Draw two to four digits beside each other."""
    page = sheet(random)
    height, width = page.shape
    n = random.integers(2, 5)
    size = min(0.5 * height, 0.75 * width / n)
    for i in range(n):
        ink = hand.digit(int(random.integers(10)), size * random.uniform(0.8, 1.1), random.uniform(0.04, 0.13))
        left, top = int(width * (0.08 + 0.86 * i / n)), int(height * 0.25)
        put(page, ink, 0.1, random, (top, left, top + int(0.55 * height), left + int(0.8 * width / n)))
    return camera(page, random)


def blank(hand: Hand, label: int, random: Random) -> np.ndarray:
    """Draw nothing."""
    return camera(sheet(random), random)


KINDS: dict[str, Callable[..., np.ndarray]] = {
    "as MNIST has it": as_mnist,
    "a pen on paper": plain,
    "a thin pen": lambda *given: plain(*given, thin=0.01, thick=0.03),
    "a thick pen": lambda *given: plain(*given, thin=0.16, thick=0.22),
    "small": lambda *given: plain(*given, low=0.06, high=0.15),
    "turned by up to 15°": lambda *given: plain(*given, turn=15),
    "white on black": inverted,
    "a font": printed,
    "a few pixels": pixels,
    "pencil": pencil,
    "chalk": chalk,
    "a soft shadow": shaded(0.5),
    "a hard shadow": shaded(0.02),
    "ruled paper": on_lines(False),
    "squared paper": on_lines(True),
    "a box": boxed,
    "a sheet on a table": table,
    "a screenshot": screenshot,
    "a picture in a picture": nested,
    "a photo": photo,
}
OTHERS = {"several digits": several, "an empty page": blank}
NO_DIGITS: dict[str, Callable[[Random], Ink]] = {
    "letters": lambda random: letter(random.choice([*LETTERS]), 200, random),
    "shapes": lambda random: drawn(SHAPES[random.choice([*SHAPES])], random),
    "plus signs": lambda random: drawn(PLUS, random),
    "scribbles": lambda random: drawn([[tuple(point) for point in random.integers(0, 10, (10, 2))]], random),
}


def drawn(shape: list[list[tuple[int, int]]], random: Random) -> Ink:
    """Return a drawing of `shape` with a pen."""
    return pen(strokes(shape, random), 200, random.uniform(0.06, 0.15), random)


def picture(kind: Callable[..., np.ndarray], hand: Hand, label: int) -> np.ndarray:
    """Return a picture of `kind`, uint8 H×W, that was saved as JPEG half of the time."""
    image = (255 * kind(hand, label, hand.random).clip(0, 1)).round().astype(np.uint8)
    if hand.random.random() < 0.5 and min(image.shape) > 100:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=int(hand.random.integers(40, 95)))
        image = np.asarray(Image.open(buffer))
    return image


def examples(kind: str, n: int, images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[np.ndarray, int | None]]:
    """Yield `n` pictures of a `kind` in KINDS, OTHERS or NO_DIGITS, each with its digit, if that is what it shows.

    Their digits are partly from `images` (uint8 N×28×28) with these `labels`.
    """
    random = np.random.default_rng(sum(map(ord, kind)))
    hand = Hand(images, labels, random)
    for i in range(n):
        if kind in NO_DIGITS:
            page = np.pad(1 - NO_DIGITS[kind](random), 30, constant_values=1)
            yield (255 * page).astype(np.uint8), None
        else:
            yield picture((KINDS | OTHERS)[kind], hand, i % 10), i % 10 if kind in KINDS else None


def counted(answers: list[tuple[Tensor | None, int | None]]) -> dict[str, int]:
    """Return how many `answers`, each logits or None and the digit that was there, are right, wrong, or a message."""
    outcomes = ["right", "right_doubtful", "wrong", "wrong_doubtful", "message"]
    counts = dict.fromkeys(outcomes, 0)
    for logits, digit in answers:
        if logits is None:
            counts["message"] += 1
            continue
        outcome = "right" if logits.argmax() == digit else "wrong"
        counts[outcome] += 1
        counts[f"{outcome}_doubtful"] += bool(doubt(logits.softmax(0).tolist()))
    return {"n": len(answers)} | counts


def measures(model: LeNet5, images: Tensor, labels: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return measures of how little N×1×28×28 pixels look like a digit. The last is fitted on `images`."""

    def features(pixels: Tensor) -> Tensor:
        return predict(nn.Sequential(*[*model.children()][:-1]), model.standardise(pixels))

    own = features(images)
    means = torch.stack([own[labels == label].mean(0) for label in range(len(CLASSES))])
    return {
        "the first choice's probability": lambda pixels: -predict(model, pixels).softmax(1).amax(1),
        "the largest logit": lambda pixels: -predict(model, pixels).amax(1),
        "the energy, log Σ exp of the logits": lambda pixels: -predict(model, pixels).logsumexp(1),
        "the distance from the class means in F6": lambda pixels: torch.cdist(features(pixels), means).amin(1),
    }


def main() -> None:
    """Write the two tables."""
    parser = argparse.ArgumentParser("python -m tools.dev.pictures", description=__doc__.splitlines()[0])
    parser.add_argument("pictures", metavar="PICTURES.csv", type=Path)
    parser.add_argument("no_digit", metavar="NO-DIGIT.csv", type=Path)
    parser.add_argument("-n", type=int, default=100, help="pictures of each kind")
    options = parser.parse_args()
    path = recorded_model()
    model = from_bytes(path.read_bytes(), str(path))
    digits = mnist.read("train")
    split = folds.SplitConfig.model_validate(load(Path("params.yaml"))["split"])
    _, held_out = folds.split(len(digits.images), split)
    images, labels = (array[held_out] for array in digits)
    val = torch.from_numpy(images)[:, None]
    rows = [{"kind": "validation images"} | counted(list(zip(predict(model, val), labels.tolist(), strict=True)))]
    unlike: dict[str, Tensor] = {}
    for kind in [*KINDS, *OTHERS, *NO_DIGITS]:
        answers: list[tuple[Tensor | None, int | None]] = []
        seen = []
        for image, digit in examples(kind, options.n, images, labels):
            try:
                pixels = torch.from_numpy(like_mnist(image))[None, None]
            except PipelineError:
                answers.append((None, digit))
                continue
            seen.append(pixels)
            answers.append((predict(model, pixels)[0], digit))
        rows.append({"kind": kind} | counted(answers))
        print(*rows[-1].values(), flush=True)
        if kind in NO_DIGITS:
            unlike[kind] = torch.cat(seen)
    pd.DataFrame(rows).assign(of=f"{NAME} on {TITLE}").to_csv(options.pictures, index=False, lineterminator="\n")
    # One half of the validation images for what is fitted, the other for the false alarms.
    noticed = []
    for name, measure in measures(model, val[::2], torch.from_numpy(labels[::2])).items():
        limit = measure(val[1::2]).quantile(0.99)
        shares = {kind: (measure(pixels) > limit).double().mean().item() for kind, pixels in unlike.items()}
        noticed.append({"measure": name} | shares)
    pd.DataFrame(noticed).assign(of=f"{NAME} on {TITLE}").to_csv(
        options.no_digit, index=False, lineterminator="\n", float_format="%.3f"
    )


if __name__ == "__main__":
    run(main)
