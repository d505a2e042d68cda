// Shows the data of the run, and runs the network on drawings and test images.
const data = JSON.parse(document.getElementById("data").textContent);
const decode = base64 => Uint8Array.from(atob(base64), character => character.charCodeAt(0));
const network = data.network, tensors = network.model && readModel(decode(network.model)); // none if the page can't run it
const $ = id => document.getElementById(id);
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);
const sum = numbers => numbers.reduce((a, b) => a + b, 0);

// What is not quite 0% or 100% is not rounded to it.
function percent(fraction, digits = 0) {
  const text = value => `${value.toFixed(digits)}%`, least = 10 ** -digits;
  if (fraction > 0 && text(100 * fraction) === text(0)) return `<${text(least)}`;
  return fraction < 1 && text(100 * fraction) === text(100) ? `>${text(100 - least)}` : text(100 * fraction);
}

// Creates an HTML or SVG element. Attributes that begin with "on" are event listeners.
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "text", "tspan", "title", "circle", "rect", "g"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Draws values from 0 to `max` in black of increasing opacity, which style.css inverts in dark mode.
function drawInk(values, width, height = width, max = 255, canvas = make("canvas", {class: "ink"})) {
  Object.assign(canvas, {width, height});
  const image = new ImageData(width, height);
  values.forEach((value, i) => { image.data[4 * i + 3] = 255 * value / (max || 1); });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// Metrics and params.
for (const [name, value, note] of data.tiles)
  $("tiles").append(make("div", {class: "tile"}, make("small", {}, name), make("b", {}, value), make("small", {}, note)));
$("dataset").textContent = data.dataset;
for (const [name, value] of data.details) $("details").append(make("dt", {}, name), make("dd", {}, value));

if (data.likeMnist) $("converted").textContent = "A drawing is scaled and centred as MNIST's images are. ";

// The drawing pad shows either strokes or a test image.
const pad = $("pad"), pen = pad.getContext("2d");
let strokes = [], testImage = null, pointer = null, scheduled = false;

function drawPad() {
  const width = PEN / 28 * pad.width, ink = colour("text");
  pen.clearRect(0, 0, pad.width, pad.height);
  Object.assign(pen, {lineWidth: width, lineCap: "round", lineJoin: "round", strokeStyle: ink, fillStyle: ink});
  for (const stroke of strokes) {
    const [start, ...rest] = stroke.map(point => point.map(share => share * pad.width));
    pen.beginPath();
    pen.arc(...start, width / 2, 0, 2 * Math.PI); // a line of one point would not be drawn
    pen.fill();
    pen.beginPath();
    for (const point of [start, ...rest]) pen.lineTo(...point);
    pen.stroke();
  }
  if (testImage) {
    const canvas = drawInk(testImage, 28), context = canvas.getContext("2d");
    Object.assign(context, {globalCompositeOperation: "source-in", fillStyle: ink});
    context.fillRect(0, 0, 28, 28);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(canvas, 0, 0, pad.width, pad.height);
  }
  $("hint").hidden = strokes.length || testImage;
}

function readPad() {
  scheduled = false;
  classify(testImage ?? (strokes.length ? rasterise(strokes, data.likeMnist) : null));
}

function redraw() {
  drawPad();
  readPad();
}

// The line appears in the next frame, and the network runs after it: the pen doesn't wait for the network.
function extendDrawing() {
  drawPad();
  if (!scheduled) requestAnimationFrame(() => setTimeout(readPad));
  scheduled = true;
}

function setDrawing(newStrokes, newImage = null) {
  [strokes, testImage] = [newStrokes, newImage];
  redraw();
}

function position(event) {
  const box = pad.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

pad.addEventListener("pointerdown", event => {
  if (event.button || pointer !== null) return; // not the primary button, or a second finger
  try { pad.setPointerCapture(event.pointerId); } catch { /* the pointer is no longer active */ }
  pointer = event.pointerId;
  testImage = null;
  strokes.push([position(event)]);
  extendDrawing();
});
pad.addEventListener("pointermove", event => {
  if (event.pointerId !== pointer) return;
  const events = event.getCoalescedEvents?.() ?? []; // may be empty
  strokes.at(-1).push(...(events.length ? events : [event]).map(position));
  extendDrawing();
});
for (const type of ["pointerup", "pointercancel"])
  pad.addEventListener(type, event => {
    if (event.pointerId !== pointer) return;
    pointer = null;
    extendDrawing();
  });
const undo = () => setDrawing(strokes.slice(0, -1));
$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", () => setDrawing([]));
document.addEventListener("keydown", event => {
  if (event.key === "z" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); undo(); }
});

const samples = data.samples.map(([label, base64]) => {
  const pixels = decode(base64), name = `First ${data.classes[label]} of the test set`;
  const onclick = () => setDrawing([], pixels);
  $("samples").append(make("button", {class: "thumb", title: name, "aria-label": name, onclick}, drawInk(pixels, 28)));
  return pixels;
});

let signColours; // of positive and of negative values: red, green, blue
function setColours() {
  signColours = ["blue", "orange"].map(name => colour(name).match(/\w\w/g).map(digits => parseInt(digits, 16)));
}
setColours();

// Draws signed values: the further from 0, the more opaque. Units are drawn as one map with lines of 40.
function drawSigned(canvas, {values, shape: [, height, width]}) {
  Object.assign(canvas, {width, height});
  const max = values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0) || 1;
  const image = new ImageData(width, height);
  values.forEach((value, i) => image.data.set([...signColours[+(value < 0)], 255 * Math.abs(value) / max], 4 * i));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// Divides a layer's output, {values, shape}, into maps.
function mapsOf({values, shape: [n, height, width]}) {
  if (!width) return [{values, shape: [1, Math.ceil(n / 40), Math.min(n, 40)]}];
  const size = height * width;
  return Array.from({length: n}, (_, i) => ({values: values.subarray(i * size, (i + 1) * size), shape: [1, height, width]}));
}

function addLayer(name, description, canvases) {
  const n = canvases.length, style = `--columns: ${Math.min(n, 16)}; --few: ${Math.min(n, 8)}`;
  $("layers").append(make("small", {}, make("b", {}, `${name}:`), ` ${description}`), make("div", {style, class: n > 1 ? "" : "units"}, ...canvases));
}

const canvases = length => Array.from({length}, () => make("canvas"));
const chain = network.layers?.map(([, , operations]) => operations);
const first = chain?.[0][0].kind === "convolve" && tensors[`${chain[0][0].name}.weight`];
const kernels = first && first.shape[1] === 1 ? canvases(first.shape[0]) : []; // each of one channel
const kernelsShown = "Learned weights. A kernel whose weights are mostly negative responds to the background, which is negative once standardised.";
if (kernels.length) addLayer(`Kernels of ${network.layers[0][0]}`, kernelsShown, kernels);
const maps = tensors ? activations(tensors, chain, new Uint8Array(784)).map((output, i) => {
  const shown = canvases(mapsOf(output).length);
  addLayer(network.layers[i][0], network.layers[i][1], shown);
  return shown;
}) : [];
const convolve = kernels.length && showConvolution(first, chain.flat());
if (!tensors) $("layers").append(`This page can't run the network, because ${network.reason}.`);

function drawKernels() {
  mapsOf({values: first.values ?? [], shape: [kernels.length, ...(first.shape ?? []).slice(2)]}).forEach((kernel, i) => drawSigned(kernels[i], kernel));
}

const rows = data.classes.map(name => {
  const row = [make("span", {}, name), make("i"), make("span")];
  $("probabilities").append(...row);
  return row;
});

// Whether to redraw a part of the page now: while the pen is down, what is out of sight is not.
function shows(id) {
  const {top, bottom} = $(id).getBoundingClientRect();
  return pointer === null || bottom > 0 && top < innerHeight;
}

// Says which class it is, or between which two the network hesitates. `probabilities` is null if nothing is drawn.
function answer(probabilities) {
  const [first, second] = Array.from(probabilities ?? [], (probability, label) => ({probability, name: data.classes[label]}))
    .sort((a, b) => b.probability - a.probability);
  const longest = (...names) => Math.max(...names.flatMap(name => name.split(" ").map(word => word.length)));
  const large = (text, length) => make("b", {style: `--longest: ${length}`}, text);
  const said = !first ? [make("small", {}, "The pad is empty")]
    : first.probability < data.sure ? ["not sure: ", large(`${first.name} or ${second.name}?`, Math.max(6, longest(first.name, second.name)))]
    : [large(first.name, longest(first.name)), ` ${percent(first.probability, 1)}`];
  const text = said.map(part => part.textContent ?? part).join("");
  if ($("answer").textContent !== text) $("answer").replaceChildren(...said); // if set again, screen readers would repeat it
}

// Runs the network on `pixels` and shows the results; clears them if `pixels` is null.
function classify(pixels) {
  drawInk(pixels ?? [], 28, 28, 255, $("input"));
  if (!tensors) return;
  const layers = activations(tensors, chain, pixels ?? samples[0]);
  const probabilities = softmax(layers.at(-1).values), highest = Math.max(...probabilities);
  rows.forEach(([name, bar, number], label) => {
    const probability = pixels ? probabilities[label] : 0;
    bar.style.width = `${100 * probability}%`;
    number.textContent = pixels ? percent(probability, 1) : "";
    for (const cell of [name, number]) cell.classList.toggle("best", pixels !== null && probability === highest);
  });
  answer(pixels && probabilities);
  if (convolve && shows("convolution")) convolve(pixels ?? samples[0]);
  if (shows("layers")) layers.forEach((output, layer) => mapsOf(output).forEach((map, i) => drawSigned(maps[layer][i], map)));
}

// Misread images and the confusion matrix, whose cells filter them.
const misread = data.misread.map(([index, actual, predicted, confidence, base64]) => {
  const pixels = decode(base64);
  const button = make("button", {
    title: `Test image ${index}: actual ${data.classes[actual]}, predicted ${data.classes[predicted]}, confidence ${percent(confidence, 1)}`,
    onclick: () => { setDrawing([], pixels); pad.scrollIntoView({block: "center"}); },
  }, drawInk(pixels, 28), make("span", {}, `${data.classes[actual]} →`), " ", make("span", {}, data.classes[predicted]), make("br"), make("small", {}, percent(confidence)));
  $("gallery").append(button);
  return {actual, predicted, button};
});
const errors = sum(data.confusion.map((row, label) => sum(row) - row[label]));
let selected = null;
document.body.classList.toggle("long", data.classes.some(name => name.length > 4));

// Lists the misread images of `cell`, [actual, predicted], or all of them if it is null.
function list(cell) {
  const inCell = ({actual, predicted}) => !cell || actual === cell[0] && predicted === cell[1];
  for (const image of misread) image.button.hidden = !inCell(image);
  const total = cell ? data.confusion[cell[0]][cell[1]] : errors, listed = misread.filter(inCell).length;
  const which = cell ? `actual ${data.classes[cell[0]]}, predicted ${data.classes[cell[1]]}` : "actual → predicted class, with the confidence";
  $("listed").textContent = `${listed < total ? `The ${listed} most confident of ` : ""}${total} ${total === 1 ? "error" : "errors"}: ${which}`;
}

const heading = (scope, text, kind = "") => make("th", {scope, class: kind}, make("span", {}, text));
const total = count => make("td", {class: "total"}, count);
const largest = Math.max(1, ...data.confusion.flatMap((row, i) => row.filter((_, j) => j !== i)));
$("confusion").append(make("tr", {}, total(""), ...data.classes.map(name => heading("col", name)), heading("col", "total", "total")));
data.confusion.forEach((row, actual) => {
  const cells = row.map((count, predicted) => {
    if (actual === predicted) return make("td", {class: "correct"}, count);
    if (!count) return make("td");
    const cell = [actual, predicted], label = `${count}: actual ${data.classes[actual]}, predicted ${data.classes[predicted]}`;
    const [enter, leave] = [() => list(cell), () => list(selected)], [low, high] = data.errorOpacity;
    const button = make("button", {
      "aria-pressed": false, "aria-label": label, title: label,
      style: `background: color-mix(in srgb, var(--orange) ${100 * (low + (high - low) * count / largest)}%, transparent)`,
      onmouseenter: enter, onmouseleave: leave, onfocus: enter, onblur: leave,
      onclick: () => {
        selected = selected === cell ? null : cell;
        document.querySelectorAll("#confusion button").forEach(other => other.setAttribute("aria-pressed", selected === cell && other === button));
        list(cell);
      },
    }, count);
    return make("td", {}, button);
  });
  $("confusion").append(make("tr", {}, heading("row", data.classes[actual]), ...cells, total(sum(row))));
});
const columns = data.classes.map((_, label) => sum(data.confusion.map(row => row[label])));
$("confusion").append(make("tr", {}, heading("row", "total", "total"), ...columns.map(total), total(sum(columns))));
list(null);

// Charts are 320×226; BOX is their plot area.
const BOX = {left: 40, right: 304, top: 42, bottom: 196};
const axis = (from, to, a, b, f = value => value) => value => a + (b - a) * (f(value) - f(from)) / (f(to) - f(from) || 1);

function chart(title, subtitle, xLabel, x, y, xTicks, yTicks) {
  const svg = make("svg", {viewBox: "0 0 320 226", role: "img", "aria-label": title},
    make("text", {x: 0, y: 12, class: "title"}, title), make("text", {x: 0, y: 28, class: "subtitle"}, subtitle));
  for (const [value, text] of yTicks)
    svg.append(make("line", {class: "axis", x1: BOX.left, x2: BOX.right, y1: y(value), y2: y(value)}),
      make("text", {x: BOX.left - 5, y: y(value) + 4, "text-anchor": "end"}, text));
  for (const [value, text] of xTicks) svg.append(make("text", {x: x(value), y: BOX.bottom + 14, "text-anchor": "middle"}, text));
  svg.append(make("text", {x: (BOX.left + BOX.right) / 2, y: BOX.bottom + 28, "text-anchor": "middle"}, xLabel));
  return svg;
}

// Ticks of a logarithmic axis: 1, 2 and 5 times powers of ten; if too many, the powers; if too few, the ends.
function logTicks(low, high) {
  const powers = Array.from({length: 12}, (_, i) => 10 ** (i - 6)), within = value => value >= low && value <= high;
  const all = powers.flatMap(power => [1, 2, 5].map(factor => +(factor * power).toPrecision(1))).filter(within);
  if (all.length < 2) return [low, high].map(value => +value.toPrecision(2));
  return all.length > 8 ? powers.map(power => +power.toPrecision(1)).filter(within) : all;
}

// Plots `lines`, [column, name, colour], by epoch. The pointer and the arrow keys select the epoch whose values are shown.
function plotCurves(title, lines, log, format) {
  const history = data.history, drawn = lines.filter(([column]) => history.some(row => row[column] !== null));
  const values = drawn.flatMap(([column]) => history.map(row => row[column])), max = Math.max(...values);
  const [low, high] = log ? [Math.min(...values) * 0.85, max * 1.15] : [0, max * 1.05 || 1];
  const x = axis(1, history.length, BOX.left + 6, BOX.right - 6);
  const y = axis(low, high, BOX.bottom, BOX.top, log ? Math.log : undefined);
  const step = Math.ceil(history.length / 5), epochs = history.map(row => row.epoch).filter(epoch => epoch === 1 || epoch % step === 0);
  const ticks = log ? logTicks(low, high) : [0, 0.25, 0.5, 0.75, 1].map(fraction => fraction * max);
  const svg = chart(title, "", "epoch", x, y, epochs.map(epoch => [epoch, epoch]), ticks.map(value => [value, log ? value : +value.toPrecision(2)]));
  const cursor = make("line", {class: "axis", y1: BOX.top, y2: BOX.bottom}), readout = svg.querySelector(".subtitle");
  for (const [column, , stroke] of drawn) {
    const points = history.map(row => [x(row.epoch), y(row[column])]);
    svg.append(make("path", {d: `M${points.map(point => point.map(v => v.toFixed(1)).join(" ")).join("L")}`, fill: "none", stroke, "stroke-width": 2}));
    for (const [cx, cy] of points) svg.append(make("circle", {cx, cy, r: 2.5, fill: stroke}));
  }
  svg.append(cursor);
  let current;
  function select(index) {
    current = Math.min(history.length - 1, Math.max(0, index));
    const row = history[current];
    for (const name of ["x1", "x2"]) cursor.setAttribute(name, x(row.epoch));
    readout.replaceChildren(`epoch ${row.epoch}:`, ...drawn.map(([column, name, fill]) => make("tspan", {fill}, ` ${name} ${format(row[column])}`)));
    svg.setAttribute("aria-label", `${title}, ${readout.textContent}`);
  }
  svg.setAttribute("tabindex", 0);
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), pointer = (event.clientX - box.left) * 320 / box.width;
    select(Math.round((pointer - x(1)) / (x(2) - x(1) || 1)));
  });
  svg.addEventListener("pointerleave", () => select(history.length - 1));
  svg.addEventListener("keydown", event => {
    const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (step) { event.preventDefault(); select(current + step); }
  });
  select(history.length - 1);
  $("curves").append(svg);
}
const both = kind => [[`train_${kind}`, "training", "var(--blue)"], [`val_${kind}`, "validation", "var(--orange)"]];
plotCurves("Loss (nats)", both("loss"), true, value => value.toFixed(4));
plotCurves("Error rate (%)", both("error"), true, value => value.toFixed(2));
plotCurves("Learning rate", [["lr", "", "var(--text)"]], false, value => value.toPrecision(3));
if (data.history.every(row => row.val_loss === null)) $("unvalidated").textContent = "In this run, no images were held out for validation.";

