// The habits of every head in a table that sorts.

import { enlarge, KINDS } from "./attention.js";
import { element, number } from "./dom.js";

const COLUMNS = [
  ["attention", "Attention"],
  ["layer", "Layer"],
  ["head", "Head"],
  ["entropy", "Entropy, nats"],
  ["distance", "Mean distance, positions"],
];
const NAMES = Object.fromEntries(KINDS);

/** Entropy and mean distance of each head; a click on a head of the table sorts, on a row enlarges. */
export function headsView(seen, root) {
  if (!seen.heads.length) {
    root.replaceChildren(element("p", { class: "cq-none" }, "This model has no heads."));
    return;
  }
  const most = Object.fromEntries(
    ["entropy", "distance"].map((key) => [key, Math.max(...seen.heads.map((head) => head[key])) || 1]),
  );
  const body = element("tbody");
  let [key, up] = [null, true];
  const heads = COLUMNS.map(([name, label]) =>
    element("th", { scope: "col" }, element("button", { type: "button", click: () => sort(name) }, label)),
  );
  function sort(name) {
    up = name === key ? !up : true;
    key = name;
    heads.forEach((cell, i) =>
      COLUMNS[i][0] === key
        ? cell.setAttribute("aria-sort", up ? "ascending" : "descending")
        : cell.removeAttribute("aria-sort"),
    );
    const order = (a, b) => (a[key] < b[key] ? -1 : a[key] > b[key] ? 1 : 0);
    draw([...seen.heads].sort((a, b) => (up ? order(a, b) : order(b, a))));
  }
  function draw(rows) {
    body.replaceChildren(...rows.map((head) => rowOf(seen, head, most)));
  }
  draw(seen.heads);
  root.replaceChildren(
    element("div", { class: "cq-scroll cq-table", tabindex: "0", role: "region", "aria-label": "Table of heads" },
      element("table", {}, element("thead", {}, element("tr", {}, heads)), body)),
  );
}

function rowOf(seen, head, most) {
  const open = () => enlarge(seen, { kind: head.attention, layer: head.layer, head: head.head });
  const name = NAMES[head.attention];
  const measured = (key, digits) =>
    element("td", { class: "cq-measured", style: `--cq-share: ${(head[key] / most[key]).toFixed(3)}` },
      number(head[key], digits));
  return element("tr", { click: open },
    element("td", {}, element("button", {
      type: "button",
      "aria-label": `Enlarge ${name}, layer ${head.layer + 1}, head ${head.head + 1}`,
      click: (event) => { event.stopPropagation(); open(); },
    }, name)),
    element("td", {}, head.layer + 1),
    element("td", {}, head.head + 1),
    measured("entropy", 2),
    measured("distance", 1),
  );
}
