// The vocabulary as points in a plane, with search and neighbours.

import { keepPainted } from "./colour.js";
import { choice, element, number, share } from "./dom.js";

const NAMES = { both: "Both languages", source: "Source", target: "Target" };
const NEAR = 14; // pixels from a point that still mean it
const MARKED = 40; // labels at once

/** One or two vocabularies; search marks pieces, a click or Enter shows the neighbours of one. */
export function embeddingsView({ embeddings }, root) {
  const names = Object.keys(embeddings);
  const stage = element("div");
  const show = (index) => vocabularyView(embeddings[names[index]], stage);
  root.replaceChildren(...(names.length > 1 ? [choice("Vocabulary", names.map((name) => NAMES[name]), show)] : []), stage);
  show(0);
}

function vocabularyView(vocabulary, root) {
  const { pieces, points, shares, left_out: leftOut } = vocabulary;
  const state = { marked: [], chosen: null, zoom: 1, x: 0, y: 0 };
  const canvas = element("canvas", {
    class: "cq-cloud", tabindex: "0", role: "img",
    "aria-label": "Pieces of the vocabulary in the plane of their first two principal components",
  });
  const list = element("div", { class: "cq-neighbours", "aria-live": "polite" });
  const search = element("input", {
    type: "search", placeholder: "Search a piece, such as Hund", "aria-label": "Search the vocabulary",
    input: () => find(search.value),
    keydown: (event) => event.key === "Enter" && state.marked.length && choose(state.marked[0]),
  });
  const place = fitted(points);

  function find(text) {
    const wanted = text.trim().toLowerCase();
    const bare = pieces.map((piece) => piece.replaceAll("\u2581", "").toLowerCase());
    const hits = wanted ? [...bare.keys()].filter((i) => bare[i].includes(wanted)) : [];
    state.marked = hits.sort((a, b) => bare[a].length - bare[b].length || a - b).slice(0, MARKED);
    state.chosen = null;
    listed(wanted ? `${hits.length} found` : null, state.marked.slice(0, 12).map((i) => [i, null]));
    paint();
  }
  function choose(i) {
    state.chosen = i;
    state.marked = [i, ...vocabulary.neighbours[i]];
    listed(`Nearest to ${pieces[i]}, by cosine`, vocabulary.neighbours[i].map((j, k) => [j, vocabulary.cosines[i][k]]));
    paint();
  }
  function listed(heading, rows) {
    const share2 = shares.reduce((a, b) => a + b, 0);
    list.replaceChildren(
      element("p", {}, heading ?? `${pieces.length.toLocaleString("en")} pieces${leftOut ? ` of ${(pieces.length + leftOut).toLocaleString("en")}` : ""}. The plane holds ${share(share2)} of the variance: neighbours by cosine are truer than nearness here.`),
      element("ol", {}, rows.map(([i, cosine]) =>
        element("li", {}, element("button", { type: "button", click: () => choose(i) }, pieces[i]),
          cosine === null ? "" : element("span", {}, number(cosine))))),
    );
  }
  const at = (i) => {
    const [x, y] = place(points[i], canvas.clientWidth, canvas.clientHeight);
    return [x * state.zoom + state.x, y * state.zoom + state.y];
  };
  function paint() {
    paintCloud(canvas, points.length, at, state, pieces);
  }
  canvas.addEventListener("click", (event) => {
    const apart = (i) => Math.hypot(at(i)[0] - event.offsetX, at(i)[1] - event.offsetY);
    const nearest = points.reduce((best, _, i) => (apart(i) < apart(best) ? i : best), 0);
    if (apart(nearest) < NEAR) choose(nearest);
  });
  movable(canvas, state, paint);
  root.replaceChildren(element("div", { class: "cq-vocabulary" },
    element("div", { class: "cq-side" }, search, list),
    element("div", { class: "cq-stage" }, canvas,
      element("p", { class: "cq-hint" }, "Click a point for its neighbours; wheel or + and \u2212 zoom, drag or arrow keys move."))));
  listed(null, []);
  new ResizeObserver(paint).observe(canvas);
  keepPainted(canvas, paint);
}

/** From the plane to pixels, all points within. */
function fitted(points) {
  const bounds = [0, 1].map((axis) =>
    points.reduce(([a, b], point) => [Math.min(a, point[axis]), Math.max(b, point[axis])], [Infinity, -Infinity]),
  );
  return (point, width, height) =>
    bounds.map(([low, high], axis) => {
      const size = axis ? height : width;
      return 16 + ((point[axis] - low) / (high - low || 1)) * (size - 32);
    });
}

function paintCloud(canvas, count, at, { marked, chosen }, pieces) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const style = getComputedStyle(canvas);
  context.fillStyle = style.getPropertyValue("--cq-source");
  context.globalAlpha = marked.length ? 0.16 : 0.4;
  for (let i = 0; i < count; i++) {
    const [x, y] = at(i);
    context.fillRect(x - 1, y - 1, 2.4, 2.4);
  }
  context.globalAlpha = 1;
  context.font = `12px ${style.fontFamily}`;
  context.textBaseline = "middle";
  for (const i of [...marked].reverse()) {
    const [x, y] = at(i);
    context.fillStyle = style.getPropertyValue(i === chosen ? "--cq-target" : "--cq-source");
    context.beginPath();
    context.arc(x, y, i === chosen ? 5 : 3.5, 0, 2 * Math.PI);
    context.fill();
    context.fillStyle = style.getPropertyValue("--cq-ink");
    const leftwards = x > canvas.clientWidth - 90;
    context.textAlign = leftwards ? "right" : "left";
    context.fillText(pieces[i], x + (leftwards ? -8 : 8), y);
  }
}

function movable(canvas, state, paint) {
  function zoom(by, x, y) {
    const next = Math.min(40, Math.max(1, state.zoom * by));
    state.x = x - ((x - state.x) * next) / state.zoom;
    state.y = y - ((y - state.y) * next) / state.zoom;
    state.zoom = next;
    if (next === 1) state.x = state.y = 0;
    paint();
  }
  function move(x, y) {
    state.x += x;
    state.y += y;
    paint();
  }
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
  }, { passive: false });
  canvas.addEventListener("pointermove", (event) => event.buttons && move(event.movementX, event.movementY));
  canvas.addEventListener("keydown", (event) => {
    const middle = [canvas.clientWidth / 2, canvas.clientHeight / 2];
    const steps = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
    if (event.key === "+") zoom(1.4, ...middle);
    else if (event.key === "-") zoom(1 / 1.4, ...middle);
    else if (steps[event.key]) move(...steps[event.key]);
    else return;
    event.preventDefault();
  });
}
