// The pair of languages.

import { element } from "./look/dom.js";

export const AUTO = "auto";

/** Two selections; `use` is called with {source, target} whenever that changes. */
export class Languages {
  constructor(by, use) {
    [this.from, this.to, this.swapper] = ["from", "to", "swap"].map(by);
    this.use = use;
    this.known = new Map();
    this.from.addEventListener("change", () => this.changed());
    this.to.addEventListener("change", () => this.changed());
  }

  /** Offer what is served, and begin with the server's first pair. */
  fill(known, { source, target }) {
    const sources = known.filter((language) => language.targets.length);
    const targets = known.map(({ code }) => code).filter((code) => sources.some((from) => from.targets.includes(code)));
    const auto = { code: AUTO, name: "Detect language", targets };
    this.known = new Map([auto, ...known].map((language) => [language.code, language]));
    options(this.from, sources.length > 1 ? [auto, ...sources] : sources); // of one, there is nothing to detect
    this.choose(source.code, target.code);
  }

  /** The other way round. */
  swap() {
    this.choose(this.to.value, this.source);
  }

  /** Tell which language a text was found to be in, where that is wanted; null: none. */
  detected(code) {
    if (this.from.value !== AUTO) return;
    this.found = code;
    const { name } = this.known.get(code ?? AUTO);
    this.from.selectedOptions[0].textContent = code ? `${name} (detected)` : name;
    this.offerSwap();
  }

  get source() {
    return this.from.value === AUTO ? this.found : this.from.value;
  }

  choose(source, target) {
    this.from.value = source;
    this.to.replaceChildren();
    this.changed(target);
  }

  changed(target = this.to.value) {
    const { targets } = this.known.get(this.from.value);
    options(this.to, targets.map((code) => this.known.get(code)));
    this.to.value = targets.includes(target) ? target : targets[0];
    this.detected(null);
    this.offerSwap();
    this.use({ source: this.from.value, target: this.to.value });
  }

  offerSwap() {
    this.swapper.hidden = !this.known.get(this.to.value).targets.includes(this.source);
  }
}

function options(select, languages) {
  select.replaceChildren(...languages.map(({ code, name }) => element("option", { value: code }, name)));
}
