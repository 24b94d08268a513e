// The search as a tree: what was tried step by step, and what came of it.

import { element, number, svg } from "./dom.js";

const [STEP, ROW] = [116, 46]; // pixels from prefix to prefix, and from rank to rank
const [WIDTH, HEIGHT] = [92, 34];
const [LEFT, TOP] = [8, 30];

/** Prefixes by step and rank; those that led nowhere are grey. Below, the hypotheses that ended. */
export function beamView(seen, root) {
  const { nodes, ends } = seen.beam;
  if (!nodes.length) {
    root.replaceChildren(element("p", { class: "cq-none" }, "This translation was not searched for token by token."));
    return;
  }
  const width = 1 + Math.max(...nodes.map((node) => node.rank));
  const steps = 1 + Math.max(...nodes.map((node) => node.step), ...ends.map((end) => nodes[end.node].step + 1));
  const size = { width: LEFT * 2 + STEP * steps, height: TOP + ROW * (width + ends.length) + 16 };
  const picture = svg("svg", { class: "cq-beam", role: "group", "aria-label": "Tree of prefixes", ...size, viewBox: `0 0 ${size.width} ${size.height}` });
  const placed = nodes.map((node) => ({ x: LEFT + STEP * node.step, y: TOP + ROW * node.rank }));
  const readout = element("p", { class: "cq-readout", "aria-live": "polite" });
  const marks = nodes.map(() => []);

  nodes.forEach((node, i) => {
    if (node.parent !== null) marks[i].push(edge(placed[node.parent], placed[i], node.won ? "cq-won" : "cq-lost"));
  });
  ends.forEach((end, rank) => {
    const at = { x: placed[end.node].x + STEP, y: TOP + ROW * (width + rank) + 12 };
    const kind = rank ? "cq-ended" : "cq-won";
    const say = () => focus(end.node, `${rank + 1}. ${prefix(nodes, end.node)}: score ${number(end.score)}, log-probability ${number(end.log_prob)}`);
    picture.append(
      edge(placed[end.node], at, kind),
      box(at, [rank ? `${rank + 1}.` : "1. \u2713", number(end.score)], `cq-end ${kind}`, {
        tabindex: "0",
        role: "button",
        "aria-label": `hypothesis ${rank + 1}: ${prefix(nodes, end.node)}, score ${number(end.score)}`,
        pointerenter: say,
        focus: say,
        pointerleave: () => focus(null),
        blur: () => focus(null),
      }),
    );
  });
  nodes.forEach((node, i) => {
    const say = () => focus(i, `${prefix(nodes, i)}: log-probability ${number(node.log_prob)}, score so far ${number(node.score)}, rank ${node.rank + 1}`);
    marks[i].push(
      box(placed[i], [node.piece, node.step ? number(node.log_prob) : "begin"], node.won ? "cq-won" : "cq-lost", {
        pointerenter: say,
        pointerleave: () => focus(null),
      }),
    );
  });
  function focus(node, text = `${nodes.length - 1} prefixes tried, ${ends.length} hypotheses ended. Numbers are log-probabilities; below, scores.`) {
    readout.textContent = text;
    const path = new Set();
    for (let at = node; at !== null && at !== undefined; at = nodes[at].parent) path.add(at);
    marks.forEach((of, i) => of.forEach((mark) => mark.classList.toggle("cq-on", path.has(i))));
  }
  picture.append(
    svg("text", { class: "cq-tick", x: LEFT, y: 14 }, "step 0"),
    ...Array.from({ length: steps - 1 }, (_, i) => svg("text", { class: "cq-tick", x: LEFT + STEP * (i + 1), y: 14 }, i + 1)),
    ...marks.flat().sort((a, b) => Number(a.tagName === "g") - Number(b.tagName === "g")),
  );
  focus(null);
  root.replaceChildren(readout,
    element("div", { class: "cq-scroll", tabindex: "0", role: "region", "aria-label": "Beam" }, picture));
}

function edge(from, to, kind) {
  const [x1, y1, x2, y2] = [from.x + WIDTH, from.y + HEIGHT / 2, to.x, to.y + HEIGHT / 2];
  const middle = (x1 + x2) / 2;
  return svg("path", { class: kind, d: `M${x1},${y1} C${middle},${y1} ${middle},${y2} ${x2},${y2}` });
}

function box({ x, y }, [above, below], kind, attributes) {
  const text = above.length > 11 ? `${above.slice(0, 10)}\u2026` : above;
  return svg("g", { class: kind, ...attributes },
    svg("rect", { x, y, width: WIDTH, height: HEIGHT, rx: 7 }),
    svg("text", { class: "cq-piece", x: x + WIDTH / 2, y: y + 14 }, text),
    svg("text", { class: "cq-value", x: x + WIDTH / 2, y: y + 27 }, below),
  );
}

/** The pieces from the beginning to a node, as text. */
function prefix(nodes, node) {
  const pieces = [];
  for (let at = node; nodes[at].parent !== null; at = nodes[at].parent) pieces.unshift(nodes[at].piece);
  return pieces.join(" ") || "(nothing yet)";
}
