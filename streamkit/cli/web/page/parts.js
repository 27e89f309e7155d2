// What the page is drawn with. Every text goes in as text: nothing here, and nothing on the page, makes markup of a string.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

/** An element with attributes and children; a child that is a string becomes text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children);
  return element;
}

/** Set a text, and touch nothing where it is that already: a screen reader and a selection stay where they are. */
export function text(element, value) {
  const wanted = String(value);
  if (element.textContent !== wanted) element.textContent = wanted;
}

export function show(element, isShown) {
  element.hidden = !isShown;
}

/** Keep the children of `parent` in step with `items`: those that stay are the same elements, so focus stays in them. */
export function fill(parent, items, keyOf, create, update) {
  const old = new Map([...parent.children].map((one) => [one.dataset.key, one]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let element = old.get(key);
    old.delete(key);
    if (!element) {
      element = create(item);
      element.dataset.key = key;
    }
    if (element !== place) parent.insertBefore(element, place);
    else place = place.nextElementSibling;
    update(element, item);
  }
  for (const element of old.values()) element.remove();
}

/** A row of cells whose texts change: an array of texts, elements or [text, class]. */
export function cells(row, values) {
  values.forEach((value, n) => {
    const cell = row.cells[n] ?? row.appendChild(make("td"));
    if (value instanceof Node) {
      if (cell.firstChild !== value) cell.replaceChildren(value);
      return;
    }
    const [content, kind] = Array.isArray(value) ? value : [value, ""];
    text(cell, content);
    if (cell.className !== kind) cell.className = kind;
  });
}

/** A small curve, at most sixty values wide. `what` says what it is of, for those who hear it. */
export function spark(svg, values, what, format) {
  if (!svg) {
    svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("class", "spark");
    svg.setAttribute("viewBox", "0 0 60 16");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    svg.append(document.createElementNS(SVG, "polygon"), document.createElementNS(SVG, "polyline"));
  }
  const most = Math.max(...values, 0);
  const points = values.map((value, n) => {
    const x = values.length > 1 ? (n * 60) / (values.length - 1) : 60;
    return `${x.toFixed(1)},${(15 - (most ? (value / most) * 14 : 0)).toFixed(1)}`;
  });
  const line = values.length > 1 ? points.join(" ") : "";
  svg.lastChild.setAttribute("points", line);
  svg.firstChild.setAttribute("points", line && `0,16 ${line} 60,16`);
  const label = values.length
    ? `${what}, lately: now ${format(values.at(-1))}, at most ${format(most)}`
    : `${what}: nothing yet`;
  if (svg.getAttribute("aria-label") !== label) svg.setAttribute("aria-label", label);
  return svg;
}

const UNITS = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];

/** `1.2 s`, `3 min 4 s`, `2 h 5 min`: as the command line has it. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return `${Math.floor(seconds * 10) / 10} s`;
  const whole = Math.floor(seconds);
  for (const [size, unit, smallerSize, smaller] of UNITS) {
    if (whole < size) continue;
    const rest = Math.floor((whole % size) / smallerSize);
    return rest ? `${Math.floor(whole / size)} ${unit} ${rest} ${smaller}` : `${Math.floor(whole / size)} ${unit}`;
  }
  return "–";
}

export const number = (value) =>
  value === null || value === undefined
    ? "–"
    : value.toLocaleString("en", { maximumFractionDigits: value >= 100 || Number.isInteger(value) ? 0 : 1 });

export const rate = (value) => `${number(value)}/s`;

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  for (const [size, unit] of [[2 ** 20, "MiB"], [2 ** 10, "KiB"]]) if (value >= size) return `${number(value / size)} ${unit}`;
  return `${number(value)} B`;
}

export const counted = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

export const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");
