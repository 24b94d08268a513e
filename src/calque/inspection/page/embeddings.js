// The vocabulary as points in a plane, with search and neighbours.

import { keepPainted } from "./colour.js";
import { choice, element, number, share } from "./dom.js";

const NAMES = { both: "Both languages", source: "Source", target: "Target" };
const NEAR = 14; // pixels from a point that still mean it
const MARKED = 40; // pieces at once
const ROOM = 9000; // square pixels for each label where nothing is marked

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
  const state = { marked: [], chosen: null, pointed: null, zoom: 1, x: 0, y: 0 };
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
  const telling = byMeaning(pieces);

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
    paintCloud(canvas, { pieces, telling, at, state });
  }
  /** The point that the pointer is at, or null. */
  function under({ offsetX, offsetY }) {
    const apart = (i) => Math.hypot(at(i)[0] - offsetX, at(i)[1] - offsetY);
    const nearest = points.reduce((best, _, i) => (apart(i) < apart(best) ? i : best), 0);
    return apart(nearest) < NEAR ? nearest : null;
  }
  function point(i) {
    if (i === state.pointed) return;
    state.pointed = i;
    paint();
  }
  canvas.addEventListener("click", (event) => under(event) !== null && choose(under(event)));
  canvas.addEventListener("pointermove", (event) => point(under(event)));
  canvas.addEventListener("pointerleave", () => point(null));
  movable(canvas, state, paint);
  root.replaceChildren(element("div", { class: "cq-vocabulary" },
    element("div", { class: "cq-side" }, search, list),
    element("div", { class: "cq-stage" }, canvas,
      element("p", { class: "cq-hint" }, "Point at a piece for its name, click it for its neighbours; wheel or + and \u2212 zoom, drag or arrow keys move."))));
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

/** Pieces that look like words first, then others, then bytes and special ones; else as they are. */
function byMeaning(pieces) {
  const kind = pieces.map((piece) => (/^<.*>$/.test(piece) ? 2 : /\p{L}{3}/u.test(piece) ? 0 : 1));
  return [...pieces.keys()].sort((a, b) => kind[a] - kind[b]);
}

function paintCloud(canvas, { pieces, telling, at, state }) {
  const { marked, chosen, pointed } = state;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const style = getComputedStyle(canvas);
  const colour = (name) => style.getPropertyValue(`--cq-${name}`);
  context.fillStyle = colour("source");
  context.globalAlpha = marked.length ? 0.16 : 0.4;
  for (let i = 0; i < pieces.length; i++) {
    const [x, y] = at(i);
    context.fillRect(x - 1, y - 1, 2.4, 2.4);
  }
  context.globalAlpha = 1;
  for (const i of [...marked].reverse()) {
    context.fillStyle = colour(i === chosen ? "target" : "source");
    dot(context, at(i), i === chosen ? 5 : 3.5);
  }
  context.font = `12px ${style.fontFamily}`;
  Object.assign(context, { textBaseline: "middle", lineJoin: "round", lineWidth: 4, strokeStyle: colour("card") });
  const size = { width: canvas.clientWidth, height: canvas.clientHeight };
  const wanted = [...(pointed === null ? [] : [pointed]), ...(marked.length ? marked : telling)];
  const most = marked.length ? wanted.length : (size.width * size.height) / ROOM;
  for (const { text, x, y } of placed(context, wanted, { pieces, at, size, most, dots: marked })) {
    context.strokeText(text, x, y); // a halo, so that it can be read over points
    context.fillStyle = colour("ink");
    context.fillText(text, x, y);
  }
  if (pointed === null) return;
  context.fillStyle = colour("target");
  dot(context, at(pointed), 4);
}

function dot(context, [x, y], radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

/** Labels of the pieces for which there is room, who comes first being served first. */
function placed(context, wanted, { pieces, at, size, most, dots }) {
  const taken = dots.map((i) => [at(i)[0] - 5, at(i)[1] - 5, at(i)[0] + 5, at(i)[1] + 5]);
  const free = ([left, top, right, bottom]) =>
    left >= 0 && top >= 0 && right <= size.width && bottom <= size.height &&
    !taken.some(([a, b, c, d]) => left < c && a < right && top < d && b < bottom);
  const labels = [];
  for (const i of wanted) {
    if (labels.length >= most) break;
    const [[x, y], text] = [at(i), pieces[i]];
    if (x < 0 || y < 0 || x > size.width || y > size.height) continue;
    const width = context.measureText(text).width;
    const starts = [[x + 8, y], [x - 8 - width, y], [x - width / 2, y - 14], [x - width / 2, y + 14]];
    for (const [start, middle] of starts) {
      const box = [start - 2, middle - 8, start + width + 2, middle + 8];
      if (!free(box)) continue;
      taken.push(box);
      labels.push({ text, x: start, y: middle });
      break;
    }
  }
  return labels;
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
