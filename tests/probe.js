// What a visitor of the report does, and what they then see. `wanted` comes from the test.
const seen = {errors: []};
window.addEventListener("error", event => seen.errors.push(event.message));

const images = decode(wanted.images), logitsOf = pixels => activations(tensors, chain, pixels).at(-1).values;
seen.logits = [];
for (let at = 0; at < images.length; at += 784) seen.logits.push(Array.from(logitsOf(images.subarray(at, at + 784))));
seen.networks = wanted.networks.map(({model, layers}) => {
  const own = readModel(decode(model)), operations = layers.map(layer => layer[2]);
  return Array.from({length: images.length / 784}, (_, i) => Array.from(activations(own, operations, images.subarray(784 * i, 784 * i + 784)).at(-1).values));
});
seen.read = wanted.strokes.map(strokes => logitsOf(rasterise(strokes)))
  .map(logits => logits.indexOf(Math.max(...logits)));
seen.asDrawn = Array.from(rasterise([[[0.25, 0.25], [0.25, 0.75]]], false));
seen.answers = wanted.answers.map(probabilities => {
  answer(probabilities);
  return $("answer").textContent;
});
answer(null);
seen.softmax = softmax(new Float32Array([1000, 1001, 999]));

const pixels = context => Array.from(context.getImageData(0, 0, context.canvas.width, context.canvas.height).data);
const input = () => pixels($("input").getContext("2d")).filter((_, at) => at % 4 === 3);
const prediction = () => $("answer").textContent;
const bold = () => document.querySelectorAll("#probabilities .best").length;
seen.start = {input: input(), answer: prediction(), hint: $("hint").hidden ? null : $("hint").textContent};
seen.percent = wanted.fractions.map(([fraction, digits]) => percent(fraction, digits));

function draw(stroke) {
  const box = pad.getBoundingClientRect();
  const send = (type, [x, y]) => pad.dispatchEvent(new PointerEvent(type, {
    pointerId: 1, bubbles: true, clientX: box.left + x * box.width, clientY: box.top + y * box.height}));
  send("pointermove", [0.9, 0.1]); // no button is down: nothing is drawn
  send("pointerdown", stroke[0]);
  for (const place of stroke.slice(1)) send("pointermove", place);
  send("pointerup", stroke.at(-1));
}
seen.drawings = wanted.drawings.map(strokes => {
  $("clear").click();
  strokes.forEach(draw);
  redraw();
  // The ink in each 28th of the pad, from 0 to 1.
  const side = pad.width / 28, onPad = Array(784).fill(0);
  pixels(pen).forEach((value, at) => {
    const [x, y] = [Math.floor(at / 4) % pad.width, Math.floor(at / 4 / pad.width)];
    if (at % 4 === 3) onPad[28 * Math.floor(y / side) + Math.floor(x / side)] += value / 255 / side ** 2;
  });
  return {input: input(), onPad, asDrawn: Array.from(rasterise(strokes, false)), prediction: prediction(), bold: bold(), hint: $("hint").hidden};
});
const before = strokes.length;
$("undo").click();
document.dispatchEvent(new KeyboardEvent("keydown", {key: "z", ctrlKey: true}));
seen.undone = [before, strokes.length];
$("clear").click();
seen.cleared = {strokes: strokes.length, prediction: prediction(), blank: !pixels(pen).concat(input()).some(Boolean)};

const listed = () => misread.filter(image => !image.button.hidden).map(({actual, predicted}) => [actual, predicted]);
seen.all = listed();
seen.listed = $("listed").textContent;
const cell = document.querySelector("#confusion button");
seen.label = cell.getAttribute("aria-label");
cell.focus();
seen.focused = {of: listed(), text: $("listed").textContent};
cell.blur();
seen.left = listed().length;
cell.focus();
cell.click();
cell.blur();
seen.selected = [listed().length, cell.getAttribute("aria-pressed")];
cell.focus();
cell.click();
cell.blur();
seen.deselected = [listed().length, cell.getAttribute("aria-pressed")];
misread[0].button.click();
seen.clicked = input();
redraw(); // as a change of the colour scheme does
seen.redrawn = input();
draw([[0.3, 0.3], [0.6, 0.6]]);
redraw();
seen.drawnOver = strokes.length;

const curve = document.querySelector("#curves svg");
seen.last = curve.getAttribute("aria-label");
curve.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowLeft"}));
seen.previous = curve.getAttribute("aria-label");

const labelled = element => element.getAttribute("aria-label") || element.textContent;
seen.unlabelled = [...document.querySelectorAll("button, [tabindex], [role=img]")].filter(element => !labelled(element)).length;
seen.bars = [...document.querySelectorAll("#calibration title")].map(title => title.textContent);
seen.opacities = [...document.querySelectorAll("#calibration g")].map(group => +group.getAttribute("opacity"));
seen.colours = ["blue", "orange"].map(colour);
seen.maps = document.querySelectorAll("#layers canvas").length;
seen.totals = [...document.querySelectorAll("#confusion td.total")].map(total => total.textContent);
document.body.replaceChildren(JSON.stringify(seen)); // as text: what the browser prints is escaped
