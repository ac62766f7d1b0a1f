// What lies behind the rows: the hours, the market's phases, and now.

import { drawing } from "./dom.js";
import { HOUR, instant } from "./time.js";

const STEPS = [1 / 12, 1 / 6, 1 / 4, 1 / 2, 1, 2, 3, 6].map((hours) => hours * HOUR);
const ROOM = 64; // pixels between the labels of two hours
const LETTER = 6.2; // pixels

/** Full hours of the zone, or parts of them, as [x, text]. */
export function ticks(scale, zone) {
  const step = STEPS.find((each) => each / scale.perPixel >= ROOM) ?? STEPS.at(-1);
  const midnight = zone.midnight(zone.date(scale.from));
  const found = [];
  for (let at = midnight + Math.ceil((scale.from - midnight) / step) * step; at <= scale.until; at += step) {
    found.push([scale.x(at), zone.minute(at)]);
  }
  return found;
}

/** The phases that are shown, as {phase, trading, reason, left, width}. */
export function stretches(market, scale) {
  const found = [];
  for (const { phase, trading, reason, start, end } of market?.phases ?? []) {
    const left = Math.max(scale.x(instant(start)), 0);
    const right = Math.min(scale.x(instant(end)), scale.width);
    if (right > left) found.push({ phase, trading, reason, left, width: right - left });
  }
  return found;
}

/** Shading; `ground` hides what another market has painted there. */
export function shading(market, scale, ground = false) {
  const shown = stretches(market, scale).filter(({ phase }) => phase !== "closed");
  const rects = shown.map(({ phase, trading, left, width }) =>
    drawing("rect", {
      class: trading ? "phase trading" : "phase",
      "data-phase": phase,
      x: left,
      width,
      height: "100%",
    }),
  );
  if (ground) rects.unshift(drawing("rect", { class: "ground", width: scale.width, height: "100%" }));
  return rects;
}

/** The strip above the rows: phases by name, hours beneath. */
export function strip(market, scale, zone) {
  const made = [];
  for (const { phase, reason, left, width } of stretches(market, scale)) {
    const text = phase === "closed" && reason ? `closed · ${reason}` : phase;
    if (width < text.length * LETTER + 6) continue;
    made.push(drawing("text", { class: `phase-name ${phase}`, x: left + 4, y: 11 }, text));
  }
  for (const [x, text] of ticks(scale, zone)) {
    made.push(
      drawing("text", { class: "hour", x: Math.min(Math.max(x, 15), scale.width - 15), y: 27 }, text),
    );
  }
  return [...shading(market, scale), ...made];
}

/** The picture behind the rows. */
export function backdrop(market, scale, zone) {
  const lines = ticks(scale, zone).map(([x]) => drawing("line", { class: "tick", x1: x, x2: x, y2: "100%" }));
  const edges = stretches(market, scale).map(({ left }) =>
    drawing("line", { class: "edge", x1: left, x2: left, y2: "100%" }),
  );
  return [...shading(market, scale), ...lines, ...edges];
}

export function nowLine(id) {
  return drawing("line", { id, class: "now", y2: "100%" });
}
