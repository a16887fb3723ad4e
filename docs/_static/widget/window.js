// <conv-window>: a window slides over an input of numbers. Attributes: size, kernel, stride, dilation and output-padding (one
// number, or "3,5": height and width), padding ("1", "0,1": before and after, "0,1;2,2": those of each axis, or a word),
// transposed, and controls, the names of the sliders to show; all may be left out.
import { convolve, outputLength, pads, products, span, writes } from "./arithmetic.js";
import { CELL, button, cell, choice, draw, make, mark, sheet, slider, tick, unmark } from "./grid.js";

const SLIDERS = {
  size: [2, 10], kernel: [1, 5], stride: [1, 4], dilation: [1, 3], before: [0, 4], after: [0, 4], outputPadding: [0, 3],
};
const NAMES = { before: "padding before", after: "padding after", outputPadding: "output_padding", kernel: "kernel_size" };
const WORDS = ["numbers", "same", "same_lower"];
const value = (row, column) => (row * 7 + column * 5 + row * column * 3 + 1) % 10;
const weight = (row, column) => ((row * 3 + column * 2 + 1) % 5) - 2;
const table = (rows, columns, entry) => Array.from({ length: rows }, (_, r) => Array.from({ length: columns }, (_, c) => entry(r, c)));
const minus = (number) => number < 0 ? `(−${-number})` : String(number);
const still = matchMedia("(prefers-reduced-motion: reduce)");

const NUMBERS = ["size", "kernel", "stride", "dilation", "before", "after", "outputPadding"];
const LETTER = ["height", "width"];
const equal = ([tall, wide]) => tall === wide;
const pair = (values) => equal(values) ? String(values[0]) : `(${values.join(", ")})`;
const pairOf = (text) => { const [tall, wide = tall] = text.split(",").map(Number); return [tall, wide]; };

export class ConvWindow extends HTMLElement {
  connectedCallback() {
    if (this.state) return;
    const numbers = (name, otherwise) => pairOf(this.getAttribute(name) ?? String(otherwise));
    const padding = this.getAttribute("padding") ?? "0";
    const [tall, wide = tall] = /^[\d,; ]+$/.test(padding) ? padding.split(";").map(pairOf) : [[0, 0]];
    this.state = {
      size: numbers("size", 6), kernel: numbers("kernel", 3), stride: numbers("stride", 1), dilation: numbers("dilation", 1),
      before: [tall[0], wide[0]], after: [tall[1], wide[1]], word: WORDS.includes(padding) ? padding : "numbers",
      outputPadding: numbers("output-padding", 0), transposed: this.hasAttribute("transposed"),
    };
    this.apart = !NUMBERS.every((name) => equal(this.state[name]));
    this.at = [0, 0];
    this.build();
    this.refresh();
  }

  disconnectedCallback() { this.stop(); }

  /** The layer along an axis, for the arithmetic. */
  layer(i) {
    const { word, transposed } = this.state;
    const [kernel, stride, dilation, before, after, extra] = NUMBERS.slice(1).map((name) => this.state[name][i]);
    return { kernel, stride, dilation, transposed, padding: word === "numbers" ? [before, after] : word,
      outputPadding: transposed && word === "numbers" ? Math.min(extra, Math.max(stride, dilation) - 1) : 0 };
  }

  set(changes) {
    Object.assign(this.state, changes);
    if (this.state.transposed && this.state.word === "same_lower") this.state.word = "same";
    this.refresh();
  }

  // -- the form ---------------------------------------------------------------------------------------------------------

  build() {
    const wanted = this.getAttribute("controls")?.split(/[ ,]+/);
    const shows = (name) => !wanted || wanted.includes(name) || (wanted.includes("padding") && /before|after|word/.test(name));
    this.sliders = Object.fromEntries(NUMBERS.filter(shows).map((name) => [name, this.slidersOf(name)]));
    const controls = make("div", { className: "controls" }, ...Object.values(this.sliders).flat());
    if (shows("word")) {
      this.words = choice("padding", WORDS, this.state.word, (word) => this.set({ word }));
      this.sliders.before ? this.sliders.before[0].before(this.words) : controls.append(this.words);
    }
    if (shows("transposed")) controls.append(tick("transposed", this.state.transposed, (transposed) => this.set({ transposed })));
    if (shows("apart")) controls.append(this.splitter = tick("height ≠ width", this.apart, (apart) => this.split(apart)));
    this.player = button("▶ Play", "Play: move the window by itself", () => this.timer ? this.stop() : this.play());
    const bar = make("div", { className: "bar" }, button("◀", "Previous output", () => this.step(-1)), this.player,
      button("▶|", "Next output", () => this.step(1)));
    this.code = make("code");
    this.link = make("a", {}, "in the calculator");
    this.stage = make("div", { className: "stage" });
    this.size = make("p", { className: "formula" });
    this.sum = make("p", { className: "sum", ariaLive: "polite" });
    this.replaceChildren(make("div", { className: "conv-widget" }, controls, make("p", { className: "layer" }, this.code, " ", this.link), bar,
      this.stage, this.size, this.sum));
  }

