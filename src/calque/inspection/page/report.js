// A whole page: a section for each view that there is something for.

import { attentionView } from "./attention.js";
import { beamView } from "./beam.js";
import { element } from "./dom.js";
import { embeddingsView } from "./embeddings.js";
import { headsView } from "./heads.js";
import { positionsView } from "./positions.js";
import { alignmentView, tokensView, translationView } from "./sentence.js";
import { trainingView } from "./training.js";

const SECTIONS = [
  ["source", "Translation", "Point at a word: the tint shows what it was made of, or what was made of it.", translationView],
  ["source", "Tokens", "How likely each token was, given all before it, and the likeliest others in its place.", tokensView],
  ["source", "Alignment", "Words of the translation and the source words they attend to, read from cross-attention.", alignmentView],
  ["source", "Attention", "Every head of every layer: rows look at columns. Click one to enlarge it.", attentionView],
  ["source", "Heads", "How spread out each head looks, and how far. Sort by a column, or click a row.", headsView],
  ["source", "Beam", "What the search tried: each row is one token longer, its likeliest prefix on the left. Grey came to nothing.", beamView],
  ["positions", "Positions", "How the model knows where a token stands. Teal is positive, rust negative.", positionsView],
  ["embeddings", "Embeddings", "The vocabulary in the plane of its first two principal components.", embeddingsView],
  ["training", "Training", "What was recorded while the model trained.", trainingView],
];

/** Draw all that a report holds into an element. */
export function report(seen, root) {
  const sections = SECTIONS.filter(([key]) => key in seen);
  const links = sections.map(([, name]) => element("a", { href: `#${name.toLowerCase()}` }, name));
  root.replaceChildren(
    element("header", { class: "cq-head" },
      element("h1", { class: "cq-brand" }, element("strong", {}, "calque"), seen.run ? ` ${seen.run}` : ""),
      sections.length > 1 ? element("nav", { "aria-label": "Views" }, links) : null),
  );
  for (const [, name, hint, view] of sections) {
    const stage = element("div", { class: "cq-view" });
    root.append(
      element("section", { id: name.toLowerCase(), "aria-label": name },
        element("h2", {}, name), element("p", { class: "cq-hint" }, hint), stage),
    );
    view(seen, stage);
  }
}
