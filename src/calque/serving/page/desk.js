// A text and its translation: as it is typed, word by word, and in other words.

import { offer } from "./alternatives.js";
import { Refusal } from "./api.js";
import { AUTO } from "./languages.js";
import { placeOf, tintBoth, Words } from "./words.js";

const TYPING = 250; // milliseconds of rest after which a text is translated
const LOOKING = 350; // and after its translation, for the views
const NOTHING = { before: "", sentences: [] };

export class Desk {
  /** `detected` is told the language that an answer was made from. */
  constructor(server, views, by, detected) {
    Object.assign(this, { server, views, by, detected, limit: Infinity, answer: NOTHING, first: NOTHING });
    this.sides = {
      source: new Words(by("mirror"), "source"),
      target: new Words(by("translation"), "target"),
    };
    this.controller = new AbortController();
    by("text").addEventListener("input", () => this.typed());
    by("clear").addEventListener("click", () => this.write(""));
    by("copy").addEventListener("click", () => this.copy());
    by("undo").addEventListener("click", () => {
      this.take(this.first);
      this.sides.target.spans.flat()[0]?.focus();
    });
    this.listenToSource(by("text"));
    this.listenToTarget(by("translation"));
  }

  /** Translate between these languages from now on. */
  use(pair) {
    this.pair = pair;
    this.by("translation").lang = pair.target;
    this.take(NOTHING, NOTHING);
    this.views.update({ pair: this.model, sentences: [], at: 0 });
    this.typed(0);
  }

  /** Put a text in place of what was written. */
  write(text) {
    this.by("text").value = text;
    this.by("text").focus();
    this.typed(0);
  }

  /** The languages of the model that answers; null as long as one is to be detected. */
  get model() {
    const { source, target } = { ...this.pair, ...this.answer };
    return !source || source === AUTO ? null : { source, target };
  }

  get translated() {
    const { before, sentences } = this.answer;
    return before + sentences.map(({ target, after }) => target.join("") + after).join("");
  }

  /** A text has changed: what is shown is stale until the answer to it comes. */
  typed(wait = TYPING) {
    this.controller.abort();
    clearTimeout(this.timer);
    const text = this.by("text").value;
    const over = [...text].length - this.limit;
    this.sides.source.clear(`${text}\n`);
    this.by("clear").hidden = !text;
    this.by("count").textContent = `${[...text].length.toLocaleString("en")} / ${this.limit.toLocaleString("en")}`;
    this.refuse(over > 0 ? `Too long by ${over.toLocaleString("en")} characters.` : "");
    this.by("translation").classList.toggle("stale", Boolean(text));
    if (!text.trim()) this.take(NOTHING, NOTHING);
    else if (over <= 0) this.timer = setTimeout(() => this.translate(text), wait);
  }

  refuse(message) {
    this.by("problem").textContent = message;
    this.by("text").setAttribute("aria-invalid", String(Boolean(message)));
  }

