// Asking the scheduler, and hearing of what happens there.

import { askForToken, currentToken } from "./token.js";

/** What was asked for cannot be; the message is the scheduler's own sentence. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const get = (path, query, signal) => ask("GET", path, { query, signal });
export const post = (path, body) => ask("POST", path, { body });
export const remove = (path, query) => ask("DELETE", path, { query });

async function ask(method, path, { query, body, signal } = {}) {
  const response = await send(method, path, { query, body, signal });
  return response.json();
}

async function send(method, path, { query = {}, body, signal } = {}) {
  const given = Object.entries(query).flatMap(([name, value]) => [value].flat().map((each) => [name, each]));
  const url = given.length ? `${path}?${new URLSearchParams(given)}` : path;
  for (;;) {
    const token = currentToken();
    const headers = {};
    if (token) headers.Authorization = `Bearer ${token}`;
    if (body) headers["Content-Type"] = "application/json";
    const response = await fetch(url, {
      method,
      headers,
      signal,
      body: body && JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
    });
    if (response.ok) return response;
    if (response.status !== 401) throw new Problem(response.status, await detail(response));
    await askForToken(token);
  }
}

async function detail(response) {
  try {
    return (await response.json()).detail;
  } catch {
    return `${response.status} ${response.statusText}`;
  }
}

const SHORTEST = 500; // milliseconds before the first new attempt
const LONGEST = 15_000;
const SILENCE = 45_000; // the scheduler says at least every few seconds that it is still there

/**
 * What happens, for as long as the page is open. `fetch` and not EventSource, which cannot send a token.
 * `onEvent(name, data)`; `onState("live" | "lost", milliseconds until the next attempt)`.
 */
export class Stream {
  constructor(path, query, { onEvent, onState }) {
    Object.assign(this, { path, query, onEvent, onState, pause: SHORTEST, hurry: () => {} });
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
  }

  async run() {
    for (;;) {
      try {
        await this.listen();
      } catch {
        // Whatever it was, it is tried again.
      }
      const wait = this.pause * (0.75 + Math.random() / 2);
      this.pause = Math.min(this.pause * 2, LONGEST);
      this.onState("lost", wait);
      await new Promise((resolve) => {
        this.hurry = resolve;
        setTimeout(resolve, wait);
      });
      this.hurry = () => {};
    }
  }

  async listen() {
    const giveUp = new AbortController();
    let silence = setTimeout(() => giveUp.abort(), SILENCE);
    try {
      const response = await send("GET", this.path, { query: this.query, signal: giveUp.signal });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (let first = true; ; first = false) {
        const { value, done } = await reader.read();
        if (done) return;
        if (first) this.alive();
        clearTimeout(silence);
        silence = setTimeout(() => giveUp.abort(), SILENCE);
        const messages = (rest + value).split("\n\n");
        rest = messages.pop();
        for (const message of messages) if (!this.hear(message)) return;
      }
    } finally {
      clearTimeout(silence);
      giveUp.abort();
    }
  }

  alive() {
    this.pause = SHORTEST;
    this.onState("live", 0);
  }

  /** False when the scheduler says that it ends. */
  hear(message) {
    const fields = Object.fromEntries(
      message
        .split("\n")
        .filter((line) => !line.startsWith(":"))
        .map((line) => line.split(/: ?(.*)/s, 2)),
    );
    if (fields.event === "closed") return false;
    if (fields.data) this.onEvent(fields.event ?? "message", JSON.parse(fields.data));
    return true;
  }
}
