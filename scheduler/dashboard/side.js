// Beside the day: how late runs start, and what the shared cache does.

import { element, find } from "./dom.js";
import { instant, span } from "./time.js";

const LATEST = 6; // tasks whose lateness is shown

/** How late the latest run of each task started that the clock made due. */
export function tellLateness(system, open) {
  const late = system.tasks
    .filter(({ last }) => last?.started && last.attempt === 1 && last.cause === "tick")
    .map(({ task, last }) => [task, instant(last.started) - instant(last.due)])
    .sort((one, other) => other[1] - one[1]);
  if (!late.length) {
    find("lateness").replaceChildren(element("p", { class: "note" }, "No run has started by the clock yet."));
    return;
  }
  const most = Math.max(late[0][1], 1);
  const middle = late[Math.floor(late.length / 2)][1];
  const rows = late
    .slice(0, LATEST)
    .map(([task, ms]) =>
      element(
        "tr",
        {},
        named(task, open),
        element("td", { class: "number" }, span(ms)),
        element("td", {}, meter(ms / most)),
      ),
    );
  find("lateness").replaceChildren(
    element(
      "p",
      { class: "note" },
      `median ${span(middle)}, most ${span(late[0][1])}, of ${late.length} latest runs`,
    ),
    element("table", {}, caption("Latest starts"), element("tbody", {}, ...rows)),
  );
}

function named(task, open) {
  return element(
    "th",
    { scope: "row" },
    element("button", { type: "button", class: "link", onclick: () => open(task) }, task),
  );
}

export function tellCache(namespaces) {
  if (!namespaces.length) {
    find("cache").replaceChildren(element("p", { class: "note" }, "No cache is configured."));
    return;
  }
  const rows = namespaces.map((each) => {
    const asked = each.hits + each.misses;
    const share = asked ? each.hits / asked : 0;
    const more = [`ttl ${span(each.ttl_seconds * 1000)}`, `${each.entries} of ${each.max_entries}`];
    if (each.failures) more.push(`${each.failures} failed loads`);
    if (each.stale) more.push(`${each.stale} stale`);
    return element(
      "tr",
      { title: more.join(", ") },
      element("th", { scope: "row" }, each.namespace, element("small", {}, more.join(" · "))),
      element(
        "td",
        { class: "number" },
        asked ? `${(share * 100).toFixed(share < 0.9995 && share > 0.99 ? 1 : 0)} %` : "–",
      ),
      element("td", {}, meter(share)),
    );
  });
  find("cache").replaceChildren(
    element("table", {}, caption("Cache by namespace"), element("tbody", {}, ...rows)),
  );
}

const caption = (text) => element("caption", { class: "unseen" }, text);

function meter(share) {
  const full = element("span", { class: "full" });
  full.style.width = `${Math.round(Math.min(Math.max(share, 0), 1) * 100)}%`;
  return element("span", { class: "meter", "aria-hidden": "true" }, full);
}
