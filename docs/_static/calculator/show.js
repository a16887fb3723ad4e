// What is shown of an answer: elements are made one by one, and texts are only ever texts.
import { make } from "../widget/grid.js";
import { highlighted } from "./highlight.js";

const ROWS = [
  [/^input \(/, "layout"], [/^output \(/, "layout"], [/^output/, "padding"], [/^kernel/, "kernel_size"], [/^parameters|^MACs/, "out_channels"],
  [/^receptive/, "kernel_size"], [/ for this input$/, "padding"], [/^Linear/, "out_channels"],
];
const page = (name) => new URL(`../../reference/parameters/${name}.html`, import.meta.url).href;

function head(label) {
  const name = ROWS.find(([pattern]) => pattern.test(label))?.[1] ?? (/^[a-z_]+$/.test(label) ? label : "");
  return make("th", { scope: "row" }, name ? make("a", { href: page(name), title: `What ${name} means` }, label) : label);
}

export const table = (rows, kind) => make("div", { className: "table-wrapper", tabIndex: 0 }, make("table", { className: `docutils ${kind}` },
  make("tbody", {}, ...rows.map(([label, ...cells]) => make("tr", {}, head(label), ...cells.map((cell) => make("td", {}, cell)))))));

function code(text) {
  const copy = make("button", { type: "button", className: "copy" }, "Copy");
  copy.addEventListener("click", async () => {
    const done = await navigator.clipboard.writeText(text).then(() => "Copied", () => "Select the text to copy it");
    copy.textContent = done;
    setTimeout(() => { copy.textContent = "Copy"; }, 2000);
  });
  return make("div", { className: "highlight" }, make("pre", { tabIndex: 0 }, ...highlighted(text)), copy);
}

function drawing(text) {
  const svg = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  return make("div", { className: "picture", tabIndex: 0 }, document.importNode(svg, true));
}

// -- frameworks as tabs, the choice remembered over the site -------------------------------------------------------------

const CHOICE = "sphinx-design-tab-id-framework"; // the key of the site's other tabs

function remembered() {
  try { return localStorage.getItem(CHOICE); } catch { return null; }
}

function remember(name) {
  try { localStorage.setItem(CHOICE, name); } catch { /* not remembered, then */ }
}

function remark({ id, text, code: lines }) {
  return make("li", {}, make("b", {}, id), `: ${text}`, ...(lines ? [code(lines)] : []));
}

function framework(entry) {
  const parts = [make("h3", {}, entry.name, make("span", { className: `support ${entry.support}` }, entry.support)),
    make("p", { className: "soft" }, `${entry.layout}${entry.origin ? ", as you wrote it" : ""}${entry.reason ? `. ${entry.reason}` : ""}`)];
  if (entry.source) parts.push(code(entry.source));
  if (entry.kernel) parts.push(make("p", { className: "soft" }, `kernel ${entry.kernel}`));
  if (entry.remarks.length) {
    const count = entry.remarks.length;
    parts.push(make("details", { open: innerWidth > 900 || count < 4 }, make("summary", {}, `${count} remark${count > 1 ? "s" : ""}`),
      make("ul", {}, ...entry.remarks.map(remark))));
  }
  return make("section", { className: "framework" }, ...parts);
}

let count = 0;

function frameworks(entries) {
  const mark = `tabs-${++count}`;
  const slug = (entry) => entry.adapter;
  const tabs = entries.map((entry, i) => make("button", { type: "button", role: "tab", id: `${mark}-${i}` }, entry.name));
  const panels = entries.map((entry, i) => {
    const panel = framework(entry);
    Object.assign(panel, { id: `${mark}-panel-${i}`, role: "tabpanel" });
    panel.setAttribute("aria-labelledby", tabs[i].id);
    return panel;
  });
  function choose(chosen, focus) {
    for (const [i, tab] of tabs.entries()) {
      tab.ariaSelected = String(i === chosen);
      tab.setAttribute("aria-controls", panels[i].id);
      tab.tabIndex = i === chosen ? 0 : -1;
      panels[i].hidden = i !== chosen;
    }
    if (focus) tabs[chosen].focus();
  }
  for (const [i, tab] of tabs.entries()) {
    const take = (chosen, focus) => { remember(slug(entries[chosen])); choose(chosen, focus); };
    tab.addEventListener("click", () => take(i));
    tab.addEventListener("keydown", ({ key }) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[key];
      if (to !== undefined) take((to + tabs.length) % tabs.length, true);
    });
  }
  const known = entries.findIndex((entry) => slug(entry) === remembered());
  choose(known >= 0 ? known : Math.max(entries.findIndex(({ support }) => support !== "unsupported"), 0));
  const list = make("div", { className: "tabs", role: "tablist", ariaLabel: "Framework" }, ...tabs);
  return make("div", { className: "frameworks" }, list, ...panels);
}

// -- answers -------------------------------------------------------------------------------------------------------------

const note = (found) => found.note ? [make("p", { className: "note" }, found.note)] : [];

function layer(entry, first) {
  const parts = [make("p", { className: "spec" }, make("code", {}, entry.title)), make("p", {}, entry.summary),
    table(entry.rows, "rows")];
  if (entry.picture) parts.push(drawing(entry.picture), ...(entry.drawn ? [make("p", { className: "soft" }, entry.drawn)] : []));
  else if (entry.no_picture) parts.push(make("p", { className: "soft" }, entry.no_picture));
  if (first) parts.push(...widget(first.spec, first.spatial));
  parts.push(make("details", {}, make("summary", {}, "What the numbers mean"), table(entry.meanings, "meanings"), drawing(entry.channels)),
    frameworks(entry.frameworks));
  return parts;
}

/** A table of layers; if one does not fit, it is the last. */
function layers(names, rows, misfit) {
  const cell = (text, i) => make("td", { className: /^[\d,]+$/.test(text) && names[i] !== "layer" ? "number" : "" }, text);
  const body = rows.map((row, i) => make("tr", { className: misfit && i === rows.length - 1 ? "misfit" : "" },
    ...row.map((text, j) => j ? cell(text, j) : make("th", { scope: "row" }, text))));
  return make("div", { className: "table-wrapper", tabIndex: 0 }, make("table", { className: "docutils network" },
    make("thead", {}, make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name)))), make("tbody", {}, ...body)));
}

