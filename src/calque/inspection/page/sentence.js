// The sentence, its translation, which word is made of which, and how sure the model was.

import { element, number, percent } from "./dom.js";
import { lines } from "./lines.js";

/** Source and translation; pointing at a word tints those of the other language it goes with. */
export function translationView(seen, root) {
  const { source, target, alignment } = seen;
  const words = [source, target].map((side, which) =>
    side.words.slice(0, -1).map((word, place) =>
      element("span", {
        class: "cq-word",
        tabindex: alignment ? "0" : null,
        pointerenter: () => tint(which, place),
        pointerleave: () => tint(null),
        focus: () => tint(which, place),
        blur: () => tint(null),
      }, word.text),
    ),
  );
  function tint(which, place) {
    words.forEach((side, of) =>
      side.forEach((word, other) => {
        let weight = 0;
        if (which !== null && alignment)
          weight =
            of === which
              ? Number(place === other)
              : alignment.weights[which ? place : other][which ? other : place];
        word.style.setProperty("--cq-weight", weight.toFixed(3));
      }),
    );
  }
  const figures = [
    ["score", number(target.score)],
    ["log-probability", number(sum(target.log_probs))],
    ["tokens", `${source.pieces.length} \u2192 ${target.pieces.length}`],
  ];
  root.replaceChildren(
    element("div", { class: "cq-sentences" }, [
      element("p", { class: "cq-source" }, running(source, words[0])),
      element("p", { class: "cq-target" }, running(target, words[1])),
    ]),
    element("dl", { class: "cq-figures" }, figures.map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value)))),
  );
}

/** Word alignment as lines between the two sentences. */
export function alignmentView(seen, root) {
  const { source, target, alignment } = seen;
  if (!alignment) {
    root.replaceChildren(element("p", { class: "cq-none" }, "This model has no cross-attention to read an alignment from."));
    return;
  }
  const ends = source.words.length - 1;
  lines(
    {
      weights: source.words.slice(0, ends).map((_, s) => alignment.weights.slice(0, -1).map((row) => row[s])),
      left: source.words.slice(0, ends).map((word) => word.text),
      right: target.words.slice(0, -1).map((word) => word.text),
      names: ["source", "translation"],
    },
    root,
  );
}

/** Under each output token its probability and the likeliest others. */
export function tokensView(seen, root) {
  const { target } = seen;
  const cards = target.pieces.map((piece, place) => {
    const others = target.alternatives[place];
    return element("li", { class: "cq-token" },
      element("div", { class: "cq-piece", title: piece }, piece),
      element("div", { class: "cq-sure" }, percent(target.log_probs[place])),
      bar(target.log_probs[place], "cq-chosen"),
      element("ol", { "aria-label": `the likeliest others than ${piece}` }, others.map((other) =>
        element("li", {},
          element("span", { class: "cq-other", title: other.piece }, other.piece),
          element("span", {}, percent(other.log_prob)),
          bar(other.log_prob, "")))),
    );
  });
  root.replaceChildren(element("ol", { class: "cq-tokens" }, cards));
}

function bar(logProb, kind) {
  return element("div", { class: `cq-bar ${kind}`, style: `--cq-share: ${Math.exp(logProb).toFixed(4)}` });
}

/** The words as text. */
function running({ words }, spans) {
  return spans.flatMap((span, i) => (words[i].spaced ? [" ", span] : [span]));
}

function sum(values) {
  return values.reduce((a, b) => a + b, 0);
}
