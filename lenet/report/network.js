// The forward pass of lenet/model.py in JavaScript.

// Reads a safetensors file: the length of the header (8 bytes), the header as JSON, then the tensors, little-endian.
function readModel(bytes) {
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true)), start = 8 + length;
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start)));
  const tensor = ({data_offsets: [from, to]}) => new Float32Array(bytes.buffer.slice(start + from, start + to));
  return Object.fromEntries(Object.entries(header).map(([name, entry]) => [name, tensor(entry)]));
}

// Applies 5×5 kernels, without padding, to `x`: `channels` maps of `side`×`side`.
function convolve(x, channels, side, weight, bias) {
  const size = side - 4, y = new Float32Array(bias.length * size * size);
  for (let output = 0, i = 0; output < bias.length; output++)
    for (let row = 0; row < size; row++)
      for (let column = 0; column < size; column++) {
        let sum = bias[output], w = output * channels * 25;
        for (let channel = 0; channel < channels; channel++)
          for (let dy = 0; dy < 5; dy++) {
            const start = (channel * side + row + dy) * side + column;
            for (let dx = 0; dx < 5; dx++) sum += weight[w++] * x[start + dx];
          }
        y[i++] = sum;
      }
  return y;
}

// 2×2 max-pooling of `x`: `channels` maps of `side`×`side`.
function pool(x, channels, side) {
  const size = side / 2, y = new Float32Array(channels * size * size);
  for (let i = 0; i < y.length; i++) {
    const at = 2 * Math.floor(i / size) * side + 2 * (i % size);
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

// Returns the output of each layer for `pixels`, 784 numbers from 0 (paper) to 255 (ink): after ReLU, except F7's logits.
function activations(model, pixels) {
  const padded = new Float32Array(32 * 32);
  for (let i = 0; i < 784; i++)
    padded[(2 + Math.floor(i / 28)) * 32 + 2 + i % 28] = (pixels[i] / 255 - model.mean[0]) / model.std[0];
  const parameters = name => [model[`${name}.weight`], model[`${name}.bias`]];
  const C1 = relu(convolve(padded, 1, 32, ...parameters("C1"))), S2 = pool(C1, 6, 28);
  const C3 = relu(convolve(S2, 6, 14, ...parameters("C3"))), S4 = pool(C3, 16, 10);
  const C5 = relu(linear(S4, ...parameters("C5"))), F6 = relu(linear(C5, ...parameters("F6")));
  return {C1, S2, C3, S4, C5, F6, F7: linear(F6, ...parameters("F7"))};
}

function softmax(logits) {
  const largest = Math.max(...logits), powers = Array.from(logits, logit => Math.exp(logit - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map(power => power / sum);
}
