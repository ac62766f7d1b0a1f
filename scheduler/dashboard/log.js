// What has happened that is worth a line: what went wrong, what was restarted, what somebody did.

import { get } from "./api.js";
import { element, find, icon } from "./dom.js";
import { instant, span } from "./time.js";

const MOST = 200;
const LATELY = 2 * 24 * 3_600_000; // milliseconds
const KINDS = {
  "run.failed": "failed",
  "run.cancelled": "cancelled",
  "run.missed": "missed",
  "run.skipped": "skipped",
  "task.restarting": "retried",
  "task.recovered": "well",
  "task.crash_looping": "crash-looping",
  "task.parked": "parked",
  "task.paused": "paused",
  "task.resumed": "well",
  "task.stale": "stale",
  "task.fresh": "well",
  "task.leaked": "warning",
};
const LOUD = { warning: "warning", error: "warning", critical: "warning" };
const CONSEQUENCES = new Set(["backing-off", "paused", "parked"]); // of what is in the log already
const OMIT = new Set([
  "event",
  "level",
  "timestamp",
  "task",
  "run_id",
  "due",
  "logger",
  "exc_info",
  "traceback",
  "market",
  "priority",
]);

export class Log {
  constructor({ open, now }) {
    Object.assign(this, { open, now, entries: new Map() });
  }

  /** What the ledger and the audit know of lately; what was heard live stays. The runs, newest first. */
  async load(zone) {
    this.zone = zone;
    const [{ runs }, { acts }] = await Promise.all([
      get("/api/runs", {
        status: ["failed", "cancelled", "missed"],
        from: new Date(this.now() - LATELY).toISOString(),
        limit: 60,
      }),
      get("/api/acts", { limit: 30 }),
    ]);
    for (const run of runs) this.put(ofRun(run));
    for (const act of acts) this.put(ofAct(act));
    this.draw();
    return runs;
  }

  hear(name, fields) {
    if (name === "run.skipped" && CONSEQUENCES.has(fields.reason)) return;
    if (/^task\.(paused|resumed)$/.test(name) && fields.by) return; // what an operator did has a line of its own
    this.put(
      name === "operator.acted"
        ? ofAct({ task: "", ...fields, at: fields.timestamp })
        : this.ofEvent(name, fields),
    );
    this.draw();
  }

  ofEvent(name, fields) {
    return {
      key: `${name} ${fields.run_id ?? fields.task ?? ""} ${fields.run_id ? "" : fields.timestamp}`,
      at: instant(fields.timestamp) ?? this.now(),
      kind: KINDS[name] ?? LOUD[fields.level] ?? "note",
      task: fields.task,
      text: name.replace(/^(run|task)\./, "").replaceAll("_", " "),
      more: details(fields),
    };
  }

  put(entry) {
    this.entries.set(entry.key, entry);
  }

  draw() {
    if (!this.zone) return;
    const sorted = [...this.entries.values()].sort((one, other) => other.at - one.at).slice(0, MOST);
    this.entries = new Map(sorted.map((entry) => [entry.key, entry]));
    const now = this.now();
    const list = find("log");
    const known = new Map([...list.children].map((item) => [item.dataset.key, item]));
    const items = sorted.map((entry) => known.get(entry.key) ?? this.item(entry, now));
    if (!items.length) items.push(element("li", { class: "note" }, "Nothing yet that is worth a line."));
    list.replaceChildren(...items);
  }

  item({ key, at, kind, task, text, more }, now) {
    const open = () => this.open(task);
    return element(
      "li",
      { "data-key": key, "data-kind": kind },
      element("time", { datetime: new Date(at).toISOString() }, this.zone.when(at, now)),
      icon(kind),
      element(
        "span",
        { class: "line" },
        task ? element("button", { type: "button", class: "link", onclick: open }, task) : null,
        " ",
        text,
        more ? element("small", {}, more) : null,
      ),
    );
  }
}

function ofRun(run) {
  const reason = run.reason && run.reason !== "error" ? ` (${run.reason})` : "";
  const number = run.count > 1 ? ` × ${run.count}` : "";
  return {
    key: `run.${run.status} ${run.run_id} `,
    at: instant(run.ended) ?? instant(run.last_due) ?? instant(run.due),
    kind: run.status,
    task: run.task,
    text: `${run.status}${reason}${number}`,
    more: lastLine(run.error),
  };
}

function ofAct({ at, by, action, task, reason }) {
  const key = `act ${at.slice(0, 19)} ${action} ${task}`; // heard, and read later: the same to the second
  return { key, at: instant(at), kind: "note", task, text: `${action} by ${by}`, more: reason };
}

function details({ event, ...fields }) {
  if (event === "task.restarting")
    return `attempt ${fields.attempt} in ${fields.delay}: ${lastLine(fields.reason ?? "")}`;
  if (fields.error) return lastLine(fields.error);
  const parts = Object.entries(fields)
    .filter(([name, value]) => !OMIT.has(name) && value !== "" && value !== null)
    .map(([name, value]) => `${name.replaceAll("_", " ")} ${worded(name, value)}`);
  return parts.join(", ");
}

function worded(name, value) {
  if (typeof value === "number" && /seconds|delay/.test(name)) return span(value * 1000);
  if (typeof value === "string") return lastLine(value);
  return Array.isArray(value) ? value.join(" ") : JSON.stringify(value);
}

const lastLine = (text) => text.trim().split("\n").at(-1).slice(0, 300);
