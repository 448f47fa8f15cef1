// The files that were finished last, the newest first.
import { Table, byId, make, plain, set, setText, showEither, textColumn } from "./dom.js";
import { amount, count, duration, when } from "./format.js";
import { get, ofSpider } from "./server.js";

const FEW = 10;
const AGAIN_AFTER = 6000; // milliseconds: processes tell of them every five seconds

export class Finished {
  #spider = null;
  #done = null; // files by the status when they were asked for last
  #askedAt = -Infinity;
  #files = [];
  #all = false;
  #table;

  constructor() {
    this.#table = new Table(byId("finished-table"), [
      {
        head: "file",
        kind: "title",
        build: (cell) => cell.append(make("bdi"), make("bdi", { classes: "under" })),
        fill(cell, { name, url, title, page }) {
          setText(cell.firstChild, plain(name || url));
          setText(cell.lastChild, plain([title, page].filter(Boolean).join(" · ") || url));
        },
      },
      textColumn("size", "number", ({ size }) => amount(size)),
      textColumn("took", "number", ({ elapsed }) => duration(elapsed)),
      textColumn("when", "number when", ({ time }) => plain(when(time))),
    ]);
    byId("finished-all").addEventListener("click", () => {
      this.#all = true;
      this.#show();
    });
  }

  /** The list is asked for again when more was done since. */
  async know({ spider, done }) {
    const number = done.files;
    if (spider !== this.#spider) [this.#spider, this.#done, this.#files, this.#all] = [spider, null, [], false];
    setText(byId("finished-count"), count(number));
    if (number === this.#done || performance.now() - this.#askedAt < (this.#done === null ? 0 : AGAIN_AFTER)) return;
    [this.#done, this.#askedAt] = [number, performance.now()];
    const found = await get(ofSpider(spider, "finished")).catch(() => null);
    if (found === null || spider !== this.#spider) return;
    this.#files = found.files;
    this.#show();
  }

  /** The language has changed. */
  renew() {
    this.#show();
  }

  #show() {
    showEither("finished", this.#files.length > 0);
    this.#table.update(this.#all ? this.#files : this.#files.slice(0, FEW), ({ url, time }) => `${time} ${url}`);
    set(byId("finished-all"), "hidden", this.#all || this.#files.length <= FEW);
  }
}
