// The page around the calculator: it shows what is known at once – an answer made when the site was built, or the numbers
// that JavaScript can compute – and then what Python says.
import "./widget/elements.js";
import { firstAnswer } from "./calculator/first.js";
import { firstNetwork } from "./calculator/network.js";
import { ask, start } from "./calculator/python.js";
import { answered, firstAnswered, firstNetworkAnswered } from "./calculator/show.js";

const NAMES = ["layer", "input", "in_channels", "layout"];
const PAUSE = 250; // ms without a key, before anything is computed
const PATIENT = 900; // ms without a key, before an error is shown: half a word is no mistake

const byId = (id) => document.getElementById(id);
const inputs = Object.fromEntries(NAMES.map((name) => [name, byId(name)]));
const fields = [...document.querySelectorAll("[data-field]")];
const [state, problem, answer] = ["status", "problem", "answer"].map(byId);

// -- answers made when the site was built --------------------------------------------------------------------------------

const key = (request) => JSON.stringify(NAMES.map((name) => request[name] ?? ""));
const [opening] = JSON.parse(byId("built").textContent);
const START = opening.request;
const known = new Map([[key(START), opening.answer]]);
const others = fetch(new URL("calculator-answers.json", import.meta.url), { priority: "low" }).then((found) => found.json())
  .then((found) => { for (const { request, answer: made } of found) known.set(key(request), made); }, () => { /* then Python answers */ });

// -- the answer, and what is wrong -----------------------------------------------------------------------------------------

function show(elements) {
  answer.classList.remove("old");
  problem.hidden = true;
  problem.replaceChildren();
  for (const name of NAMES) inputs[name].removeAttribute("aria-invalid");
  answer.replaceChildren(...elements);
}

/** Tell what is wrong, below the field that it concerns; the last answer is greyed. */
function complain(lines, at) {
  answer.classList.add("old");
  (at === "layer" || !at ? inputs.layer : inputs[at].closest(".row")).after(problem);
  problem.hidden = false;
  problem.replaceChildren(Object.assign(document.createElement("pre"), { textContent: lines.join("\n") }));
  for (const name of NAMES) inputs[name].setAttribute("aria-invalid", String(name === at));
}

// -- the reader's doing ----------------------------------------------------------------------------------------------------

let round = 0, ready = false, typed = 0;
const rest = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

async function compute() {
  const mine = ++round;
  const request = Object.fromEntries(NAMES.map((name) => [name, inputs[name].value]));
  history.replaceState(null, "", `#${address(request)}`);
  let found = known.get(key(request));
  const given = [request.layer, request.input, request.layout, request.in_channels];
  const first = firstAnswer(...given), whole = first ? null : firstNetwork(...given);
  if (!found && !ready) first ? show(firstAnswered(first)) : whole ? show(firstNetworkAnswered(whole)) : awaitPython();
  try {
    if (!found) await others;
    found ??= known.get(key(request)) ?? await ask("calculate", ...given);
    if (mine !== round) return;
    if (found.error) {
      await rest(typed + PATIENT - Date.now());
      if (mine === round) complain(found.error.lines, found.error.at);
      return;
    }
    show(answered(found, first));
    if (found.fields && !byId("fields").contains(document.activeElement)) {
      for (const field of fields) field.value = found.fields[field.dataset.field];
    }
  } catch (error) {
    if (mine === round) complain([error.message]);
  } finally {
    if (mine === round) document.body.dataset.round = String(mine);
  }
}

function awaitPython() {
  answer.classList.add("old");
  if (!answer.children.length) answer.append(Object.assign(document.createElement("p"), {
    className: "soft", textContent: "The answer follows when Python has loaded: 6 MB, the first time only." }));
}

async function compose() {
  const given = Object.fromEntries(fields.map((field) => [field.dataset.field, field.value]));
  inputs.in_channels.value = "";
  inputs.layer.value = await ask("written", given);
  await compute();
}

function address(request) {
  return new URLSearchParams(Object.entries(request).filter(([, value]) => value)).toString();
}

const lines = () => { inputs.layer.rows = Math.max(3, Math.min(inputs.layer.value.split("\n").length, 25)); };

function follow() {
  const given = new URLSearchParams(location.hash.slice(1));
  const wanted = given.has("layer") ? Object.fromEntries(given) : START;
  for (const name of NAMES) inputs[name].value = wanted[name] ?? "";
  lines();
  typed = 0;
  compute();
}

let pause;
const soon = (act) => () => { typed = Date.now(); clearTimeout(pause); pause = setTimeout(act, PAUSE); };
for (const name of NAMES) inputs[name].addEventListener("input", soon(compute));
inputs.layer.addEventListener("input", lines);
for (const field of fields) field.addEventListener("input", soon(compose));
byId("calculator").addEventListener("submit", (event) => { event.preventDefault(); typed = 0; compute(); });
addEventListener("hashchange", follow);
byId("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(location.href);
    state.textContent = "copied";
  } catch {
    state.textContent = "the address bar has the link";
  }
});

start((words) => { state.textContent = words; ready = words === "ready"; }, (error) => {
  const grey = answer.classList.contains("old");
  complain([error.message]); // the answers that do not need Python are shown all the same
  answer.classList.toggle("old", grey);
});
follow();
