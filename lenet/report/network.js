// The network in the browser: from a safetensors file and 28×28 numbers to what each layer makes of them, as
// lenet/model.py has it.

// A safetensors file: the length of its header (8 bytes), the header as JSON, then the numbers, little-endian.
function readModel(bytes) {
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true)), start = 8 + length;
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start)));
  const tensor = ({data_offsets: [from, to]}) => new Float32Array(bytes.buffer.slice(start + from, start + to));
  return Object.fromEntries(Object.entries(header).map(([name, entry]) => [name, tensor(entry)]));
}

// Kernels of 5×5 over `maps` square maps of side `side`, which lie one after the other in `x`.
function convolve(x, maps, side, weight, bias) {
  const out = side - 4, y = new Float32Array(bias.length * out * out);
  for (let to = 0, at = 0; to < bias.length; to++)
    for (let row = 0; row < out; row++)
      for (let column = 0; column < out; column++) {
        let sum = bias[to], w = to * maps * 25;
        for (let from = 0; from < maps; from++)
          for (let i = 0; i < 5; i++) {
            const start = (from * side + row + i) * side + column;
            for (let j = 0; j < 5; j++) sum += weight[w++] * x[start + j];
          }
        y[at++] = sum;
      }
  return y;
}

// The largest of each 2×2.
function pool(x, maps, side) {
  const out = side / 2, y = new Float32Array(maps * out * out);
  for (let i = 0; i < y.length; i++) {
    const at = 2 * Math.floor(i / out) * side + 2 * (i % out);
    y[i] = Math.max(x[at], x[at + 1], x[at + side], x[at + side + 1]);
  }
  return y;
}

function linear(x, weight, bias) {
  return bias.map((sum, row) => {
    for (let i = 0, w = row * x.length; i < x.length; i++) sum += weight[w++] * x[i];
    return sum;
  });
}

const relu = x => x.map(value => Math.max(0, value));

// What each layer makes of `pixels`, 784 numbers from 0 (paper) to 255 (ink): all after ReLU but F7, the logits.
function activations(model, pixels) {
  const padded = new Float32Array(32 * 32);
  for (let at = 0; at < 784; at++)
    padded[(2 + Math.floor(at / 28)) * 32 + 2 + at % 28] = (pixels[at] / 255 - model.mean[0]) / model.std[0];
  const layer = (make, name, ...x) => make(...x, model[`${name}.weight`], model[`${name}.bias`]);
  const C1 = relu(layer(convolve, "C1", padded, 1, 32)), S2 = pool(C1, 6, 28);
  const C3 = relu(layer(convolve, "C3", S2, 6, 14)), S4 = pool(C3, 16, 10);
  const C5 = relu(layer(linear, "C5", S4)), F6 = relu(layer(linear, "F6", C5));
  return {C1, S2, C3, S4, C5, F6, F7: layer(linear, "F7", F6)};
}

function softmax(logits) {
  const largest = Math.max(...logits), powers = Array.from(logits, logit => Math.exp(logit - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map(power => power / sum);
}
