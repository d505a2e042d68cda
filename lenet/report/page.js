// What is seen: from the run's data to the page, and from what is drawn to what the network makes of it.
const data = JSON.parse(document.getElementById("data").textContent);
const decode = text => Uint8Array.from(atob(text), character => character.charCodeAt(0));
const model = readModel(decode(data.model));
const $ = id => document.getElementById(id);
const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)}\u00a0%`;
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);

// An element, SVG's where `tag` is one of SVG's; attributes that begin with "on" are listeners.
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "text", "tspan", "title", "circle", "rect", "g"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// A picture of ink: black, as opaque as a value is high, so that it looks right on any paper.
function ink(values, width, height = width, most = 255, canvas = make("canvas", {class: "ink"})) {
  Object.assign(canvas, {width, height});
  const image = new ImageData(width, height);
  values.forEach((value, i) => { image.data[4 * i + 3] = 255 * value / (most || 1); });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// The numbers.
for (const [name, value, note] of data.tiles)
  $("tiles").append(make("div", {class: "tile"}, make("small", {}, name), make("b", {}, value), make("small", {}, note)));
$("dataset").textContent = data.dataset;
for (const [name, value] of data.run) $("params").append(make("dt", {}, name), make("dd", {}, value));

// Drawing.
const pad = $("pad"), pen = pad.getContext("2d");
let strokes = [], drawing = false, waiting = false;

function point(event) {
  const box = pad.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

function clear() {
  pen.clearRect(0, 0, pad.width, pad.height);
  Object.assign(pen, {lineWidth: pad.width / 13, lineCap: "round", lineJoin: "round", strokeStyle: colour("text")});
}

function paint() {
  waiting = false;
  clear();
  for (const stroke of strokes) {
    pen.beginPath();
    for (const [x, y] of [stroke[0], ...stroke]) pen.lineTo(x * pad.width, y * pad.height); // twice, for a dot to be seen
    pen.stroke();
  }
  read(strokes.length ? rasterise(strokes) : null);
}

const paintSoon = () => { if (!waiting) { waiting = true; requestAnimationFrame(paint); } };
pad.addEventListener("pointerdown", event => {
  if (event.button) return; // not the main one
  try { pad.setPointerCapture(event.pointerId); } catch { /* it is up again, or was never down */ }
  drawing = true;
  strokes.push([point(event)]);
  paintSoon();
});
pad.addEventListener("pointermove", event => {
  if (!drawing) return;
  const parts = event.getCoalescedEvents?.() ?? []; // may be empty
  strokes.at(-1).push(...(parts.length ? parts : [event]).map(point));
  paintSoon();
});
for (const name of ["pointerup", "pointercancel"]) pad.addEventListener(name, () => { drawing = false; });
const undo = () => { strokes.pop(); paint(); };
$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", () => { strokes = []; paint(); });
document.addEventListener("keydown", event => {
  if (event.key === "z" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); undo(); }
});

// A test image in place of a drawing.
function show(pixels) {
  strokes = [];
  clear();
  const picture = ink(pixels, 28), context = picture.getContext("2d");
  context.globalCompositeOperation = "source-in";
  context.fillStyle = colour("text");
  context.fillRect(0, 0, 28, 28);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(picture, 0, 0, pad.width, pad.height);
  read(pixels);
}

data.samples.forEach(([label, text]) => {
  const pixels = decode(text), name = `the first ${data.classes[label]} of the test set`;
  $("samples").append(make("button", {class: "thumb", title: name, "aria-label": name, onclick: () => show(pixels)}, ink(pixels, 28)));
});

// Layers: name, maps, width, height, what it is.
const LAYERS = [
  ["C1", 6, 28, 28, "convolution: the kernel above slides over the image; its map is high where what lies under it is like the kernel, which for negative weights means paper"],
  ["S2", 6, 14, 14, "pooling: the largest of each 2×2, so that a small shift changes little"],
  ["C3", 16, 10, 10, "convolution over all six maps of S2: parts of strokes"],
  ["S4", 16, 5, 5, "pooling again"],
  ["C5", 1, 40, 3, "120 numbers, each a weighted sum of all of S4"],
  ["F6", 1, 28, 3, "84 numbers, each a weighted sum of all of C5; ten sums of these, F7, are the logits, and softmax turns them into the probabilities above"],
];

function row(name, words, canvases) {
  const kind = canvases.length > 1 ? `of${canvases.length}` : "of1";
  $("layers").append(make("small", {}, make("b", {}, name), ` ${words}`), make("div", {class: kind}, ...canvases));
}

row("C1’s kernels", "5×5 weights each, learnt; blue: positive, orange: negative", Array.from({length: 6}, (_, number) => {
  const weights = model["C1.weight"].subarray(25 * number, 25 * number + 25), most = Math.max(...weights.map(Math.abs));
  const canvas = make("canvas", {width: 5, height: 5, style: "image-rendering: pixelated"}), context = canvas.getContext("2d");
  weights.forEach((weight, i) => {
    context.fillStyle = colour(weight < 0 ? "orange" : "blue");
    context.globalAlpha = Math.abs(weight) / most;
    context.fillRect(i % 5, Math.floor(i / 5), 1, 1);
  });
  return canvas;
}));
const maps = LAYERS.map(([name, count, width, height, words]) => {
  const canvases = Array.from({length: count}, () => ink([], width, height));
  row(name, `${count > 1 ? `${count}×${width}×${height}, ` : ""}${words}`, canvases);
  return canvases;
});

const bars = data.classes.map(name => {
  const parts = [make("span", {}, name), make("i"), make("span")];
  $("bars").append(...parts);
  return parts;
});

// Show what the network makes of `pixels`; nothing where there are none.
function read(pixels) {
  const layers = activations(model, pixels ?? new Uint8Array(784)), chances = softmax(layers.F7), best = Math.max(...chances);
  ink(pixels ?? [], 28, 28, 255, $("given"));
  bars.forEach(([name, bar, share], label) => {
    const chance = pixels ? chances[label] : 0;
    bar.style.width = `${100 * chance}%`;
    share.textContent = pixels ? percent(chance, 1) : "";
    for (const part of [name, share]) part.className = pixels && chance === best ? "best" : "";
  });
  const answer = pixels ? `${data.classes[chances.indexOf(best)]}, ${percent(best)}` : "nothing drawn";
  if ($("answer").textContent !== answer) $("answer").textContent = answer;
  LAYERS.forEach(([name, , width, height], layer) => maps[layer].forEach((canvas, i) => {
    const values = pixels ? layers[name].subarray(i * width * height, (i + 1) * width * height) : [];
    ink(values, width, height, Math.max(...values), canvas);
  }));
}

// Errors.
const misread = data.misread.map(([index, actual, predicted, confidence, text]) => {
  const pixels = decode(text), words = `${data.classes[actual]} → ${data.classes[predicted]}`;
  const button = make("button", {
    title: `test image ${index}`,
    onclick: () => { show(pixels); pad.scrollIntoView({block: "center"}); },
  }, ink(pixels, 28), words, make("br"), make("small", {}, percent(confidence)));
  $("gallery").append(button);
  return {actual, predicted, button};
});
let kept = null;

// Only the digits of `cell`, [actual, predicted]; all where it is null.
function only(cell) {
  const inCell = ({actual, predicted}) => !cell || actual === cell[0] && predicted === cell[1];
  for (const digit of misread) digit.button.hidden = !inCell(digit);
  const total = cell ? data.confusion[cell[0]][cell[1]] : data.errors, there = misread.filter(inCell).length;
  const cut = there < total ? ` The page holds the ${there} most confident of them.` : "";
  const what = cell ? `${data.classes[cell[0]]} taken for ${data.classes[cell[1]]}: ${total}.` : `Misread: ${total}, the most confident first.`;
  $("shown").textContent = what + cut;
}

const sum = numbers => numbers.reduce((a, b) => a + b, 0);
const heading = (scope, words, kind = "") => make("th", {scope, class: kind}, words);
const total = count => make("td", {class: "total"}, count);
const largest = Math.max(1, ...data.confusion.flatMap((row, i) => row.filter((_, j) => j !== i)));
$("confusion").append(make("tr", {}, make("td", {class: "total"}), ...data.classes.map(name => heading("col", name)), heading("col", "sum", "total")));
data.confusion.forEach((row, actual) => {
  const cells = row.map((count, predicted) => {
    if (actual === predicted) return make("td", {class: "right"}, count);
    if (!count) return make("td");
    const cell = [actual, predicted], words = `${count}: ${data.classes[actual]} taken for ${data.classes[predicted]}`;
    const [look, leave] = [() => only(cell), () => only(kept)], share = count / largest;
    const button = make("button", {
      "aria-pressed": false, "aria-label": words, title: words,
      style: `background: color-mix(in srgb, var(--orange) ${15 + 45 * share}%, transparent)`,
      onmouseenter: look, onmouseleave: leave, onfocus: look, onblur: leave,
      onclick: () => {
        const again = button.getAttribute("aria-pressed") === "true";
        document.querySelectorAll("#confusion button").forEach(other => other.setAttribute("aria-pressed", !again && other === button));
        kept = again ? null : cell;
        only(cell);
      },
    }, count);
    return make("td", {}, button);
  });
  $("confusion").append(make("tr", {}, heading("row", data.classes[actual]), ...cells, total(sum(row))));
});
const columns = data.classes.map((_, label) => sum(data.confusion.map(row => row[label])));
$("confusion").append(make("tr", {}, heading("row", "sum", "total"), ...columns.map(total), total(sum(columns))));
only(null);

// Charts: 320×210, in which the plot lies from (40, 26) to (312, 180).
const BOX = {left: 40, right: 312, top: 26, bottom: 180};
const axis = (from, to, a, b, f = value => value) => value => a + (b - a) * (f(value) - f(from)) / (f(to) - f(from) || 1);

function chart(title, xName, x, y, xTicks, yTicks) {
  const svg = make("svg", {viewBox: "0 0 320 210", role: "img", "aria-label": title}, make("text", {x: 0, y: 12, class: "title"}, title));
  for (const [value, text] of yTicks)
    svg.append(make("line", {class: "axis", x1: BOX.left, x2: BOX.right, y1: y(value), y2: y(value)}),
      make("text", {x: BOX.left - 5, y: y(value) + 4, "text-anchor": "end"}, text));
  for (const [value, text] of xTicks) svg.append(make("text", {x: x(value), y: 194, "text-anchor": "middle"}, text));
  svg.append(make("text", {x: (BOX.left + BOX.right) / 2, y: 208, "text-anchor": "middle"}, xName));
  return svg;
}

// Ticks at 1, 2 and 5 times powers of ten; where these are many, only at the powers; where they are few, at the ends.
function decades(low, high) {
  const powers = Array.from({length: 12}, (_, i) => 10 ** (i - 6)), within = value => value >= low && value <= high;
  const all = powers.flatMap(power => [1, 2, 5].map(times => +(times * power).toPrecision(1))).filter(within);
  if (all.length < 2) return [low, high].map(value => +value.toPrecision(2));
  return all.length > 8 ? powers.map(power => +power.toPrecision(1)).filter(within) : all;
}

// Lines by epoch: `lines` are [column, name, colour]. The pointer and the arrow keys read values off.
function curves(title, lines, log, format) {
  const history = data.history, drawn = lines.filter(([key]) => history.some(row => row[key] !== null));
  const values = drawn.flatMap(([key]) => history.map(row => row[key])), most = Math.max(...values);
  const [low, high] = log ? [Math.min(...values) * 0.85, most * 1.15] : [0, most * 1.05 || 1];
  const x = axis(1, history.length, BOX.left + 6, BOX.right - 6);
  const y = axis(low, high, BOX.bottom, BOX.top, log ? Math.log : undefined);
  const step = Math.ceil(history.length / 5), epochs = history.map(row => row.epoch).filter(epoch => epoch === 1 || epoch % step === 0);
  const ticks = log ? decades(low, high) : [0, 0.25, 0.5, 0.75, 1].map(share => share * most);
  const svg = chart(title, "epoch", x, y, epochs.map(epoch => [epoch, epoch]), ticks.map(value => [value, log ? value : +value.toPrecision(2)]));
  const cursor = make("line", {class: "axis", y1: BOX.top, y2: BOX.bottom}), readout = make("text", {class: "readout", x: BOX.right, y: 12, "text-anchor": "end"});
  for (const [key, , paint] of drawn) {
    const points = history.map(row => [x(row.epoch), y(row[key])]);
    svg.append(make("path", {d: `M${points.map(at => at.map(v => v.toFixed(1)).join(" ")).join("L")}`, fill: "none", stroke: paint, "stroke-width": 2}));
    for (const [cx, cy] of points) svg.append(make("circle", {cx, cy, r: 2.5, fill: paint}));
  }
  svg.append(cursor, readout);
  let at = history.length - 1;
  function move(to) {
    at = Math.min(history.length - 1, Math.max(0, to));
    const row = history[at];
    for (const name of ["x1", "x2"]) cursor.setAttribute(name, x(row.epoch));
    readout.replaceChildren(`${row.epoch}: `, ...drawn.map(([key, name, paint]) => make("tspan", {fill: paint}, ` ${name} ${format(row[key])}`)));
    svg.setAttribute("aria-label", `${title}, epoch ${readout.textContent}`);
  }
  svg.setAttribute("tabindex", 0);
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), place = (event.clientX - box.left) * 320 / box.width;
    move(Math.round((place - x(1)) / (x(2) - x(1) || 1)));
  });
  svg.addEventListener("pointerleave", () => move(history.length - 1));
  svg.addEventListener("keydown", event => {
    const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (by) { event.preventDefault(); move(at + by); }
  });
  move(at);
  $("curves").append(svg);
}
const both = kind => [[`train_${kind}`, "training", "var(--blue)"], [`val_${kind}`, "validation", "var(--orange)"]];
curves("Loss (nats)", both("loss"), true, value => value.toFixed(4));
curves("Error rate (%)", both("error"), true, value => value.toFixed(2));
curves("Learning rate", [["lr", "", "var(--text)"]], false, value => value.toPrecision(3));
if (data.history.every(row => row.val_loss === null)) $("unvalidated").textContent = "This run held no images out for validation.";

// Calibration.
{
  const x = axis(0, 1, BOX.left, BOX.right), y = axis(0, 1, BOX.bottom, BOX.top);
  const ticks = [0, 0.2, 0.4, 0.6, 0.8, 1].map(share => [share, percent(share)]);
  const reliability = chart("Accuracy by confidence", "confidence", x, y, ticks, ticks);
  reliability.append(make("line", {x1: x(0), y1: y(0), x2: x(1), y2: y(1), stroke: "var(--soft)", "stroke-dasharray": "4 3"}));
  const most = Math.max(...data.calibration.map(bin => bin.count)), up = axis(0.7, most, BOX.bottom, BOX.top, Math.log);
  const powers = [1, 10, 100, 1000, 10000].filter(count => count <= most).map(count => [count, count.toLocaleString("en")]);
  const counts = chart("Test images by confidence", "confidence", x, up, ticks, powers);
  for (const {bin, count, confidence, accuracy, low, high} of data.calibration) {
    const words = `${count} images: confidence ${percent(confidence, 1)}, accuracy ${percent(accuracy, 1)} (${percent(low, 1)} to ${percent(high, 1)})`;
    const place = {x: x(bin / data.bins) + 0.5, width: (x(1) - x(0)) / data.bins - 1, y: up(count), height: BOX.bottom - up(count), fill: "var(--blue)"};
    reliability.append(make("g", {}, make("title", {}, words),
      make("line", {x1: x(confidence), x2: x(confidence), y1: y(low), y2: y(high), stroke: "var(--blue)", "stroke-width": 2}),
      make("circle", {cx: x(confidence), cy: y(accuracy), r: 4, fill: "var(--blue)"})));
    counts.append(make("rect", place, make("title", {}, words)));
    if (data.bins <= 20) counts.append(make("text", {x: x((bin + 0.5) / data.bins), y: up(count) - 3, "text-anchor": "middle", "font-size": 8}, count));
  }
  $("calibration").append(reliability, counts);
}

// Until the visitor draws: the first test digit.
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
if (data.samples.length) show(decode(data.samples[0][1])); else paint();
