// Check a convolution with convspec's pack of test vectors: node vectors.mjs DIR. In a browser: see example.html.
// Import it to test your own functions (see example.mjs). Arrays are Float64Array or Int32Array in the vector's layout,
// kernels in canonical order; a number of JavaScript holds every sum of their products exactly.

/** Thrown by a function under test: the layer has no output for this input. */
export class Refused extends Error {}
/** Thrown by a function under test: it has no such layer, which is neither a pass nor a failure. */
export class Unsupported extends Error {}

const product = (sizes) => sizes.reduce((a, b) => a * b, 1);

/** Return the reader of a pack's files: from a folder in Node, from a URL in a browser. */
export async function opened(folder) {
  if (typeof process === "undefined") {
    return async (name) => new Uint8Array(await (await fetch(`${folder}/${name}`)).arrayBuffer());
  }
  const { readFile } = await import("node:fs/promises");
  return (name) => readFile(`${folder}/${name}`);
}

/** Yield the vectors of a pack, in order: the columns of the index, sizes, and the arrays by name. */
export async function* vectors(folder) {
  const read = await opened(folder);
  const [head, ...lines] = new TextDecoder().decode(await read("index.tsv")).trimEnd().split("\n");
  for (const line of lines) {
    const texts = line.split("\t");
    const v = Object.fromEntries(head.split("\t").map((name, i) => [name, texts[i]]));
    for (const name of ["stride", "dilation", "pads", "output_padding", "x", "kernel", "y", "zeros"]) {
      v[name] = v[name] === "-" ? [] : v[name].split(",").map(Number);
    }
    const shapes = { x: v.x, dx: v.x, kernel: v.kernel, dkernel: v.kernel };
    Object.assign(v, { nhwc: v.layout === "NHWC", transposed: v.transposed === "1", groups: Number(v.groups) });
    v.batch = v.x[0];
    v.inChannels = v.x[v.nhwc ? v.x.length - 1 : 1];
    v.outChannels = v.transposed ? v.kernel[1] * v.groups : v.kernel[0];
    v.size = v.nhwc ? v.x.slice(1, -1) : v.x.slice(2); // of the spatial axes
    v.taps = v.kernel.slice(2);
    const data = (await read(`vectors/${v.id}.bin`)).slice(); // a copy begins at a multiple of 8
    let offset = 0;
    v.arrays = Object.fromEntries(v.arrays.split(",").map((name) => {
      const count = ["bias", "dbias", "scale"].includes(name) ? v.outChannels : product(shapes[name] ?? v.y);
      const float = v.kind === "random" || name === "bound" || name === "scale";
      const values = new (float ? Float64Array : Int32Array)(count);
      const view = new DataView(data.buffer, data.byteOffset + offset, count * (float ? 8 : 4));
      for (let i = 0; i < count; i++) values[i] = float ? view.getFloat64(8 * i, true) : view.getInt32(4 * i, true);
      offset += view.byteLength;
      return [name, values];
    }));
    yield v;
  }
}

// ---- a naive convolution ----

/** Return the sizes of the output's spatial axes. */
export function outputSize(v) {
  return v.size.map((n, a) => {
    const [lo, hi] = v.pads.slice(2 * a);
    const span = (v.taps[a] - 1) * v.dilation[a] + 1;
    const most = Math.max(lo, hi);
    const room = { reflect: n - 1, circular: n, replicate: n ? most : 0 }[v.mode] ?? most;
    const left = v.transposed ? (n - 1) * v.stride[a] + span - lo - hi + v.output_padding[a] : n + lo + hi - span;
    if (left < 0 || (most > 0 && most > room)) throw new Refused(`axis ${a} has no output`);
    return v.transposed ? left : Math.floor(left / v.stride[a]) + 1;
  });
}

/** Return the input cell that an output reads with a tap on one axis; -1 for none. */
function source(v, a, out, tap) {
  const n = v.size[a], s = v.stride[a], step = tap * v.dilation[a];
  if (v.transposed) {
    const q = out + v.pads[2 * a] - step;
    return q < 0 || q >= n * s || q % s ? -1 : q / s;
  }
  const q = out * s + step - v.pads[2 * a];
  if (v.mode === "zeros") return q < 0 || q >= n ? -1 : q;
  if (v.mode === "circular") return ((q % n) + n) % n;
  return Math.min(Math.max(v.mode === "reflect" ? n - 1 - Math.abs(n - 1 - Math.abs(q)) : q, 0), n - 1);
}

