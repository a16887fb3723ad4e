// Filters the table of divergences; the choice stands in the address, so that it can be linked.
const [form, count] = ["filter", "filter-count"].map((id) => document.getElementById(id));
const choices = [...form.querySelectorAll("select")];
const text = document.getElementById("f-text");
const rows = [...document.querySelectorAll("#divergences tbody tr")];

function filter() {
  const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    row.hidden = !(choices.every(({ value, dataset }) => !value || row.dataset[dataset.column] === value) &&
      words.every((word) => row.textContent.toLowerCase().includes(word)));
    shown += !row.hidden;
  }
  count.textContent = `${shown} of ${rows.length} divergences`;
  const given = new URLSearchParams([...choices.map(({ value, dataset }) => [dataset.column, value]), ["words", text.value]].filter(([, value]) => value));
  history.replaceState(null, "", `${location.pathname}${given.size ? `#${given}` : ""}`);
}

const given = new URLSearchParams(location.hash.slice(1));
for (const choice of choices) choice.value = given.get(choice.dataset.column) ?? "";
text.value = given.get("words") ?? "";
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
filter();
