// Python code in the site's colours: the classes are those of Pygments, whose style sheet the site has.
import { make } from "../widget/grid.js";

const KEYWORDS = new Set(["from", "import", "as", "class", "def", "return", "for", "in", "if", "else", "None", "True", "False", "lambda", "with", "not"]);
const CLASSES = { from: "kn", import: "kn", None: "kc", True: "kc", False: "kc" };
const TOKEN = /(?<comment>#.*)|(?<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?<number>\b\d[\d_.]*\b)|(?<name>[A-Za-z_]\w*)|(?<mark>[^\w\s#"']+)|(?<space>\s+)|(?<other>.)/gu;

/** A program as text nodes and coloured spans. */
export function highlighted(text) {
  let before = "";
  return [...text.matchAll(TOKEN)].map(({ 0: said, groups }) => {
    const kind = groups.comment ? "c1" : groups.text ? "s1" : groups.number ? "mi" : groups.mark ? "o"
      : groups.name && KEYWORDS.has(said) ? CLASSES[said] ?? "k" : groups.name && before === "class" ? "nc" : groups.name && before === "def" ? "nf" : "";
    if (said.trim()) before = said;
    return kind ? make("span", { className: kind }, said) : said;
  });
}
