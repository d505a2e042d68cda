"""Classify pictures of digits with the trained network: `python -m tools.predict FILE…`."""

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from lenet.data.dataset import CLASSES
from lenet.doubt import doubt
from lenet.errors import PipelineError
from lenet.ink import convert
from lenet.model import from_bytes, predict
from stages.artifacts import model
from stages.launch import pipeline
from tools.errors import run

FORMATS = ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"]
# What the first bytes of other files say, and what to do with them.
OTHERS = {
    b"%PDF": "is a PDF: save its page as a PNG (pdftoppm -png does), or take a screenshot",
    b"ftypheic": "is HEIC, a photo of an iPhone: share or export it as JPEG",
    b"ftypheix": "is HEIC, a photo of an iPhone: share or export it as JPEG",
    b"ftypmif1": "is HEIF, a photo of a phone: share or export it as JPEG",
    b"ftypavif": "is AVIF: save it as PNG or JPEG",
    b"<svg": "is SVG, a drawing of lines: save it as PNG, or take a screenshot",
}
# Runners-up that are less likely are not shown, unless all are.
_SHOWN = 0.01


def main() -> None:
    """Print what each file shows."""
    parser = argparse.ArgumentParser(prog="python -m tools.predict", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a picture (" + ", ".join(FORMATS) + ")")
    parser.add_argument("--all", action="store_true", help="print the probabilities of all classes")
    parser.add_argument("--json", action="store_true", help="print an object in JSON for each file, a line each")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="save the network's input there, 28×28, as PNG")
    options = parser.parse_args()
    path = recorded_model()
    print(f"model: {path}", file=sys.stderr)
    network = from_bytes(path.read_bytes(), str(path))
    mistakes = []
    for file in options.files:
        try:
            pixels = convert(read(file))
        except PipelineError as error:
            mistakes.append(f"{file} {error}")
            if options.json:
                print(json.dumps({"file": str(file), "error": str(error)}), flush=True)
            continue
        chances = predict(network, torch.from_numpy(pixels)[None, None])[0].double().softmax(0).tolist()
        answer = json.dumps(facts(file, chances)) if options.json else f"{file}: {words(chances, options.all)}"
        print(answer, flush=True)
        if options.save:
            options.save.mkdir(parents=True, exist_ok=True)
            Image.fromarray(255 - pixels).save(options.save / f"{file.stem}.png")
    if mistakes:
        raise PipelineError("\n".join(mistakes))


def words(chances: Sequence[float], all_classes: bool) -> str:
    """Return the answer in words, from the probability of each class: the likeliest first, then those that matter."""
    ranked = sorted(range(len(CLASSES)), key=lambda i: -chances[i])
    shown = [f"{CLASSES[i]} ({percent(chances[i])})" for i in ranked if all_classes or chances[i] >= _SHOWN]
    answer, *others = shown if shown else [f"{CLASSES[ranked[0]]} ({percent(chances[ranked[0]])})"]
    question = f"not sure: {' or '.join(CLASSES[i] for i in unsure)}? " if (unsure := doubt(chances)) else ""
    return question + ", ".join([answer, *others])


def facts(file: Path, chances: Sequence[float]) -> dict[str, Any]:
    """Return the answer for programs, from the probability of each class."""
    best = max(range(len(CLASSES)), key=chances.__getitem__)
    return {
        "file": str(file),
        "class": CLASSES[best],
        "probability": chances[best],
        "sure": not doubt(chances),
        "probabilities": dict(zip(CLASSES, chances, strict=True)),
    }


def percent(chance: float) -> str:
    """Return `chance` in percent, rounded down: only what is certain is "100 %"."""
    return f"{math.floor(1000 * chance) / 10:.1f} %" if chance < 1 else "100 %"


def recorded_model() -> Path:
    """Return models/lenet5.safetensors if it is the model that dvc.lock names, else the one in release/.

    Raises PipelineError if that is missing.
    """
    outs = [out for stage in pipeline.load(Path("dvc.lock"))["stages"].values() for out in stage.get("outs", [])]
    recorded = {out["md5"] for out in outs if out["path"] == str(model.PATH)}
    if model.PATH.is_file() and hashlib.md5(model.PATH.read_bytes()).hexdigest() in recorded:
        return model.PATH
    released = Path("release", model.PATH.name)
    if not released.is_file():
        raise PipelineError(f"there is neither {released} nor the recorded {model.PATH}: run make repro")
    return released


def read(file: Path) -> np.ndarray:
    """Return the brightness of the picture in `file`, uint8 H×W, with EXIF rotation applied and transparency as paper.

    The format is told by the content. Of several pictures in a file, the first one counts. Raises PipelineError if the
    file does not contain a picture.
    """
    try:
        with Image.open(file, formats=FORMATS) as picture:
            upright = ImageOps.exif_transpose(picture)
    except Image.DecompressionBombError:
        raise PipelineError(f"is too large: at most {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels are read") from None
    except (UnidentifiedImageError, SyntaxError, ValueError):
        raise PipelineError(unreadable(file)) from None
    except OSError as error:
        raise PipelineError(f"can't be read: {error.strerror or 'it is damaged'}") from None
    values = np.asarray(upright)
    if upright.mode.startswith("I") or values.dtype == np.float32:  # which Pillow would cut off at 255
        top = 255 if values.max() < 256 else 65535
        upright = Image.fromarray((255 * (values / top).clip(0, 1)).astype(np.uint8))
    grey, alpha = np.moveaxis(np.asarray(upright.convert("RGBA").convert("LA"), float), 2, 0)
    paper = (
        255 * (np.average(grey, weights=alpha) < 128) if alpha.any() else 0
    )  # white behind dark ink, black behind light
    blended: np.ndarray = (grey * alpha + paper * (255 - alpha)) / 255
    return blended.round().astype(np.uint8)


def unreadable(file: Path) -> str:
    """Return what is wrong with a `file` that is none of FORMATS."""
    with file.open("rb") as opened:
        head = opened.read(1000)
    if not head:
        return "is empty"
    found = [advice for mark, advice in OTHERS.items() if mark in head]
    return found[0] if found else f"is no picture that can be read ({', '.join(FORMATS)}), or it is damaged"


if __name__ == "__main__":
    run(main)
