"""Find the digit in a picture: a photograph, a scan, a drawing or a screenshot.

A digit is what is darker than the paper around it, or lighter, and narrow. So shadows are no digits, nor what is at the
border of the picture, nor frames. If there is a sheet on a table, a form's cell or a picture in the picture, the digit
is on it. It may have several strokes, but must be alone.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

from lenet.errors import PipelineError

Box = tuple[slice, slice]

# How much darker than paper ink must be at its darkest, and everywhere, as a share of the paper's brightness.
_CONTRAST, _TRACE = 0.12, 0.06
# The widest pen, as a share of the picture's longer side: the first misses no digit, few shadows mislead the second.
_WIDEST = (1 / 3, 1 / 8)
# The longer side of the smallest digit, as a share of the picture's; and of the smallest one on a sheet.
_SMALLEST, _SMALLEST_ON_SHEET = 0.04, 0.12
# The smallest area of a sheet, as a share of the picture's, and its shorter side in pixels.
_SHEET, _SHEET_SIDE = 0.05, 24
# The share of an outline at which the brightness must change at once: where shadows end, it does not.
_CLEAR = 0.7
# The smallest share of the largest piece's ink, and of its strength, that another piece of a digit has.
_SPECK, _FAINT = 0.05, 0.4
# How far from the others a piece of a digit may be, as a share of the largest piece's longer side.
_NEAR = 0.25


@dataclass(eq=False)
class Piece:
    """A connected piece of ink: where it is, its amount, and its strength, which is that of its darkest pixel."""

    box: Box
    mask: np.ndarray  # of the pixels in the box
    amount: float
    strength: float

    @property
    def sides(self) -> np.ndarray:
        """Return [[top, bottom], [left, right]]."""
        return np.array([[side.start, side.stop] for side in self.box])

    @property
    def length(self) -> float:
        """Return the longer side of the box."""
        return float(max(self.mask.shape))


def find(image: np.ndarray, sheet: np.ndarray | None = None, depth: int = 0) -> np.ndarray | None:
    """Return the ink of the digit in `image` (float H×W, 0 to 1), cut out: float, 0 to 1. None if there is no ink.

    If `sheet` (bool H×W) is given, only what is on it counts. Raises PipelineError if there is more than one digit.
    """
    for box, on in sorted(_sheets(image), key=lambda found: -found[1].sum()) if depth < 2 else []:
        inner = np.where(on, image[box], np.median(image[box][on]))
        if (ink := find(inner, on, depth + 1)) is not None:
            return ink
    paper = np.median(image) + 0.05  # compared by ratios, which a shadow hardly changes
    if paper / (image.min() + 0.05) < (image.max() + 0.05) / paper:
        image = 1 - image  # light ink on dark paper
    (ink, pieces), (finer, fine) = (_pieces(image, widest, sheet) for widest in _WIDEST)
    if _size(fine) > 1.1 * _size(pieces):
        ink, pieces = finer, fine
    if _size(pieces) < (_SMALLEST if sheet is None else _SMALLEST_ON_SHEET) * max(image.shape):
        return None
    digit = np.zeros(image.shape)
    for piece in _strokes(pieces):
        digit[piece.box][piece.mask] = ink[piece.box][piece.mask]
    # Relative to the digit's own ink, as a darker spot elsewhere says nothing of it.
    digit = ((digit / np.percentile(digit[digit > 0], 90) - 0.15) / 0.7).clip(0, 1)
    cut: np.ndarray = digit[ndimage.find_objects((digit > 0).astype(int))[0]]
    return cut


def _size(pieces: list[Piece]) -> float:
    """Return the longer side of the piece with most ink."""
    return max(pieces, key=lambda piece: piece.amount).length if pieces else 0


def _sheets(image: np.ndarray) -> Iterator[tuple[Box, np.ndarray]]:
    """Yield the box of what may be a sheet, the inside of a frame, or a picture in the picture, and a mask within it.

    It is lighter or darker than its surroundings, convex, has a clear edge and touches at most one border.
    """
    smooth = ndimage.uniform_filter(image, 3)
    blur = round(max(image.shape) / 130)  # of a sheet's edge
    for low, high in ((0, 100), (10, 90), (0, 50), (50, 100)):
        light = smooth > np.percentile(smooth, [low, high]).mean()
        (labels, boxes), other = (
            (numbers := ndimage.label(side)[0], ndimage.find_objects(numbers)) for side in (light, ~light)
        )
        for (numbers, found), (others, around) in (((labels, boxes), other), (other, (labels, boxes))):
            for number, box in enumerate(found, 1):
                sides = [side.stop - side.start for side in box]
                if np.prod(sides) < _SHEET * image.size or min(sides) < _SHEET_SIDE or _borders(box, image) > 1:
                    continue
                part = numbers[box] == number
                whole = ndimage.binary_fill_holes(part)
                inscribed = 2 * ndimage.distance_transform_edt(np.pad(part, 1)).max()
                if inscribed < 0.35 * max(sides) and whole.mean() < 0.95:  # a stroke, not a rectangle
                    continue
                if whole.sum() < 0.9 * ConvexHull(np.argwhere(whole & ~ndimage.binary_erosion(whole))).volume:
                    continue
                row, column = np.argwhere(part)[0] + [box[0].start, box[1].start]
                outer = around[(others[row - 1, column] if row else others[row, column - 1]) - 1]
                if _borders(outer, image) < 2 and any(
                    length < 0.8 * (side.stop - side.start) for length, side in zip(sides, outer, strict=True)
                ):
                    continue  # it is in a loop, such as a 6 has, and not in a frame, nor on a table or page
                inside = ndimage.binary_erosion(whole, iterations=blur) if blur else whole
                if inside.sum() >= _SHEET * image.size and _is_clear(image, box, whole):
                    yield box, inside


def _borders(box: Box, image: np.ndarray) -> int:
    """Return how many borders of `image` the `box` touches."""
    return sum((side.start == 0) + (side.stop == length) for side, length in zip(box, image.shape, strict=True))


def _is_clear(image: np.ndarray, box: Box, mask: np.ndarray) -> bool:
    """Return whether the brightness changes within a few pixels at the outline of `mask`, in its `box`."""
    near = max(3, max(image.shape) // 40)
    around = tuple(slice(max(0, side.start - near), side.stop + near) for side in box)
    change = ndimage.maximum_filter(image[around], near) - ndimage.minimum_filter(image[around], near)
    within = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, around, strict=True))
    changes = change[within][mask & ~ndimage.binary_erosion(mask)]
    return float((changes > 0.3 * np.percentile(changes, 90)).mean()) > _CLEAR


def _pieces(image: np.ndarray, widest: float, sheet: np.ndarray | None) -> tuple[np.ndarray, list[Piece]]:
    """Return the ink in each pixel of `image`, dark on light, as a share of the paper's brightness, and its pieces.

    Pieces at the edge of the picture are left out if there are others; pieces at the edge of a `sheet` always are.
    """
    # Whatever is narrower than the widest pen is filled from its surroundings.
    paper = ndimage.grey_closing(image, max(3, int(max(image.shape) * widest)), mode="nearest")
    ink = (paper - image) / paper.clip(0.25)
    grain = np.median(ink) + 6 * np.median(abs(ink - np.median(ink)))
    on = np.ones(image.shape, bool) if sheet is None else sheet
    edge = on & ~ndimage.binary_erosion(on)
    mask = on & (ink > max(_TRACE, grain))
    for _ in range(2):  # again without what is faint in pieces at the edge: lines and shadows may join a digit to it
        numbers, n = ndimage.label(mask, np.ones((3, 3)))
        strengths = np.zeros(n + 1)
        np.maximum.at(strengths, numbers[mask], ink[mask])
        at_edge = np.bincount(numbers[edge], minlength=n + 1)
        mask &= ink > np.where(at_edge, strengths / 2, 0)[numbers]
    amounts = np.bincount(numbers.ravel(), ink.ravel() * mask.ravel(), n + 1)
    pieces, inner = [], []
    for number, box in enumerate(ndimage.find_objects(numbers), 1):
        if strengths[number] < _CONTRAST:
            continue
        piece = Piece(box, numbers[box] == number, amounts[number], strengths[number])
        core = piece.mask & (ink[box] > piece.strength / 2)
        if piece.amount < amounts.max() / 10 or _is_clear(image, box, core):
            pieces.append(piece)
            if _is_inner(piece, at_edge[number], edge, sheet is not None):
                inner.append(piece)
    return ink, inner or (pieces if sheet is None else [])


def _is_inner(piece: Piece, at_edge: int, edge: np.ndarray, on_sheet: bool) -> bool:
    """Return whether `piece`, with so many pixels `at_edge`, neither runs along the edge nor from one to another."""
    if on_sheet:
        return at_edge < 0.3 * piece.length and ndimage.label(piece.mask & edge[piece.box], np.ones((3, 3)))[1] <= 1
    if all(0.95 * n <= length for n, length in zip(edge.shape, piece.mask.shape, strict=True)):
        return at_edge < piece.length  # a digit that fills the picture
    across = any(side.start == 0 and side.stop == n for side, n in zip(piece.box, edge.shape, strict=True))
    return at_edge < 0.4 * piece.length and not across


def _strokes(pieces: list[Piece]) -> list[Piece]:
    """Return those of `pieces` that the digit consists of. Raise PipelineError if there are more digits."""
    main, *_ = pieces = sorted(pieces, key=lambda piece: -piece.amount)
    for piece in pieces:  # what surrounds a large piece is a frame, above all if it is a rectangle
        smallest = 0.25 if ndimage.binary_fill_holes(main.mask).mean() > 0.9 else 0.4
        if _surrounds(main, piece) and piece.length > smallest * main.length:
            main = piece
    others = [
        piece
        for piece in pieces
        if piece is not main and piece.amount >= _SPECK * main.amount and piece.strength > _FAINT * main.strength
    ]
    others = [piece for piece in others if not _surrounds(piece, main)]
    digit, whole = [main], main.sides
    for piece in sorted(others, key=lambda piece: _gap(piece.sides, main.sides)):
        if _gap(piece.sides, whole) <= _NEAR * main.length:
            digit.append(piece)
            whole = np.stack([np.minimum(whole, piece.sides)[:, 0], np.maximum(whole, piece.sides)[:, 1]], 1)
    tall = [piece.sides for piece in digit if len(piece.mask) > 0.6 * (whole[0, 1] - whole[0, 0])]
    beside = any(_common(a[0], b[0]) > 0.75 and _common(a[1], b[1]) < 0.2 for a, b in itertools.combinations(tall, 2))
    if beside or any(len(piece.mask) > 0.6 * len(main.mask) for piece in others if piece not in digit):
        raise PipelineError("shows more than one digit")
    return digit


def _surrounds(a: Piece, b: Piece) -> bool:
    return bool((a.sides[:, 0] < b.sides[:, 0]).all() and (b.sides[:, 1] < a.sides[:, 1]).all())


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    """Return how far two boxes with these sides are apart."""
    return float(np.maximum(a[:, 0] - b[:, 1], b[:, 0] - a[:, 1]).max().clip(0))


def _common(a: np.ndarray, b: np.ndarray) -> float:
    """Return how much of the shorter of two ranges lies in both."""
    return float((min(a[1], b[1]) - max(a[0], b[0])) / min(a[1] - a[0], b[1] - b[0]))
