// The last runs of a task, with what went wrong in them.

import { element, icon } from "./dom.js";
import { instant, span } from "./time.js";

const LONG = 160; // characters of an error that are shown without being asked for

/** `opened` are the ids of the runs whose whole error is shown; it is kept up. */
export function runTable(runs, zone, now, opened) {
  if (!runs.length) return element("p", { class: "note" }, "None on record.");
  const heads = ["Due", "Outcome", "Took"].map((head) => element("th", { scope: "col" }, head));
  return element(
    "table",
    { class: "runs" },
    element("thead", { class: "unseen" }, element("tr", {}, ...heads)),
    element("tbody", {}, ...runs.map((run) => row(run, zone, now, opened))),
  );
}

function row(run, zone, now, opened) {
  const notes = element("small", {}, notesOf(run).join(" · "));
  const error = run.error ? whatWentWrong(run, opened) : null;
  return element(
    "tr",
    { "data-kind": run.status },
    element("td", {}, zone.when(instant(run.due), now)),
    element("td", {}, icon(run.status), " ", run.status, " ", notes, error),
    element("td", { class: "number" }, took(run)),
  );
}

function took({ started, ended, status }) {
  if (started && ended) return span(instant(ended) - instant(started));
  return status === "running" ? "…" : "";
}

function notesOf({ reason, attempt, cause, count, assumed }) {
  const notes = [reason];
  if (attempt > 1) notes.push(`attempt ${attempt}`);
  if (cause !== "tick") notes.push(cause);
  if (count > 1) notes.push(`× ${count}`);
  if (assumed) notes.push("assumed");
  return notes.filter(Boolean);
}

function whatWentWrong({ run_id: id, error }, opened) {
  const lines = error.trim().split("\n");
  const last = lines.at(-1);
  if (lines.length === 1 && last.length < LONG) return element("div", { class: "error" }, last);
  const details = element(
    "details",
    { "data-run": id, open: opened.has(id) && "" },
    element("summary", { class: "error" }, last.slice(0, LONG)),
    element("pre", { tabindex: "0" }, error),
  );
  details.ontoggle = () => (details.open ? opened.add(id) : opened.delete(id));
  return details;
}
