// The arithmetic of a convolution along one spatial axis. A layer is { kernel, stride, dilation, padding, outputPadding,
// transposed }; padding is [before, after] or one of the words same, same_lower, valid and causal. All whole numbers.

export const span = ({ kernel, dilation = 1 }) => (kernel - 1) * dilation + 1;

/** The pads of "same": as many as ⌈length / stride⌉ outputs need; an odd one goes after the input, or before it if `lower`. */
export function samePads(layer, length, lower = false) {
  const { stride = 1 } = layer;
  const total = Math.max((Math.ceil(length / stride) - 1) * stride + span(layer) - length, 0);
  const half = Math.floor(total / 2);
  return lower ? [total - half, half] : [half, total - half];
}

/** The pads in numbers, crops for a transposed layer, and the output padding: { before, after, extra }. */
export function pads(layer, length) {
  const { padding = [0, 0], stride = 1, transposed = false, outputPadding = 0 } = layer;
  if (Array.isArray(padding)) return { before: padding[0], after: padding[1], extra: outputPadding };
  if (padding === "valid") return { before: 0, after: 0, extra: outputPadding };
  if (padding === "causal") return { before: span(layer) - 1, after: 0, extra: outputPadding };
  if (transposed) {
    const total = span(layer) - stride, crop = Math.max(total, 0);
    return { before: Math.floor(crop / 2), after: crop - Math.floor(crop / 2), extra: Math.max(-total, 0) };
  }
  const [before, after] = samePads(layer, length, padding === "same_lower");
  return { before, after, extra: outputPadding };
}

/** The number of outputs along the axis; null where the layer has none: a kernel, or a crop, that is too large. */
export function outputLength(layer, length) {
  const { stride = 1, transposed = false } = layer;
  const { before, after, extra } = pads(layer, length);
  if (transposed) {
    const size = (length - 1) * stride + span(layer) - before - after + extra;
    return size < 0 ? null : size;
  }
  const padded = length + before + after;
  return padded < span(layer) ? null : Math.floor((padded - span(layer)) / stride) + 1;
}

/** What an output reads: [{ tap, input }]; an input below 0 or from `length` on is a pad. */
export function reads(layer, length, output) {
  const { kernel, stride = 1, dilation = 1, transposed = false } = layer;
  const { before } = pads(layer, length);
  const found = [];
  for (let tap = 0; tap < kernel; tap++) {
    if (!transposed) found.push({ tap, input: output * stride - before + tap * dilation });
    else {
      const place = output + before - tap * dilation;
      if (place % stride === 0 && place >= 0 && place / stride < length) found.push({ tap, input: place / stride });
    }
  }
  return found;
}

/** The outputs that read an input: [{ tap, output }]. */
export function writes(layer, length, input) {
  const count = outputLength(layer, length) ?? 0;
  const found = [];
  for (let output = 0; output < count; output++) {
    for (const { tap, input: read } of reads(layer, length, output)) if (read === input) found.push({ tap, output });
  }
  return found;
}

/** The products of one output of a 2-D layer with one channel: [{ row, column, weight, value }], pads as zeros. */
export function products([tall, wide], x, w, [row, column]) {
  const value = (r, c) => x[r]?.[c] ?? 0;
  return reads(tall, x.length, row).flatMap((down) => reads(wide, x[0].length, column).map((across) => ({
    row: down.input, column: across.input, weight: w[down.tap][across.tap], value: value(down.input, across.input),
    tap: [down.tap, across.tap],
  })));
}

/** The output of a 2-D layer with one channel and no bias, as rows. */
export function convolve(axes, x, w) {
  const [height, width] = [outputLength(axes[0], x.length) ?? 0, outputLength(axes[1], x[0].length) ?? 0];
  return Array.from({ length: height }, (_, row) => Array.from({ length: width }, (_, column) =>
    products(axes, x, w, [row, column]).reduce((sum, { weight, value }) => sum + weight * value, 0)));
}

// -- receptive fields: exact, in fractions [numerator, denominator] -----------------------------------------------------

const divisor = (a, b) => b ? divisor(b, a % b) : Math.abs(a);
const fraction = (a, b) => { const d = divisor(a, b) || 1; return [a / d, b / d]; };
const plus = ([a, b], [c, d]) => fraction(a * d + c * b, b * d);
const times = ([a, b], [c, d]) => fraction(a * c, b * d);
const MOST = 100_000; // phases that are counted

/** Size, jump and offset of the receptive field of layers in sequence; null where it takes too long to count. */
export function receptiveField(layers, length) {
  const lengths = [length];
  for (const layer of layers) lengths.push(outputLength(layer, lengths.at(-1)));
  let regular = layers.findIndex(({ transposed }) => transposed);
  if (regular < 0) regular = layers.length;
  const phases = layers.reduce((n, { transposed, stride = 1 }) => transposed ? n * stride : n, 1);
  if (layers.slice(regular).reduce((n, { kernel }) => n * kernel, phases) > MOST) return null;
  let size = 0;
  for (let phase = 0; phase < phases; phase++) {
    let pixels = new Set([phase]);
    for (let i = layers.length - 1; i >= regular; i--) {
      pixels = new Set([...pixels].flatMap((output) => reached(layers[i], lengths[i], output)));
    }
    if (!pixels.size) continue;
    let width = Math.max(...pixels) - Math.min(...pixels) + 1;
    for (let i = regular - 1; i >= 0; i--) width = (width - 1) * (layers[i].stride ?? 1) + span(layers[i]);
    size = Math.max(size, width);
  }
  let jump = [1, 1], offset = [0, 1];
  for (let i = layers.length - 1; i >= 0; i--) {
    const { stride = 1, transposed = false } = layers[i];
    const centre = plus(fraction(span(layers[i]) - 1, 2), [-pads(layers[i], lengths[i]).before, 1]);
    if (transposed) [jump, offset] = [times(jump, [1, stride]), times(plus(offset, times(centre, [-1, 1])), [1, stride])];
    else [jump, offset] = [times(jump, [stride, 1]), plus(times(offset, [stride, 1]), centre)];
  }
  return { size, jump, offset };
}

/** The inputs that an output would read if the input had no borders. */
function reached(layer, length, output) {
  const { kernel, stride = 1, dilation = 1, transposed = false } = layer;
  if (!transposed) return reads(layer, length, output).map(({ input }) => input);
  const places = Array.from({ length: kernel }, (_, tap) => output + pads(layer, length).before - tap * dilation);
  return places.filter((place) => place % stride === 0).map((place) => place / stride);
}
