// Every head of every layer as a small heat map; one click enlarges it.

import { choice, element, number } from "./dom.js";
import { heatmap, summary, thumbnail } from "./heatmap.js";
import { lines } from "./lines.js";

export const KINDS = [
  ["encoder", "Encoder"],
  ["decoder", "Decoder"],
  ["cross", "Cross"],
];

/** What stands at the rows and columns of a kind of attention. */
function axes({ source, target }, kind) {
  const rows = kind === "encoder" ? source.pieces : target.pieces;
  return { rows, columns: kind === "decoder" ? target.read : source.pieces };
}

/** The weights of a head, or the mean over all heads of the layer where `head` is -1. */
function weightsOf(seen, kind, layer, head) {
  const heads = seen.attention[kind][layer];
  if (head >= 0) return heads[head];
  return heads[0].map((row, q) => {
    const mean = row.map(() => 0);
    for (const one of heads) one[q].forEach((weight, k) => (mean[k] += weight / heads.length));
    return mean;
  });
}

function title(kind, layer, head) {
  const name = KINDS.find(([key]) => key === kind)[1];
  return `${name} \u00b7 layer ${layer + 1} \u00b7 ${head < 0 ? "mean of heads" : `head ${head + 1}`}`;
}

/** The grid: layers below each other, their heads side by side, the mean of these first. */
export function attentionView(seen, root) {
  const kinds = KINDS.filter(([kind]) => seen.attention[kind].length);
  if (!kinds.length) {
    root.replaceChildren(element("p", { class: "cq-none" }, "This model has no attention."));
    return;
  }
  const grid = element("div", { class: "cq-scroll" });
  const show = (index) => grid.replaceChildren(gridOf(seen, kinds[index][0]));
  const start = kinds.length - 1;
  root.replaceChildren(choice("Attention", kinds.map(([, name]) => name), show, start), grid);
  show(start);
}

function gridOf(seen, kind) {
  const layers = seen.attention[kind];
  const most = Math.max(...layers.map((heads) => heads.length));
  const table = element("div", { class: "cq-grid-of-heads", style: `--cq-heads: ${most + 1}` });
  table.append(
    element("span", {}),
    element("span", { class: "cq-name" }, "mean"),
    ...Array.from({ length: most }, (_, head) => element("span", { class: "cq-name" }, `head ${head + 1}`)),
  );
  layers.forEach((heads, layer) => {
    table.append(element("span", { class: "cq-name cq-layer" }, `layer ${layer + 1}`));
    for (let head = -1; head < most; head++)
      table.append(
        head < heads.length
          ? element("button", {
              type: "button",
              class: "cq-thumbnail",
              "aria-label": `Enlarge ${title(kind, layer, head)}`,
              click: () => enlarge(seen, { kind, layer, head }),
            }, thumbnail(weightsOf(seen, kind, layer, head)))
          : element("span", {}),
      );
  });
  return table;
}

/** One head in a dialog: as a heat map or as lines, with its neighbours a button away. */
export function enlarge(seen, place) {
  const dialog = element("dialog", { class: "cq-dialog", "aria-label": "One head" });
  const name = element("h3", {});
  const habits = element("p", { class: "cq-habits" });
  const stage = element("div", { class: "cq-stage" });
  let [{ kind, layer, head }, asLines] = [place, false];

  function draw() {
    const { rows, columns } = axes(seen, kind);
    const weights = weightsOf(seen, kind, layer, head);
    const measured = seen.heads.find((h) => h.attention === kind && h.layer === layer && h.head === head);
    name.textContent = title(kind, layer, head);
    habits.textContent = measured
      ? `entropy ${number(measured.entropy)} nats \u00b7 mean distance ${number(measured.distance, 1)} positions`
      : "the mean of all heads of this layer";
    dialog.setAttribute("aria-description", summary({ weights, rows, columns }));
    if (!asLines) heatmap({ weights, rows, columns }, stage);
    else if (kind === "cross")
      lines({ weights: transposed(weights), left: columns, right: rows, names: ["source", "translation"] }, stage);
    else lines({ weights, left: rows, right: columns, names: ["looks", "at"] }, stage);
  }
  function step(by) {
    const all = seen.attention[kind].flatMap((heads, l) => [-1, ...heads.keys()].map((h) => [l, h]));
    const here = all.findIndex(([l, h]) => l === layer && h === head);
    [layer, head] = all[(here + by + all.length) % all.length];
    draw();
  }
  const button = (text, label, click) => element("button", { type: "button", "aria-label": label, click }, text);
  dialog.append(
    element("header", {},
      element("div", {}, name, habits),
      element("div", { class: "cq-tools" },
        choice("Drawn as", ["Heat map", "Lines"], (index) => { asLines = index === 1; draw(); }),
        button("\u2190", "Previous head", () => step(-1)),
        button("\u2192", "Next head", () => step(1)),
        button("\u2715", "Close", () => dialog.close()))),
    stage,
  );
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  draw();
}

function transposed(matrix) {
  return matrix[0].map((_, j) => matrix.map((row) => row[j]));
}
