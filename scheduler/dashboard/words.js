// Sentences about tasks and runs, for the eye and for the ear.

import { instant, span } from "./time.js";

const STATUS_FIRST = ["failed", "missed", "cancelled", "skipped", "running", "queued", "completed"];

/** market-monitoring, critical, running; last completed 09:15:05; next 09:15:10 */
export function sentence(task, zone, now) {
  const parts = [`${task.task}, ${task.priority}, ${stateWords(task)}`];
  if (task.last) {
    const why = task.last.reason ? ` (${task.last.reason})` : "";
    parts.push(`last ${task.last.status}${why} ${zone.when(endOf(task.last), now)}`);
  }
  if (task.next) parts.push(`next ${zone.when(task.next, now)}`);
  if (task.trouble) parts.push(task.trouble);
  return parts.join("; ");
}

export function stateWords(task) {
  const stale = task.freshness === "stale" ? ", stale" : "";
  return task.state + stale;
}

export const endOf = (run) =>
  instant(run.ended) ?? instant(run.last_due) ?? instant(run.started) ?? instant(run.due);

/** What the right edge of a row says: the most useful of what is known. */
export function gist(task, zone, now) {
  if (task.trouble) return task.trouble.replace(/^is (parked|crash-looping) /, "");
  if (task.state === "running" && task.since) return `for ${span(now - instant(task.since))}`;
  if (task.state === "paused")
    return task.paused_until ? `until ${zone.when(instant(task.paused_until), now)}` : "paused";
  if (task.state === "disabled") return "disabled";
  return task.next ? `next ${zone.when(task.next, now)}` : task.trigger;
}

/** A mark of the picture, in a line or two. */
export function aboutMark(mark, zone) {
  if (mark.status === "planned" && mark.count > 1) {
    const pace = span((mark.end - mark.start) / (mark.count - 1));
    return { title: "planned", detail: `every ${pace} until ${zone.clock(mark.end)}` };
  }
  const times =
    mark.end - mark.start < 1000
      ? zone.clock(mark.start)
      : `${zone.clock(mark.start)} – ${zone.clock(mark.end)}`;
  const number = mark.count > 1 ? ` × ${mark.count}` : "";
  const status = mark.status + (mark.reason ? ` (${mark.reason})` : "");
  const one = mark.count === 1 && ["completed", "failed", "cancelled"].includes(mark.status);
  const took = one || mark.status === "running" ? `, ${span(mark.end - mark.start)}` : "";
  return { title: `${status}${number}`, detail: `${times}${took}${mark.retried ? ", retried" : ""}` };
}

/** 812 completed, 3 failed */
export function tally(counts) {
  const known = STATUS_FIRST.filter((status) => counts[status]).reverse();
  return known.map((status) => `${counts[status].toLocaleString("en-GB")} ${status}`).join(", ");
}

export const bytes = (number) =>
  number < 1e6
    ? `${Math.round(number / 1e3)} kB`
    : number < 1e9
      ? `${Math.round(number / 1e6)} MB`
      : `${(number / 1e9).toFixed(1)} GB`;

export const plural = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
