// Explains a pasted message: the same patterns and rules as convspec.explain, in the browser. Nothing is sent anywhere.
import { LONGEST, SHORTEST, messages } from "./explain-data.js";

const both = (act) => (a, b) => (a == null || b == null ? null : act(a, b));
const ordered = (act) => (a, b) => a != null && b != null && act(a, b);
const operations = {
  "+": both((a, b) => a + b), "-": both((a, b) => a - b), "*": both((a, b) => a * b),
  "//": both((a, b) => (b ? Math.floor(a / b) : null)), "%": both((a, b) => (b ? a % b : null)),
  "==": (a, b) => a === b, "!=": (a, b) => a !== b,
  "<": ordered((a, b) => a < b), "<=": ordered((a, b) => a <= b), ">": ordered((a, b) => a > b), ">=": ordered((a, b) => a >= b),
  at: (shape, i) => shape?.at(i) ?? null, len: (shape) => shape?.length ?? null,
  prod: (shape) => (shape.includes(null) ? null : shape.reduce((a, b) => a * b, 1)),
};
const KNOWN = messages(operations).map((message) => ({ ...message, pattern: new RegExp(message.pattern, "g") }));
const QUOTES = { "‘": "'", "’": "'", "“": '"', "”": '"', "`": "'" };

export const plain = (text) => text.trim().split(/\s+/).join(" ").replace(/[‘’“”`]/g, (quote) => QUOTES[quote]);

function value(name, said) {
  if (name.endsWith("_shape")) return (said.match(/\w+/g) ?? []).map((n) => (/^\d+$/.test(n) ? Number(n) : null));
  return /^-?\d+$/.test(said) ? Number(said) : said;
}

function find(message, text) {
  const match = [...text.matchAll(message.pattern)].at(-1);
  if (!match) return null;
  const numbers = {};
  for (const [name, said] of Object.entries(match.groups ?? {})) if (said != null) numbers[name] = value(name, said);
  for (const [name, act] of Object.entries(message.values)) numbers[name] = act(numbers);
  const named = message.roots.filter((root) => new RegExp(`\\b${root}\\b`).test(text)).length / message.roots.length;
  if ((match[0].length < SHORTEST && !named) || (message.when && !message.when(numbers))) return null;
  return { message, numbers, said: match[0], start: match.index, end: match.index + match[0].length,
    sure: [named, Number(message.when !== null), match[0].length] };
}

const shown = (value) => (Array.isArray(value) ? `(${value.map((n) => n ?? "None").join(", ")}${value.length === 1 ? "," : ""})` : String(value));
const filled = (text, numbers) => text.replace(/\{(\w+)(?:\[(\d+)\])?\}/g, (_, name, i) => shown(i == null ? numbers[name] : numbers[name][i]));
const compare = (a, b) => a.map((x, i) => b[i] - x).find((d) => d) ?? 0;

export function explain(text) {
  const kept = [];
  const found = KNOWN.map((message) => find(message, plain(text.slice(-LONGEST)))).filter(Boolean).sort((a, b) => compare(a.sure, b.sure));
  for (const one of found) {
    const over = kept.filter((other) => other.start < one.end && one.start < other.end);
    if (over.every((other) => !compare(other.sure, one.sure))) kept.push(one);
  }
  return kept.map(({ message, numbers, said }) => {
    const fix = message.fix.find(([when]) => !when || when(numbers))?.[1] ?? "";
    return { ...message, said, fix: filled(fix, numbers) };
  });
}

// -- the page ----------------------------------------------------------------------------------------------------------

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const words = (text) => text.split(/(`[^`]+`)/).map((part) => (part.startsWith("`") ? make("code", {}, part.slice(1, -1)) : part.replace(/\*(\S.*?\S|\S)\*/g, "$1")));

export function card(one) {
  const parts = [make("h2", {}, `${one.where}: ${one.title}`)];
  if (one.fix) parts.push(make("p", { className: "fix" }, make("strong", {}, "What to do: "), ...words(one.fix)));
  parts.push(make("p", {}, make("strong", {}, "Meaning: "), ...words(one.means)));
  const links = one.parameters.flatMap((name) => [", ", make("a", { href: `reference/parameters/${name}.html` }, name)]).slice(1);
  parts.push(make("p", { className: "soft" }, make("a", { href: one.page }, "The message, with the code that raises it"), " · ", ...links));
  return make("section", { className: "explanation" }, ...parts);
}

function show() {
  const text = document.getElementById("message").value;
  const answer = document.getElementById("explanation");
  const found = text.trim() ? explain(text) : [];
  history.replaceState(null, "", text.trim() && text.length < 2000 ? `#${new URLSearchParams({ message: text })}` : location.pathname);
  if (!text.trim()) answer.replaceChildren();
  else if (found.length) answer.replaceChildren(...found.map(card));
  else answer.replaceChildren(make("p", {}, "No known message was found in this text. Paste the whole traceback; ",
    make("a", { href: `search.html?q=${encodeURIComponent(text.slice(0, 200))}` }, "search the site for it"), "; or paste the network into the ",
    make("a", { href: "calculator.html" }, "calculator"), ", which shows where a layer does not fit."));
}

const box = document.getElementById("message");
if (box) {
  let pause;
  box.addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(show, 250); });
  box.value = new URLSearchParams(location.hash.slice(1)).get("message") ?? "";
  for (const button of document.querySelectorAll("[data-message]")) {
    button.addEventListener("click", () => { box.value = button.dataset.message; show(); });
  }
  show();
}
