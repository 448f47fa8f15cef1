// The server behind the page: its JSON and its events. Knows addresses and whether it answers; nothing of what is shown.
import { t } from "./texts.js";

const EVERY = 2000; // milliseconds between two looks
const ANSWERS_WITHIN = 15000; // milliseconds, for what is only looked at
const DONE_WITHIN = 60000; // milliseconds, for what changes something: a list of a million takes its time

async function call(path, options, limit, late) {
  const over = new AbortController();
  const abort = () => over.abort();
  options.signal?.addEventListener("abort", abort);
  const timer = setTimeout(abort, limit);
  try {
    const response = await fetch(path, { cache: "no-store", ...options, signal: over.signal });
    if (response.status === 401) location.reload(); // the token is not (any more) right: the server shows its form
    const body = await response.json().catch((error) => {
      if (over.signal.aborted) throw error;
      return {};
    });
    if (!response.ok) throw Object.assign(new Error(body.error ?? `HTTP ${response.status}`), { status: response.status });
    return body;
  } catch (error) {
    if (error.status !== undefined || options.signal?.aborted) throw error;
    throw new Error(t(over.signal.aborted ? late : "no_answer", { n: limit / 1000 }), { cause: error });
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener("abort", abort);
  }
}

export const get = (path, signal) => call(path, { signal }, ANSWERS_WITHIN, "late_answer");

export const post = (path, body) =>
  call(
    path,
    {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Chunkdl": "1" },
      body: JSON.stringify(body),
    },
    DONE_WITHIN,
    "late_change",
  );

/** The address of something of one spider. */
export function ofSpider(spider, what, query = {}) {
  const asked = new URLSearchParams(query).toString();
  return `api/spiders/${encodeURIComponent(spider)}/${what}${asked && "?"}${asked}`;
}

/**
 * What the server tells, asked for again and again. Calls back with it, and with "live" or "away".
 *
 * Asked for in short requests: a browser has six connections for all pages of a server, and an open stream on each of
 * six screens would leave none for a click. Nothing is asked for while the page is hidden: processes report more as long
 * as somebody looks.
 */
export class Live {
  #callbacks;
  #spider = null;
  #timer = null;
  #look = null; // the one under way; what an older one brings is not told

  constructor(callbacks) {
    this.#callbacks = callbacks;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#stop() : this.#start()));
  }

  /** From now on tell of this spider too; null: of none. */
  follow(spider) {
    this.#spider = spider;
    if (!document.hidden) this.#start();
  }

  #start() {
    this.#stop();
    this.#run();
  }

  #stop() {
    clearTimeout(this.#timer);
    this.#look?.abort();
    this.#look = null;
  }

  async #run() {
    const look = (this.#look = new AbortController());
    const told = await Promise.allSettled([
      get("api/status", look.signal),
      this.#spider === null ? null : get(ofSpider(this.#spider, "details"), look.signal),
    ]);
    if (look !== this.#look) return;
    this.#timer = setTimeout(() => this.#run(), EVERY);
    const [status, spider] = told;
    this.#callbacks.state(status.status === "fulfilled" ? "live" : "away");
    if (status.status === "fulfilled") this.#callbacks.status(status.value);
    if (look === this.#look && spider.value) this.#callbacks.spider(spider.value); // else the status says what is wrong
  }
}
