"""Classify pictures of digits with the trained network: `python -m tools.predict FILE…`."""

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from lenet.data.dataset import CLASSES
from lenet.errors import PipelineError
from lenet.ink import convert
from lenet.model import from_bytes, predict
from stages.artifacts import model
from stages.launch import pipeline
from tools.errors import run


def main() -> None:
    """Print for each file its digit and the probability of each class."""
    parser = argparse.ArgumentParser(prog="python -m tools.predict", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a PNG or JPEG of one digit")
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
            continue
        chances = predict(network, torch.from_numpy(pixels)[None, None])[0].softmax(0).tolist()
        best = max(range(len(CLASSES)), key=chances.__getitem__)
        others = ", ".join(f"{name} {chance:.1%}" for name, chance in zip(CLASSES, chances, strict=True))
        print(f"{file}: {CLASSES[best]} ({others})")
        if options.save:
            options.save.mkdir(parents=True, exist_ok=True)
            Image.fromarray(255 - pixels).save(options.save / f"{file.stem}.png")
    if mistakes:
        raise PipelineError("\n".join(mistakes))


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

    Raises PipelineError if the file does not contain a picture.
    """
    try:
        with Image.open(file, formats=["PNG", "JPEG"]) as picture:
            upright = ImageOps.exif_transpose(picture)
    except (UnidentifiedImageError, SyntaxError, Image.DecompressionBombError):
        raise PipelineError("is not a PNG or JPEG, or is too large") from None
    except OSError as error:
        raise PipelineError(f"can't be read: {error.strerror or 'it is damaged'}") from None
    if upright.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        upright = Image.fromarray((np.asarray(upright) / 257).astype(np.uint8))
    grey, alpha = np.moveaxis(np.asarray(upright.convert("RGBA").convert("LA"), float), 2, 0)
    paper = (
        255 * (np.average(grey, weights=alpha) < 128) if alpha.any() else 0
    )  # white behind dark ink, black behind light
    blended: np.ndarray = (grey * alpha + paper * (255 - alpha)) / 255
    return blended.round().astype(np.uint8)


if __name__ == "__main__":
    run(main)
