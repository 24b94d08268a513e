// The course of one training, or of several over each other.

import { chart } from "./chart.js";
import { element } from "./dom.js";

const CHARTS = [
  ["Loss", "nats per token", [["loss", "training", true], ["valid_loss", "validation", false]]],
  ["BLEU", "on the validation pairs", [["valid_bleu", "BLEU", false]]],
  ["Learning rate", "", [["learning_rate", "learning rate", false]]],
  ["Speed", "tokens per second", [["tokens_per_second", "tokens/s", false]]],
];

/** A chart each for loss, BLEU, learning rate and speed; a colour for each run. */
export function trainingView({ training }, root) {
  const figures = CHARTS.map(([title, unit, series]) => {
    const [[key]] = series;
    const curves = training.flatMap((run, colour) =>
      series
        .filter(([key]) => run.series[key].length)
        .map(([key, name, dashed]) => ({
          name: training.length > 1 ? `${run.name}, ${name}` : name,
          points: run.series[key],
          colour,
          dashed,
        })),
    );
    const plot = element("div", { class: "cq-plot" });
    function draw() {
      const what = { x: "step", y: unit || title.toLowerCase(), label: `${title} by step` };
      if (curves.length) chart({ curves, ...what, origin: key === "loss" ? [0] : [0, 0] }, plot);
      else plot.append(element("p", { class: "cq-none" }, "Nothing recorded."));
    }
    return { draw, figure: element("div", {}, element("h3", {}, title), plot) };
  });
  const legend = training.map((run, colour) =>
    element("li", { style: `--cq-colour: var(--cq-series-${colour % 6})` }, run.name),
  );
  root.replaceChildren(
    element("ul", { class: "cq-legend" }, legend, element("li", { class: "cq-dashed" }, "dashed: training loss")),
    element("div", { class: "cq-charts" }, figures.map(({ figure }) => figure)),
  );
  figures.forEach(({ draw }) => draw()); // as wide as there is room
}
