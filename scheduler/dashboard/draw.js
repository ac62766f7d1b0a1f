// A row as paths: one for each outcome, so that hundreds of runs cost as much as one.

import { drawing } from "./dom.js";

export const HEIGHT = 22; // of a row's lane, in pixels
const MIDDLE = HEIGHT / 2;
const THINNEST = 1.5;
const SPARSE = 4; // pixels between coming runs that can be told apart
const TOUCHING = 0.75; // pixels between what is drawn as one
const APART = 9; // pixels between signs that would else lie on each other

/** Time to pixels. */
export class Scale {
  constructor(from, until, width) {
    Object.assign(this, { from, until, width, perPixel: (until - from) / width });
  }

  x(ms) {
    return (ms - this.from) / this.perPixel;
  }

  time(x) {
    return this.from + x * this.perPixel;
  }
}

const bar = (top, height) => (x, width) => `M${x} ${top}h${width}v${height}h-${width}z`;
const line = bar(MIDDLE - 0.75, 1.5);
const point = bar(MIDDLE - 1.5, 3);
const slash = (x) => `M${x - 3} 17l6 -12`;
const cross = (x) => `M${x - 3.5} ${MIDDLE - 3.5}l7 7M${x + 3.5} ${MIDDLE - 3.5}l-7 7M${x} 1v5M${x} 16v5`;
const lozenge = (x) => `M${x - 4} ${MIDDLE}l4 -4 4 4 -4 4z`;
const dot = (x) => `M${x - 3} ${MIDDLE}a3 3 0 1 1 6 0 3 3 0 0 1 -6 0z`;
const triangle = (x) => `M${x - 3} ${HEIGHT}l3 -4.500 3 4.500z`;

// By status, in the order in which they are painted: the body of a run, and the sign that tells it.
const SHAPES = {
  planned: { body: (x, width) => (width > 3 ? line(x, width) : point(x, 2.5)), solid: true },
  completed: { body: bar(6, 10), solid: true },
  skipped: { body: bar(8, 6), solid: false },
  missed: { body: (x, width) => `M${x} ${MIDDLE}h${width}`, solid: false, sign: lozenge },
  cancelled: { body: bar(6, 10), solid: false, sign: slash },
  queued: { body: bar(7, 8), solid: false },
  running: { body: bar(6, 10), solid: true, sign: dot, filled: true, atEnd: true },
  failed: { body: bar(6, 10), solid: true, sign: cross, atEnd: true },
};

/** The paths of a row, from `now` on with the plan. */
export function paint(row, scale, now) {
  const marks = row.all(now);
  const planned = row.planned
    .filter((each) => each.end >= now)
    .map((each) => ({ ...each, start: Math.max(each.start, now) }));
  const paths = [];
  for (const [status, shape] of Object.entries(SHAPES)) {
    const these = status === "planned" ? planned : marks.filter((mark) => mark.status === status);
    if (!these.length) continue;
    const { body, signs } = trace(these, shape, scale, status === "planned");
    if (body) paths.push(path(shape.solid ? "fill" : "line", status, body));
    if (signs) paths.push(path("halo", "", signs), path(shape.filled ? "fill" : "sign-line", status, signs));
  }
  const retried = marks.filter((mark) => mark.retried);
  const again = spread(retried, scale).map(triangle).join("");
  if (again) paths.push(path("fill", "retried", again));
  return paths;
}

const path = (look, kind, d) => drawing("path", { class: look, "data-kind": kind, d });

function trace(marks, { body, sign, atEnd }, scale, sparse) {
  const parts = [];
  for (const [left, right] of merged(marks, scale, sparse)) {
    parts.push(body(round(left), round(Math.max(right - left, THINNEST))));
  }
  const signs = sign ? spread(marks, scale, atEnd).map(sign).join("") : "";
  return { body: parts.join(""), signs };
}

/** Pixels from and to, those that touch as one; within what is shown. */
function merged(marks, scale, sparse) {
  const found = [];
  const apart = sparse ? SPARSE - THINNEST - 0.1 : TOUCHING;
  for (const mark of marks) {
    if (mark.end < scale.from || mark.start > scale.until) continue;
    for (const [start, end] of sparse ? single(mark, scale) : [[mark.start, mark.end]]) {
      const left = Math.max(scale.x(start), -1);
      const right = Math.min(scale.x(end), scale.width + 1);
      const last = found.at(-1);
      if (last && left <= last[1] + apart && left >= last[0]) last[1] = Math.max(last[1], right);
      else found.push([left, Math.max(right, left + THINNEST)]);
    }
  }
  return found;
}

/** A stretch of coming runs that are far enough apart to be seen one by one. */
function single({ start, end, count }, scale) {
  if (count < 2) return [[start, start]];
  const step = (end - start) / (count - 1);
  if (step / scale.perPixel < SPARSE) return [[start, end]];
  return Array.from({ length: count }, (_, k) => [start + k * step, start + k * step]);
}

/** Where signs go: in the middle of each run, but not on each other. */
function spread(marks, scale, atEnd = false) {
  const found = [];
  for (const { start, end } of marks) {
    if (end < scale.from || start > scale.until) continue;
    const x = round(atEnd ? scale.x(end) : (scale.x(start) + scale.x(end)) / 2);
    if (!found.length || Math.abs(x - found.at(-1)) >= APART) found.push(x);
  }
  return found;
}

const round = (number) => Math.round(number * 100) / 100;
