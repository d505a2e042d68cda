// Rasterises a drawing to 28×28 pixels like MNIST's, by the same rules as lenet/ink.py.

// The width of lines, in pixels, is typical of MNIST.
const PEN = 2.4;

// `strokes` are lists of points [x, y], in fractions of the pad. If not `likeMnist`, the drawing is neither scaled nor
// centred. What is smaller than the pen's own mark is not enlarged to a digit's size: it is a dot.
function rasterise(strokes, likeMnist = true) {
  const points = strokes.flat(), reach = PEN / 2 + 0.5; // edges are antialiased over one pixel
  const [[left, right], [top, bottom]] = [0, 1].map(axis => points.map(point => point[axis]))
    .map(values => values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]));
  const scale = likeMnist ? (20 - PEN) / Math.max(right - left, bottom - top, PEN / 28) : 28;
  const middle = likeMnist ? [(left + right) / 2, (top + bottom) / 2] : [0.5, 0.5];
  const drawn = draw(0, 0), mass = drawn.reduce((sum, ink) => sum + ink);
  if (!likeMnist) return drawn;
  const centre = coordinate => drawn.reduce((sum, ink, i) => sum + ink * coordinate(i), 0) / mass;
  return draw(Math.round(14 - centre(i => i % 28)), Math.round(14 - centre(i => Math.floor(i / 28))));

  // Draws the strokes into the central 20×20 pixels, shifted by `dx` and `dy` whole pixels.
  function draw(dx, dy) {
    const pixels = new Uint8Array(784);
    const place = ([x, y]) => [(x - middle[0]) * scale + 13.5 + dx, (y - middle[1]) * scale + 13.5 + dy];
    for (const stroke of strokes) stroke.forEach((end, i) => drawLine(pixels, place(stroke[Math.max(0, i - 1)]), place(end)));
    return pixels;
  }

  function drawLine(pixels, [ax, ay], [bx, by]) {
    const dx = bx - ax, dy = by - ay, squared = dx * dx + dy * dy || 1;
    const range = (a, b) => [Math.max(0, Math.ceil(Math.min(a, b) - reach)), Math.min(27, Math.floor(Math.max(a, b) + reach))];
    const [x0, x1] = range(ax, bx), [y0, y1] = range(ay, by);
    for (let y = y0; y <= y1; y++)
      for (let x = x0; x <= x1; x++) {
        const along = Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / squared));
        const distance = Math.hypot(x - ax - along * dx, y - ay - along * dy);
        const ink = Math.round(255 * Math.min(1, Math.max(0, reach - distance)));
        pixels[28 * y + x] = Math.max(pixels[28 * y + x], ink);
      }
  }
}