const NETWORK = "The network, layer by layer";

/** The elements of a network's first answer, before Python. */
export function firstNetworkAnswered({ rows, misfit }) {
  return [make("h2", {}, NETWORK), layers(["layer", "kind", "output", "parameters"], rows, misfit),
    ...(misfit ? [make("p", { className: "misfit", role: "status" }, misfit)] : []),
    make("p", { className: "soft" }, `Settings, cost, ${misfit ? "how to fix it" : "receptive fields"} and a drawing follow when Python has loaded.`)];
}

function network(found) {
  const { table: { head: names, rows, totals, misfit }, notes, error, picture } = found;
  const parts = [layers(names, rows, misfit)];
  if (error) {
    parts.push(make("p", { className: "misfit", role: "status" }, `${error.message}${error.line > 1 ? ` (line ${error.line})` : ""}`));
    if (error.mends.length) parts.push(make("p", {}, "How to fix it:"), make("ul", {}, ...error.mends.map((mend) =>
      make("li", {}, `${mend.words}${mend.complete ? "" : ", then a later layer does not fit"}`))));
  }
  if (picture) parts.push(drawing(picture));
  parts.push(...totals.map((text) => make("p", {}, text)), ...notes.map((text) => make("p", { className: "soft" }, text)));
  return [make("h2", {}, NETWORK), ...parts];
}

/** The elements of an answer of convspec.layers.calculate; `first` is the first answer, if there is one. */
export function answered(found, first) {
  if (found.network) return [...note(found), ...network(found.network)];
  if (found.layers.length === 1) return [make("h2", {}, "Result"), ...note(found), ...layer(found.layers[0], first)];
  const each = found.layers.map((entry, i) => make("details", { className: "layer" },
    make("summary", {}, `Layer ${i}: `, make("code", {}, entry.title)), ...layer(entry)));
  const picture = found.picture ? [drawing(found.picture)] : [make("p", { className: "soft" }, found.no_picture)];
  return [make("h2", {}, `A chain of ${each.length} layers`), ...note(found), table(found.rows, "rows"), ...picture, ...each];
}

/** The elements of a first answer, before Python: the numbers, and the layer as a widget where it is small enough. */
export function firstAnswered({ spec, spatial, rows }) {
  return [make("h2", {}, "Result"), table(rows, "rows"), ...widget(spec, spatial),
    make("p", { className: "soft" }, "The drawing, the meaning of the numbers and the code of every framework follow when Python has loaded.")];
}

/** The layer as a sliding window, if it is within the widget's sliders. */
function widget({ ndim, kernel, stride, dilation, padding, output_padding: extra, transposed }, spatial) {
  const word = typeof padding === "string";
  const above = (values, most) => Math.max(...values) > most;
  if (ndim !== 2 || above(kernel, 5) || above(stride, 4) || above(dilation, 3) || above(extra, 3) || (!word && above(padding.flat(), 4))) return [];
  const sizes = kernel.map((_, i) => drawnSize({ kernel: kernel[i], stride: stride[i], dilation: dilation[i], transposed }, spatial?.[i]));
  const element = document.createElement("conv-window");
  const attributes = { size: sizes, kernel, stride, dilation, padding: word ? padding : padding.join(";"), "output-padding": extra,
    controls: "size", ...(transposed ? { transposed: "" } : {}) };
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return [element];
}

/** A size that the widget can show: the given one, or a smaller one with the same remainder by the stride, so with the same pads. */
function drawnSize({ kernel, stride, dilation, transposed }, given) {
  const largest = transposed ? 4 : 8;
  if ((given ?? 6) <= largest) return Math.max(given ?? 6, 1);
  let size = Math.max((kernel - 1) * dilation + 1, 2, largest - stride + 1);
  while (given && (given - size) % stride && size < 10) size++;
  return size;
}
