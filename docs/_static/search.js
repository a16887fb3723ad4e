// Search by Pagefind, its index made by `make docs`; an error message is explained above the pages that were found.
import { card, explain } from "./explain.js";
import { pages } from "./search-words.js";

const SMALL = new Set("a an and are as at be by can do does for from get how i in is it its me mean means my not of on or should so that the there this to use used using was what when where which why will with you your vs between difference if there any one issue question work works have get".split(" "));
const MOST = 20; // pages shown
const PAGES = 120; // about as many as the site has
const KINDS = { "reference/parameters/": 0.08, "how-to/": 0.04, "explanation/": 0.05, "reference/messages/": -0.1, "divergences/": -0.3 };

let engine;
async function pagefind() {
  if (!engine) {
    engine = await import(new URL("../pagefind/pagefind.js", import.meta.url));
    await engine.options({ ranking: { termSimilarity: 4, pageLength: 0.4, termFrequency: 0.6, termSaturation: 1.6 } });
  }
  return engine;
}

/** The words of a text that say something: lower case, without a plural's s; of `a_b` also the parts. */
export function words(text) {
  const found = (text.toLowerCase().match(/[\p{L}\p{N}_]+/gu) ?? []).filter((word) => !SMALL.has(word));
  const parts = found.flatMap((word) => (word.includes("_") ? [word, ...word.split("_")] : [word]));
  return [...new Set(parts.map((word) => (word.length > 3 ? word.replace(/(?<!s)s$/, "") : word)).filter((word) => word && !SMALL.has(word)))];
}

const same = (a, b) => a === b || (Math.min(a.length, b.length) > 4 && Math.abs(a.length - b.length) < 5 && (a.startsWith(b) || b.startsWith(a)) && !/\d/.test(a + b));
const TITLES = pages.map(({ url, title, keywords }) => ({ url, title: words(title), all: words(`${title} ${keywords}`) }));

/** Pages by their title and synonyms: the share of the query's words in them, rare words counting more. */
function byTitle(query) {
  const rarity = query.map((word) => Math.log(1 + TITLES.length / (1 + TITLES.filter(({ all }) => all.some((other) => same(word, other))).length)));
  const total = rarity.reduce((sum, value) => sum + value, 0) || 1;
  const share = (list) => query.reduce((sum, word, i) => sum + (list.some((other) => same(word, other)) ? rarity[i] : 0), 0) / total;
  const exact = (list) => list.filter((word) => query.some((other) => same(word, other))).length / Math.max(list.length, 3);
  const scores = new Map();
  for (const { url, title, all } of TITLES) {
    const score = share(all) + 0.3 * share(title) + 0.15 * exact(title);
    scores.set(url, Math.max(score, scores.get(url) ?? 0)); // a page of messages has an entry for each
  }
  return scores;
}

/** Pages by their text: the sum over the words of score × rarity; a page need not have every word. */
async function byText(query) {
  const { search } = await pagefind();
  const each = await Promise.all(query.map(async (word) => ({ word, results: (await search(word)).results })));
  const found = each.filter(({ results }) => results.length);
  const total = found.reduce((sum, { results }) => sum + Math.log(1 + PAGES / results.length), 0) || 1;
  const scores = new Map();
  for (const { word, results } of found) {
    for (const result of results) {
      const entry = scores.get(result.id) ?? { result, score: 0, matched: [] };
      entry.score += (Math.log(1 + PAGES / results.length) * (0.4 + 0.6 * Math.sqrt(result.score / results[0].score))) / total;
      entry.matched.push(word);
      scores.set(result.id, entry);
    }
  }
  return [...scores.values()].sort((a, b) => b.score - a.score);
}

export async function find(text) {
  const query = words(text);
  const titles = byTitle(query);
  const explained = new Set(explain(text).map(({ page }) => page.split("#")[0]));
  const loaded = await Promise.all((await byText(query)).slice(0, 3 * MOST).map(async (entry) => ({ ...entry, data: await entry.result.data() })));
  for (const entry of loaded) {
    const url = entry.data.url.replace(/^.*?(?=(reference|how-to|explanation|divergences|reports)\/|[\w-]+\.html|$)/, "");
    const kind = Object.entries(KINDS).find(([start]) => url.startsWith(start))?.[1] ?? 0;
    entry.score = 0.5 * entry.score + (titles.get(url) ?? 0) + kind + (explained.has(url) ? 2 : 0);
  }
  return loaded.sort((a, b) => b.score - a.score).slice(0, MOST);
}

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

function excerpt(html) {
  const parts = new DOMParser().parseFromString(html, "text/html").body.childNodes;
  return make("p", {}, ...[...parts].map((part) => (part.nodeName === "MARK" ? make("mark", {}, part.textContent) : part.textContent)));
}

function entry({ data, matched }) {
  const place = data.sub_results.find((sub) => sub.url !== data.url && matched.some((word) => sub.title.toLowerCase().includes(word)));
  const more = place ? [make("p", { className: "soft" }, make("a", { href: place.url }, place.title))] : [];
  return make("li", {}, make("a", { href: data.url }, data.meta.title), data.meta.description ? make("p", {}, data.meta.description) : excerpt(data.excerpt), ...more);
}

let round = 0;
async function show(text) {
  const mine = ++round;
  const [count, list, explanation] = ["search-count", "results", "explanation"].map((id) => document.getElementById(id));
  history.replaceState(null, "", `?${new URLSearchParams({ q: text })}`);
  explanation.replaceChildren(...(text.length > 15 ? explain(text) : []).map(card));
  let found;
  try {
    found = text.trim() ? await find(text) : [];
  } catch (error) {
    count.textContent = `The index could not be loaded: serve the site over http (make docs-serve). ${error.message}`;
    return;
  }
  if (mine !== round) return;
  count.textContent = !text.trim() ? "" : found.length ? `${found.length === MOST ? "The first " : ""}${found.length} page${found.length > 1 ? "s" : ""}` : "No page was found.";
  list.replaceChildren(...found.map(entry));
  document.body.dataset.searched = text;
}

const box = document.getElementById("query");
if (box) {
  let pause;
  box.addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(() => show(box.value), 200); });
  document.getElementById("search").addEventListener("submit", (event) => { event.preventDefault(); show(box.value); });
  box.value = new URLSearchParams(location.search).get("q") ?? "";
  show(box.value);
}
