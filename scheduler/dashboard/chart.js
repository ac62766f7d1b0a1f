// How long the runs of a task took over the day.

import { drawing, element } from "./dom.js";
import { instant, span } from "./time.js";
import { plural } from "./words.js";

const WIDTH = 400;
const HEIGHT = 96;
const TOP = 12;
const BOTTOM = 16;

export function chart(runs, { from, until }, zone) {
  if (!runs.length) return [element("p", { class: "note" }, "No run of this day has ended.")];
  const points = runs.map(({ started, ended, status }) => ({
    at: instant(started),
    took: instant(ended) - instant(started),
    status,
  }));
  const took = points.map((point) => point.took).sort((one, other) => one - other);
  const share = (part) => took[Math.min(Math.floor(took.length * part), took.length - 1)];
  const most = Math.max(took.at(-1), 1);
  const first = Math.max(Math.min(...points.map(({ at }) => at)), from);
  const last = Math.min(Math.max(...points.map(({ at }) => at)), until);
  const x = (at) => ((at - first) / Math.max(last - first, 1)) * (WIDTH - 8) + 4;
  const y = (ms) => HEIGHT - BOTTOM - (ms / most) * (HEIGHT - TOP - BOTTOM);
  const words = `${plural(runs.length, "run")}: median ${span(share(0.5))}, 95 % within ${span(share(0.95))}, longest ${span(most)}`;
  const paths = ["completed", "cancelled", "failed"].map((status) => {
    const these = points.filter((point) => point.status === status);
    return these.length
      ? drawing("path", {
          class: status === "completed" ? "dots" : "crosses",
          "data-kind": status,
          d: trace(these, x, y, status),
        })
      : null;
  });
  return [
    element("p", { class: "note" }, words),
    drawing(
      "svg",
      { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": words },
      drawing("line", { class: "tick", x1: 0, x2: WIDTH, y1: y(0), y2: y(0) }),
      drawing("line", { class: "tick median", x1: 0, x2: WIDTH, y1: y(share(0.5)), y2: y(share(0.5)) }),
      ...paths,
      drawing("text", { x: 2, y: 9 }, span(most)),
      drawing("text", { x: 2, y: HEIGHT - 3 }, zone.minute(first)),
      drawing("text", { x: WIDTH - 2, y: HEIGHT - 3, "text-anchor": "end" }, zone.minute(last)),
    ),
  ];
}

/** One path: a dot for a run, a cross for one that failed; those that would lie on each other are drawn once. */
function trace(points, x, y, status) {
  const seen = new Set();
  const parts = [];
  for (const { at, took } of points) {
    const place = `${Math.round(x(at))} ${Math.round(y(took))}`;
    if (seen.has(place)) continue;
    seen.add(place);
    parts.push(status === "completed" ? `M${place}h.01` : `M${place}m-3 -3l6 6m0 -6l-6 6`);
  }
  return parts.join("");
}
