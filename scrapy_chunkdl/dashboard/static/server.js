// The server behind the page: its JSON and its events. Knows addresses and whether it answers; nothing of what is shown.
import { t } from "./texts.js";

const AGAIN_AFTER = 2000; // milliseconds
const SILENT_AFTER = 10000; // milliseconds without an event, which come every 2 s: a connection may die without a word

async function call(path, options) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(t("no_answer"), { cause: error });
  }
  if (response.status === 401) location.reload(); // the token is not (any more) right: the server shows its form
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error ?? `HTTP ${response.status}`);
  return body;
}

export const get = (path, signal) => call(path, { signal });

export const post = (path, body) =>
  call(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Chunkdl": "1" },
    body: JSON.stringify(body),
  });

/** The address of something of one spider. */
export function ofSpider(spider, what, query = {}) {
  const asked = new URLSearchParams(query).toString();
  return `api/spiders/${encodeURIComponent(spider)}/${what}${asked && "?"}${asked}`;
}

/**
 * The stream of events, opened again whenever it ends. Calls back with what comes, and with "live" or "away".
 *
 * Nothing is asked for while the page is hidden: processes report more as long as somebody looks.
 */
export class Events {
  #callbacks;
  #spider = null;
  #source = null;
  #again = null;
  #heard = 0;
  #wanted = false;

  constructor(callbacks) {
    this.#callbacks = callbacks;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#close() : this.#open()));
    setInterval(() => this.#watch(), 1000);
  }

  /** From now on tell of this spider too; null: of none. */
  follow(spider) {
    this.#spider = spider;
    this.#wanted = true;
    this.#close();
    if (!document.hidden) this.#open();
  }

  #open() {
    if (!this.#wanted || this.#source) return;
    clearTimeout(this.#again);
    const query = this.#spider === null ? "" : `?${new URLSearchParams({ spider: this.#spider })}`;
    const source = new EventSource(`api/events${query}`);
    this.#source = source;
    this.#heard = performance.now();
    const on = (name) =>
      source.addEventListener(name, (event) => {
        this.#heard = performance.now();
        this.#callbacks.state("live");
        this.#callbacks[name](JSON.parse(event.data));
      });
    on("status");
    on("spider");
    source.addEventListener("error", () => source === this.#source && this.#lost());
  }

  #close() {
    clearTimeout(this.#again);
    this.#source?.close();
    this.#source = null;
  }

  #watch() {
    if (this.#source && performance.now() - this.#heard > SILENT_AFTER) this.#lost();
  }

  #lost() {
    this.#close();
    this.#callbacks.state("away");
    // An EventSource does not tell why it failed; an ordinary request does, and finds out about a token that changed.
    this.#again = setTimeout(async () => {
      try {
        this.#callbacks.status(await get("api/status")); // which also finds out about a spider that is no more
      } catch {
        if (!this.#source && !document.hidden) this.#lost();
        return;
      }
      if (!document.hidden) this.#open();
    }, AGAIN_AFTER);
  }
}
