// What became of the runs of one task, as marks on its row: first from the timeline, then from what happens.

import { instant } from "./time.js";

const ALIVE = new Set(["running", "queued"]);

export class Row {
  /** `row` as the timeline has it; `began` and `bucket` in milliseconds. */
  constructor(row, began, bucket) {
    this.task = row.task;
    this.priority = row.priority;
    this.market = row.market;
    this.bucket = bucket;
    const absolute = (mark) => ({ ...mark, start: began + mark.start * 1000, end: began + mark.end * 1000 });
    const named = ([start, end, status, reason, count, retried, run_id]) =>
      absolute({ start, end, status, reason, count, retried, run_id });
    this.planned = row.planned.map(absolute);
    this.alive = new Map(); // by run id
    this.marks = [];
    for (const mark of row.marks.map(named)) {
      if (ALIVE.has(mark.status)) this.alive.set(mark.run_id, mark);
      else this.marks.push(mark);
    }
    this.marks.sort((one, other) => one.start - other.start);
  }

  /** A run has changed. */
  take(run) {
    const isPast = run.cause === "backfill"; // which is where it was due
    const start = (isPast ? null : instant(run.started)) ?? instant(run.due);
    const end = (isPast ? null : instant(run.ended)) ?? instant(run.last_due) ?? start;
    const mark = {
      start,
      end,
      status: run.status,
      reason: run.reason,
      count: run.count,
      retried: run.attempt > 1,
      run_id: run.run_id,
    };
    if (ALIVE.has(run.status)) {
      this.alive.set(run.run_id, mark);
      return;
    }
    this.alive.delete(run.run_id);
    const last = this.marks.findLast((each) => each.status === mark.status && each.reason === mark.reason);
    if (last?.run_id === mark.run_id) {
      last.end = Math.max(last.end, end);
      last.count = Math.max(last.count, mark.count);
    } else if (last && Math.floor(last.start / this.bucket) === Math.floor(start / this.bucket)) {
      last.end = Math.max(last.end, end);
      last.count += mark.count;
      last.retried ||= mark.retried;
      last.run_id = mark.run_id;
    } else {
      this.marks.push(mark);
    }
  }

  /** All marks; what is alive reaches to `now`. */
  all(now) {
    const alive = [...this.alive.values()].map((mark) => ({ ...mark, end: Math.max(now, mark.start) }));
    return [...this.marks, ...alive];
  }

  /** The mark at a time, or the nearest within so many milliseconds; trouble before what went well. */
  near(at, within, now) {
    let best = null;
    let least = within;
    for (const mark of this.all(now)) {
      const away = Math.max(mark.start - at, at - mark.end, 0);
      const better = away < least || (away === least && mark.status !== "completed");
      if (better && away <= within) [best, least] = [mark, away];
    }
    return best ?? this.coming(at, within, now);
  }

  coming(at, within, now) {
    const stretch = this.planned.find(
      (each) => at >= each.start - within && at <= each.end + within && each.end > now,
    );
    return stretch ? { ...stretch, status: "planned", reason: "", retried: false } : null;
  }

  /** How many runs came to what: {completed: 812, failed: 3, …}. */
  counts() {
    const counts = {};
    for (const { status, count } of this.marks) counts[status] = (counts[status] ?? 0) + count;
    return counts;
  }
}
