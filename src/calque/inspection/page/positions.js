// How a model knows where a token stands.

import { chart } from "./chart.js";
import { element } from "./dom.js";
import { thumbnail } from "./heatmap.js";

/** Each table with its dot products, and what positions do to the scores of the first layer. */
export function positionsView({ positions }, root) {
  const { tables, scores } = positions;
  const views = tables.map(tableView);
  const parts = views.map(({ view }) => view);
  if (!tables.length)
    parts.push(element("p", { class: "cq-none" }, "There is no table to draw: nothing that depends on the position is added to the embeddings, nor, by distance, to keys or values."));
  if (scores) parts.push(scoresView(scores));
  root.replaceChildren(...parts);
  views.forEach(({ draw }) => draw()); // as wide as there is room
}

function tableView({ name, first, values, products }) {
  const line = element("div", { class: "cq-plot" });
  const label = element("output");
  const last = values.length - 1;
  const start = first < 0 ? -first : Math.round(last / 2);
  function draw(place) {
    label.textContent = place + first;
    const what = first < 0 ? "distance" : "position";
    chart({
      curves: [{ name: "dot product", colour: 0, points: products[place].map((value, i) => [i + first, value]) }],
      x: what,
      y: `dot product of ${what} ${place + first} with all others`,
      label: `Dot product of ${what} ${place + first} with all others`,
    }, line);
  }
  const slider = element("input", {
    type: "range", min: 0, max: last, value: start, "aria-label": `Row of ${name}`,
    input: (event) => draw(Number(event.target.value)),
  });
  const caption = first < 0 ? `${values.length} distances, from ${first} to ${first + last}` : `${values.length} positions`;
  const view = element("div", { class: "cq-positions" },
    element("h3", {}, name),
    element("div", { class: "cq-pair" },
      figure(values, `${caption} (down) of ${values[0].length} numbers (across)`),
      figure(products, "dot products of all with all", "cq-square")),
    element("label", { class: "cq-slider" }, first < 0 ? "distance " : "position ", label, slider),
    line,
  );
  return { view, draw: () => draw(start) };
}

function scoresView(scores) {
  const heads = scores.map((matrix, head) => figure(matrix, `head ${head + 1}`, "cq-square"));
  return element("div", { class: "cq-positions" },
    element("h3", {}, "What positions do to attention"),
    element("p", { class: "cq-hint" }, "Scores of the encoder\u2019s first layer for a sentence that says one token again and again, the mean over some tokens: all that differs is where query (down) and key (across) stand. Teal is above the head\u2019s mean, rust below."),
    element("div", { class: "cq-scores" }, heads),
  );
}

function figure(matrix, caption, kind = "") {
  const canvas = thumbnail(matrix, { signed: true });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", caption);
  return element("figure", { class: kind }, canvas, element("figcaption", {}, caption));
}
