// The page: what it shows, when it asks, and what it hears.

import { get, Problem, Stream } from "./api.js";
import { Day } from "./day.js";
import { calmly, element, find, icon, say } from "./dom.js";
import { Health } from "./health.js";
import { follow } from "./live.js";
import { Log } from "./log.js";
import { Navigation } from "./navigation.js";
import { Panel } from "./panel.js";
import { tellCache, tellLateness } from "./side.js";
import { tellTable } from "./table.js";
import { themes } from "./theme.js";
import { instant, span, Zone } from "./time.js";
import { takeTokenFromAddress } from "./token.js";

const EVERY = 10_000; // milliseconds between looks at the whole
const ANEW = 300_000; // and between looks at the whole day, should something have been overheard
const PATIENCE = 60_000; // for the day: then it is asked for again
const FAR = 30 * 24 * 3_600_000; // an end of a phase that nobody waits for
const CROWD = 60; // tasks from which on the picture is made of coarser parts

let system = null;
let clock = { at: Date.now(), read: performance.now() };
const now = () => clock.at + performance.now() - clock.read;

const navigation = new Navigation({ now, changed: showDay, chosen: choose });
const open = (task) => navigation.select(task);
const day = new Day({ open, now });
const log = new Log({ open, now });
const panel = new Panel({ now, close: () => navigation.select(null), changed: () => lookSoon() });
const health = new Health({ open, changed: () => lookSoon() });

const lookSoon = calmly(700, () => look().catch(lost));
const drawSoon = calmly(200, () => document.hidden || day.refresh());
const dayAnew = calmly(1_500, showMore);

/** How the whole does now. */
async function look() {
  system = await get("/api/system/tasks");
  clock = { at: instant(system.timestamp), read: performance.now() };
  tell();
  tellTime();
}

function tell() {
  const zone = (day.taskZone?.name === system.timezone && day.taskZone) || new Zone(system.timezone);
  day.tell(system, zone);
  health.tell(system, zone, now());
  tellMarkets(zone);
  tellLateness(system, open);
  tellCache(system.cache);
  panel.tell(system, zone);
  if (!find("table").hidden) tellTable(day, zone, now());
}

function tellMarkets(zone) {
  const texts = system.markets.map(({ market, phase, reason, trading, until, assumed }) => {
    const why = phase === "closed" && reason ? ` (${reason})` : "";
    const end = instant(until) - now() < FAR ? ` until ${zone.when(instant(until), now())}` : "";
    const state = `${phase}${why}${end}${assumed ? ", assumed" : ""}`;
    return element(
      "span",
      { class: trading ? "trading" : "" },
      icon(trading ? "running" : "waiting"),
      element("strong", {}, market),
      " ",
      state,
    );
  });
  find("market").replaceChildren(...texts);
}

let asking = null; // what ends the question for the day that is under way

/** The day that is chosen, from the ledger and the plan. Whoever chooses does not wait for another day. */
async function showDay() {
  asking?.abort();
  const mine = (asking = new AbortController());
  const signal = AbortSignal.any([mine.signal, AbortSignal.timeout(PATIENCE)]);
  try {
    if (!system) await look();
    const zone = new Zone(system.markets[0]?.timezone ?? system.timezone);
    const date = navigation.tell(zone);
    const [from, until] = [zone.midnight(date), zone.midnight(navigation.after(date))];
    const dates = { from: new Date(from).toISOString(), until: new Date(until).toISOString() };
    const markets = await get("/api/markets", dates, signal);
    const range = navigation.range(markets, from, until);
    const pixels = system.tasks.length > CROWD ? 3 : 1.5;
    const buckets = Math.round(Math.min(Math.max(find("axis").clientWidth / pixels, 100), 2000));
    const query = {
      from: new Date(range.from).toISOString(),
      until: new Date(range.until).toISOString(),
      buckets,
    };
    const timeline = await get("/api/timeline", query, signal);
    if (mine !== asking) return;
    day.show(timeline, markets, zone, range, (range.until - range.from) / buckets);
    panel.show({ from, until }, zone);
    choose(navigation.task);
    say(find("day-note"), `${zone.minute(range.from)} – ${zone.minute(range.until)} ${zone.label(from)}`);
    if (!find("table").hidden) tellTable(day, zone, now());
    document.documentElement.dataset.ready = date;
    performance.mark("day shown");
  } catch (error) {
    if (mine === asking) lost(error);
  } finally {
    if (mine === asking) asking = null;
  }
}

/** The same day as it is by now: a slow answer is waited for, or there would never be one. */
function showMore() {
  if (asking) dayAnew();
  else showDay();
}

/** All of it, when the scheduler answers for the first time or again. */
async function catchUp() {
  await look();
  const [runs] = await Promise.all([log.load(day.taskZone), showDay()]);
  runs.reverse().forEach((run) => health.take(run));
  tell();
}

function lost(error) {
  if (error instanceof Problem) say(find("day-note"), error.message);
  // Else nobody answers: the stream tells, and has all of it asked for again.
}

function choose(task) {
  panel.choose(task);
  day.choose(task);
}

const stream = new Stream(
  "/api/events",
  { runs: "true", level: "info" },
  {
    onState(state, wait) {
      const box = find("connection");
      box.dataset.state = document.body.dataset.connection = state;
      const since = system ? `as of ${day.taskZone.clock(clock.at)}, ` : "";
      say(box, state === "live" ? "live" : `${since}reconnecting${wait >= 2000 ? ` in ${span(wait)}` : ""}`);
      if (state === "live") {
        catchUp().catch(lost);
      }
    },
    onEvent(name, data) {
      if (name === "run") {
        if (!day.take(data) && day.rows.size && !navigation.elsewhere) dayAnew();
        if (system) follow(system, data);
        health.take(data);
        panel.take(data);
        drawSoon();
      } else if (name === "log") {
        log.hear(data.event, data);
        lookSoon();
        panel.hear(data);
        if (/^(config|market)\./.test(data.event)) dayAnew();
      }
    },
  },
);

find("as-table").onclick = ({ currentTarget: button }) => {
  const table = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(table));
  find("table").hidden = !table;
  find("picture").hidden = table;
  if (table) tellTable(day, day.taskZone, now());
};

function tellTime() {
  const zone = day.taskZone;
  say(find("clock").querySelector("time"), zone.clock(now()));
  say(find("clock").querySelector("small"), zone.label(now()));
}

function tick() {
  if (!system || document.hidden || document.body.dataset.connection === "lost") return; // it stands as it was
  tellTime();
  day.refresh();
  day.label();
  panel.tick();
  if (!asking) navigation.tick(day.range);
}

const header = document.querySelector(".top");
new ResizeObserver(() =>
  document.documentElement.style.setProperty("--top", `${header.offsetHeight}px`),
).observe(header);
takeTokenFromAddress();
themes();
setInterval(tick, 1000);
setInterval(() => look().catch(lost), EVERY);
setInterval(() => navigation.elsewhere || dayAnew(), ANEW);
addEventListener("visibilitychange", tick);
stream.run();
