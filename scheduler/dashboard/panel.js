// One task: what it is, why it is in its state, what became of its runs, and what can be done.

import { actionBar } from "./actions.js";
import { get } from "./api.js";
import { chart } from "./chart.js";
import { wordsOf } from "./definition.js";
import { calmly, element, find, icon, say } from "./dom.js";
import { runTable } from "./runs.js";
import { instant } from "./time.js";
import { stateWords } from "./words.js";

const MOST = 5000; // runs of the day whose durations are drawn

export class Panel {
  constructor({ now, close, changed }) {
    Object.assign(this, { now, close, task: null, runs: [], opened: new Set() });
    this.box = find("panel");
    this.changed = () => {
      changed();
      this.loadSoon();
    };
    this.loadSoon = calmly(800, () => this.load());
    this.drawSoon = calmly(1000, () => this.task && this.drawChart());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.task && !document.querySelector("dialog[open]")) this.close();
    });
  }

  /** The day that is shown: {from, until} in milliseconds. */
  show(shown, zone) {
    const other = shown.from !== this.shown?.from || zone.name !== this.zone.name;
    Object.assign(this, { shown, zone });
    if (other && this.task) this.loadRuns();
  }

  /** Show a task, or none (null); its durations are those of the day that is shown. */
  choose(task) {
    if (task === this.task || !this.shown) return;
    if (!task) return void this.hide();
    this.build(task);
    this.load();
    this.loadRuns();
  }

  build(task) {
    if (!this.task) this.before = document.activeElement;
    this.task = task;
    this.detail = null;
    this.runs = [];
    this.actions = actionBar(this.changed);
    const part = (id, title) =>
      element(
        "section",
        { "aria-labelledby": `${id}-title` },
        element("h3", { id: `${id}-title` }, title),
        element("div", { id }),
      );
    this.box.replaceChildren(
      element(
        "header",
        {},
        element("span", { id: "panel-sign" }),
        element("h2", { id: "panel-title", tabindex: "-1" }, task),
        element(
          "button",
          {
            type: "button",
            class: "close",
            "aria-label": "Close",
            title: "Close (Escape)",
            onclick: () => this.close(),
          },
          "×",
        ),
      ),
      element("p", { id: "panel-state", class: "note" }),
      element("p", { id: "why", class: "why" }),
      this.actions.bar,
      part("durations", "Durations of the day"),
      part("last-runs", "Last runs"),
      part("coming", "Coming"),
      part("definition", "Definition"),
    );
    this.box.hidden = false;
    document.body.classList.add("with-panel");
    this.actions.bar.hidden = true;
    if (this.system) this.tell(this.system, this.taskZone);
    find("panel-title").focus();
  }

  hide() {
    const task = this.task;
    this.task = null;
    this.runs = [];
    this.box.hidden = true;
    this.box.replaceChildren();
    document.body.classList.remove("with-panel");
    const row = document.querySelector(`.row[data-task="${CSS.escape(task ?? "")}"]`);
    (this.before?.isConnected && this.before !== document.body ? this.before : row)?.focus({
      preventScroll: true,
    });
  }

  /** How all tasks do. */
  tell(system, zone) {
    Object.assign(this, { system, taskZone: zone });
    const status = system.tasks.find((each) => each.task === this.task);
    if (!status) return;
    this.actions.bar.hidden = !system.may_change;
    this.actions.tell(status, this.now());
    find("panel-sign").replaceChildren(icon(status.state));
    const parts = [status.priority, stateWords(status), status.trigger, status.market];
    if (status.restarts) parts.push(`restarted ${status.restarts}×`);
    say(find("panel-state"), parts.join(" · "));
    if (this.detail && this.detail.status.state !== status.state) this.loadSoon();
  }

  async load() {
    const task = this.task;
    if (!task) return;
    try {
      const detail = await get(`/api/tasks/${encodeURIComponent(task)}`);
      if (task !== this.task) return;
      this.detail = detail;
      say(find("why"), detail.why);
      this.drawRuns(detail.runs);
      this.drawComing(detail.coming);
      drawDefinition(detail.definition);
    } catch (error) {
      if (task === this.task) say(find("why"), error.message);
    }
  }

  async loadRuns() {
    const task = this.task;
    const { from, until } = this.shown;
    try {
      const query = {
        task,
        from: new Date(from).toISOString(),
        until: new Date(until).toISOString(),
        limit: MOST,
      };
      const { runs } = await get("/api/runs", query);
      if (task !== this.task) return;
      this.runs = runs.filter(({ started, ended }) => started && ended);
      this.drawChart();
    } catch {
      // The rest of the panel says that nobody answers.
    }
  }

  /** A run has changed. */
  /** What can be done changes with time: a run that has just begun may end by itself. */
  tick() {
    const status = this.system?.tasks.find((each) => each.task === this.task);
    if (status) this.actions.tell(status, this.now());
  }

  take(run) {
    if (run.task !== this.task) return;
    this.loadSoon();
    if (!run.started || !run.ended) return;
    this.runs.unshift(run);
    this.drawSoon();
  }

  hear({ task }) {
    if (task && task === this.task) this.loadSoon();
  }

  drawChart() {
    find("durations").replaceChildren(...chart(this.runs, this.shown, this.zone));
  }

  drawRuns(runs) {
    const box = find("last-runs");
    const focused = document.activeElement?.closest?.("details")?.dataset.run;
    box.replaceChildren(runTable(runs, this.taskZone, this.now(), this.opened));
    if (!focused) return;
    const summary = box.querySelector(`details[data-run="${CSS.escape(focused)}"] summary`);
    summary?.focus({ preventScroll: true });
  }

  drawComing(times) {
    const texts = times.map((text) => this.taskZone.when(instant(text), this.now()));
    say(find("coming"), texts.length ? texts.join(", ") : "The clock makes no runs of it due.");
  }
}

function drawDefinition(definition) {
  const rows = wordsOf(definition).flatMap(([name, text]) => [
    element("dt", {}, name),
    element("dd", {}, text),
  ]);
  find("definition").replaceChildren(element("dl", {}, ...rows));
}