  async translate(text) {
    const { signal } = (this.controller = new AbortController());
    try {
      const answer = await this.server.ask("v1/translate", { q: text, ...this.pair }, signal);
      if (!signal.aborted) this.take(answer, answer);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof Refusal)) throw error;
      this.refuse(error.message);
      this.detected(null);
    }
  }

  /** Show an answer; `first` is what the model said before another wording was chosen. */
  take(answer, first = this.first) {
    Object.assign(this, { answer, first });
    const target = this.by("translation");
    target.classList.remove("stale");
    this.by("text").lang = this.by("mirror").lang = this.model?.source ?? "";
    this.detected(answer.source ?? null);
    this.sides.source.draw(inText(this.by("text").value, answer));
    this.sides.target.draw(answer, (sentence, place) => ({
      role: "button",
      tabindex: sentence || place ? "-1" : "0",
      "aria-haspopup": "menu",
    }));
    this.by("spoken").textContent = this.translated;
    this.by("copy").hidden = !this.translated;
    this.by("undo").hidden = answer === first;
    this.by("told").textContent = "";
    clearTimeout(this.looking);
    const sentences = answer.sentences.map(({ source, beginning }) => ({ q: source.join(""), beginning }));
    this.looking = setTimeout(() => this.views.update({ pair: this.model, sentences }), sentences.length ? LOOKING : 0);
  }

  tint(side, at) {
    tintBoth(this.sides, this.answer, side, at);
  }

  /** The words of the source lie behind what is typed. */
  listenToSource(text) {
    const { source } = this.sides;
    const show = (span) => this.tint("source", placeOf(span));
    text.addEventListener("pointermove", (event) => show(source.under(event.clientX, event.clientY)));
    text.addEventListener("pointerleave", () => this.tint("source", null));
    text.addEventListener("blur", () => this.tint("source", null));
    text.addEventListener("keyup", (event) => {
      if (event.key.startsWith("Arrow")) show(source.at(text.selectionStart));
    });
  }

  listenToTarget(target) {
    const word = (event) => event.target.closest(".word");
    for (const [over, out] of [["pointerover", "pointerout"], ["focusin", "focusout"]]) {
      target.addEventListener(over, (event) => this.tint("target", placeOf(word(event))));
      target.addEventListener(out, () => this.tint("target", null));
    }
    target.addEventListener("focusin", (event) => {
      for (const span of this.sides.target.spans.flat()) span.tabIndex = span === event.target ? 0 : -1;
    });
    target.addEventListener("click", (event) => word(event) && this.reword(word(event)));
    target.addEventListener("keydown", (event) => this.move(target, event));
  }

  /** From word to word by keyboard. */
  move(target, event) {
    const words = this.sides.target.spans.flat();
    const here = words.indexOf(event.target);
    const on = getComputedStyle(target).direction === "rtl" ? -1 : 1;
    const next = { ArrowRight: here + on, ArrowLeft: here - on, Home: 0, End: words.length - 1 }[event.key];
    if (event.key === "Enter" || event.key === " ") this.reword(event.target);
    else if (next === undefined) return;
    else words[next]?.focus();
    event.preventDefault();
  }

  /** Offer other ways to go on from a word of the translation. */
  reword(word) {
    if (this.by("translation").classList.contains("stale")) return;
    const { sentence, place } = placeOf(word);
    const { answer, model } = this;
    const { source, target } = answer.sentences[sentence];
    const prefix = target.slice(0, place).join("");
    offer({
      word,
      prefix,
      current: target.join(""),
      find: (signal) => this.server.ask("v1/alternatives", { ...model, q: source.join(""), prefix }, signal),
      pick: (chosen) => {
        if (this.answer !== answer) return; // typed on meanwhile
        const sentences = answer.sentences.with(sentence, { ...answer.sentences[sentence], ...chosen });
        this.take({ ...answer, sentences });
        this.sides.target.spans[sentence][place]?.focus();
      },
    });
  }

  async copy() {
    await copied(this.translated, this.by("translation"));
    this.by("told").textContent = "Copied";
    setTimeout(() => (this.by("told").textContent = ""), 2000);
  }
}

/** An answer with the white space of the text that it is to. */
function inText(text, { sentences }) {
  let end = 0;
  const starts = sentences.map(({ source }) => {
    const start = text.indexOf(source.join(""), end);
    end = start + source.join("").length;
    return start;
  });
  const ends = sentences.map(({ source }, i) => starts[i] + source.join("").length);
  const spaced = sentences.map((one, i) => ({ ...one, after: text.slice(ends[i], starts[i + 1]) }));
  return { before: text.slice(0, starts[0]), sentences: spaced };
}

/** Put text on the clipboard, also where the page came over plain HTTP. */
async function copied(text, shown) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  getSelection().selectAllChildren(shown);
  document.execCommand("copy");
  getSelection().removeAllRanges();
}
