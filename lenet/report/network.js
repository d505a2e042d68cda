// The forward pass of a model in JavaScript, as a list of layers that lenet/report/network.py makes.

// Reads a safetensors file: the length of the header (8 bytes), the header as JSON, then the tensors, little-endian.
// Tensors that are not float32, such as counters, are left out.
function readModel(bytes) {
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true)), start = 8 + length;
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start)));
  const tensor = ({shape, data_offsets: [from, to]}) => ({shape, values: new Float32Array(bytes.buffer.slice(start + from, start + to))});
  return Object.fromEntries(Object.entries(header).filter(([, {dtype}]) => dtype === "F32").map(([name, entry]) => [name, tensor(entry)]));
}

// The operations of lenet/report/network.py. Each takes the output of the one before it, {values, shape}, itself with its
// settings, and its tensors by name. A shape is [channels, height, width], or [units].
const OPERATIONS = {
  convolve: (x, operation, {weight, bias}) => {
    const [outputs, inputs, height, width] = weight.shape;
    return slide(x, outputs, [height, width], operation, 0, ({values, area, wide}, at, output) => {
      let sum = bias ? bias.values[output] : 0, w = output * inputs * height * width;
      for (let input = 0; input < inputs; input++)
        for (let dy = 0; dy < height; dy++)
          for (let dx = 0, i = input * area + at + dy * wide; dx < width; dx++) sum += weight.values[w++] * values[i++];
      return sum;
    });
  },
  largest: (x, operation) => pool(x, operation, -Infinity, Math.max, 1),
  mean: (x, operation) => pool(x, operation, 0, (a, b) => a + b, operation.size[0] * operation.size[1]),
  normalise: ({values, shape}, {eps}, {weight, bias, running_mean, running_var}) => {
    const size = values.length / shape[0];
    return {shape, values: values.map((value, i) => {
      const channel = Math.floor(i / size), scale = (weight?.values[channel] ?? 1) / Math.sqrt(running_var.values[channel] + eps);
      return (value - running_mean.values[channel]) * scale + (bias?.values[channel] ?? 0);
    })};
  },
  sum: ({values}, _, {weight, bias}) => ({shape: weight.shape.slice(0, 1), values: Float32Array.from({length: weight.shape[0]}, (_, row) => {
    let sum = bias ? bias.values[row] : 0;
    for (let i = 0, w = row * values.length; i < values.length; i++) sum += weight.values[w++] * values[i];
    return sum;
  })}),
  relu: ({values, shape}) => ({shape, values: values.map(value => Math.max(0, value))}),
  tanh: ({values, shape}) => ({shape, values: values.map(Math.tanh)}),
  sigmoid: ({values, shape}) => ({shape, values: values.map(value => 1 / (1 + Math.exp(-value)))}),
  flatten: ({values}) => ({values, shape: [values.length]}),
};

// Computes each value of `channels` maps from a window of `x`, which is padded with `outside`. `compute` gets the padded
// maps, the place of the window in each of them, and the channel.
function slide({values, shape: [maps, height, width]}, channels, size, {stride, padding}, outside, compute) {
  const high = height + 2 * padding[0], wide = width + 2 * padding[1];
  const padded = {values: new Float32Array(maps * high * wide).fill(outside), area: high * wide, wide};
  for (let line = 0; line < maps * height; line++) {
    const [map, row] = [Math.floor(line / height), line % height];
    padded.values.set(values.subarray(line * width, (line + 1) * width), (map * high + padding[0] + row) * wide + padding[1]);
  }
  const [rows, columns] = [high, wide].map((side, axis) => Math.floor((side - size[axis]) / stride[axis]) + 1);
  const y = new Float32Array(channels * rows * columns);
  for (let channel = 0, i = 0; channel < channels; channel++)
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++)
        y[i++] = compute(padded, row * stride[0] * wide + column * stride[1], channel);
  return {values: y, shape: [channels, rows, columns]};
}

function pool(x, operation, outside, combine, divisor) {
  const [height, width] = operation.size;
  return slide(x, x.shape[0], operation.size, operation, outside, ({values, area, wide}, at, channel) => {
    let value = outside;
    for (let dy = 0; dy < height; dy++)
      for (let dx = 0, i = channel * area + at + dy * wide; dx < width; dx++) value = combine(value, values[i++]);
    return value / divisor;
  });
}

// Returns the output of each layer, {values, shape}, for `pixels`, 784 numbers from 0 (paper) to 255 (ink). `layers` are
// lists of operations; the last layer's output is the logits.
function activations(tensors, layers, pixels) {
  let x = standardise(tensors, pixels);
  return layers.map(operations => {
    for (const operation of operations) x = OPERATIONS[operation.kind](x, operation, tensorsOf(tensors, operation.name));
    return x;
  });
}

function standardise({mean, std}, pixels) {
  return {values: Float32Array.from(pixels, pixel => (pixel / 255 - mean.values[0]) / std.values[0]), shape: [1, 28, 28]};
}

// Returns the tensors of the module `name`, by their names in it.
function tensorsOf(tensors, name) {
  const own = Object.entries(tensors).filter(([key]) => key.startsWith(`${name}.`));
  return Object.fromEntries(own.map(([key, tensor]) => [key.slice(name.length + 1), tensor]));
}

function softmax(logits) {
  const largest = Math.max(...logits), powers = Array.from(logits, logit => Math.exp(logit - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map(power => power / sum);
}
