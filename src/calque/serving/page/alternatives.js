// A menu of other ways to go on from a word.

import { Refusal } from "./api.js";
import { element, share } from "./look/dom.js";

const STEPS = { ArrowDown: 1, ArrowUp: -1 };

/** Open a menu below a word; `find` promises the alternatives, `pick` is called with the chosen. */
export async function offer({ word, prefix, current, find, pick }) {
  const menu = element("div", { class: "menu", popover: "auto", role: "menu", "aria-label": "Other ways to go on" });
  const controller = new AbortController();
  menu.addEventListener("toggle", (event) => {
    if (event.newState === "open") return;
    controller.abort();
    word.removeAttribute("aria-expanded");
    menu.remove();
  });
  menu.addEventListener("keydown", (event) => move(menu, event));
  menu.append(note("Looking for others\u2026"));
  word.closest("main").append(menu);
  word.setAttribute("aria-expanded", "true");
  menu.showPopover();
  const { signal } = controller;
  document.addEventListener("scroll", (event) => event.target !== menu && menu.hidePopover(), { capture: true, signal });
  beside(menu, word);
  menu.firstChild.focus({ preventScroll: true });
  try {
    const { alternatives } = await find(signal);
    const items = alternatives.map((one) => item(one, { prefix, current, pick: (chosen) => { menu.hidePopover(); pick(chosen); } }));
    menu.replaceChildren(...(items.length ? items : [note("There is no other.")]));
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Refusal)) throw error;
    menu.replaceChildren(note(error.message));
  }
  beside(menu, word);
  menu.firstChild.focus({ preventScroll: true });
}

function note(text) {
  return element("div", { class: "menu-note", role: "menuitem", "aria-disabled": "true", tabindex: "-1" }, text);
}

function item({ probability, beginning, sentence }, { prefix, current, pick }) {
  const rest = sentence.target.join("").slice(prefix.length);
  const [first] = rest.match(/^\s*\S+/) ?? [rest];
  return element("button", {
    type: "button",
    class: "menu-item",
    role: "menuitemradio",
    "aria-checked": String(prefix + rest === current),
    tabindex: "-1",
    click: () => pick({ ...sentence, beginning }),
  },
    element("span", { class: "menu-rest" }, element("b", {}, first), rest.slice(first.length)),
    element("span", { class: "menu-share" }, share(probability)),
  );
}

function move(menu, event) {
  if (event.key === "Tab") menu.hidePopover();
  const items = [...menu.children];
  const here = items.indexOf(document.activeElement);
  const next = { Home: 0, End: items.length - 1 }[event.key] ?? (here + STEPS[event.key] + items.length) % items.length;
  if (Number.isNaN(next)) return;
  event.preventDefault();
  items[next].focus();
}

/** Below the word, or above it where there is no room; within the window. */
function beside(menu, word) {
  const [at, size] = [word.getBoundingClientRect(), menu.getBoundingClientRect()];
  const below = at.bottom + 6 + size.height < innerHeight;
  menu.style.left = `${Math.max(12, Math.min(at.left - 12, innerWidth - size.width - 12))}px`;
  menu.style.top = `${Math.max(12, below ? at.bottom + 6 : at.top - size.height - 6)}px`;
}
