"use strict";
// What the scripts of all pages share.
const page = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const byId = (id) => document.getElementById(id);

  // Everything from the data becomes text nodes and attributes; no markup is ever parsed from it.
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
  const number = (value, digits = 2) => (value === null || value === undefined ? "–" : Number(value).toFixed(digits));
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
    for (const text of document.querySelectorAll(".text")) if (text.scrollHeight > text.clientHeight) text.tabIndex = 0;
  }

  return { byId, drawn, element, fill, number, reachable, signed };
})();