  /** The sliders of a parameter: one for both axes, or one for each. */
  slidersOf(name) {
    const [min, max] = SLIDERS[name];
    return (this.apart ? [0, 1] : [0]).map((i) => slider(`${NAMES[name] ?? name}${this.apart ? `, ${LETTER[i]}` : ""}`,
      { min, max, value: this.state[name][i] },
      (number) => this.set({ [name]: this.state[name].map((old, j) => !this.apart || i === j ? number : old) })));
  }

  /** Give each axis its own sliders, or both axes the numbers of the height. */
  split(apart) {
    this.stop();
    this.apart = apart;
    if (!apart) for (const name of NUMBERS) this.state[name] = this.state[name].map((_, __, [tall]) => tall);
    this.build();
    this.refresh();
    this.splitter.querySelector("input").focus();
  }

  // -- the picture ------------------------------------------------------------------------------------------------------

  refresh() {
    const { size, kernel, word, transposed } = this.state;
    this.axes = [this.layer(0), this.layer(1)];
    [this.x, this.w] = [table(...size, value), table(...kernel, weight)];
    this.y = convolve(this.axes, this.x, this.w);
    const hide = (name, hidden) => { for (const box of this.sliders[name] ?? []) box.hidden = hidden; };
    for (const name of ["before", "after"]) hide(name, word !== "numbers");
    hide("outputPadding", !transposed || word !== "numbers");
    this.write();
    this.sides = [this.y.length, this.y[0]?.length ?? 0];
    const exists = this.sides.every(Boolean);
    this.stage.replaceChildren(this.drawInput(), this.drawKernel(), ...(exists ? [this.drawOutput()] : []));
    this.at = this.at.map((place, i) => Math.min(place, Math.max(this.sides[i] - 1, 0)));
    if (exists) this.choose(this.at);
    else { this.stop(); this.sum.textContent = ""; }
  }

  write() {
    const { size, kernel, stride, dilation, word, transposed } = this.state;
    const found = this.axes.map((axis, i) => pads(axis, size[i]));
    const symmetric = word === "numbers" && found.every(({ before, after }) => before === after);
    const kind = transposed ? "nn.ConvTranspose2d" : "nn.Conv2d";
    const both = `(${found.map(({ before, after }) => `(${before}, ${after})`).join(", ")})`;
    const padding = symmetric ? pair(found.map(({ before }) => before)) : word === "numbers" ? both : `"${word}"`;
    const given = [["stride", pair(stride), "1"], ["padding", padding, "0"], ["output_padding", pair(this.axes.map(({ outputPadding }) => outputPadding)), "0"],
      ["dilation", pair(dilation), "1"], ["transposed", transposed && !symmetric ? "True" : "", ""]]
      .filter(([, now, usual]) => now !== usual).map(([name, now]) => `, ${name}=${now}`);
    this.code.textContent = `${symmetric ? kind : "ConvSpec"}(1, 1, ${pair(kernel)}${given.join("")})`;
    const top = new URL("../../", import.meta.url);
    const input = equal(size) ? String(size[0]) : size.join(", ");
    this.link.href = `${top}calculator.html#${new URLSearchParams({ layer: this.code.textContent, input })}`;
    const alike = this.axes.every((axis) => JSON.stringify(axis) === JSON.stringify(this.axes[0])) && equal(size);
    const counts = this.axes.map((axis, i) => outputLength(axis, size[i]));
    const said = (alike ? [0] : [0, 1]).map((i) => `${alike ? "" : `${LETTER[i]}: `}${this.formula(i, found[i], counts[i])}`).join("; ");
    this.size.textContent = counts.includes(null) ? `No output: ${said}.` : `output: ${said}, so ${counts.join(" × ")}${
      word === "numbers" ? "" : `; "${word}" ${transposed ? "crops" : "pads"} by ${alike ? `(${found[0].before}, ${found[0].after})` : both}`}`;
  }

  formula(i, { before, after, extra }, count) {
    const { size, stride, transposed } = this.state, ke = span(this.axes[i]);
    if (count === null) return transposed ? "more is cropped than there is" : `the kernel spans ${ke} pixels, the padded input has ${size[i] + before + after}`;
    return transposed ? `(${size[i]} - 1)·${stride[i]} + ${ke} - ${before} - ${after}${extra ? ` + ${extra}` : ""} = ${count}`
      : `⌊(${size[i]} + ${before} + ${after} - ${ke}) / ${stride[i]}⌋ + 1 = ${count}`;
  }

