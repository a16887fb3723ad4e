// The first answer for a network, before Python has started: the size after every layer of a plain nn.Sequential.
// Whatever is not certain here – another layer, an unusual argument, a mistake – is left to Python: the answer is then null.
import { outputLength } from "../widget/arithmetic.js";
import { axis, grouped, product, readSize } from "./first.js";
import { bind, parseCall, perAxis, specOf } from "./reading.js";

const SAME = ["ReLU", "ReLU6", "LeakyReLU", "ELU", "GELU", "SiLU", "Sigmoid", "Tanh", "Identity", "Dropout"];
const POOL = { MaxPool: ["kernel_size", "stride", "padding", "dilation"], AvgPool: ["kernel_size", "stride", "padding"] };
const FITS_NOT = "does not fit";

function pooled(kind, call, shape) {
  const given = bind(call, POOL[kind]);
  const spatial = shape.slice(2);
  const [kernel, padding, dilation] = [given?.kernel_size, given?.padding ?? 0, given?.dilation ?? 1].map((value, i) =>
    perAxis(value, spatial.length, i === 1 ? 0 : 1));
  const stride = given && perAxis(given.stride ?? given.kernel_size, spatial.length, 1);
  if (!kernel || !padding || !dilation || !stride || padding.some((pad, i) => pad * 2 > kernel[i])) return null;
  const sizes = spatial.map((size, i) => outputLength({ kernel: kernel[i], stride: stride[i], dilation: dilation[i],
    padding: [padding[i], padding[i]] }, size));
  return sizes.some((size) => !size) ? null : { shape: [...shape.slice(0, 2), ...sizes] };
}

function convolved(call, shape) {
  const found = specOf(call, null);
  if (!found || found.spec.ndim !== shape.length - 2) return null;
  const { spec } = found;
  if (spec.in_channels !== shape[1]) return { misfit: `expects ${grouped(spec.in_channels)} channels, but gets ${grouped(shape[1])}` };
  const sizes = shape.slice(2).map((size, i) => outputLength(axis(spec, i), size));
  const parameters = spec.in_channels * spec.out_channels / spec.groups * product(spec.kernel) + (spec.bias ? spec.out_channels : 0);
  return sizes.some((size) => !size) ? null : { shape: [shape[0], spec.out_channels, ...sizes], parameters };
}

function dense(call, shape) {
  const { in_features: ins, out_features: outs, bias = true } = bind(call, ["in_features", "out_features", "bias"]) ?? {};
  if (shape.length !== 2 || ![ins, outs].every((number) => Number.isInteger(number) && number > 0) || typeof bias !== "boolean") return null;
  if (ins !== shape[1]) return { misfit: `expects ${grouped(ins)} features, but gets ${grouped(shape[1])}` };
  return { shape: [shape[0], outs], parameters: ins * outs + (bias ? outs : 0) };
}

/** What a layer makes of a shape: { shape, parameters } or { misfit }; null for what is not known here. */
function step(kind, call, shape) {
  const [, name, rank] = /^(Conv|ConvTranspose|MaxPool|AvgPool|AdaptiveAvgPool|BatchNorm)([123])d$/.exec(kind) ?? [];
  const none = !call.args.length && !Object.keys(call.kwargs).length;
  if (kind === "Linear") return dense(call, shape);
  if (kind === "Flatten") return none ? { shape: [shape[0], product(shape.slice(1))] } : null;
  if (SAME.includes(kind)) {
    const plain = call.args.every((value) => typeof value === "number" && value >= 0 && value < 1) && call.args.length < 2;
    return plain && Object.keys(call.kwargs).every((key) => key === "inplace") ? { shape } : null;
  }
  if (!name || Number(rank) !== shape.length - 2) return null;
  if (name in POOL) return pooled(name, call, shape);
  if (name.startsWith("Conv")) return convolved(call, shape);
  const [only] = call.args;
  if (call.args.length !== 1 || Object.keys(call.kwargs).length) return null;
  if (name === "BatchNorm") return only === shape[1] ? { shape, parameters: 2 * only } : null;
  const sizes = perAxis(only, Number(rank), 1);
  return sizes && { shape: [...shape.slice(0, 2), ...sizes] };
}

/** The rows [layer, kind, output, parameters] of a network, and what does not fit: { rows, misfit }; null if Python must answer. */
export function firstNetwork(text, input, layout = "", channels = "") {
  const whole = parseCall(text, true);
  if (!whole || !/^(?:torch\.)?nn\.Sequential$/.test(whole.name) || Object.keys(whole.kwargs).length || channels.trim() || layout) return null;
  const first = whole.args[0]?.name && specOf(whole.args[0], null);
  const size = first && readSize(input, first.spec, "", "NCHW");
  if (!size || size.layout !== "NCHW") return null;
  let shape = [size.batch, first.spec.in_channels, ...size.spatial];
  const rows = [];
  for (const [i, call] of whole.args.entries()) {
    const [, kind] = /^(?:torch\.)?nn\.(\w+)$/.exec(call?.name ?? "") ?? [];
    const made = kind && step(kind, call, shape);
    if (!made) return null;
    if (made.misfit) return { rows: [...rows, [String(i), kind, FITS_NOT, ""]], misfit: `${i} (${kind}) ${made.misfit}` };
    ({ shape } = made);
    if (made.parameters > Number.MAX_SAFE_INTEGER || product(shape) > Number.MAX_SAFE_INTEGER) return null;
    rows.push([String(i), kind, shape.join("×"), made.parameters ? grouped(made.parameters) : ""]);
  }
  return { rows };
}
