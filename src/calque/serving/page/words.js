// Words on both sides, and which of them belong together.

import { element } from "./look/dom.js";

const OTHER = 0.6; // how strongly a word is tinted that another one was made of

/** Sentences as spans; each word knows its sentence and place, and tells when it is pointed at. */
export class Words {
  constructor(sheet, side) {
    this.sheet = sheet;
    this.side = side; // "source" or "target"
    this.spans = [];
  }

  /** Show the sentences of an answer, with the white space between them. */
  draw({ before, sentences }, attributes = () => ({})) {
    this.spans = sentences.map((sentence, number) =>
      sentence[this.side].map((word, place) =>
        element("span", { class: "word", "data-sentence": number, "data-place": place, ...attributes(number, place) }, word.trimEnd()),
      ),
    );
    const parts = sentences.flatMap((sentence, number) => [
      ...sentence[this.side].flatMap((word, place) => [this.spans[number][place], word.slice(word.trimEnd().length)]),
      sentence.after,
    ]);
    this.sheet.replaceChildren(before, ...parts);
  }

  /** Show bare text. */
  clear(text = "") {
    this.spans = [];
    this.sheet.replaceChildren(text);
  }

  /** The word at a point of the window, though something may lie over it. */
  under(x, y) {
    return document.elementsFromPoint(x, y).find((one) => one.matches(".word") && this.sheet.contains(one));
  }

  /** The word around a place in the text. */
  at(offset) {
    let end = 0;
    return [...this.sheet.childNodes].find((node) => {
      end += node.textContent.length;
      return node instanceof Element && end - node.textContent.length <= offset && offset <= end;
    });
  }

  tint(sentence, weights) {
    this.spans.forEach((spans, number) =>
      spans.forEach((span, place) =>
        span.style.setProperty("--cq-weight", number === sentence ? (weights.get(place) ?? 0) : 0),
      ),
    );
  }
}

/** The place of a word, or null. */
export function placeOf(span) {
  return span ? { sentence: Number(span.dataset.sentence), place: Number(span.dataset.place) } : null;
}

/** Tint a word of one side, and those of the other that it belongs to; null: none. */
export function tintBoth(sides, answer, side, at) {
  const sentence = at && answer?.sentences[at.sentence];
  const [own, other] = side === "source" ? [1, 0] : [0, 1]; // of a link, [target, source]
  const linked = sentence ? sentence.links.filter((link) => link[own] === at.place).map((link) => link[other]) : [];
  for (const words of Object.values(sides)) {
    const weights = words.side === side ? [[at?.place, 1]] : linked.map((place) => [place, OTHER]);
    words.tint(sentence ? at.sentence : -1, new Map(weights));
  }
}
