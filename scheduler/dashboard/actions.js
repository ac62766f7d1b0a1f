// What an operator may do, asked about once more where the task is critical.

import { post, remove } from "./api.js";
import { element, find, say } from "./dom.js";

const ACTIONS = {
  run: { label: "Run now", title: "Run it now, whatever the calendar says", done: ran },
  pause: { label: "Pause", title: "Start it no more until it is resumed; a run goes on, but a loop is ended", done: () => "Paused." },
  resume: { label: "Resume", title: "End its pause, parking or crash loop", done: () => "Resumed." },
  restart: { label: "Restart", title: "End its run and start it again", done: () => "Restarting." },
  cancel: { label: "Cancel run", title: "End the run that is under way", done: () => "Cancelled." },
};
const HELD = new Set(["paused", "parked", "crash-looping"]);
const ENOUGH = 1000; // milliseconds that a run lasts before it can be hit

/** Which actions make sense in the state that a task is in. */
export function allowed(task, now) {
  const can = !["disabled", "refused"].includes(task.state);
  const runs = task.run_id !== null && (task.since === null || now - Date.parse(task.since) >= ENOUGH);
  const held = HELD.has(task.state) || HELD.has(task.health);
  return {
    run: can,
    pause: can && task.state !== "paused",
    resume: held,
    restart: can && runs,
    cancel: runs,
  };
}

/** All buttons of a task, always in the same places; `tell(task, now)` says which can be used. */
export function actionBar(changed) {
  const message = element("p", { class: "outcome", role: "status" });
  const buttons = Object.entries(ACTIONS).map(([name, { label, title }]) =>
    element("button", { type: "button", "data-action": name, title, "aria-disabled": "true" }, label),
  );
  const bar = element(
    "div",
    { class: "actions" },
    element("div", { class: "buttons", role: "group", "aria-label": "Actions" }, ...buttons),
    message,
  );
  let current = null;
  for (const button of buttons) {
    button.onclick = () => {
      if (button.getAttribute("aria-disabled") !== "true")
        act(button.dataset.action, current, message, changed);
    };
  }
  const tell = (task, now) => {
    current = task;
    const can = allowed(task, now);
    for (const button of buttons) button.setAttribute("aria-disabled", String(!can[button.dataset.action]));
  };
  return { bar, tell };
}

/** One action beside what is wrong. */
export function quickButton(name, task, changed) {
  const message = element("span", { class: "outcome", role: "status" });
  const button = element(
    "button",
    {
      type: "button",
      "aria-label": `${ACTIONS[name].label} ${task.task}`,
      onclick: () => act(name, task, message, changed),
    },
    ACTIONS[name].label,
  );
  return element("span", { class: "quick" }, button, message);
}

async function act(name, task, message, changed) {
  let reason = "";
  if (task.priority === "critical") {
    reason = await confirmed(name, task);
    if (reason === null) return;
  }
  message.classList.remove("error");
  say(message, "…");
  try {
    const path = `/api/tasks/${encodeURIComponent(task.task)}/${name}`;
    const answer =
      name === "cancel"
        ? await remove(`/api/runs/${encodeURIComponent(task.run_id)}`, { reason })
        : await post(path, { reason });
    say(message, ACTIONS[name].done(answer));
    changed();
  } catch (error) {
    message.classList.add("error");
    say(message, error.message);
  }
}

function ran({ outcome, reason, run_id: id }) {
  return outcome === "skipped"
    ? `Skipped: ${reason}.`
    : `${outcome === "queued" ? "Queued" : "Started"}: ${id}`;
}

/** The reason, or null where it is not wanted after all. */
function confirmed(name, task) {
  const dialog = find("confirm");
  const { label, title } = ACTIONS[name];
  say(find("confirm-title"), `${label}: ${task.task}?`);
  say(find("confirm-text"), `It is critical, and ${task.state} now. ${title}.`);
  say(find("confirm-yes"), label);
  find("confirm-reason").value = "";
  find("confirm-no").onclick = () => dialog.close("");
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === "yes" ? find("confirm-reason").value.trim() : null);
  });
}
