// The search as a tree: what was tried step by step, and what came of it.

import { element, number, svg } from "./dom.js";

const [NODE, END, GAP] = [38, 24, 26]; // pixels: a prefix, what ended below it, and the room to the next step

/** Prefixes by step and rank, those that led nowhere grey; beside them the hypotheses that ended. */
export function beamView(seen, root) {
  const { nodes, ends } = seen.beam;
  if (!nodes.length) {
    root.replaceChildren(element("p", { class: "cq-none" }, "This translation was not searched for token by token."));
    return;
  }
  const { columns, height, places } = layout(nodes, ends);
  const edges = nodes.map(({ parent, won }, i) => parent !== null && edge(places[parent], places[i], won));
  const boxes = nodes.map((node, i) => box(node, places[i], columns, {
    pointerenter: () => focus(i, told(nodes, i)),
    pointerleave: () => focus(null),
  }));
  ends.forEach((end, rank) =>
    boxes[end.node].append(element("div", { class: `cq-end ${rank ? "" : "cq-won"}` }, `${place(rank)} ${number(end.score)}`)));
  const outcomes = ends.map((end, rank) => {
    const say = () => focus(end.node, `${place(rank)} score ${number(end.score)}, log-probability ${number(end.log_prob)}`);
    return element("li", {}, element("button", {
      type: "button", class: `cq-outcome ${rank ? "" : "cq-won"}`,
      pointerenter: say, focus: say, pointerleave: () => focus(null), blur: () => focus(null),
    }, element("span", {}, place(rank)), element("span", { class: "cq-text" }, end.text), element("span", {}, number(end.score))));
  });
  const readout = element("p", { class: "cq-readout", "aria-live": "polite" });
  function focus(node, text = `${nodes.length - 1} prefixes tried, ${ends.length} hypotheses ended. In the tree are log-probabilities, and below a prefix that ended its score.`) {
    readout.textContent = text;
    const path = new Set(node === null ? [] : pathTo(nodes, node));
    boxes.forEach((mark, i) => mark.classList.toggle("cq-on", path.has(i)));
    edges.forEach((mark, i) => mark && mark.classList.toggle("cq-on", path.has(i)));
  }
  // As wide as there is room: only heights are in pixels.
  const lines = svg("svg", { viewBox: `0 0 ${columns} ${height}`, height, preserveAspectRatio: "none", "aria-hidden": "true" },
    edges.filter(Boolean).sort((a, b) => a.matches(".cq-won") - b.matches(".cq-won")));
  const tree = element("div", { class: "cq-tree", style: `--cq-columns: ${columns}; height: ${height}px` }, lines, boxes);
  focus(null);
  root.replaceChildren(readout, element("div", { class: "cq-beam" },
    element("ol", { class: "cq-outcomes", "aria-label": "Hypotheses that ended, with their scores" }, outcomes),
    element("div", { class: "cq-scroll", tabindex: "0", role: "region", "aria-label": "Tree of prefixes" }, tree)));
}

/** Where each prefix stands: x in columns, each row in the middle; top and bottom in pixels. */
function layout(nodes, ends) {
  const widths = [];
  for (const { step } of nodes) widths[step] = (widths[step] ?? 0) + 1;
  const ended = new Set(ends.map((end) => end.node));
  const endedAt = new Set(ends.map((end) => nodes[end.node].step));
  const tops = [0];
  widths.forEach((_, step) => tops.push(tops[step] + NODE + GAP + (endedAt.has(step) ? END : 0)));
  const columns = Math.max(...widths);
  const places = nodes.map(({ step, rank }, i) => ({
    x: (columns - widths[step]) / 2 + rank,
    top: tops[step],
    bottom: tops[step] + NODE + (ended.has(i) ? END : 0),
  }));
  return { columns, places, height: tops.at(-1) - GAP };
}

function edge(from, to, won) {
  const [x1, x2, middle] = [from.x + 0.5, to.x + 0.5, (from.bottom + to.top) / 2];
  return svg("path", { class: won ? "cq-won" : "cq-lost", d: `M${x1},${from.bottom} C${x1},${middle} ${x2},${middle} ${x2},${to.top}` });
}

function box({ piece, parent, log_prob: logProb, won }, { x, top }, columns, listeners) {
  return element("div", { class: `cq-node ${won ? "cq-won" : "cq-lost"}`, style: `left: ${(100 * x) / columns}%; top: ${top}px`, ...listeners },
    element("div", { class: "cq-box" },
      element("span", { class: "cq-piece", title: piece }, piece),
      element("span", { class: "cq-value" }, parent === null ? "begin" : number(logProb))));
}

function place(rank) {
  return rank ? `${rank + 1}.` : "1. \u2713";
}

/** A prefix in words. */
function told(nodes, i) {
  const { log_prob: logProb, score, rank } = nodes[i];
  const pieces = pathTo(nodes, i).slice(1).map((node) => nodes[node].piece);
  return `${pieces.join(" ") || "(nothing yet)"}: log-probability ${number(logProb)}, score so far ${number(score)}, rank ${rank + 1}`;
}

/** The nodes from the beginning to one. */
function pathTo(nodes, node) {
  const path = [];
  for (let at = node; at !== null; at = nodes[at].parent) path.unshift(at);
  return path;
}
