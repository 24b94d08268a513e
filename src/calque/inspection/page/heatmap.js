// Matrices of weights as pictures: small, and with a token at each row and column.

import { keepPainted, signedColours, weightColours } from "./colour.js";
import { element, number, share } from "./dom.js";

const FONT = 12; // pixels
const SMALLEST = 12;
const LARGEST = 34;

/** The largest number of a matrix, without its sign. */
export function extent(matrix) {
  return matrix.reduce((most, row) => row.reduce((m, v) => Math.max(m, Math.abs(v)), most), 0);
}

/** One pixel per number; the style sheet stretches it. `signed`: of either sign, not weights. */
export function thumbnail(matrix, { signed = false } = {}) {
  const canvas = element("canvas", { width: matrix[0].length, height: matrix.length });
  keepPainted(canvas, () => {
    const colour = signed ? signedColours(extent(matrix)) : weightColours();
    const context = canvas.getContext("2d", { willReadFrequently: true }); // small: no work for a GPU
    const image = context.createImageData(canvas.width, canvas.height);
    let at = 0;
    for (const row of matrix)
      for (const value of row) {
        const [red, green, blue] = colour(value);
        image.data[at++] = red;
        image.data[at++] = green;
        image.data[at++] = blue;
        image.data[at++] = 255;
      }
    context.putImageData(image, 0, 0);
  });
  return canvas;
}

/** A matrix of weights with its tokens; mouse, finger or arrow keys read a cell. */
export function heatmap({ weights, rows, columns }, root) {
  const readout = element("p", { class: "cq-readout", "aria-live": "polite" });
  const canvas = element("canvas", {
    class: "cq-heatmap",
    tabindex: "0",
    role: "img",
    "aria-label": `Heat map of ${rows.length} by ${columns.length} weights; arrow keys read its cells`,
  });
  root.replaceChildren(readout, element("div", { class: "cq-scroll" }, canvas));
  const context = canvas.getContext("2d");
  const family = getComputedStyle(root).fontFamily;
  const shape = measured(context, family, rows, columns, root.clientWidth || 640);
  let cell = null;

  function say() {
    if (!cell) {
      readout.textContent = "Rows look at columns. Point at a cell, or go through them by arrow keys.";
      return;
    }
    const [row, column] = cell;
    readout.textContent = `${rows[row]} \u2192 ${columns[column]}: ${share(weights[row][column])}`;
  }
  function show(next) {
    cell = next;
    say();
    paintLabelled(canvas, { weights, rows, columns, shape, family, cell });
  }
  canvas.addEventListener("pointermove", (event) => show(shape.cellAt(event.offsetX, event.offsetY)));
  canvas.addEventListener("pointerdown", (event) => show(shape.cellAt(event.offsetX, event.offsetY)));
  canvas.addEventListener("pointerleave", () => show(null));
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const [row, column] = cell ? [cell[0] + step[0], cell[1] + step[1]] : [0, 0];
    const within = (value, size) => Math.min(size - 1, Math.max(0, value));
    show([within(row, rows.length), within(column, columns.length)]);
  });
  keepPainted(canvas, () => show(cell));
}

function measured(context, family, rows, columns, width) {
  context.font = `${FONT}px ${family}`;
  const longest = (names) => Math.min(140, Math.max(...names.map((name) => context.measureText(name).width)));
  const left = longest(rows) + 10;
  const top = longest(columns) * 0.87 + 16;
  const right = longest(columns.slice(-1)) * 0.5 + 12; // the last name leans out
  const size = Math.max(SMALLEST, Math.min(LARGEST, Math.floor((width - left - right) / columns.length)));
  return {
    left,
    top,
    size,
    width: left + size * columns.length + right,
    height: top + size * rows.length + 2,
    cellAt(x, y) {
      const [row, column] = [Math.floor((y - top) / size), Math.floor((x - left) / size)];
      const inside = row >= 0 && column >= 0 && row < rows.length && column < columns.length;
      return inside ? [row, column] : null;
    },
  };
}

function paintLabelled(canvas, { weights, rows, columns, shape, family, cell }) {
  const { left, top, size, width, height } = shape;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const colour = weightColours();
  weights.forEach((row, i) =>
    row.forEach((weight, j) => {
      context.fillStyle = `rgb(${colour(weight).join()})`;
      context.fillRect(left + j * size, top + i * size, size - 1, size - 1);
    }),
  );
  const style = getComputedStyle(canvas);
  const label = (text, here, draw) => {
    context.fillStyle = style.getPropertyValue(here ? "--cq-ink" : "--cq-soft");
    context.font = `${here ? 600 : 400} ${FONT}px ${family}`;
    draw(text);
  };
  context.textBaseline = "middle";
  context.textAlign = "right";
  rows.forEach((name, i) =>
    label(name, cell?.[0] === i, (text) => context.fillText(text, left - 6, top + (i + 0.5) * size, left - 6)),
  );
  context.textAlign = "left";
  columns.forEach((name, j) =>
    label(name, cell?.[1] === j, (text) => {
      context.save();
      context.translate(left + (j + 0.5) * size, top - 6);
      context.rotate(-Math.PI / 3);
      context.fillText(text, 0, 0, 140);
      context.restore();
    }),
  );
  if (cell) {
    context.strokeStyle = style.getPropertyValue("--cq-target");
    context.lineWidth = 2;
    context.strokeRect(left + cell[1] * size, top + cell[0] * size, size - 1, size - 1);
  }
}

/** Words for a screen reader: where each row looks most. */
export function summary({ weights, rows, columns }) {
  return weights
    .map((row, i) => {
      const most = row.indexOf(Math.max(...row));
      return `${rows[i]}: ${columns[most]} ${number(row[most])}`;
    })
    .join("; ");
}
