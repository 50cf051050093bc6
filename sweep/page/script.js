"use strict";

// The values of a figure's points: by mouse, by tap, and with the arrow keys.
const REACH_PX = 40;
const tip = document.getElementById("tip");

function hideTip() {
  tip.hidden = true;
  for (const point of document.querySelectorAll("svg .on")) point.classList.remove("on");
}

function showTip(point) {
  hideTip();
  point.classList.add("on");
  tip.textContent = point.dataset.tip;
  tip.hidden = false;
  const at = point.getBoundingClientRect();
  const left = at.x + at.width / 2 - tip.offsetWidth / 2;
  const above = at.y - tip.offsetHeight - 10;
  tip.style.left = `${Math.max(4, Math.min(left, document.documentElement.clientWidth - tip.offsetWidth - 4))}px`;
  tip.style.top = `${above > 4 ? above : at.bottom + 10}px`;
}

for (const drawing of document.querySelectorAll(".drawing")) {
  const svg = drawing.querySelector("svg");
  const points = [...svg.querySelectorAll("[data-tip]")].map((element) => ({
    element, x: Number(element.getAttribute("x")), y: Number(element.getAttribute("y")),
  })).sort((a, b) => a.x - b.x || a.y - b.y);
  let current = -1;

  function nearest(event) {
    const toFigure = svg.getScreenCTM().inverse();
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(toFigure);
    let best = -1, least = REACH_PX * toFigure.a;
    points.forEach((point, index) => {
      const distance = Math.hypot(point.x - at.x, point.y - at.y);
      if (distance < least) [best, least] = [index, distance];
    });
    return best;
  }

  function point(event) {
    current = nearest(event);
    if (current < 0) hideTip(); else showTip(points[current].element);
  }

  drawing.addEventListener("pointermove", point);
  drawing.addEventListener("pointerdown", point);
  drawing.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hideTip(); });
  drawing.addEventListener("blur", hideTip);
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step && points.length) {
      current = (current + step + points.length) % points.length;
      showTip(points[current].element);
      event.preventDefault();
    }
  });
}
document.addEventListener("pointerdown", (event) => { if (!event.target.closest(".drawing")) hideTip(); });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
document.addEventListener("scroll", hideTip, true);

// Every table is sorted by a click on a column's head: numbers as numbers, empty cells last.
function valueOf(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = /^[+-]?[\d.,]+(e[+-]?\d+)?(?=%| |$)/.exec(text);
  return text === "" ? null : number ? Number(number[0].replaceAll(",", "")) : text;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

function sortBy(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const sign = heads[column].getAttribute("aria-sort") === "ascending" ? -1 : 1;
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, value: valueOf(row, column) }));
  rows.sort((a, b) => {
    if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
    return sign * compare(a.value, b.value);
  });
  table.tBodies[0].append(...rows.map(({ row }) => row));
}

for (const table of document.querySelectorAll("table")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    button.addEventListener("click", () => sortBy(table, column));
    head.replaceChildren(button);
  });
}

// The filters of the run table.
const filters = document.getElementById("filters");
const rows = [...document.querySelectorAll("#run-table tbody tr")];

function filterRuns() {
  const wanted = new FormData(filters);
  const text = wanted.get("text").trim().toLowerCase();
  for (const row of rows) {
    const fits = ["role", "status", "budget"].every((name) => !wanted.get(name) || wanted.get(name) === row.dataset[name]);
    row.hidden = !fits || !row.textContent.toLowerCase().includes(text);
  }
  document.getElementById("shown").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} runs`;
}

filters.hidden = false;
filters.addEventListener("input", filterRuns);
filters.addEventListener("submit", (event) => event.preventDefault());
filterRuns();

// Copy buttons; where the clipboard can't be had, the command is selected for the reader's own keys.
for (const button of document.querySelectorAll(".copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const command = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(command);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}
