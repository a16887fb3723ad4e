// Reads the constructors that people type most, as literals: those of PyTorch, Keras, Flax' nnx, and ConvSpec. Whatever else
// a text may hold – other layers, networks, mistakes – is left to Python: the answer here is then null.

const TOKEN = /\s*(?:(?<number>-?(?:0|[1-9]\d*)(?:\.\d+)?(?![\w.]))|(?<text>"[^"\\\n]*"|'[^'\\\n]*')|(?<name>[A-Za-z_][\w.]*)|(?<mark>[()[\],=*]))/y;
const WORDS = { True: true, False: false, None: null };

function tokens(text) {
  const found = [];
  TOKEN.lastIndex = 0;
  const whole = text.trim();
  while (TOKEN.lastIndex < whole.length) {
    const match = TOKEN.exec(whole);
    if (!match) return null;
    found.push(match.groups);
  }
  return found;
}

/** A call as { name, args, kwargs }; null if it is not one call with literal arguments – or, if `nested`, calls and products. */
export function parseCall(text, nested = false) {
  const left = tokens(text.replace(/^\s*(?:self\.)?\w+\s*=(?!=)/, ""));
  if (!left) return null;
  const take = (mark) => left[0]?.mark === mark && left.shift();
  function literal() {
    const token = left.shift();
    if (token?.number) return multiplied(Number(token.number));
    if (token?.text) return token.text.slice(1, -1);
    if (token?.name in WORDS) return WORDS[token.name];
    if (nested && token?.name && take("(")) return called(token.name);
    const close = { "(": ")", "[": "]" }[token?.mark];
    if (!close) throw new SyntaxError();
    const items = [];
    let commas = 0;
    while (!take(close)) {
      items.push(literal());
      if (take(",")) commas++;
      else if (left[0]?.mark !== close) throw new SyntaxError();
    }
    return close === ")" && items.length === 1 && !commas ? items[0] : items;
  }
  function multiplied(number) {
    while (nested && take("*")) {
      const by = left.shift();
      if (!by?.number) throw new SyntaxError();
      number *= Number(by.number);
    }
    return number;
  }
  function called(name) {
    const args = [], kwargs = {};
    while (!take(")")) {
      if (left[0]?.name && left[1]?.mark === "=") {
        const key = left.shift().name;
        left.shift();
        if (key in kwargs) throw new SyntaxError();
        kwargs[key] = literal();
      } else if (Object.keys(kwargs).length) throw new SyntaxError();
      else args.push(literal());
      if (!take(",") && left[0]?.mark !== ")") throw new SyntaxError();
    }
    return { name, args, kwargs };
  }
  try {
    const name = left.shift()?.name;
    if (!name || !take("(")) return null;
    const call = called(name);
    return left.length ? null : call;
  } catch {
    return null;
  }
}

// -- the constructors: their arguments in order, under the names of a ConvSpec -------------------------------------------

const SPEC = ["in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias", "padding_mode", "transposed", "output_padding"];
const TORCH = ["in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias", "padding_mode"];
const UP = ["in_channels", "out_channels", "kernel_size", "stride", "padding", "output_padding", "groups", "bias", "dilation", "padding_mode"];
const KERAS = { filters: "out_channels", kernel_size: "kernel_size", strides: "stride", padding: "padding", dilation_rate: "dilation", groups: "groups", use_bias: "bias" };
const NNX = { in_features: "in_channels", out_features: "out_channels", kernel_size: "kernel_size", strides: "stride", padding: "padding",
  kernel_dilation: "dilation", feature_group_count: "groups", use_bias: "bias" };

/** Bind a call's arguments to names; `positional` of them may stand without one. */
export function bind({ args, kwargs }, names, positional = names.length) {
  if (args.length > positional || Object.keys(kwargs).some((key) => !names.includes(key))) return null;
  const given = Object.fromEntries(args.map((value, i) => [names[i], value]));
  if (Object.keys(kwargs).some((key) => key in given)) return null;
  return { ...given, ...kwargs };
}

const renamed = (given, names) => given && Object.fromEntries(Object.entries(given).map(([key, value]) => [names[key], value]));

/** { fields, layout } of a call, the fields those of a ConvSpec; null for what is not known here. */
function fieldsOf(call, channels) {
  const [, torch, rank] = /^(?:torch\.)?(?:nn\.)?(Conv|ConvTranspose)([123])d$/.exec(call.name) ?? [];
  const [, keras] = /^(?:(?:tf\.)?keras\.)?(?:layers\.)?Conv([123])D$/.exec(call.name) ?? [];
  let given = null, ndim, layout = "NCHW", transposed = false;
  if (call.name === "ConvSpec") {
    given = bind(call, [...SPEC, "ndim"], SPEC.length);
    ({ ndim, transposed = false } = given ?? {});
    if (given) delete given.ndim;
  } else if (torch) {
    transposed = torch === "ConvTranspose";
    given = bind(call, transposed ? UP : TORCH);
    ndim = Number(rank);
    const { padding, stride = 1 } = given ?? {};
    const word = typeof padding === "string";
    if (word && (transposed || !["same", "valid"].includes(padding) || (padding === "same" && [stride].flat().some((step) => step !== 1)))) return null;
    if (Array.isArray(padding) && padding.some(Array.isArray)) return null;
  } else if (keras) {
    given = renamed(bind(call, Object.keys(KERAS), 4), KERAS);
    [ndim, layout] = [Number(keras), "NHWC"];
    if (given && channels !== null) given.in_channels = channels;
    if (given && !["same", "valid", undefined].includes(given.padding)) return null;
    const above = (value) => [value ?? 1].flat().some((number) => number !== 1);
    if (given && above(given.stride) && above(given.dilation)) return null;
  } else if (/^(?:flax\.)?nnx\.Conv$/.test(call.name)) {
    given = renamed(bind(call, Object.keys(NNX), 5), NNX);
    layout = "NHWC";
    if (!given || !Array.isArray(given.kernel_size)) return null;
    ndim = given.kernel_size.length;
    given.padding = { SAME: "same", VALID: "valid" }[given.padding ?? "SAME"] ?? given.padding;
    if (typeof given.padding === "string" && !["same", "valid"].includes(given.padding)) return null;
  }
  return given && { given: { ...given, transposed }, ndim, layout };
}

// -- the rules of a ConvSpec: whatever breaks one is Python's to explain --------------------------------------------------

const whole = (value, least) => Number.isInteger(value) && value >= least && value < 1e6;

export function perAxis(value, ndim, least) {
  const values = Array.isArray(value) ? value : Array(ndim).fill(value);
  return values.length === ndim && values.every((number) => whole(number, least)) ? values : null;
}

function padsOf(value, ndim) {
  if (typeof value === "string") return ["same", "same_lower", "valid", "causal"].includes(value) ? value : null;
  if (Array.isArray(value) && value.every(Array.isArray)) {
    return value.length === ndim && value.every((pair) => perAxis(pair, 2, 0)) ? value : null;
  }
  return perAxis(value, ndim, 0)?.map((pad) => [pad, pad]) ?? null;
}

/** The layer of a text as { spec, layout }, its fields canonical as those of a ConvSpec; null if Python must read it. */
export function readLayer(text, channels = null) {
  const call = parseCall(text);
  return call && specOf(call, channels);
}

/** The layer of a call, likewise. */
export function specOf(call, channels) {
  const found = fieldsOf(call, channels);
  if (!found) return null;
  const { given, layout } = found;
  const { in_channels, out_channels, kernel_size, stride = 1, padding = 0, dilation = 1, groups = 1, bias = true, padding_mode = "zeros",
    transposed = false, output_padding = 0 } = given;
  const lists = [kernel_size, stride, padding, dilation, output_padding].filter(Array.isArray);
  const ndim = found.ndim ?? lists[0]?.length ?? 2;
  if (channels !== null && channels !== in_channels) return null;
  const spec = {
    ndim, in_channels, out_channels, groups, bias, padding_mode, transposed, kernel: perAxis(kernel_size, ndim, 1),
    stride: perAxis(stride, ndim, 1), dilation: perAxis(dilation, ndim, 1), output_padding: perAxis(output_padding, ndim, 0), padding: padsOf(padding, ndim),
  };
  return lists.every((list) => list.length === ndim) && allowed(spec) ? { spec: canonical(spec), layout } : null;
}

function allowed(spec) {
  const { in_channels, out_channels, groups, kernel, stride, dilation, output_padding, padding, padding_mode, bias, transposed, ndim } = spec;
  if (![in_channels, out_channels, groups].every((number) => whole(number, 1)) || in_channels % groups || out_channels % groups) return false;
  if (!kernel || !stride || !dilation || !output_padding || padding === null || ndim > 3 || ndim < 1) return false;
  if (typeof bias !== "boolean" || typeof transposed !== "boolean" || padding_mode !== "zeros") return false;
  if (padding === "causal" && ndim !== 1) return false;
  if (!transposed) return !output_padding.some(Boolean);
  if (["same_lower", "causal"].includes(padding) || (padding === "same" && output_padding.some(Boolean))) return false;
  return output_padding.every((extra, i) => extra < Math.max(stride[i], dilation[i]));
}

/** Words that mean fixed numbers are replaced by them. */
function canonical(spec) {
  const spans = spec.kernel.map((k, i) => (k - 1) * spec.dilation[i]);
  const halves = spans.map((span) => [Math.floor(span / 2), span - Math.floor(span / 2)]);
  let { padding } = spec;
  if (padding === "valid") padding = spans.map(() => [0, 0]);
  else if (padding === "causal") padding = spans.map((span) => [span, 0]);
  else if (typeof padding === "string" && spec.stride.every((step) => step === 1)) {
    padding = padding === "same" ? halves : halves.map(([lo, hi]) => [hi, lo]);
  }
  return { ...spec, padding };
}
