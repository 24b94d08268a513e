// A line chart: several curves over one another.

import { element, svg } from "./dom.js";

const HEIGHT = 260; // pixels
const MARGIN = { left: 62, right: 12, top: 12, bottom: 34 };

/** Round values between two numbers, about `wanted` of them. */
export function ticks(low, high, wanted = 5) {
  const span = high - low || Math.abs(high) || 1;
  const power = 10 ** Math.floor(Math.log10(span / wanted));
  const step = [1, 2, 5, 10].map((by) => by * power).find((by) => span / by <= wanted);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

/** Short text for a tick: 2.5k, 0.0005. */
export function short(value) {
  const size = Math.abs(value);
  const text = size >= 10000 ? `${+(value / 1000).toPrecision(4)}k` : `${+value.toPrecision(3)}`;
  return text.replace("-", "\u2212");
}

/** Curves [{name, points: [[x, y], …], colour, dashed}] with axes, which hold `origin` if there is one. */
export function chart({ curves, x: xName, y: yName, label, origin = [] }, root) {
  const points = curves.flatMap((curve) => curve.points);
  const width = Math.min(720, root.clientWidth || 560);
  const ranges = [[MARGIN.left, width - MARGIN.right], [HEIGHT - MARGIN.bottom, MARGIN.top]];
  const [x, y] = [0, 1].map((axis) => scale([...origin.slice(axis, axis + 1), ...points.map((point) => point[axis])], ranges[axis]));
  const picture = svg("svg", {
    class: "cq-chart",
    width,
    height: HEIGHT,
    viewBox: `0 0 ${width} ${HEIGHT}`,
    role: "img",
    "aria-label": label,
  });
  for (const value of ticks(y.low, y.high))
    picture.append(
      svg("line", { class: "cq-grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }),
      svg("text", { class: "cq-tick", x: MARGIN.left - 8, y: y(value), "text-anchor": "end" }, short(value)),
    );
  for (const value of ticks(x.low, x.high, width / 90))
    picture.append(svg("text", { class: "cq-tick", x: x(value), y: HEIGHT - 22, "text-anchor": "middle" }, short(value)));
  picture.append(
    svg("text", { class: "cq-tick", x: width - MARGIN.right, y: HEIGHT - 7, "text-anchor": "end" }, xName),
  );
  for (const { points: of, colour, dashed } of curves)
    picture.append(
      svg("polyline", {
        class: "cq-curve",
        style: `stroke: var(--cq-series-${colour % 6})`,
        "stroke-dasharray": dashed ? "5 4" : null,
        points: of.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" "),
      }),
    );
  const cursor = svg("line", { class: "cq-cursor", y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom, visibility: "hidden" });
  picture.append(cursor);
  const readout = element("p", { class: "cq-readout" }, `${yName}`);
  picture.addEventListener("pointermove", (event) => {
    const at = ((event.offsetX / picture.clientWidth) * width - MARGIN.left) / x.width;
    const value = x.low + Math.min(1, Math.max(0, at)) * (x.high - x.low);
    cursor.setAttribute("x1", x(value));
    cursor.setAttribute("x2", x(value));
    cursor.setAttribute("visibility", "visible");
    readout.textContent = `${xName} ${short(nearest(points, value)[0])} \u00b7 ${curves
      .map((curve) => `${curve.name} ${short(nearest(curve.points, value)[1])}`)
      .join(" \u00b7 ")}`;
  });
  picture.addEventListener("pointerleave", () => {
    cursor.setAttribute("visibility", "hidden");
    readout.textContent = yName;
  });
  root.replaceChildren(readout, picture);
}

function nearest(points, value) {
  return points.reduce((best, point) => (Math.abs(point[0] - value) < Math.abs(best[0] - value) ? point : best));
}

function scale(values, [from, to]) {
  let low = values.reduce((a, b) => Math.min(a, b), Infinity);
  let high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  if (low === high) [low, high] = [low - 1, high + 1];
  const place = (value) => from + ((value - low) / (high - low)) * (to - from);
  return Object.assign(place, { low, high, width: to - from });
}