  drawInput() {
    const { size, transposed } = this.state;
    const added = this.axes.map((axis, i) => transposed ? { before: 0, after: 0 } : pads(axis, size[i]));
    const [high, wide] = added.map(({ before, after }, i) => size[i] + before + after);
    this.inputs = new Map();
    const boxes = table(high, wide, (r, c) => {
      const [row, column] = [r - added[0].before, c - added[1].before];
      const inside = this.x[row]?.[column] !== undefined;
      const box = cell(c * CELL, r * CELL, inside ? this.x[row][column] : 0, inside ? "" : "pad");
      this.inputs.set(`${row},${column}`, box);
      if (inside) this.follow(box, () => this.trace([row, column]));
      return box;
    });
    const padded = high > size[0] || wide > size[1];
    return make("figure", {}, sheet(wide * CELL, high * CELL, `Input, ${size.join(" × ")}${padded ? ", with pads" : ""}`, ...boxes.flat()), make("figcaption", {}, "input"));
  }

  drawKernel() {
    const [high, wide] = this.state.kernel;
    this.taps = table(high, wide, (r, c) => cell(c * CELL, r * CELL, this.w[r][c], "tap"));
    return make("figure", {}, sheet(wide * CELL, high * CELL, "Kernel", ...this.taps.flat()), make("figcaption", {}, "kernel"));
  }

  drawOutput() {
    const [high, wide] = this.sides;
    this.outputs = table(high, wide, (r, c) => {
      const box = cell(c * CELL, r * CELL, this.y[r][c]);
      this.follow(box, () => this.choose([r, c]));
      return box;
    });
    const svg = sheet(wide * CELL, high * CELL, "Output; the arrow keys move the window", ...this.outputs.flat());
    svg.setAttribute("tabindex", 0);
    svg.setAttribute("role", "application");
    svg.addEventListener("keydown", (event) => {
      const moved = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!moved) return;
      event.preventDefault();
      this.stop();
      this.choose(this.at.map((place, i) => Math.max(0, Math.min(place + moved[i], this.sides[i] - 1))));
    });
    return make("figure", {}, svg, make("figcaption", {}, "output"));
  }

  follow(box, act) {
    const chosen = () => { this.stop(); act(); };
    box.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") chosen(); });
    box.addEventListener("pointerdown", chosen);
  }

  clear() { unmark([...this.inputs.values(), ...this.taps.flat(), ...this.outputs.flat()]); }

  // -- from an output to the inputs, and back ---------------------------------------------------------------------------

  /** Show what an output reads, multiplied and summed. */
  choose([row, column]) {
    this.at = [row, column];
    this.clear();
    mark(this.outputs[row][column], "chosen");
    const terms = products(this.axes, this.x, this.w, this.at);
    for (const { row: r, column: c, weight: by, tap } of terms) {
      const box = this.inputs.get(`${r},${c}`);
      if (box) mark(box, "read", `×${by}`.replace("-", "−"));
      mark(this.taps[tap[0]][tap[1]], "read");
    }
    const sum = terms.map(({ value: number, weight: by }) => `${number}·${minus(by)}`).join(" + ") || "nothing";
    this.sum.textContent = `output (${row}, ${column}) = ${sum} = ${String(this.y[row][column]).replace("-", "−")}`;
  }

  /** Show which outputs read an input, each with its weight. */
  trace([row, column]) {
    this.clear();
    mark(this.inputs.get(`${row},${column}`), "chosen");
    const size = this.state.size, found = [];
    for (const down of writes(this.axes[0], size[0], row)) for (const across of writes(this.axes[1], size[1], column)) {
      const by = this.w[down.tap][across.tap];
      found.push([down.output, across.output]);
      mark(this.outputs[down.output][across.output], "reader", `×${by}`.replace("-", "−"));
      mark(this.taps[down.tap][across.tap], "read");
    }
    const [verb, none] = this.state.transposed ? ["is added to", "is cropped"] : ["is read by", "is read by no output"];
    this.sum.textContent = `input (${row}, ${column}) = ${this.x[row][column]} ${found.length ? `${verb} ${found.length} output${found.length > 1 ? "s" : ""}: ` +
      found.map((place) => `(${place.join(", ")})`).join(", ") : none}`;
  }

  // -- playing ----------------------------------------------------------------------------------------------------------

  step(by) {
    this.stop();
    this.advance(by);
  }

  advance(by) {
    const [high, wide] = this.sides, total = high * wide;
    if (!total) return;
    const next = (this.at[0] * wide + this.at[1] + by + total) % total;
    this.choose([Math.floor(next / wide), next % wide]);
  }

  play() {
    this.player.textContent = "❚❚ Pause";
    this.sum.ariaLive = "off"; // a screen reader would speak without end
    this.timer = setInterval(() => this.advance(1), still.matches ? 1500 : 700);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = undefined;
    if (!this.player) return;
    this.player.textContent = "▶ Play";
    this.sum.ariaLive = "polite";
  }
}
