// <conv-chain>: one axis through layers in sequence, each cell at the centre of the inputs that it depends on. Attributes:
// size, and layers, such as "kernel=3 padding=1; kernel=3 stride=2"; several chains, separated by "|", stand below one
// another for comparison, under the names in labels.
import { outputLength, pads, reads, receptiveField } from "./arithmetic.js";
import { CELL, button, cell, draw, make, mark, sheet, slider, unmark } from "./grid.js";

const FIELDS = { kernel: [1, 7], stride: [1, 4], padding: [0, 6], dilation: [1, 4] };
const GAP = 22;

function read(text) {
  const given = Object.fromEntries(text.trim().split(/\s+/).map((part) => part.split("=")));
  const padding = given.padding ?? "0";
  return {
    kernel: Number(given.kernel ?? 3), stride: Number(given.stride ?? 1), dilation: Number(given.dilation ?? 1), outputPadding: 0,
    padding: /^[\d,]+$/.test(padding) ? [...padding.split(",").map(Number), Number(padding.split(",")[0])].slice(0, 2) : padding,
    transposed: "transposed" in given,
  };
}

export class ConvChain extends HTMLElement {
  connectedCallback() {
    if (this.chains) return;
    this.chains = (this.getAttribute("layers") ?? "kernel=3; kernel=3").split("|").map((text) => text.split(";").map(read));
    this.labels = this.getAttribute("labels")?.split("|") ?? [];
    this.size = Number(this.getAttribute("size") ?? 12);
    this.controls = make("div", { className: "controls" });
    this.stage = make("div", { className: "chains" });
    this.words = make("p", { className: "sum", ariaLive: "polite" });
    this.replaceChildren(make("div", { className: "conv-widget" }, this.controls, this.stage, this.words));
    this.form();
    this.refresh();
  }

  // -- the form: sizes, and for a single chain its layers ---------------------------------------------------------------

  form() {
    const sizes = slider("size", { min: 2, max: 24, value: this.size }, (number) => { this.size = number; this.refresh(); });
    if (this.chains.length > 1) return this.controls.replaceChildren(sizes);
    const [layers] = this.chains;
    const rows = layers.map((layer, i) => make("fieldset", {}, make("legend", {}, `layer ${i}`), ...Object.entries(FIELDS).map(([name, [min, max]]) =>
      slider(name, { min, max, value: name === "padding" ? layer.padding[0] : layer[name] }, (number) => {
        layer[name] = name === "padding" ? [number, number] : number;
        this.refresh();
      }))));
    const change = (act) => () => { act(); this.form(); this.refresh(); };
    const more = button("+ layer", "Add a layer at the end", change(() => layers.push(read("kernel=3 padding=1"))));
    const less = button("− layer", "Remove the last layer", change(() => layers.pop()));
    [more.disabled, less.disabled] = [layers.length > 4, layers.length < 2];
    this.controls.replaceChildren(sizes, ...rows, make("div", { className: "bar" }, more, less));
  }

  // -- the picture ------------------------------------------------------------------------------------------------------

  refresh() {
    this.levels = this.chains.map((layers) => this.measure(layers));
    this.stage.replaceChildren(...this.levels.map((levels, i) => this.drawChain(levels, i)));
    const outputs = this.levels[0].at(-1).count;
    if (this.levels.every((levels, i) => levels.length > this.chains[i].length)) this.choose(Math.min(this.at ?? Math.floor(outputs / 2), outputs - 1));
    else this.words.textContent = "A kernel is larger than its padded input: there is no output.";
  }

  /** Each level's number of cells, and where they stand, in input pixels; it ends where a layer has no output. */
  measure(layers) {
    const levels = [{ count: this.size, jump: 1, offset: 0, before: 0, after: 0 }];
    for (const [i, layer] of layers.entries()) {
      const count = outputLength(layer, levels.at(-1).count);
      if (!count) break;
      const { before, after } = layer.transposed ? { before: 0, after: 0 } : pads(layer, levels.at(-1).count);
      Object.assign(levels.at(-1), { before, after });
      const field = receptiveField(layers.slice(0, i + 1), this.size);
      levels.push({ count, jump: field.jump[0] / field.jump[1], offset: field.offset[0] / field.offset[1], size: field.size, before: 0, after: 0 });
    }
    return levels;
  }

