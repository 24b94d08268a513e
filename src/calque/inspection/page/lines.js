// Weights as lines between two columns of tokens; the thicker, the more.

import { element, share, svg } from "./dom.js";

const ROW = 24; // pixels
const FAINTEST = 0.02; // a weight below this is no line
const WIDEST = 7;

/** `weights[i][j]` joins `left[i]` and `right[j]`; pointing at a token leaves only its lines. */
export function lines({ weights, left, right, names }, root) {
  const width = Math.min(560, root.clientWidth || 560);
  const gap = Math.min(220, width * 0.34);
  const [x1, x2] = [(width - gap) / 2, (width + gap) / 2];
  const height = ROW * Math.max(left.length, right.length) + ROW;
  const y = (i) => ROW * (i + 1.5);
  const curves = [];
  weights.forEach((row, i) =>
    row.forEach((weight, j) => {
      if (weight < FAINTEST) return;
      const middle = (x1 + x2) / 2;
      const path = svg("path", {
        d: `M${x1 + 6},${y(i)} C${middle},${y(i)} ${middle},${y(j)} ${x2 - 6},${y(j)}`,
        "stroke-width": (WIDEST * weight).toFixed(2),
        "stroke-opacity": (0.15 + 0.75 * weight).toFixed(2),
      });
      curves.push({ path, i, j });
    }),
  );
  const readout = element("p", { class: "cq-readout", "aria-live": "polite" });
  const picture = svg("svg", { class: "cq-lines", width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `Lines from ${names[0]} to ${names[1]}` });
  const tokens = [left, right].map((column, side) =>
    column.map((text, place) => {
      const label = svg("text", {
        class: side ? "cq-right" : "cq-left",
        x: side ? x2 : x1,
        y: y(place),
        tabindex: "0",
        role: "button",
        "aria-label": told(side, place),
        pointerenter: () => focus(side, place),
        pointerleave: () => focus(null),
        focus: () => focus(side, place),
        blur: () => focus(null),
      }, text);
      return label;
    }),
  );
  function weightOf(side, place, other) {
    return side ? weights[other][place] : weights[place][other];
  }
  function told(side, place) {
    const others = side ? left : right;
    const best = others
      .map((text, other) => [weightOf(side, place, other), text])
      .sort((a, b) => b[0] - a[0])
      .slice(0, 3)
      .filter(([weight]) => weight >= FAINTEST);
    const listed = best.map(([weight, text]) => `${text} ${share(weight)}`).join(", ");
    return `${(side ? right : left)[place]}: ${listed || "nothing"}`;
  }
  function focus(side, place) {
    const on = side !== null;
    picture.classList.toggle("cq-focused", on);
    readout.textContent = on ? told(side, place) : "Point at a token to see its lines alone.";
    for (const { path, i, j } of curves)
      path.classList.toggle("cq-on", on && (side ? j : i) === place);
    tokens.forEach((column, which) =>
      column.forEach((label, i) => {
        const linked = on && (which === side ? i === place : weightOf(side, place, i) >= 0.1);
        label.classList.toggle("cq-on", linked);
      }),
    );
  }
  picture.append(
    svg("text", { class: "cq-column cq-left", x: x1, y: ROW / 2 }, names[0]),
    svg("text", { class: "cq-column cq-right", x: x2, y: ROW / 2 }, names[1]),
    ...curves.map(({ path }) => path),
    ...tokens.flat(),
  );
  focus(null);
  root.replaceChildren(readout, element("div", { class: "cq-scroll" }, picture));
}
