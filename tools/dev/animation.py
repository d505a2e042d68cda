"""Renew docs/drawing.gif, a digit being drawn on the page, and docs/report.png: `python -m tools.dev.animation`.

They show report.html, the page of the last run, in Chromium, which has to be installed.
"""

import io
import json
from base64 import b64decode
from pathlib import Path

import numpy as np
from PIL import Image

from tools.dev.browser import Browser
from tools.errors import ToolError, run

PAGE = Path("report.html")
DRAWING, PICTURE = Path("docs/drawing.gif"), Path("docs/report.png")
WIDTH, HEIGHT = 800, 420  # of the animation, in pixels
FRAME, PAUSE = 70, 1500  # milliseconds: of a frame, and before the drawing
# Once the network has run on what has been drawn.
SETTLED = "new Promise(resolve => requestAnimationFrame(() => setTimeout(() => setTimeout(resolve))))"


def five(points: int) -> list[np.ndarray]:
    """Return the two strokes of a 5, N×2 in fractions of the pad, with `points` for each of its three parts."""
    share = np.linspace(0, 1, points)[:, None]
    down = [0.38, 0.2] + share * [-0.03, 0.24]
    angle = np.radians(-125 + 265 * share)
    bowl = [0.48, 0.62] + 0.215 * np.hstack([np.cos(angle), np.sin(angle)])
    return [np.concatenate([down, bowl]), [0.38, 0.2] + share * [0.3, -0.01]]


def picture(browser: Browser, width: float, height: float, scale: float = 1) -> Image.Image:
    """Return the top left part of the page, of this size in CSS pixels, `scale` times as large."""
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": scale}
    data = browser("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
    return Image.open(io.BytesIO(b64decode(data))).convert("RGB")


def draw(browser: Browser, strokes: list[np.ndarray]) -> list[Image.Image]:
    """Draw `strokes` with the mouse, and return the screen before, at every second point, and at the end."""
    left, top, side = browser.run("(({left, top, width}) => [left, top, width])(pad.getBoundingClientRect())")
    frames = [picture(browser, WIDTH, HEIGHT)]
    for stroke in strokes:
        places = (stroke * side + [left, top]).tolist()
        for i, place in enumerate(places):
            browser.point("mouseMoved" if i else "mousePressed", *place)
            if i % 2:
                browser.run(SETTLED)
                frames.append(picture(browser, WIDTH, HEIGHT))
        browser.point("mouseReleased", *places[-1])
    browser.run(SETTLED)
    return [*frames, picture(browser, WIDTH, HEIGHT)]


def main() -> None:
    """Write both pictures."""
    if not PAGE.is_file():
        raise ToolError(f"{PAGE} is missing: run dvc repro, or dvc checkout")
    with Browser() as browser:
        browser.open(PAGE, WIDTH, HEIGHT)
        frames = draw(browser, five(20))
        browser.open(PAGE, 1100, HEIGHT)
        browser.run(f"setDrawing({json.dumps([stroke.tolist() for stroke in five(40)])})")
        end = browser.run("document.getElementById('layers').getBoundingClientRect().bottom")
        picture(browser, 1100, end + 20, 1.5).quantize(256).save(PICTURE, optimize=True)
    # One palette for all frames: what does not change from frame to frame then takes no space.
    palette = frames[-1].quantize(128)
    first, *rest = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    durations = [PAUSE, *[FRAME] * (len(rest) - 1), 2 * PAUSE]
    first.save(DRAWING, save_all=True, append_images=rest, duration=durations, loop=0)
    print(f"wrote {DRAWING} ({DRAWING.stat().st_size // 1024} KiB) and {PICTURE}: commit them")


if __name__ == "__main__":
    run(main)
