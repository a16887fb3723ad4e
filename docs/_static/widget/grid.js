// Cells of numbers as SVG, and the small parts of a widget's form. Texts are only ever texts.
export const CELL = 28;
const SVG = "http://www.w3.org/2000/svg";

export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** A cell with a number in its middle and room for a second, small one below it. */
export function cell(x, y, text, kind = "", width = CELL) {
  const number = draw("text", { x: x + width / 2, y: y + CELL / 2 + 4, class: "number" }, String(text).replace("-", "−"));
  const weight = draw("text", { x: x + width / 2, y: y + CELL - 3, class: "weight" });
  const box = draw("g", { class: `cell ${kind}` }, draw("rect", { x, y, width, height: CELL, rx: 2 }), number, weight);
  return Object.assign(box, { number, weight });
}

/** Mark a cell, with a small text below its number. */
export function mark(box, kind, text = "") {
  box.classList.add(kind);
  box.weight.textContent = text;
  box.number.setAttribute("dy", text ? -5 : 0);
}

export function unmark(boxes) {
  for (const box of boxes) {
    box.classList.remove("read", "chosen", "reader");
    box.weight.textContent = "";
    box.number.setAttribute("dy", 0);
  }
}

/** An SVG of its cells' size, scaled down where the page is narrow. */
export function sheet(width, height, label, ...children) {
  const margin = 1;
  return draw("svg", {
    viewBox: `${-margin} ${-margin} ${width + 2 * margin} ${height + 2 * margin}`, width: width + 2 * margin,
    height: height + 2 * margin, "aria-label": label, role: "img",
  }, ...children);
}

let count = 0;

/** A slider with its name and value; `change` is called with the number. */
export function slider(name, { min, max, value }, change) {
  const id = `conv-${++count}`;
  const shown = make("output", {}, String(value));
  const input = make("input", { type: "range", id, min, max, step: 1, value });
  input.addEventListener("input", () => { shown.textContent = input.value; change(Number(input.value)); });
  const box = make("div", { className: "control" }, make("label", { htmlFor: id }, name, " ", shown), input);
  return Object.assign(box, { set(number) { input.value = number; shown.textContent = String(number); }, input });
}

export function choice(name, options, value, change) {
  const id = `conv-${++count}`;
  const select = make("select", { id }, ...options.map((option) => make("option", { value: option }, option)));
  select.value = value;
  select.addEventListener("change", () => change(select.value));
  return make("div", { className: "control" }, make("label", { htmlFor: id }, name), select);
}

export function tick(name, checked, change) {
  const input = make("input", { type: "checkbox", checked });
  input.addEventListener("change", () => change(input.checked));
  return make("label", { className: "control tick" }, input, ` ${name}`);
}

export function button(text, label, act) {
  const element = make("button", { type: "button", title: label, ariaLabel: label }, text);
  element.addEventListener("click", act);
  return element;
}
