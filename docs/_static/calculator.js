// The page around the calculator: it hands texts to Python and shows what comes back, always as text.
const PATIENCE = 15_000; // ms for one answer, after Python has started
const NAMES = ["layer", "input", "in_channels", "layout"];
const START = { layer: "nn.Conv2d(3, 16, 3, stride=2, padding=1)", input: "32, 32" };

const byId = (id) => document.getElementById(id);
const inputs = Object.fromEntries(NAMES.map((name) => [name, byId(name)]));
const fields = [...document.querySelectorAll("[data-field]")];
const [state, problem, answer] = ["status", "problem", "answer"].map(byId);

// -- Python, in a worker: the page stays alive whatever is asked ------------------------------------------------------

let worker, running, last = 0;
const waiting = new Map();

function start() {
  state.textContent = "Python is loading …";
  running = new Promise((resolve, reject) => {
    worker = new Worker(new URL("calculator-worker.js", import.meta.url), { type: "module" });
    worker.onerror = () => reject(new Error("the worker cannot be started"));
    worker.onmessage = ({ data }) => {
      if (data.ready) resolve();
      else if (data.broken) reject(new Error(data.broken));
      else settle(data);
    };
  });
  running = running.then(() => { state.textContent = "ready"; }, (error) => {
    state.textContent = "";
    throw new Error("Python could not be loaded: this page has to be served over http, by a site that was built with " +
      `a network (make docs, then make docs-serve).\n${error.message}`);
  });
  running.catch(() => {}); // whoever asks is told
}

function settle({ id, result, failure }) {
  const { resolve, reject, timer } = waiting.get(id) ?? {};
  waiting.delete(id);
  clearTimeout(timer);
  if (failure) reject?.(new Error(failure));
  else resolve?.(result);
}

async function ask(call, ...args) {
  await running;
  const id = ++last;
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      worker.terminate();
      waiting.clear();
      start();
      reject(new Error(`No answer within ${PATIENCE / 1000} seconds: the layer is too large for this page.`));
    }, PATIENCE);
    waiting.set(id, { resolve, reject, timer });
    worker.postMessage({ id, call, args });
  });
}

// -- what is shown: elements are made one by one, and texts are only ever texts -----------------------------------------

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const code = (text) => make("div", { className: "highlight" }, make("pre", { tabIndex: 0 }, text));

function drawing(text) {
  const svg = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  return make("div", { className: "picture" }, document.importNode(svg, true));
}

const table = (rows, kind) => make("div", { className: "table-wrapper" }, make("table", { className: `docutils ${kind}` },
  make("tbody", {}, ...rows.map(([head, ...cells]) => make("tr", {}, make("th", { scope: "row" }, head), ...cells.map((cell) => make("td", {}, cell)))))));

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

function layer(entry) {
  const parts = [make("p", { className: "spec" }, make("code", {}, entry.title)), make("p", {}, entry.summary),
    table(entry.rows, "rows")];
  if (entry.picture) parts.push(drawing(entry.picture), ...(entry.drawn ? [make("p", { className: "soft" }, entry.drawn)] : []));
  else if (entry.no_picture) parts.push(make("p", { className: "soft" }, entry.no_picture));
  parts.push(make("details", {}, make("summary", {}, "What the numbers mean"), table(entry.meanings, "meanings"), drawing(entry.channels)),
    make("div", { className: "frameworks" }, ...entry.frameworks.map(framework)));
  return parts;
}

