// Which day, how much of it, and which task: kept in the address, so that a link shows the same.

import { dayName, HOUR, instant, later } from "./time.js";
import { find, say } from "./dom.js";

const BEFORE = 45 * 60_000; // of the last hour, what lies before now
const LATEST = 5 * 60_000; // when so little is left of it, it moves on

export class Navigation {
  /** `changed()`: another day, or more or less of it; `chosen(task)`: another task, or none (null). */
  constructor({ now, changed, chosen }) {
    Object.assign(this, { now, changed, chosen, zone: null });
    this.read();
    find("previous").onclick = () => this.go(later(this.shown, -1));
    find("next").onclick = () => this.go(later(this.shown, 1));
    find("now").onclick = () => this.go(null);
    find("date").onchange = ({ target }) => target.value && this.go(target.value);
    find("view").onchange = ({ target }) => {
      this.view = target.value;
      this.write();
      this.changed();
    };
    addEventListener("hashchange", () => {
      this.read();
      this.chosen(this.task);
      this.changed();
    });
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("input, dialog *")) return;
      const keys = { "[": "previous", "]": "next", n: "now" };
      if (event.key in keys) find(keys[event.key]).click();
    });
  }

  read() {
    const hash = new URLSearchParams(location.hash.slice(1));
    this.date = /^\d{4}-\d\d-\d\d$/.test(hash.get("day") ?? "") ? hash.get("day") : null; // null: today
    this.view = ["hour", "session", "day"].includes(hash.get("view")) ? hash.get("view") : "session";
    this.task = hash.get("task");
    find("view").querySelector(`[value=${this.view}]`).checked = true;
  }

  write() {
    const hash = new URLSearchParams();
    if (this.date) hash.set("day", this.date);
    if (this.view !== "session") hash.set("view", this.view);
    if (this.task) hash.set("task", this.task);
    history.replaceState(null, "", location.pathname + location.search + (hash.size ? `#${hash}` : ""));
  }

  go(date) {
    this.date = date;
    this.write();
    this.changed();
  }

  select(task) {
    this.task = task;
    this.write();
    this.chosen(task);
  }

  /** Show which day it is, in the market's zone; its date. */
  tell(zone) {
    this.zone = zone;
    this.today = zone.date(this.now());
    if (this.date === this.today) this.date = null;
    this.shown = this.date ?? this.today;
    find("date").value = this.shown;
    const word = {
      [this.today]: "Today",
      [later(this.today, -1)]: "Yesterday",
      [later(this.today, 1)]: "Tomorrow",
    }[this.shown];
    say(find("day-title"), word ? `${word}, ${dayName(this.shown)}` : dayName(this.shown));
    find("now").disabled = this.date === null;
    find("view").querySelector("[value=hour]").disabled = this.date !== null;
    return this.shown;
  }

  after(date) {
    return later(date, 1);
  }

  /** Whether another day than today is shown. */
  get elsewhere() {
    return this.date !== null;
  }

  /** What is shown of the day from `start` to `end`: the hour, from an hour before the first phase to one
   *  after the last (today also now), or all of it. */
  range(markets, start, end) {
    const now = this.now();
    if (this.view === "hour" && !this.elsewhere) {
      const minute = Math.floor(now / 60_000) * 60_000;
      return { from: minute - BEFORE, until: minute - BEFORE + HOUR };
    }
    const market = markets.markets.find((each) => each.market === markets.default);
    const phases = (market?.phases ?? []).filter(({ phase }) => phase !== "closed");
    if (this.view === "day" || !phases.length) return { from: start, until: end };
    let from = instant(phases[0].start);
    let until = instant(phases.at(-1).end);
    if (!this.elsewhere) [from, until] = [Math.min(from, now), Math.max(until, now)];
    return { from: Math.max(from - HOUR, start), until: Math.min(until + HOUR, end) };
  }

  /** Time goes by: the hour moves on, and so does the day. */
  tick(range) {
    if (!this.zone || !range || this.elsewhere) return;
    const over = this.zone.date(this.now()) !== this.today;
    const near = this.view === "hour" && range.until - this.now() < LATEST;
    if (over || near) this.changed();
  }
}
