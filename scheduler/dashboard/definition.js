// A task's definition, as the scheduler keeps it, in words that the file has.

import { span } from "./time.js";

const DURATIONS = /(^|\.)(catchup|stop_grace|timeout|window|fresh_within|offset|spread|pace\..*)$/; // in nanoseconds
const UNTOLD = new Set(["name", "priority", "market"]); // these are in the headline

/** [name, text] of all that is set. */
export function wordsOf(definition) {
  return flatten(definition).filter(
    ([name]) => !UNTOLD.has(name) && (name === "trigger" || !name.endsWith(".is")),
  );
}

function flatten(value, path = "") {
  if (value === null || value === "" || value === 0 || (Array.isArray(value) && !value.length)) return [];
  if (Array.isArray(value) && value.every((each) => typeof each !== "object"))
    return [[path, value.join(" ")]];
  if (typeof value === "object") {
    return Object.entries(value).flatMap(([name, each]) =>
      name === "is" && !path ? [] : flatten(each, path ? `${path}.${name}` : name),
    );
  }
  const name = path.replace(/^work\./, "").replace(/^trigger\.is$/, "trigger");
  if (typeof value === "number" && DURATIONS.test(path)) return [[name, span(value / 1e6)]];
  return [[name, /^[A-Z_]+$/.test(value) ? value.toLowerCase().replaceAll("_", "-") : String(value)]];
}