/** Call each(to, from, k) with the places of output, input and weight of every product. */
function walk(v, out, each) {
  const ci = v.inChannels / v.groups, co = v.outChannels / v.groups;
  const cells = product(out), all = product(v.size), taps = product(v.taps);
  const place = (n, c, cell, channels, count) =>
    v.nhwc ? (n * count + cell) * channels + c : (n * channels + c) * count + cell;
  for (let cell = 0; cell < cells; cell++) {
    for (let tap = 0; tap < taps; tap++) {
      let p = cell, t = tap, step = 1, from = 0;
      for (let a = out.length - 1; a >= 0 && from >= 0; a--) {
        const q = source(v, a, p % out[a], t % v.taps[a]);
        from = q < 0 ? -1 : from + q * step;
        p = Math.floor(p / out[a]);
        t = Math.floor(t / v.taps[a]);
        step *= v.size[a];
      }
      if (from < 0) continue;
      for (let n = 0; n < v.batch; n++) {
        for (let o = 0; o < v.outChannels; o++) {
          for (let i = 0; i < ci; i++) {
            const c = Math.floor(o / co) * ci + i;
            const k = (v.transposed ? c * co + (o % co) : o * ci + i) * taps + tap;
            each(place(n, o, cell, v.outChannels, cells), place(n, c, from, v.inChannels, all), k);
          }
        }
      }
    }
  }
}

const channelOf = (v, i, out) => (v.nhwc ? i : Math.floor(i / product(out))) % v.outChannels;

/** Return the layer's output for an input x. */
export function conv(v, x = v.arrays.x) {
  const out = outputSize(v), { kernel, bias } = v.arrays;
  const y = new Float64Array(v.batch * v.outChannels * product(out));
  if (bias) y.forEach((_, i) => { y[i] = bias[channelOf(v, i, out)]; });
  walk(v, out, (to, from, k) => { y[to] += x[from] * kernel[k]; });
  return y;
}

/** Return the gradients of sum(y * dy). */
export function gradient(v) {
  const out = outputSize(v), { x, kernel, dy } = v.arrays;
  const [dx, dkernel, dbias] = [x.length, kernel.length, v.outChannels].map((n) => new Float64Array(n));
  walk(v, out, (to, from, k) => { dx[from] += dy[to] * kernel[k]; dkernel[k] += dy[to] * x[from]; });
  dy.forEach((d, i) => { dbias[channelOf(v, i, out)] += d; });
  return { dx, dkernel, dbias };
}

/** Return the output in 8 bits, rounded half up, which is one of the legal roundings. */
export function quantized(v) {
  const out = outputSize(v), low = v.dtype === "int8" ? -128 : 0;
  return conv(v, v.arrays.x.map((n) => n - v.zeros[0])).map((sum, i) => {
    const q = Math.floor(sum * v.arrays.scale[channelOf(v, i, out)] + 0.5) + v.zeros[1];
    return Math.min(Math.max(q, low), low + 255);
  });
}

// ---- the check ----

function outside(name, got, low, high, bound) {
  if (got.length !== low.length) return `${name} has ${got.length} numbers, expected ${low.length}`;
  for (let i = 0; i < low.length; i++) {
    const least = low[i] - (bound?.[i] ?? 0), most = high[i] + (bound?.[i] ?? 0);
    if (!(got[i] >= least && got[i] <= most)) return `${name}[${i}] is ${got[i]}, expected ${least} to ${most}`;
  }
  return "";
}

/** Return why a vector fails, or "". A kind of vector without a function is Unsupported. */
export async function check(v, functions) {
  const own = functions[{ gradient: "gradient", quantized: "quantized" }[v.kind] ?? "conv"], a = v.arrays;
  if (!own) throw new Unsupported();
  let got;
  try {
    got = await own(v);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return v.kind === "refused" ? "" : `refused: ${error.message}`;
  }
  if (v.kind === "refused") return "not refused: the layer has no output";
  if (v.kind === "quantized") return outside("y", got, a.lower, a.upper);
  if (v.kind !== "gradient") return outside("y", got, a.y, a.y, a.bound);
  const names = ["dx", "dkernel", "dbias"].filter((name) => a[name]);
  return names.map((name) => outside(name, got[name], a[name], a[name])).find(Boolean) ?? "";
}

/** Check every vector, print the failures and the numbers; return the exit status. */
export async function run(folder, functions, print = console.log) {
  let total = 0, failed = 0, unsupported = 0;
  for await (const v of vectors(folder)) {
    total++;
    try {
      const reason = await check(v, functions);
      failed += reason ? 1 : 0;
      if (reason) print(`FAILED ${v.id}: ${reason}`);
    } catch (error) {
      if (!(error instanceof Unsupported)) throw error;
      unsupported++;
    }
  }
  print(`${total} vectors, ${failed} failed${unsupported ? `, ${unsupported} unsupported` : ""}`);
  return failed || unsupported === total ? 1 : 0;
}

if (typeof process !== "undefined" && process.argv[1]) {
  const { pathToFileURL } = await import("node:url");
  const started = pathToFileURL(process.argv[1]).href === import.meta.url;
  if (started) process.exitCode = await run(process.argv[2], { conv, gradient, quantized });
}
