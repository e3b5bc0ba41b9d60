"use strict";
// What the scripts of all pages share.
const page = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  /** @type {(id: string) => any} */
  const byId = (id) => document.getElementById(id);

  /** @type {(selector: string) => any[]} */
  const all = (selector) => [...document.querySelectorAll(selector)];

  // Everything from the data becomes text nodes and attributes; no markup is ever parsed from it.
  /** @type {(name: string, className?: string, text?: unknown) => any} */
  function element(name, className, text) {
    const node = document.createElement(name);
    if (className) node.className = className;
    if (text !== undefined && text !== null) node.textContent = String(text);
    return node;
  }
  function drawn(name, attributes) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  }
  const known = (value) => value !== null && value !== undefined;
  const number = (value, digits = 2) => (known(value) ? Number(value).toFixed(digits) : "–");
  const signed = (value, digits = 2) => (value === null ? "–" : (value >= 0 ? "+" : "−") + Math.abs(value).toFixed(digits));

  function fill(select, values, words) {
    for (const value of values) {
      const option = element("option", "", words(value));
      option.value = value;
      select.append(option);
    }
  }

  // What scrolls can be reached with the keyboard.
  function reachable() {
    for (const text of all(".text")) if (text.scrollHeight > text.clientHeight) text.tabIndex = 0;
  }

  // ---- a list in pages, with buttons that turn them above it and on some pages below it
  const SUFFIXES = ["", "-below"].filter((suffix) => byId("next" + suffix));

  // Show page `at` of what was found, or the nearest that there is, and return its number.
  function showPage(found, at, { size, total, name, draw }) {
    const words = (value) => value.toLocaleString("en");
    const pages = Math.max(1, Math.ceil(found.length / size));
    const now = Math.min(Math.max(at, 0), pages - 1);
    byId("status").textContent = words(found.length) + " " + name + (found.length === 1 ? "" : "s") + (found.length === total ? "" : " of " + words(total));
    for (const suffix of SUFFIXES) {
      byId("page" + suffix).textContent = "Page " + words(now + 1) + " of " + words(pages);
      byId("previous" + suffix).disabled = now === 0;
      byId("next" + suffix).disabled = now === pages - 1;
    }
    const cards = found.slice(now * size, (now + 1) * size).map(draw);
    byId("list").replaceChildren(...(cards.length ? cards : [element("p", "none", "No " + name + " fits. Clear the search, and set the choices beside it to all or any.")]));
    reachable();
    return now;
  }

  // Call `turn` with -1 or 1 for the buttons, and `changed` when a field of the form has another value.
  function listen(fields, { turn, changed }) {
    for (const suffix of SUFFIXES) {
      byId("previous" + suffix).addEventListener("click", () => turn(-1));
      byId("next" + suffix).addEventListener("click", () => turn(1));
    }
    for (const id of fields) byId(id).addEventListener("input", changed);
    byId("controls").addEventListener("submit", (event) => event.preventDefault());
  }

  function goTo(part) {
    part.scrollIntoView();
    part.focus({ preventScroll: true });
  }

  return { all, byId, drawn, element, fill, goTo, known, listen, number, showPage, signed };
})();