// Calibration.
{
  const x = axis(0, 1, BOX.left, BOX.right), y = axis(0, 1, BOX.bottom, BOX.top);
  const ticks = [0, 0.2, 0.4, 0.6, 0.8, 1].map(fraction => [fraction, percent(fraction)]);
  const diagram = chart("Accuracy by confidence", "dashed: perfect calibration", "confidence", x, y, ticks, ticks);
  diagram.append(make("line", {x1: x(0), y1: y(0), x2: x(1), y2: y(1), stroke: "var(--soft)", "stroke-dasharray": "4 3"}));
  const max = Math.max(...data.calibration.map(bin => bin.counts)), up = axis(0.7, max, BOX.bottom, BOX.top, Math.log);
  const powers = [1, 10, 100, 1000, 10000].filter(count => count <= max).map(count => [count, count.toLocaleString("en")]);
  const histogram = chart("Test images by confidence", "logarithmic scale", "confidence", x, up, ticks, powers);
  for (const {bin, counts: count, confidence, accuracy, low, high, opacity} of data.calibration) {
    const label = `${count.toLocaleString("en")} images: confidence ${percent(confidence, 1)}, accuracy ${percent(accuracy, 1)} (${percent(low, 1)} to ${percent(high, 1)})`;
    const bar = {x: x(bin / data.bins) + 0.5, width: (x(1) - x(0)) / data.bins - 1, y: up(count), height: BOX.bottom - up(count), fill: "var(--blue)"};
    diagram.append(make("g", {opacity}, make("title", {}, label),
      make("line", {x1: x(confidence), x2: x(confidence), y1: y(low), y2: y(high), stroke: "var(--blue)", "stroke-width": 2}),
      make("circle", {cx: x(confidence), cy: y(accuracy), r: 4, fill: "var(--blue)"})));
    histogram.append(make("rect", bar, make("title", {}, label)));
    if (data.bins <= 20) histogram.append(make("text", {x: x((bin + 0.5) / data.bins), y: up(count) - 3, "text-anchor": "middle", "font-size": 8}, count.toLocaleString("en")));
  }
  $("calibration").append(diagram, histogram);
}

// Canvases don't follow the colour scheme by themselves.
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { setColours(); drawKernels(); redraw(); });
drawKernels();
redraw();
