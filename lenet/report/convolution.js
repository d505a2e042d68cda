// Slides a kernel of the first convolution over the drawing, one position at a time, and shows the arithmetic.

// Sobel's gradients, in the order of a convolutional layer, which doesn't flip its kernels.
const SOBEL = [["Sobel x", [-1, 0, 1, -2, 0, 2, -1, 0, 1]], ["Sobel y", [-1, -2, -1, 0, 0, 0, 1, 2, 1]]];
const ACTIVATIONS = {relu: "ReLU", tanh: "tanh", sigmoid: "Sigmoid"};
const signed = (value, digits) => (Math.abs(value) < 0.5 / 10 ** digits ? 0 : value).toFixed(digits).replace("-", "−");

// Returns a function that shows the convolution of given pixels. `operations` are those of the model; the first convolves
// one channel, with the weights that are given. Of the others, only poolings have a size.
function showConvolution({shape: [count, , height, width], values}, operations) {
  const area = height * width, {name: layer, stride, padding} = operations[0];
  // What follows up to the next layer with weights. The maximum of some activations is the activation of their maximum:
  // networks may pool first, because it is faster, but here the activation is shown first, as it is usually explained.
  const end = operations.findIndex(({kind}, i) => i && ["convolve", "sum", "flatten"].includes(kind));
  const following = operations.slice(1, end < 0 ? undefined : end);
  following.forEach((operation, i) => {
    if (operation.kind !== "largest" || !(following[i + 1]?.kind in ACTIVATIONS)) return;
    following.splice(i, 2, following[i + 1], operation);
    $("order").hidden = false;
  });
  const sobel = ([name, nine]) => {
    const weights = new Float32Array(area), [top, left] = [height, width].map(side => Math.floor((side - 3) / 2));
    nine.forEach((weight, i) => { weights[(top + Math.floor(i / 3)) * width + left + i % 3] = weight; });
    return {name, weights, bias: 0, following: following.filter(({kind}) => kind !== "normalise")};
  };
  const bias = tensors[`${layer}.bias`]?.values;
  const learned = Array.from({length: count}, (_, i) => ({
    name: `${i + 1}`, channel: i, weights: values.subarray(i * area, (i + 1) * area), bias: bias?.[i], following}));
  const all = [...learned, ...height < 3 || width < 3 ? [] : SOBEL.map(sobel)];
  $("sobel").hidden = all.length === count;

  const grids = ["pixels", "× weights", "= products"].map(caption => {
    const cells = Array.from({length: area}, () => make("span"));
    $("products").append(make("figure", {}, make("figcaption", {}, caption), make("div", {class: "numbers", style: `--width: ${width}`}, ...cells)));
    return cells;
  });
  let kernel, pixels, figures, at, timer, moved = false;
  const buttons = all.map(one => {
    const canvas = make("canvas", {class: "frame"});
    const label = `${one.channel === undefined ? "" : `Kernel of ${layer}, number `}${one.name}`;
    const button = make("button", {"aria-label": label, onclick: () => choose(one)}, canvas, one.name);
    $("kernels").append(button);
    return {button, canvas, one};
  });

  function choose(one) {
    kernel = one;
    for (const {button, one: other} of buttons) button.setAttribute("aria-pressed", other === kernel);
    const names = ["Convolution", ...kernel.following.map(operation => ACTIVATIONS[operation.kind] ?? block(operation) ?? "Batch normalisation")];
    figures = [`Input${Math.max(...padding) ? ", padded" : ""}`, ...names].map((name, i) => {
      const canvas = make("canvas", {class: "frame", role: "img", "aria-label": name, ...i ? {} : {tabindex: 0}}), box = make("i");
      return {name, canvas, box, figure: make("figure", {}, make("figcaption", {}, name), make("div", {}, canvas, box))};
    });
    $("slide").replaceChildren(...figures.map(({figure}) => figure));
    const canvas = figures[0].canvas, select = event => {
      const frame = canvas.getBoundingClientRect(), x = (event.clientX - frame.left) / frame.width, y = (event.clientY - frame.top) / frame.height;
      stop();
      move(Math.round((y * canvas.height - height / 2) / stride[0]), Math.round((x * canvas.width - width / 2) / stride[1]));
    };
    canvas.addEventListener("pointerdown", select);
    canvas.addEventListener("pointermove", select);
    canvas.addEventListener("keydown", event => {
      const [down, right] = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key] ?? [];
      if (right === undefined) return;
      event.preventDefault();
      stop();
      move(at[0] + down, at[1] + right);
    });
    if (pixels) show(pixels);
  }

  const block = ({kind, size}) => size && `${kind === "largest" ? "Maximum" : "Mean"} of ${size.join("×")}`;

  // Computes the maps of the kernel and draws them.
  function show(newPixels) {
    pixels = newPixels;
    const input = standardise(tensors, pixels), own = {shape: [1, 1, height, width], values: kernel.weights};
    let x = OPERATIONS.convolve(input, operations[0], {weight: own, bias: {values: [kernel.bias ?? 0]}});
    // A sum of one pixel and a weight of 1, at each position: the padded input.
    const padded = OPERATIONS.convolve(input, {stride: [1, 1], padding}, {weight: {shape: [1, 1, 1, 1], values: [1]}});
    const maps = [padded, x, ...kernel.following.map(operation => {
      const mine = Object.entries(tensorsOf(tensors, operation.name)).map(([name, {values}]) => [name, {values: values.subarray(kernel.channel, kernel.channel + 1)}]);
      return x = OPERATIONS[operation.kind](x, operation, Object.fromEntries(mine));
    })];
    figures.forEach((figure, i) => drawSigned(figure.canvas, figure.map = maps[i]));
    for (const {canvas, one} of buttons) drawSigned(canvas, {values: one.weights, shape: [1, height, width]});
    const {values: sums, shape: [, , columns]} = maps[1], place = sums.indexOf(Math.max(...sums));
    move(...moved ? at : [Math.floor(place / columns), place % columns]);
  }

  // Shows the kernel at `row` and `column` of the convolution's output.
  function move(row, column) {
    const [{map: input}, ...outputs] = figures, wide = input.shape[2];
    at = [row, column].map((place, axis) => Math.min(outputs[0].map.shape[axis + 1] - 1, Math.max(0, place)));
    const start = at.map((place, axis) => place * stride[axis]);
    outline(figures[0], start, [height, width]);
    const patch = Array.from({length: area}, (_, i) => input.values[(start[0] + Math.floor(i / width)) * wide + start[1] + i % width]);
    const products = patch.map((value, i) => value * kernel.weights[i]), total = sum(products);
    [patch, kernel.weights, products].forEach((numbers, grid) => {
      const largest = Math.max(...numbers.map(Math.abs)) || 1;
      grids[grid].forEach((cell, i) => {
        cell.textContent = signed(numbers[i], 2);
        cell.style.background = `color-mix(in srgb, var(--${numbers[i] < 0 ? "orange" : "blue"}) ${45 * Math.abs(numbers[i]) / largest}%, transparent)`;
      });
    });
    let said = `Sum of the ${area} products: ${signed(total, 4)}.`, place = at;
    outputs.forEach((figure, i) => {
      const {map: {values, shape: [, rows, columns]}, name} = figure, before = kernel.following[i - 1], next = kernel.following[i];
      if (before?.size) place = place.map((old, axis) => Math.min([rows, columns][axis] - 1, Math.floor((old + before.padding[axis]) / before.stride[axis])));
      const value = signed(values[place[0] * columns + place[1]], 4);
      if (i) said += ` ${name}: ${value}.`;
      else if (kernel.bias) said += ` Plus the bias of ${signed(kernel.bias, 4)}: ${value}.`;
      if (!next?.size) return outline(figure, place, [1, 1]);
      const block = place.map((old, axis) => Math.floor((old + next.padding[axis]) / next.stride[axis]) * next.stride[axis] - next.padding[axis]);
      outline(figure, block, next.size);
    });
    $("sum").textContent = said;
    figures[0].canvas.setAttribute("aria-label", `${figures[0].name}: kernel at row ${at[0] + 1}, column ${at[1] + 1}`);
  }

  function outline({box, map: {shape: [, rows, columns]}}, [top, left], [high, wide]) {
    Object.assign(box.style, {top: `${100 * top / rows}%`, left: `${100 * left / columns}%`, height: `${100 * high / rows}%`, width: `${100 * wide / columns}%`});
  }

  // Moves to the next position, line by line, and after the last one to the first.
  function step(by) {
    const [, rows, columns] = figures[1].map.shape, next = (at[0] * columns + at[1] + by + rows * columns) % (rows * columns);
    move(Math.floor(next / columns), next % columns);
  }
  function stop() {
    clearInterval(timer);
    [timer, moved] = [undefined, true];
    $("play").textContent = "Play";
  }
  $("back").addEventListener("click", () => { stop(); step(-1); });
  $("step").addEventListener("click", () => { stop(); step(1); });
  $("play").addEventListener("click", () => {
    const playing = timer;
    stop();
    if (playing) return;
    timer = setInterval(step, 150, 1);
    $("play").textContent = "Pause";
  });
  choose(all[0]);
  $("convolution").hidden = false;
  return show;
}