  drawChain(levels, number) {
    const left = Math.min(...levels.map(({ offset, jump, before }) => offset - before * jump));
    const right = Math.max(...levels.map(({ offset, jump, count, after }) => offset + (count - 1 + after) * jump));
    const wide = levels.map(({ jump }) => Math.min(jump, 1) * CELL);
    const place = (level, i) => (levels[level].offset + i * levels[level].jump - left) * CELL + CELL / 2;
    this.lines ??= [];
    this.lines[number] = draw("g", { class: "lines" });
    for (const [i, level] of levels.entries()) {
      level.middle = (index) => place(i, index);
      level.top = i * (CELL + GAP);
      level.boxes = new Map(Array.from({ length: level.before + level.count + level.after }, (_, j) => j - level.before).map((index) => {
        const inside = index >= 0 && index < level.count;
        const box = cell(place(i, index) - wide[i] / 2, level.top, inside ? index : "", inside ? "" : "pad", wide[i]);
        if (inside) this.follow(box, i, index, number);
        return [index, box];
      }));
    }
    const boxes = levels.flatMap((level) => [...level.boxes.values()]);
    const label = `${levels.length - 1} layer${levels.length > 2 ? "s" : ""}: the input above, the output below; the arrow keys choose an output`;
    const svg = sheet((right - left + 1) * CELL, levels.length * (CELL + GAP) - GAP, label, this.lines[number], ...boxes);
    svg.setAttribute("tabindex", 0);
    svg.setAttribute("role", "application");
    svg.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      this.choose(Math.max(0, Math.min(this.at + by, levels.at(-1).count - 1)));
    });
    return make("figure", {}, make("figcaption", {}, this.labels[number] ?? ""), svg);
  }

  follow(box, level, index, number) {
    const act = () => level === this.levels[number].length - 1 ? this.choose(index) : this.trace(level, index);
    box.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") act(); });
    box.addEventListener("pointerdown", act);
  }

  clear() {
    for (const levels of this.levels) for (const { boxes } of levels) unmark(boxes.values());
    for (const group of this.lines) group.replaceChildren();
  }

  // -- from an output back to the inputs, and from a cell to the outputs ------------------------------------------------

  choose(output) {
    this.at = output;
    this.clear();
    const said = this.levels.map((levels, i) => {
      if (output >= levels.at(-1).count) return "";
      const pixels = this.back(i, levels.length - 1, output);
      const [first, last] = [Math.min(...pixels), Math.max(...pixels)];
      const name = this.labels[i] ? `${this.labels[i]}: ` : "";
      return pixels.size ? `${name}output ${output} depends on the inputs ${first} to ${last}${first < 0 || last >= this.size ? " (pads included)" : ""}; ` +
        `receptive field ${levels.at(-1).size}` : `${name}output ${output} depends on no input`;
    });
    this.words.textContent = `${said.filter(Boolean).join(". ")}.`;
  }

  /** Mark all that a cell depends on, level by level; return the inputs. */
  back(number, level, index) {
    const levels = this.levels[number];
    mark(levels[level].boxes.get(index), "chosen");
    let wanted = new Set([index]);
    for (let i = level; i > 0; i--) {
      const above = new Set();
      for (const output of wanted) for (const { input } of reads(this.chains[number][i - 1], levels[i - 1].count, output)) {
        above.add(input);
        this.lines[number].append(draw("line", { x1: levels[i].middle(output), y1: levels[i].top, x2: levels[i - 1].middle(input), y2: levels[i - 1].top + CELL }));
        const box = levels[i - 1].boxes.get(input);
        if (box) mark(box, "read");
      }
      wanted = above;
    }
    return wanted;
  }

  /** Mark the outputs that depend on a cell. */
  trace(level, index) {
    this.clear();
    const said = this.levels.map((levels, number) => {
      if (!levels[level]?.boxes.get(index)) return "";
      mark(levels[level].boxes.get(index), "chosen");
      let wanted = new Set([index]);
      for (let i = level + 1; i < levels.length; i++) {
        const below = new Set();
        for (let output = 0; output < levels[i].count; output++) {
          for (const { input } of reads(this.chains[number][i - 1], levels[i - 1].count, output)) if (wanted.has(input)) {
            below.add(output);
            this.lines[number].append(draw("line", { x1: levels[i].middle(output), y1: levels[i].top, x2: levels[i - 1].middle(input), y2: levels[i - 1].top + CELL }));
            mark(levels[i].boxes.get(output), "reader");
          }
        }
        wanted = below;
      }
      const name = this.labels[number] ? `${this.labels[number]}: ` : "";
      return `${name}${level ? `cell ${index} of level ${level}` : `input ${index}`} reaches ${wanted.size ? `the outputs ${[...wanted].join(", ")}` : "no output"}`;
    });
    this.words.textContent = `${said.filter(Boolean).join(". ")}.`;
  }
}
