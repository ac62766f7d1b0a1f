// What a change of a run means for its task, until the scheduler is asked again.

import { instant } from "./time.js";

/** Change the task's status in `system` by a run that has changed. */
export function follow(system, run) {
  const task = system.tasks.find((each) => each.task === run.task);
  if (!task) return;
  if (run.status === "running") {
    if (["waiting", "queued", "running", "backing-off"].includes(task.state)) task.state = "running";
    task.run_id = run.run_id;
    task.since = run.started;
  } else if (run.status === "queued") {
    if (task.state === "waiting") task.state = "queued";
  } else {
    if (task.run_id === run.run_id) {
      task.run_id = null;
      task.since = null;
      if (task.state === "running") task.state = "waiting";
    }
    if (run.status === "completed") task.last_success = run.ended;
    if (!task.last || instant(task.last.due) <= instant(run.due)) task.last = run;
  }
}

/** When a task is due next: as the scheduler said, else by the plan that is drawn. */
export function nextDue(task, row, now) {
  const next = instant(task.next);
  if (next === null || next > now || !row) return next;
  const stretch = row.planned.find(({ end }) => end > now);
  if (!stretch) return next;
  if (stretch.start > now || stretch.count < 2) return stretch.start > now ? stretch.start : next;
  const step = (stretch.end - stretch.start) / (stretch.count - 1);
  return stretch.start + Math.ceil((now - stretch.start + 1) / step) * step;
}
