// Making elements, and icons that tell by their shape what they mean.

const SVG = "http://www.w3.org/2000/svg";

/** An element; functions among the attributes become properties, null and false are left out. */
export function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function drawing(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made[name] = value;
    else if (value !== null && value !== false && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Set the text only where it differs: a live region repeats whatever is set. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export const find = (id) => document.getElementById(id);

/** Call at most once in so many milliseconds, and once more for what came in between. */
export function calmly(milliseconds, call) {
  let timer = 0;
  return () => {
    timer ||= setTimeout(() => {
      timer = 0;
      call();
    }, milliseconds);
  };
}

// In a box of 14 by 14. What has gone well is solid; all else differs in shape, not in colour alone.
const ICONS = {
  completed: { fill: "M1 4h12v6H1z" },
  running: { fill: "M1 4h6v6H1zM13 7a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0z" },
  failed: { line: "M3 3l8 8M11 3l-8 8" },
  cancelled: { line: "M2 4h10v6H2zM4 12l6-10" },
  skipped: { line: "M2 4.5h10v5H2z" },
  missed: { line: "M0 7h2.500M5.500 7h3M11.500 7h2.500M2 7l2 -2.500 2 2.500" },
  queued: { line: "M2 4.500h2M6 4.500h2M10 4.500h2M2 9.500h2M6 9.500h2M10 9.500h2" },
  planned: { fill: "M0 6.250h14v1.500H0z" },
  retried: { fill: "M7 4l4 6H3z" },
  waiting: { line: "M10 7a3 3 0 1 1-6 0 3 3 0 0 1 6 0z" },
  "backing-off": { line: "M11.500 7a4.500 4.500 0 1 1-1.400-3.200M10.500 1v3h-3" },
  "crash-looping": {
    line: "M12.500 7a5.500 5.500 0 1 1-1.600-3.900M11 .5v3h-3M5.200 5.200l3.600 3.600M8.800 5.200l-3.600 3.600",
  },
  paused: { fill: "M3 2.500h3v9H3zM8 2.500h3v9H8z" },
  parked: { fill: "M2.500 2.500h9v9h-9z" },
  refused: { line: "M12 7a5 5 0 1 1-10 0 5 5 0 0 1 10 0zM3.500 3.500l7 7" },
  disabled: { line: "M3 7h8" },
  stale: { line: "M12 7a5 5 0 1 1-10 0 5 5 0 0 1 10 0zM7 4v3.200l2 1.300" },
  warning: { line: "M7 2l5.500 10h-11zM7 6v3M7 10.400v.2" },
  well: { line: "M2.500 7.500l3 3 6-7" },
  note: { line: "M7 6.500v4M7 3.600v.2" },
};

export function icon(kind) {
  const { fill: solid, line } = ICONS[kind] ?? ICONS.note;
  return drawing(
    "svg",
    { class: "icon", viewBox: "0 0 14 14", "aria-hidden": "true", "data-kind": kind },
    solid ? drawing("path", { class: "fill", d: solid }) : null,
    line ? drawing("path", { class: "line", d: line }) : null,
  );
}
