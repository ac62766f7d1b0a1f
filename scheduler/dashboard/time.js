// Times, in the zone of the market or of the files: never silently in that of the browser.

const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;

/** Milliseconds since the epoch of an ISO 8601 text; null of null. */
export const instant = (text) => (text === null || text === undefined ? null : Date.parse(text));

export class Zone {
  constructor(name) {
    this.name = name;
    const format = (options) =>
      new Intl.DateTimeFormat("en-GB", { timeZone: name, hourCycle: "h23", ...options });
    const two = { hour: "2-digit", minute: "2-digit" };
    this.withSeconds = format({ ...two, second: "2-digit" });
    this.withMinutes = format(two);
    this.withDate = format({ day: "numeric", month: "short", ...two });
    this.parts = format({ year: "numeric", month: "2-digit", day: "2-digit", ...two, second: "2-digit" });
  }

  /** 09:15:05 */
  clock(ms) {
    return this.withSeconds.format(ms);
  }

  /** 09:15 */
  minute(ms) {
    return this.withMinutes.format(ms);
  }

  /** 2026-11-26 */
  date(ms) {
    const { year, month, day } = this.fields(ms);
    return `${year}-${month}-${day}`;
  }

  /** The time on the day of `now`, with its date on any other. */
  when(ms, now) {
    if (this.date(ms) === this.date(now)) return this.clock(ms);
    return this.withDate.format(ms).replace(",", "");
  }

  /** The instant at which a date begins here. */
  midnight(date) {
    const utc = Date.parse(`${date}T00:00:00Z`);
    const first = utc - this.offset(utc);
    return utc - this.offset(first); // the offset may change in between
  }

  /** IST where people say so, else GMT+5:30. */
  label(ms) {
    for (const locale of ["en-IN", "en-US", "en-GB", "en-AU"]) {
      const parts = new Intl.DateTimeFormat(locale, {
        timeZone: this.name,
        timeZoneName: "short",
      }).formatToParts(ms);
      const text = parts.find((part) => part.type === "timeZoneName").value;
      if (!/^(GMT|UTC)[+-]/.test(text)) return text;
    }
    return this.name;
  }

  offset(ms) {
    const { year, month, day, hour, minute, second } = this.fields(ms);
    return Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`) - Math.floor(ms / 1000) * 1000;
  }

  fields(ms) {
    return Object.fromEntries(this.parts.formatToParts(ms).map((part) => [part.type, part.value]));
  }
}

/** The date so many days later. */
export function later(date, days) {
  return new Date(Date.parse(`${date}T00:00:00Z`) + days * 24 * HOUR).toISOString().slice(0, 10);
}

const DAY = new Intl.DateTimeFormat("en-GB", {
  timeZone: "UTC",
  weekday: "short",
  day: "numeric",
  month: "short",
  year: "numeric",
});

/** Thu 26 Nov 2026 */
export const dayName = (date) => DAY.format(Date.parse(`${date}T00:00:00Z`)).replace(",", "");

/** <1 ms, 38 ms, 4.2 s, 3m05s, 2h10m, 3d04h */
export function span(ms) {
  const two = (number) => String(number).padStart(2, "0");
  if (ms < 1) return "<1 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < MINUTE) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m${two(seconds % 60)}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1440) return `${Math.floor(minutes / 60)}h${two(minutes % 60)}m`;
  return `${Math.floor(minutes / 1440)}d${two(Math.floor(minutes / 60) % 24)}h`;
}
