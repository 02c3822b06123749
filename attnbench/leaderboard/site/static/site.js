// Sorts tables by their headings and filters the result table. The pages are complete without this script.
"use strict";

// How charts.js and compare.js draw charts.
// The page's policy forbids code made from text and style sheets made by scripts: hence `ast`, and no default styles.
const chartOptions = {
  mode: "vega-lite", renderer: "svg", actions: false, ast: true, defaultStyle: false,
  tooltip: { disableDefaultStyle: true },
};

const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

function keyOf(row, column) {
  const cell = row.cells[column];
  if (cell === undefined) return null;
  const text = cell.dataset.value ?? cell.textContent.trim();
  if (text === "–" || text === "") return null;
  if (!cell.classList.contains("n")) return text;
  const number = Number.parseFloat(text.replaceAll(",", "").replace("−", "-"));
  return Number.isNaN(number) ? null : number;
}

// Cells without a value sort last in either direction.
function compare(first, second, direction) {
  if (first === null || second === null) return (first === null) - (second === null);
  const order = typeof first === "number" ? first - second : collator.compare(first, second);
  return order * direction;
}

function sort(table, heading) {
  const column = heading.cellIndex;
  const descending =
    heading.getAttribute("aria-sort") === "ascending" ||
    (!heading.hasAttribute("aria-sort") && heading.dataset.first === "descending");
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  const keyed = Array.from(body.rows, (row) => [keyOf(row, column), row]);
  keyed.sort((a, b) => compare(a[0], b[0], descending ? -1 : 1));
  body.append(...keyed.map(([, row]) => row));
}

// Laying out a long table after each sort is slow, so it shows its first rows only (see site.css) until asked for all.
function shorten(table) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "more";
  button.textContent = "Show all rows";
  button.addEventListener("click", () => {
    table.classList.remove("short");
    button.remove();
  });
  table.classList.add("short");
  table.parentElement.after(button);
}

for (const table of document.querySelectorAll("table.sortable")) {
  if (table.tBodies[0].rows.length > 100) shorten(table);
  for (const heading of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    if (/^(d′|d_a|AUC|hit)/.test(button.textContent)) heading.dataset.first = "descending";
    button.addEventListener("click", () => sort(table, heading));
  }
}

for (const form of document.querySelectorAll("form[data-filters]")) {
  const rows = document.getElementById(form.dataset.filters).querySelectorAll("tbody tr");
  const status = form.querySelector("[role=status]");
  const apply = () => {
    const selected = Object.fromEntries(new FormData(form));
    const text = selected.text.trim().toLowerCase();
    delete selected.text;
    let shown = 0;
    for (const row of rows) {
      const matches =
        Object.entries(selected).every(([name, value]) => !value || row.dataset[name] === value) &&
        (!text || row.cells[0].textContent.toLowerCase().includes(text));
      row.hidden = !matches;
      shown += matches;
    }
    status.textContent = `${shown} of ${rows.length} rows`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply();
}
