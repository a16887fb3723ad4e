// The first answer, before Python has started: the rows of the result table for one layer, as convspec computes them.
import { outputLength, pads, receptiveField, span } from "../widget/arithmetic.js";
import { readLayer } from "./reading.js";

const LETTERS = { 1: "W", 2: "HW", 3: "DHW" };
const times = (numbers) => numbers.join(" × ");
const dots = (numbers) => numbers.join("·");
export const product = (numbers) => numbers.reduce((a, b) => a * b, 1);
export const grouped = (number) => number.toLocaleString("en-US");
const MOST = Number.MAX_SAFE_INTEGER;

const named = (layout, ndim) => layout === "NCHW" ? `NC${LETTERS[ndim]}` : `N${LETTERS[ndim]}C`;

/** The axis of a layer, for the arithmetic. */
export const axis = (spec, i) => ({
  kernel: spec.kernel[i], stride: spec.stride[i], dilation: spec.dilation[i], outputPadding: spec.output_padding[i], transposed: spec.transposed,
  padding: typeof spec.padding === "string" ? spec.padding : spec.padding[i],
});

/** { batch, spatial, layout } of a size as it may be written; null if Python must explain it, undefined without one. */
export function readSize(text, spec, layout, own) {
  if (!text.trim()) return undefined;
  let sizes = text.trim().replace(/^[([\s]+|[)\]\s]+$/g, "").split(/[\s,x×]+/).filter(Boolean);
  if (!sizes.length || !sizes.every((size) => /^\d{1,6}$/.test(size))) return null;
  sizes = sizes.map(Number);
  if (sizes.length === 1) sizes = Array(spec.ndim).fill(sizes[0]);
  if (sizes.length === spec.ndim) return { batch: 1, spatial: sizes, layout: layout || own };
  if (sizes.length === spec.ndim + 1) sizes = [1, ...sizes];
  if (sizes.length !== spec.ndim + 2) return null;
  const [batch, ...rest] = sizes;
  const fits = { NCHW: rest[0] === spec.in_channels, NHWC: rest.at(-1) === spec.in_channels };
  const chosen = layout || (fits[own] ? own : ["NCHW", "NHWC"].find((name) => fits[name]));
  if (!fits[chosen]) return null;
  return { batch, layout: chosen, spatial: chosen === "NCHW" ? rest.slice(1) : rest.slice(0, -1) };
}

function sizeFormula(spec, i, size) {
  const one = axis(spec, i);
  const { before, after, extra } = pads(one, typeof size === "number" ? size : 1);
  const result = typeof size === "number" ? ` = ${outputLength(one, size)}` : "";
  const word = typeof spec.padding === "string";
  if (word && spec.transposed) return `${size}·${one.stride}${result}, cropped by (${before}, ${after - extra})`;
  if (word) return `⌈${size} / ${one.stride}⌉${result}${result && `, padded by (${before}, ${after})`}`;
  if (spec.transposed) return `(${size} - 1)·${one.stride} + ${span(one)} - ${before} - ${after}${extra ? ` + ${extra}` : ""}${result}`;
  return `⌊(${size} + ${before} + ${after} - ${span(one)}) / ${one.stride}⌋ + 1${result}`;
}

const shownFraction = ([a, b]) => b === 1 ? String(a) : `${a}/${b}`;
const point = (values) => values.length === 1 ? values[0] : `(${values.join(", ")})`;
const same = (values) => values.every((value) => value === values[0]);

function fieldWords(spec, spatial) {
  const fields = spec.kernel.map((_, i) => receptiveField([axis(spec, i)], spatial?.[i] ?? 1));
  if (fields.includes(null)) return null;
  const name = spec.ndim === 1 ? "element" : "pixel";
  const [sizes, jumps, offsets] = [fields.map(({ size }) => size), fields.map(({ jump }) => shownFraction(jump)), fields.map(({ offset }) => shownFraction(offset))];
  const apart = `${point(same(jumps) ? jumps.slice(0, 1) : jumps)} ${name}${jumps.every((jump) => jump === "1") ? "" : "s"}`;
  return `${times(sizes)} ${name}${sizes.every((size) => size === 1) ? "" : "s"}; outputs are ${apart} apart, the first is centred on ${point(offsets)}`;
}

/** The rows of a text's result, or null where the answer is Python's: { spec, layout, spatial, rows }. */
export function firstAnswer(text, input, layout = "", channels = "") {
  if (channels.trim() && !/^[1-9]\d{0,5}$/.test(channels.trim())) return null;
  const found = readLayer(text, channels.trim() ? Number(channels) : null);
  if (!found || !["", "NCHW", "NHWC"].includes(layout)) return null;
  const { spec } = found;
  const size = readSize(input, spec, layout, found.layout);
  if (size === null) return null;
  const { batch, spatial, layout: order } = size ?? {};
  const outputs = spatial?.map((length, i) => outputLength(axis(spec, i), length));
  if (outputs?.includes(null)) return null;
  const letters = [...LETTERS[spec.ndim]];
  const whole = (channelCount, sizes) => times(order === "NCHW" ? [batch, channelCount, ...sizes] : [batch, ...sizes, channelCount]);
  const rows = letters.map((letter, i) => [`output ${letter}`, sizeFormula(spec, i, spatial?.[i] ?? letter)]);
  if (spatial) {
    const name = named(order, spec.ndim);
    rows.unshift([`input (${name})`, whole(spec.in_channels, spatial)]);
    rows.push([`output (${name})`, whole(spec.out_channels, outputs)]);
    if (typeof spec.padding === "string" && !spec.transposed) {
      const numbers = spatial.map((length, i) => pads(axis(spec, i), length)).map(({ before, after }) => `(${before}, ${after})`);
      rows.push([`${spec.padding} for this input`, `padding=(${numbers.join(", ")}${numbers.length === 1 ? "," : ""})`]);
    }
  }
  const { in_channels: ins, out_channels: outs, groups, transposed, bias } = spec;
  const kernel = transposed ? [ins, outs / groups, ...spec.kernel] : [outs, ins / groups, ...spec.kernel];
  rows.push([`kernel (${transposed ? "I, O/g" : "O, I/g"}, …)`, times(kernel)]);
  const parameters = product(kernel) + (bias ? outs : 0);
  rows.push(["parameters", `${dots(kernel)}${bias ? ` + ${outs}` : ""} = ${grouped(parameters)}`]);
  if (spatial) {
    const positions = transposed ? spatial : outputs;
    const macs = batch * product(kernel) * product(positions);
    if (macs > MOST) return null;
    rows.push(["MACs", `${batch === 1 ? "" : `${batch} × `}${dots(kernel)} × ${dots(positions)} = ${grouped(macs)}`]);
  }
  if (parameters > MOST) return null;
  if (spatial || typeof spec.padding !== "string") {
    const words = fieldWords(spec, spatial);
    if (words === null) return null;
    rows.push(["receptive field", words]);
  }
  return { spec, layout: order ?? (layout || found.layout), spatial, rows };
}