function network(found) {
  const { table: { head, rows, totals, misfit }, notes, error, picture } = found;
  const cell = (text, i) => make("td", { className: /^[\d,]+$/.test(text) && head[i] !== "layer" ? "number" : "" }, text);
  const body = rows.map((row, i) => make("tr", { className: misfit && i === rows.length - 1 ? "misfit" : "" },
    ...row.map((text, j) => j ? cell(text, j) : make("th", { scope: "row" }, text))));
  const parts = [make("div", { className: "table-wrapper" }, make("table", { className: "docutils network" },
    make("thead", {}, make("tr", {}, ...head.map((name) => make("th", { scope: "col" }, name)))), make("tbody", {}, ...body)))];
  if (error) {
    parts.push(make("p", { className: "misfit", role: "status" }, `${error.message}${error.line > 1 ? ` (line ${error.line})` : ""}`));
    if (error.mends.length) parts.push(make("p", {}, "What mends it:"), make("ul", {}, ...error.mends.map((mend) =>
      make("li", {}, `${mend.words}${mend.complete ? "" : ", then a later layer does not fit"}`))));
  }
  if (picture) parts.push(drawing(picture));
  parts.push(...totals.map((text) => make("p", {}, text)), ...notes.map((text) => make("p", { className: "soft" }, text)));
  answer.replaceChildren(make("h2", {}, "The network, layer by layer"), ...parts);
}

function show(found) {
  if (found.network) return network(found.network);
  if (found.layers.length === 1) return answer.replaceChildren(make("h2", {}, "Result"), ...layer(found.layers[0]));
  const each = found.layers.map((entry, i) => make("details", { className: "layer" },
    make("summary", {}, `Layer ${i}: `, make("code", {}, entry.title)), ...layer(entry)));
  const picture = found.picture ? [drawing(found.picture)] : [make("p", { className: "soft" }, found.no_picture)];
  answer.replaceChildren(make("h2", {}, `A chain of ${each.length} layers`), table(found.rows, "rows"), ...picture, ...each);
}

function complain(lines, at) {
  problem.hidden = false;
  problem.replaceChildren(make("pre", {}, lines.join("\n")));
  for (const name of NAMES) inputs[name].setAttribute("aria-invalid", String(name === at));
}

function content() {
  problem.hidden = true;
  problem.replaceChildren();
  for (const name of NAMES) inputs[name].removeAttribute("aria-invalid");
}

// -- the reader's doing -------------------------------------------------------------------------------------------------

let round = 0;

async function compute() {
  const mine = ++round;
  const [text, size, channels, layout] = NAMES.map((name) => inputs[name].value);
  history.replaceState(null, "", `#${address()}`);
  try {
    const found = await ask("calculate", text, size, layout, channels);
    if (mine !== round) return;
    answer.classList.toggle("old", Boolean(found.error));
    if (found.error) return complain(found.error.lines, found.error.at);
    content();
    show(found);
    if (found.fields && !byId("fields").contains(document.activeElement)) {
      for (const field of fields) field.value = found.fields[field.dataset.field];
    }
  } catch (error) {
    if (mine === round) complain([error.message]);
  } finally {
    if (mine === round) document.body.dataset.round = String(mine);
  }
}

async function compose() {
  const given = Object.fromEntries(fields.map((field) => [field.dataset.field, field.value]));
  inputs.in_channels.value = "";
  inputs.layer.value = await ask("written", given);
  await compute();
}

function address() {
  const given = new URLSearchParams();
  for (const name of NAMES) if (inputs[name].value) given.set(name, inputs[name].value);
  return given.toString();
}

function follow() {
  const given = new URLSearchParams(location.hash.slice(1));
  const wanted = given.has("layer") ? Object.fromEntries(given) : START;
  for (const name of NAMES) inputs[name].value = wanted[name] ?? "";
  inputs.layer.rows = Math.max(3, inputs.layer.value.split("\n").length);
  compute();
}

let pause;
const soon = (act) => () => { clearTimeout(pause); pause = setTimeout(act, 250); };
for (const name of NAMES) inputs[name].addEventListener("input", soon(compute));
for (const field of fields) field.addEventListener("input", soon(compose));
byId("calculator").addEventListener("submit", (event) => { event.preventDefault(); compute(); });
addEventListener("hashchange", follow);
byId("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(location.href);
    state.textContent = "copied";
  } catch {
    state.textContent = "the address bar has the link";
  }
});

start();
follow();
