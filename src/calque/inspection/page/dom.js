// Elements, and numbers as text.

const SVG = "http://www.w3.org/2000/svg";

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    // By the object, not the attribute: a strict Content Security Policy forbids that.
    else if (name === "style") node.style.cssText = value;
    else if (value !== undefined && value !== null && value !== false)
      node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** An HTML element; an attribute that is a function listens to the event of that name. */
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** As `element`, of SVG. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** Buttons of which one is pressed; `pick` is called with the index of that. */
export function choice(label, names, pick, chosen = 0) {
  const buttons = names.map((name, index) =>
    element("button", { type: "button", "aria-pressed": String(index === chosen), click: () => press(index) }, name),
  );
  function press(index) {
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", i === index));
    pick(index);
  }
  return element("div", { class: "cq-choice", role: "group", "aria-label": label }, buttons);
}

/** A natural logarithm of a probability, in percent. */
export function percent(logProb) {
  return share(Math.exp(logProb));
}

/** A share of 1, in percent. */
export function share(value) {
  if (value > 0 && value < 0.001) return "<0.1 %";
  return `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;
}

/** A number with a true minus sign. */
export function number(value, digits = 2) {
  return value.toFixed(digits).replace("-", "\u2212");
}
