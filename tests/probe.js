// What a visitor does on the report's page, and what they see then. `wanted` holds what the test gives.
const seen = {errors: []};
window.addEventListener("error", event => seen.errors.push(event.message));

const images = decode(wanted.images);
seen.logits = [];
for (let at = 0; at < images.length; at += 784) seen.logits.push(Array.from(activations(model, images.subarray(at, at + 784)).F7));
seen.read = wanted.strokes.map(strokes => activations(model, rasterise(strokes)).F7)
  .map(logits => logits.indexOf(Math.max(...logits)));
seen.softmax = softmax(new Float32Array([1000, 1001, 999]));

const inkOf = id => Array.from($(id).getContext("2d").getImageData(0, 0, 28, 28).data).filter((_, at) => at % 4 === 3);
const answer = () => $("answer").textContent;
const bold = () => document.querySelectorAll("#bars .best").length;
seen.start = {given: inkOf("given"), answer: answer()};

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
  paint();
  return {given: inkOf("given"), answer: answer(), bold: bold()};
});
const before = strokes.length;
$("undo").click();
document.dispatchEvent(new KeyboardEvent("keydown", {key: "z", ctrlKey: true}));
seen.undone = [before, strokes.length];
$("clear").click();
seen.cleared = {strokes: strokes.length, answer: answer(), ink: Math.max(...inkOf("given"))};

const visible = () => misread.filter(digit => !digit.button.hidden).map(({actual, predicted}) => [actual, predicted]);
seen.all = visible();
seen.shown = $("shown").textContent;
const cell = document.querySelector("#confusion button");
seen.label = cell.getAttribute("aria-label");
cell.focus();
seen.focused = {of: visible(), words: $("shown").textContent};
cell.blur();
seen.left = visible().length;
cell.focus();
cell.click();
cell.blur();
seen.kept = [visible().length, cell.getAttribute("aria-pressed")];
cell.focus();
cell.click();
cell.blur();
seen.given_up = [visible().length, cell.getAttribute("aria-pressed")];
misread[0].button.click();
seen.clicked = inkOf("given");

const chart = document.querySelector("#curves svg");
seen.last = chart.getAttribute("aria-label");
chart.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowLeft"}));
seen.previous = chart.getAttribute("aria-label");

const named = element => element.getAttribute("aria-label") || element.textContent;
seen.unnamed = [...document.querySelectorAll("button, [tabindex], [role=img]")].filter(element => !named(element)).length;
seen.wide = document.documentElement.scrollWidth - innerWidth;
seen.bars = [...document.querySelectorAll("#calibration title")].map(title => title.textContent);
seen.maps = document.querySelectorAll("#layers canvas").length;
seen.kinds = {totals: [...document.querySelectorAll("#confusion td.total")].map(total => total.textContent)};
document.body.replaceChildren(JSON.stringify(seen)); // as text: what the browser prints is escaped
