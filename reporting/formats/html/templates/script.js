"use strict";

/* Sorts a table by a column when its head is clicked (or Enter or Space is pressed on it): numbers by their value,
   the greatest first, texts as people order them; a second time the other way round. What is missing stays last. */
const collator = new Intl.Collator("en", { numeric: true });

function order(table, column) {
  const heads = [...table.tHead.rows[0].cells], head = heads[column], body = table.tBodies[0];
  const numeric = head.dataset.kind === "number";
  const before = head.getAttribute("aria-sort");
  const first = numeric ? "descending" : "ascending";
  const now = before === "none" ? first : before === "ascending" ? "descending" : "ascending";
  const sign = now === "ascending" ? 1 : -1;
  const key = (row) => {
    const cell = row.cells[column];
    return numeric ? cell.dataset.key : cell.textContent;
  };
  const rows = [...body.rows].map((row) => [key(row), row]);
  rows.sort(([a], [b]) => {
    if (!a || !b) return !a - !b;
    return sign * (numeric ? Number(a) - Number(b) : collator.compare(a, b));
  });
  body.append(...rows.map(([, row]) => row));
  for (const other of heads) other.setAttribute("aria-sort", other === head ? now : "none");
}

for (const table of document.querySelectorAll("table")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.firstElementChild.addEventListener("click", () => order(table, column));
  });
}

for (const button of document.querySelectorAll("button[data-to]")) {
  button.addEventListener("click", () => {
    for (const box of button.closest("fieldset").querySelectorAll("input")) {
      if (box.checked !== (button.dataset.to === "on")) box.click();
    }
  });
}

for (const box of document.querySelectorAll("input[data-line]")) {
  box.addEventListener("change", () => {
    document.getElementById(box.dataset.line).classList.toggle("off", !box.checked);
  });
}
