// The pair of languages.

import { element } from "./look/dom.js";

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
    this.known = new Map(known.map((language) => [language.code, language]));
    options(this.from, known.filter((language) => language.targets.length));
    this.choose(source.code, target.code);
  }

  /** The other way round. */
  swap() {
    this.choose(this.to.value, this.from.value);
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
    this.swapper.hidden = !this.known.get(this.to.value).targets.includes(this.from.value);
    this.use({ source: this.from.value, target: this.to.value });
  }
}

function options(select, languages) {
  select.replaceChildren(...languages.map(({ code, name }) => element("option", { value: code }, name)));
}
