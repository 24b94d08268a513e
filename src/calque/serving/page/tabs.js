// Tabs as WAI-ARIA describes them: one is selected, arrow keys go from one to the next.

import { element } from "./look/dom.js";

const STEPS = { ArrowRight: 1, ArrowLeft: -1 };

/** Tabs and their panels, [{id, name}]; `show` is called with the place of the selected one. */
export function tabs(list, stage, names, show) {
  const buttons = names.map(({ id, name }, place) =>
    element("button", { type: "button", role: "tab", id: `tab-${id}`, "aria-controls": id, click: () => select(place) }, name),
  );
  const panels = names.map(({ id }) =>
    element("div", { id, class: "panel cq-view", role: "tabpanel", tabindex: "0", "aria-labelledby": `tab-${id}` }),
  );
  function select(place) {
    buttons.forEach((button, i) => {
      button.setAttribute("aria-selected", String(i === place));
      button.tabIndex = i === place ? 0 : -1;
      panels[i].hidden = i !== place;
    });
    list.scrollLeft = buttons[place].offsetLeft - (list.clientWidth - buttons[place].offsetWidth) / 2;
    show(place);
  }
  list.addEventListener("keydown", (event) => {
    const here = buttons.indexOf(document.activeElement);
    const next = { Home: 0, End: buttons.length - 1 }[event.key] ?? (here + STEPS[event.key] + buttons.length) % buttons.length;
    if (Number.isNaN(next)) return;
    event.preventDefault();
    buttons[next].focus();
    select(next);
  });
  list.replaceChildren(...buttons);
  stage.replaceChildren(...panels);
  return { panels, select };
}
