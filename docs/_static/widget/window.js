// <conv-window>: a window slides over an input of numbers. Attributes: size, kernel, stride, padding ("1", "0,1" or a
// word), dilation, transposed, output-padding, and controls, the names of the sliders to show; all may be left out.
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

export class ConvWindow extends HTMLElement {
  connectedCallback() {
    if (this.state) return;
    const number = (name, otherwise) => Number(this.getAttribute(name) ?? otherwise);
    const padding = this.getAttribute("padding") ?? "0";
    const [before, after = before] = /^[\d, ]+$/.test(padding) ? padding.split(",").map(Number) : [0, 0];
    this.state = {
      size: number("size", 6), kernel: number("kernel", 3), stride: number("stride", 1), dilation: number("dilation", 1),
      before, after, word: WORDS.includes(padding) ? padding : "numbers", outputPadding: number("output-padding", 0),
      transposed: this.hasAttribute("transposed"),
    };
    this.at = [0, 0];
    this.build();
    this.refresh();
  }

  disconnectedCallback() { this.stop(); }

  /** The layer along either axis, for the arithmetic. */
  get layer() {
    const { kernel, stride, dilation, before, after, word, outputPadding, transposed } = this.state;
    return { kernel, stride, dilation, transposed, padding: word === "numbers" ? [before, after] : word,
      outputPadding: transposed && word === "numbers" ? Math.min(outputPadding, Math.max(stride, dilation) - 1) : 0 };
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
    this.sliders = Object.fromEntries(Object.entries(SLIDERS).filter(([name]) => shows(name)).map(([name, [min, max]]) =>
      [name, slider(NAMES[name] ?? name, { min, max, value: this.state[name] }, (number) => this.set({ [name]: number }))]));
    const controls = make("div", { className: "controls" }, ...Object.values(this.sliders));
    if (shows("word")) {
      this.words = choice("padding", WORDS, this.state.word, (word) => this.set({ word }));
      this.sliders.before ? this.sliders.before.before(this.words) : controls.append(this.words);
    }
    if (shows("transposed")) controls.append(tick("transposed", this.state.transposed, (transposed) => this.set({ transposed })));
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

  // -- the picture ------------------------------------------------------------------------------------------------------

  refresh() {
    const { size, kernel } = this.state;
    this.axes = [this.layer, this.layer];
    [this.x, this.w] = [table(size, size, value), table(kernel, kernel, weight)];
    this.y = convolve(this.axes, this.x, this.w);
    for (const name of ["before", "after"]) if (this.sliders[name]) this.sliders[name].hidden = this.state.word !== "numbers";
    if (this.sliders.outputPadding) this.sliders.outputPadding.hidden = !this.state.transposed || this.state.word !== "numbers";
    this.write();
    const exists = this.y.length > 0;
    this.stage.replaceChildren(this.drawInput(), this.drawKernel(), ...(exists ? [this.drawOutput()] : []));
    this.at = this.at.map((place) => Math.min(place, Math.max(this.y.length - 1, 0)));
    if (exists) this.choose(this.at);
    else { this.stop(); this.sum.textContent = ""; }
  }

  write() {
    const { size, kernel, stride, dilation, word, transposed } = this.state;
    const { before, after, extra } = pads(this.layer, size);
    const symmetric = word === "numbers" && before === after;
    const kind = transposed ? "nn.ConvTranspose2d" : "nn.Conv2d";
    const padding = symmetric ? String(before) : word === "numbers" ? `((${before}, ${after}), (${before}, ${after}))` : `"${word}"`;
    const given = [["stride", stride, 1], ["padding", padding, "0"], ["output_padding", this.layer.outputPadding, 0], ["dilation", dilation, 1],
      ["transposed", transposed && !symmetric ? "True" : "", ""]].filter(([, now, usual]) => now !== usual).map(([name, now]) => `, ${name}=${now}`);
    this.code.textContent = `${symmetric ? kind : "ConvSpec"}(1, 1, ${kernel}${given.join("")})`;
    const top = new URL("../../", import.meta.url);
    this.link.href = `${top}calculator.html#${new URLSearchParams({ layer: this.code.textContent, input: String(size) })}`;
    const count = outputLength(this.layer, size);
    const ke = span(this.layer);
    const cropped = transposed ? `(${size} - 1)·${stride} + ${ke} - ${before} - ${after}${extra ? ` + ${extra}` : ""}` : `⌊(${size} + ${before} + ${after} - ${ke}) / ${stride}⌋ + 1`;
    this.size.textContent = count === null
      ? `No output: ${transposed ? "more is cropped than there is" : `the kernel spans ${ke} pixels, the padded input has ${size + before + after}`}.`
      : `output: ${cropped} = ${count}, so ${count} × ${count}${word === "numbers" ? "" : `; "${word}" ${transposed ? "crops" : "pads"} by (${before}, ${after})`}`;
  }

  drawInput() {
    const { size, transposed } = this.state;
    const { before, after } = transposed ? { before: 0, after: 0 } : pads(this.layer, size);
    this.inputs = new Map();
    const boxes = table(size + before + after, size + before + after, (r, c) => {
      const [row, column] = [r - before, c - before];
      const inside = this.x[row]?.[column] !== undefined;
      const box = cell(c * CELL, r * CELL, inside ? this.x[row][column] : 0, inside ? "" : "pad");
      this.inputs.set(`${row},${column}`, box);
      if (inside) this.follow(box, () => this.trace([row, column]));
      return box;
    });
    const side = (size + before + after) * CELL;
    return make("figure", {}, sheet(side, side, `Input, ${size} × ${size}${before + after ? ", with pads" : ""}`, ...boxes.flat()), make("figcaption", {}, "input"));
  }

  drawKernel() {
    const side = this.state.kernel * CELL;
    this.taps = table(this.state.kernel, this.state.kernel, (r, c) => cell(c * CELL, r * CELL, this.w[r][c], "tap"));
    return make("figure", {}, sheet(side, side, "Kernel", ...this.taps.flat()), make("figcaption", {}, "kernel"));
  }

  drawOutput() {
    this.outputs = table(this.y.length, this.y.length, (r, c) => {
      const box = cell(c * CELL, r * CELL, this.y[r][c]);
      this.follow(box, () => this.choose([r, c]));
      return box;
    });
    const side = this.y.length * CELL;
    const svg = sheet(side, side, "Output; the arrow keys move the window", ...this.outputs.flat());
    svg.setAttribute("tabindex", 0);
    svg.setAttribute("role", "application");
    svg.addEventListener("keydown", (event) => {
      const moved = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!moved) return;
      event.preventDefault();
      this.stop();
      this.choose(this.at.map((place, i) => Math.max(0, Math.min(place + moved[i], this.y.length - 1))));
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
    for (const down of writes(this.axes[0], size, row)) for (const across of writes(this.axes[1], size, column)) {
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
    const side = this.y.length, total = side * side;
    if (!total) return;
    const next = (this.at[0] * side + this.at[1] + by + total) % total;
    this.choose([Math.floor(next / side), next % side]);
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
