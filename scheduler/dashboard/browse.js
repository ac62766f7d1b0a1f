// Looking at rows: by pointer, by finger and by keyboard.

import { get } from "./api.js";
import { element, find, icon, say } from "./dom.js";
import { aboutMark } from "./words.js";

const REACH = 7; // pixels around the pointer
const CURIOUS = 250; // milliseconds of rest before the error of a run is asked for

export function browse(day) {
  const tip = new Tip(day);
  const at = (event) => {
    const row = event.target.closest?.(".row");
    const lane = event.target.closest?.(".row .lane");
    return { row, x: lane ? event.clientX - lane.getBoundingClientRect().left : null };
  };

  let waiting = 0;
  day.list.addEventListener("pointermove", (event) => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => {
      const { row, x } = at(event);
      if (row && x !== null) tip.point(row, x, event.clientX, event.clientY);
      else tip.hide();
    });
  });
  day.list.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "touch") return; // the finger is gone, the eye is not
    cancelAnimationFrame(waiting);
    tip.hide();
  });
  document.addEventListener("pointerdown", (event) => event.target.closest?.(".row") || tip.hide());

  let touched = false;
  day.list.addEventListener("pointerdown", (event) => {
    touched = event.pointerType === "touch";
  });
  day.list.addEventListener("click", (event) => {
    const { row, x } = at(event);
    if (!row) return;
    // A finger cannot hover: the first tap on a run tells of it.
    if (touched && x !== null && tip.point(row, x, event.clientX, event.clientY)) return;
    tip.hide();
    day.open(row.dataset.task);
  });

  day.list.addEventListener("focusin", (event) => {
    const row = event.target.closest(".row");
    if (!row) return;
    for (const each of day.list.querySelectorAll('.row[tabindex="0"]')) each.setAttribute("tabindex", "-1");
    row.setAttribute("tabindex", "0");
    tip.cursor = null;
  });
  day.list.addEventListener("focusout", () => tip.hide());
  day.list.addEventListener("keydown", (event) => {
    const row = event.target.closest(".row");
    if (!row || event.ctrlKey || event.altKey || event.metaKey) return;
    const rows = [...day.views.values()].map((view) => view.button);
    const place = rows.indexOf(row);
    const places = {
      ArrowDown: place + 1,
      ArrowUp: place - 1,
      Home: 0,
      End: rows.length - 1,
      PageDown: place + 10,
      PageUp: place - 10,
    };
    if (event.key in places) {
      rows[Math.min(Math.max(places[event.key], 0), rows.length - 1)].focus();
    } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      tip.step(row, event.key === "ArrowRight" ? 1 : -1);
    } else {
      return;
    }
    event.preventDefault();
  });
}

class Tip {
  constructor(day) {
    Object.assign(this, { day, box: find("tip"), shown: null, cursor: null, timer: 0, errors: new Map() });
  }

  /** Show the run at x pixels of a row's lane; false where there is none, or it is shown already. */
  point(row, x, left, top) {
    const { scale, rows } = this.day;
    const mark = rows.get(row.dataset.task)?.near(scale.time(x), REACH * scale.perPixel, this.day.now());
    if (!mark) {
      this.hide();
      return false;
    }
    const same = this.shown === `${row.dataset.task} ${mark.status} ${mark.start}`;
    this.show(row.dataset.task, mark, left, top);
    return !same;
  }

  /** The next or the previous run of a row, told aloud too. */
  step(row, direction) {
    const known = this.day.rows.get(row.dataset.task);
    const marks = known.all(this.day.now()).sort((one, other) => one.start - other.start);
    if (!marks.length) return;
    const last = marks.length - 1;
    this.cursor = this.cursor === null ? last : Math.min(Math.max(this.cursor + direction, 0), last);
    const mark = marks[this.cursor];
    const lane = row.querySelector(".lane").getBoundingClientRect();
    const x = Math.min(Math.max(this.day.scale.x((mark.start + mark.end) / 2), 0), lane.width);
    this.show(row.dataset.task, mark, lane.left + x, lane.bottom - 8);
    const { title, detail } = aboutMark(mark, this.day.zone);
    say(find("announcer"), `${title}, ${detail}`);
  }

  show(task, mark, left, top) {
    const key = `${task} ${mark.status} ${mark.start}`;
    const { title, detail } = aboutMark(mark, this.day.zone);
    if (this.shown !== key) clearTimeout(this.timer);
    if (this.shown !== key && mark.status === "failed")
      this.timer = setTimeout(() => this.ask(mark.run_id), CURIOUS);
    this.shown = key;
    this.error = element("span", { class: "error" }, this.errors.get(mark.run_id) ?? "");
    this.box.replaceChildren(
      element("strong", {}, icon(mark.status), title),
      element("span", {}, task),
      element("span", {}, detail),
      this.error,
    );
    this.box.hidden = false;
    const width = this.box.offsetWidth;
    const below = top + 16 + this.box.offsetHeight < innerHeight;
    this.box.style.left = `${Math.max(Math.min(left + 12, innerWidth - width - 8), 8)}px`;
    this.box.style.top = `${below ? top + 16 : top - this.box.offsetHeight - 12}px`;
  }

  /** What went wrong in the latest run of a mark. */
  async ask(id) {
    if (!this.errors.has(id)) {
      try {
        const { error } = await get(`/api/runs/${encodeURIComponent(id)}`);
        this.errors.set(id, error.trim().split("\n").at(-1));
      } catch {
        return; // it is in the panel too
      }
    }
    say(this.error, this.errors.get(id));
  }

  hide() {
    clearTimeout(this.timer);
    this.shown = null;
    this.box.hidden = true;
  }
}
