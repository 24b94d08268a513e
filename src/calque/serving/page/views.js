// The views of the model, in tabs: of a sentence, and of the model by itself.

import { Refusal } from "./api.js";
import { attentionView } from "./look/attention.js";
import { beamView } from "./look/beam.js";
import { element } from "./look/dom.js";
import { embeddingsView } from "./look/embeddings.js";
import { headsView } from "./look/heads.js";
import { positionsView } from "./look/positions.js";
import { alignmentView, tokensView } from "./look/sentence.js";
import { trainingView } from "./look/training.js";
import { tabs } from "./tabs.js";

const TABS = [
  { id: "attention", name: "Attention", of: "look", parts: [
    ["Alignment", "Words and what they attend to, read from cross-attention.", alignmentView],
    ["All heads", "Every head of every layer: rows look at columns. Click one to enlarge it.", attentionView],
    ["Their habits", "How spread out each head looks, and how far. Sort by a column, or click a row.", headsView],
  ] },
  { id: "beam", name: "Beam", of: "look", parts: [
    ["What the search tried", "Each row is one token longer, its likeliest prefix on the left. Grey came to nothing.", beamView],
    ["How sure it was", "Each token\u2019s probability, given all before it, and the likeliest others in its place.", tokensView],
  ] },
  { id: "positions", name: "Positions", of: "positions", parts: [
    ["Where a token stands", "How the model knows it. Teal is positive, rust negative.", positionsView],
  ] },
  { id: "embeddings", name: "Embeddings", of: "embeddings", parts: [
    ["The vocabulary", "In the plane of its first two principal components.", embeddingsView],
  ] },
  { id: "training", name: "Training", of: "training", parts: [
    ["How it was trained", "What was recorded meanwhile.", trainingView],
  ] },
];

/** Tabs over what the server tells of a pair of languages, and of the sentences last translated. */
export class Views {
  constructor(server, list, stage) {
    this.server = server;
    this.state = { pair: null, sentences: [], at: 0 };
    this.answers = new Map(); // of the server, by question
    this.drawn = TABS.map(() => null); // which question each panel answers
    this.controller = new AbortController();
    const { panels, select } = tabs(list, stage, TABS, (place) => this.show(place));
    this.panels = panels;
    this.select = select;
  }

  /** Take what was translated; `at` is the sentence to be shown. */
  update(state) {
    this.state = { ...this.state, ...state };
    this.state.at = Math.min(this.state.at, Math.max(0, this.state.sentences.length - 1));
    if (this.place !== undefined) this.show(this.place);
  }

  async show(place) {
    this.place = place;
    this.controller.abort();
    this.controller = new AbortController();
    const { signal } = this.controller;
    const [{ of }, panel, { pair, sentences, at }] = [TABS[place], this.panels[place], this.state];
    if (!pair || (of === "look" && !sentences.length)) {
      this.drawn[place] = null;
      panel.replaceChildren(element("p", { class: "cq-none" }, "Write a sentence above: here is what the model does with it."));
      return;
    }
    const message = of === "look" ? { ...pair, ...sentences[at] } : pair;
    const question = JSON.stringify([of, message, sentences.length, at]);
    if (this.drawn[place] === question) return panel.removeAttribute("aria-busy");
    panel.setAttribute("aria-busy", "true");
    try {
      const seen = await this.answer(of, message, signal);
      if (signal.aborted) return;
      this.draw(place, seen);
      this.drawn[place] = question;
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof Refusal)) throw error;
      this.drawn[place] = null;
      panel.replaceChildren(...this.stepper(of), element("p", { class: "cq-none" }, error.message));
    }
    panel.removeAttribute("aria-busy");
  }

  /** What is told of the model stays; of sentences, only the last look is kept. */
  async answer(of, message, signal) {
    const question = JSON.stringify(message);
    const known = this.answers.get(of);
    if (known?.question === question) return known.seen;
    const seen = await this.server.ask(`v1/${of}`, message, signal);
    this.answers.set(of, { question, seen });
    return seen;
  }

  draw(place, seen) {
    const { of, parts } = TABS[place];
    const stages = parts.map(() => element("div"));
    this.panels[place].replaceChildren(
      ...this.stepper(of),
      ...parts.map(([title, hint], i) =>
        element("section", {}, element("h2", {}, title), element("p", { class: "cq-hint" }, hint), stages[i])),
    );
    parts.forEach(([, , view], i) => view(seen, stages[i])); // as wide as there is room
  }

  /** Which of several sentences is looked at. */
  stepper(of) {
    const { sentences, at } = this.state;
    if (of !== "look" || sentences.length < 2) return [];
    const step = (text, label, to) =>
      element("button", { type: "button", "aria-label": label, disabled: !sentences[to], click: () => this.step(label, to) }, text);
    return [element("div", { class: "stepper", role: "group", "aria-label": "Sentence" },
      step("\u2190", "Previous sentence", at - 1),
      step("\u2192", "Next sentence", at + 1),
      element("span", { class: "stepper-place" }, `${at + 1} of ${sentences.length}`),
      element("span", { class: "stepper-text" }, sentences[at].q))];
  }

  async step(label, to) {
    this.state.at = to;
    await this.show(this.place);
    this.panels[this.place].querySelector(`[aria-label="${label}"]`)?.focus();
  }
}
