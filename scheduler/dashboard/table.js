// The picture as a table, for those who would rather read or hear it.

import { element, find, icon } from "./dom.js";
import { instant } from "./time.js";
import { endOf, stateWords } from "./words.js";

const COUNTED = ["completed", "failed", "skipped", "missed", "cancelled"];

export function tellTable(day, zone, now) {
  const rows = [...day.rows.values()].map((row) => {
    const task = day.tasks?.get(row.task);
    const counts = row.counts();
    return element(
      "tr",
      {},
      element(
        "th",
        { scope: "row" },
        element("button", { type: "button", class: "link", onclick: () => day.open(row.task) }, row.task),
      ),
      element("td", {}, row.priority),
      element("td", {}, task ? icon(task.state) : null, " ", task ? stateWords(task) : "no longer defined"),
      element("td", {}, task?.last ? `${task.last.status} ${zone.when(endOf(task.last), now)}` : "–"),
      element("td", {}, task?.next ? zone.when(instant(task.next), now) : "–"),
      ...COUNTED.map((status) =>
        element("td", { class: "number" }, (counts[status] ?? 0).toLocaleString("en-GB")),
      ),
      element("td", { class: "words" }, task?.trouble ?? ""),
    );
  });
  const heads = ["Task", "Priority", "State", "Last", "Next", ...COUNTED, "Trouble"];
  find("table").replaceChildren(
    element(
      "table",
      {},
      element("caption", {}, "Tasks, and what became of their runs in the time that is shown"),
      element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
      element("tbody", {}, ...rows),
    ),
  );
}
