// How the whole does: what is wrong now first, each with what can be done about it.

import { quickButton } from "./actions.js";
import { element, find, icon, say } from "./dom.js";
import { instant, span } from "./time.js";
import { bytes, plural } from "./words.js";

const RESUMABLE = new Set(["parked", "crash-looping", "paused"]);
const RANK = { blocking: 0, critical: 1, important: 2, "nice-to-have": 3, notice: 4 };

/** What is wrong, the worst first: {rank, kind, name, what, task}. */
export function troubles(system, errors, zone, now) {
  const known = new Map(system.tasks.map((task) => [task.task, task]));
  const found = system.concerns
    .filter(({ kind, name }) => kind !== "task" || !known.has(name))
    .map(({ kind, name, what, blocking }) => ({
      rank: blocking ? "blocking" : "important",
      kind: "warning",
      name,
      what,
      about: kind,
    }));
  for (const task of system.tasks) {
    const what = wrong(task, errors.get(task.task), zone, now);
    if (what) found.push({ rank: task.priority, kind: task.state, name: task.task, what, task });
    else if (task.state === "paused") {
      const until = task.paused_until
        ? `until ${zone.when(instant(task.paused_until), now)}`
        : "until it is resumed";
      found.push({ rank: "notice", kind: "paused", name: task.task, what: `is paused ${until}`, task });
    }
  }
  if (system.ledger.unaccounted) {
    const what = `${plural(system.ledger.unaccounted, "due run")} not accounted for`;
    found.push({ rank: "critical", kind: "warning", name: "ledger", what });
  }
  if (system.loop.shedding.length) {
    const what = `sheds ${system.loop.shedding.join(" and ")} tasks: the event loop lags by ${span(system.loop.lag_seconds * 1000)}`;
    found.push({ rank: "critical", kind: "warning", name: "load", what });
  }
  return found.sort((one, other) => RANK[one.rank] - RANK[other.rank]);
}

function wrong(task, error, zone, now) {
  const words = [];
  if (task.trouble) words.push(task.trouble);
  else if (task.health === "backing-off") {
    words.push(
      `failed ${task.consecutive_failures === 1 ? "once" : `${task.consecutive_failures} times in a row`}`,
    );
  }
  if (task.health !== "healthy" && error && !task.trouble.includes(error)) words.push(error);
  if (["backing-off", "crash-looping"].includes(task.health) && task.next) {
    words.push(`next try ${zone.when(instant(task.next), now)}`);
  }
  if (task.freshness === "stale") {
    const since = task.last_success
      ? `last success ${zone.when(instant(task.last_success), now)}`
      : "no success yet";
    words.push(`is stale, ${since}`);
  }
  return words.join("; ");
}

export class Health {
  constructor({ open, changed }) {
    Object.assign(this, { open, changed, told: null, errors: new Map() });
  }

  /** A run has changed: what went wrong last is why its task is in trouble. */
  take({ task, status, error }) {
    if (status === "failed") this.errors.set(task, error.trim().split("\n").at(-1));
  }

  tell(system, zone, now) {
    for (const { last } of system.tasks) if (last) this.take(last);
    const found = troubles(system, this.errors, zone, now);
    this.list(found, system.may_change);
    this.announce(found);
    find("facts").replaceChildren(...facts(system, found));
    const serious = found.filter(({ rank }) => rank !== "notice").length;
    document.title = serious ? `(${serious}) Scheduler` : "Scheduler";
    find("health").dataset.level = found[0]?.rank ?? "well";
  }

  list(found, mayChange) {
    const text = JSON.stringify([
      mayChange,
      found.map(({ rank, kind, name, what }) => [rank, kind, name, what]),
    ]);
    if (text === this.listed) return; // a button that is being pressed stays where it is
    this.listed = text;
    const focused = document.activeElement?.closest?.(".trouble")?.dataset.name;
    find("troubles").replaceChildren(...found.map((each) => this.item(each, mayChange)));
    if (focused)
      find("troubles")
        .querySelector(`[data-name="${CSS.escape(focused)}"] button`)
        ?.focus();
  }

  item({ rank, kind, name, what, task }, mayChange) {
    const title = task
      ? element("button", { type: "button", class: "link", onclick: () => this.open(name) }, name)
      : element("strong", {}, name);
    const act =
      task && mayChange && RESUMABLE.has(task.state) ? quickButton("resume", task, this.changed) : null;
    const mark = task?.priority === "critical" ? element("span", { class: "badge" }, "critical") : null;
    return element(
      "li",
      { class: "trouble", "data-rank": rank, "data-name": name },
      icon(kind),
      title,
      mark,
      element("span", { class: "what" }, what),
      act,
    );
  }

  announce(found) {
    const names = new Map(
      found.map(({ name, what, kind }) => [
        name,
        `${name} ${kind === "warning" ? "" : kind.replace("-", " ")}: ${what}`,
      ]),
    );
    if (this.told) {
      const fresh = [...names].filter(([name]) => !this.told.has(name)).map(([, text]) => text);
      const over = [...this.told.keys()]
        .filter((name) => !names.has(name))
        .map((name) => `${name} is well again`);
      if (fresh.length || over.length) say(find("announcer"), [...fresh, ...over].join(". "));
    }
    this.told = names;
  }
}

function facts(system, found) {
  const states = (wanted) => system.tasks.filter(({ state }) => state === wanted).length;
  const serious = found.filter(({ rank }) => rank !== "notice").length;
  const verdict = !system.ready ? "Not ready" : serious ? `${plural(serious, "thing")} wrong` : "All is well";
  const { ledger, slots, loop, process } = system;
  const texts = [
    [plural(system.tasks.length, "task"), `${states("running")} running`],
    ["slots", `${slots.used}/${slots.total}`],
    ["loop", span(loop.lag_seconds * 1000)],
    [
      "ledger",
      ledger.degraded ? "degraded" : ledger.unaccounted ? `${ledger.unaccounted} unaccounted` : "complete",
    ],
    ["memory", bytes(process.memory_bytes)],
    ["up", span(system.uptime_seconds * 1000)],
    ["", system.may_change ? "" : "look only"],
  ];
  return [
    element("strong", { class: "verdict" }, icon(serious || !system.ready ? "warning" : "well"), verdict),
    ...texts
      .filter(([, value]) => value)
      .map(([name, value]) => element("span", {}, element("small", {}, name), " ", value)),
  ];
}
