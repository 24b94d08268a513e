// Colours of weights, as the style sheet and the system's setting have them.

const STEPS = 256;

function parse(colour) {
  const value = parseInt(colour.trim().slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

const ramps = new Map(); // to ask for a style takes long

/** [r, g, b] for each of 256 steps between the colours of some custom properties. */
function ramp(names) {
  if (!ramps.has(names)) ramps.set(names, mixed(names));
  return ramps.get(names);
}

function mixed(names) {
  const style = getComputedStyle(document.documentElement);
  const stops = names.map((name) => parse(style.getPropertyValue(name)));
  return Array.from({ length: STEPS }, (_, step) => {
    const place = (step / (STEPS - 1)) * (stops.length - 1);
    const low = Math.min(Math.floor(place), stops.length - 2);
    return stops[low].map((from, i) => Math.round(from + (place - low) * (stops[low + 1][i] - from)));
  });
}

const WEIGHTS = ["--cq-ramp-0", "--cq-ramp-1", "--cq-ramp-2", "--cq-ramp-3", "--cq-ramp-4"];
const SIGNED = ["--cq-minus", "--cq-ramp-0", "--cq-plus"];

/** Weights from 0 to 1: their square roots, so that small ones can be told from none. */
export function weightColours() {
  const colours = ramp(WEIGHTS);
  return (weight) => colours[Math.round(Math.sqrt(Math.min(1, Math.max(0, weight))) * (STEPS - 1))];
}

/** Numbers of either sign, up to `most` in size. */
export function signedColours(most) {
  const colours = ramp(SIGNED);
  const scale = most ? (STEPS - 1) / 2 / most : 0;
  return (value) => colours[Math.round((STEPS - 1) / 2 + Math.max(-most, Math.min(most, value)) * scale)];
}

/** Paint a canvas now, and again when the system turns dark or light. */
export function keepPainted(canvas, paint) {
  canvas.dataset.painted = "";
  canvas.addEventListener("repaint", paint);
  paint();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  ramps.clear();
  for (const canvas of document.querySelectorAll("canvas[data-painted]"))
    canvas.dispatchEvent(new Event("repaint"));
});
