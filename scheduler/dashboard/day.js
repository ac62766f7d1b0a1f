// The trading day: time across, a row for each task, the market's phases behind.

import { backdrop, nowLine, shading, strip } from "./axis.js";
import { drawing, element, find, icon, say } from "./dom.js";
import { HEIGHT, paint, Scale } from "./draw.js";
import { Row } from "./marks.js";
import { browse } from "./browse.js";
import { nextDue } from "./live.js";
import { gist, sentence, stateWords, tally } from "./words.js";

const PRIORITIES = {
  critical: "Critical",
  important: "Important",
  "nice-to-have": "Nice to have",
  "": "No longer defined",
};
const LEGEND = {
  completed: "completed",
  running: "running",
  queued: "queued",
  failed: "failed",
  retried: "retried",
  cancelled: "cancelled",
  skipped: "skipped",
  missed: "missed",
  planned: "planned",
};

export class Day {
  /** `open(task)` is called for the row that is chosen; `now()` is the scheduler's time. */
  constructor({ open, now }) {
    Object.assign(this, {
      open,
      now,
      rows: new Map(),
      views: new Map(),
      dirty: new Set(),
      markets: new Map(),
    });
    this.picture = find("picture");
    this.list = find("rows");
    find("legend").replaceChildren(
      ...Object.entries(LEGEND).map(([kind, word]) => element("li", {}, icon(kind), word)),
    );
    browse(this);
    new ResizeObserver(() => this.measure()).observe(this.picture);
  }

  /** Show a stretch of a day: the timeline and the markets as the scheduler has them. */
  show(timeline, markets, zone, range, bucket) {
    this.zone = zone;
    this.range = range;
    this.markets = new Map(markets.markets.map((market) => [market.market, market]));
    this.market = this.markets.get(markets.default);
    this.rows = new Map(timeline.rows.map((row) => [row.task, new Row(row, range.from, bucket)]));
    const began = performance.now();
    this.arrange();
    this.draw();
    performance.measure("day drawn", { start: began });
  }

  /** How the tasks do now. */
  tell(system, zone) {
    this.tasks = new Map(system.tasks.map((task) => [task.task, task]));
    this.taskZone = zone;
    this.label();
  }

  /** Which row's task is shown, or null. */
  choose(task) {
    this.chosen = task;
    for (const [name, { button }] of this.views) button.setAttribute("aria-current", String(name === task));
  }

  /** A run has changed. False where its task has no row yet. */
  take(run) {
    const row = this.rows.get(run.task);
    if (!row) return false;
    row.take(run);
    this.dirty.add(run.task);
    return true;
  }

  /** Make the rows anew if the tasks are others. */
  arrange() {
    const names = [...this.rows.keys()];
    if (names.join("\n") === [...this.views.keys()].join("\n")) return;
    const focused = document.activeElement?.dataset?.task;
    this.views.clear();
    const groups = Object.entries(PRIORITIES).map(([priority, title]) => {
      const mine = [...this.rows.values()].filter((row) => row.priority === priority);
      if (!mine.length) return null;
      const heading = element(
        "h3",
        { id: `group-${priority || "gone"}` },
        title,
        " ",
        element("small", {}, String(mine.length)),
      );
      const items = mine.map((row) => element("li", {}, this.makeView(row.task)));
      return element(
        "section",
        { class: "group" },
        heading,
        element("ol", { "aria-labelledby": heading.id }, ...items),
      );
    });
    this.list.replaceChildren(...groups.filter(Boolean));
    const first = this.views.get(focused) ?? this.views.values().next().value;
    first?.button.setAttribute("tabindex", "0");
    if (focused && first) first.button.focus({ preventScroll: true });
    this.choose(this.chosen);
    this.label();
  }

  makeView(task) {
    const view = {
      sign: element("span", { class: "sign" }),
      state: element("span", { class: "state" }),
      end: element("span", { class: "end" }),
      lane: drawing("svg", { class: "lane", height: HEIGHT, "aria-hidden": "true" }),
    };
    const name = element("span", { class: "name", title: task }, task);
    view.button = element(
      "button",
      { type: "button", class: "row", "data-task": task, tabindex: "-1" },
      element("span", { class: "label" }, view.sign, name, view.state),
      view.lane,
      view.end,
    );
    this.views.set(task, view);
    return view.button;
  }

  /** Say how all tasks do, or these. */
  label(names = this.views.keys()) {
    if (!this.tasks) return;
    const now = this.now();
    for (const name of names) {
      const view = this.views.get(name);
      const row = this.rows.get(name);
      const known = this.tasks.get(name);
      const task = known && { ...known, next: nextDue(known, row, now) };
      view.button.dataset.state = task ? task.state : "gone";
      const words = task ? sentence(task, this.taskZone, now) : `${name}, no longer defined`;
      const counts = tally(row.counts());
      const label = counts ? `${words}. Shown: ${counts}` : words;
      if (view.button.getAttribute("aria-label") !== label) view.button.setAttribute("aria-label", label);
      if (!task) continue;
      if (view.drawn !== task.state) view.sign.replaceChildren(icon(task.state));
      view.drawn = task.state;
      view.button.classList.toggle(
        "troubled",
        task.health !== "healthy" || Boolean(task.trouble) || task.freshness === "stale",
      );
      say(
        view.state,
        task.state === "waiting" ? (task.freshness === "stale" ? "stale" : "") : stateWords(task),
      );
      say(view.end, gist(task, this.taskZone, now));
      view.end.title = task.trouble;
    }
  }

  /** The width has changed, perhaps. */
  measure() {
    const width = find("axis").clientWidth;
    if (this.range && width && width !== this.scale?.width) this.draw();
  }

  draw() {
    const { from, until } = this.range;
    this.scale = new Scale(from, until, find("axis").clientWidth || 600);
    this.line = nowLine("now-line");
    this.flag = nowLine("now-flag");
    find("axis").replaceChildren(...strip(this.market, this.scale, this.zone), this.flag);
    find("backdrop").replaceChildren(...backdrop(this.market, this.scale, this.zone), this.line);
    for (const task of this.rows.keys()) this.drawRow(task);
    this.dirty.clear();
    this.moveNow();
  }

  drawRow(task) {
    const row = this.rows.get(task);
    const foreign = row.market && row.market !== this.market?.market;
    const behind = foreign ? shading(this.markets.get(row.market), this.scale, true) : [];
    this.views.get(task)?.lane.replaceChildren(...behind, ...paint(row, this.scale, this.now()));
  }

  /** Draw what has changed; what runs grows. */
  refresh() {
    if (!this.scale) return;
    for (const [task, row] of this.rows) if (row.alive.size) this.dirty.add(task);
    for (const task of this.dirty) this.drawRow(task);
    this.label(this.dirty);
    this.dirty.clear();
    this.moveNow();
  }

  moveNow() {
    const x = this.scale.x(this.now());
    const inside = x >= 0 && x <= this.scale.width;
    for (const line of [this.line, this.flag]) {
      line.setAttribute("display", inside ? "inline" : "none");
      line.setAttribute("transform", `translate(${inside ? x : 0} 0)`);
    }
  }
}
