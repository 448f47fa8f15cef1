// What waits in the list: searched, a page at a time; moved to the front or taken out. Asked for only when it is opened.
import { Table, actionsColumn, byId, make, plain, set, setText, showEither } from "./dom.js";
import { count } from "./format.js";
import { ask, perform, say } from "./messages.js";
import { get, ofSpider, post } from "./server.js";
import { t } from "./texts.js";

const PAGE = 25;
const QUIET_FOR = 300; // milliseconds without a key before what was typed is looked for
const nothing = () => ({ total: 0, items: [], next: null, scanned: 0 });

const nameOf = ({ title, files, text }) => plain(title || files[0] || text).slice(0, 80);

function fillPlace(cell, { at, list }) {
  setText(cell, count(at + 1));
  set(cell, "title", plain(list));
}

export class Waiting {
  #changed;
  #spider = null;
  #text = "";
  #starts = [0];
  #shown = nothing();
  #searching = null;
  #typing = null;
  #table;

  constructor(changed) {
    this.#changed = changed;
    this.#table = new Table(byId("waiting-table"), [
      { head: "place_in_list", kind: "number", fill: fillPlace },
      {
        head: "item",
        kind: "title",
        build: (cell) => cell.append(make("bdi"), make("bdi", { classes: "under" })),
        fill(cell, row) {
          setText(cell.firstChild, nameOf(row) || t("raw_item"));
          setText(cell.lastChild, plain(row.page || row.files.join(" ") || row.text));
        },
      },
      { head: "running", kind: "number", fill: (cell, { files }) => setText(cell, count(files.length)) },
      actionsColumn({
        actions: ["front", "out"],
        text: (action) => t(`waiting_${action}`),
        label: (action, row) => t(`waiting_${action}_one`, { name: nameOf(row) }),
        act: (action, row, button) => this.#act(action, row, button),
      }),
    ]);
    byId("waiting").addEventListener("toggle", () => byId("waiting").open && this.#restart());
    byId("waiting-filter").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#restart();
    });
    byId("waiting-text").addEventListener("input", () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#restart(), QUIET_FOR);
    });
    byId("waiting-after").addEventListener("click", () => {
      this.#starts.push(this.#shown.next);
      this.#look();
    });
    byId("waiting-before").addEventListener("click", () => {
      this.#starts.pop();
      this.#look();
    });
  }

  know({ spider, waiting }) {
    setText(byId("waiting-count"), count(waiting));
    if (spider === this.#spider) return;
    this.#spider = spider;
    this.#shown = nothing();
    if (byId("waiting").open) this.#restart();
  }

  /** The language has changed. */
  renew() {
    this.#show();
  }

  #restart() {
    clearTimeout(this.#typing);
    this.#text = byId("waiting-text").value.trim();
    this.#starts = [0];
    this.#look();
  }

  /** Read a page; the server looks at so many items a call, so it may take several. */
  async #look() {
    this.#searching?.abort();
    const search = (this.#searching = new AbortController());
    const found = { ...nothing(), next: this.#starts.at(-1) };
    try {
      do {
        const query = { text: this.#text, cursor: found.next, limit: PAGE - found.items.length };
        const part = await get(ofSpider(this.#spider, "waiting", query), search.signal);
        found.items.push(...part.items);
        [found.total, found.next] = [part.total, part.next];
        found.scanned += part.scanned;
        setText(byId("waiting-place"), t("listing", { n: count(found.scanned) }));
      } while (found.items.length < PAGE && found.next !== null);
    } catch (error) {
      if (error.name === "AbortError" || search !== this.#searching) return;
      setText(byId("waiting-place"), t("list_failed", { error: error.message }));
      return;
    }
    if (search !== this.#searching) return;
    this.#shown = found;
    this.#show();
  }

  #show() {
    const { items, total, next, scanned } = this.#shown;
    showEither("waiting", items.length > 0);
    setText(byId("waiting-none"), t(this.#text ? "none_match" : "none_given_up"));
    this.#table.update(items, ({ id }) => id);
    set(byId("waiting-before"), "disabled", this.#starts.length === 1);
    set(byId("waiting-after"), "disabled", next === null);
    setText(byId("waiting-place"), t("waiting_place", { n: count(items.length), scanned: count(scanned), total: count(total) }));
  }

  async #act(action, { id, at, ...row }, button) {
    if (action === "out") {
      const text = t("ask_waiting_out", { name: nameOf(row) });
      if (!(await ask({ title: t("title_waiting_out"), text, action: t("waiting_out"), danger: true }))) return;
    }
    await perform([button], async () => {
      const { items } = await post(ofSpider(this.#spider, `waiting/${action}`), { items: [{ id, at }] });
      say(t(items ? `waiting_${action}_done` : "waiting_gone", { name: nameOf(row) }));
      await this.#changed();
    });
    await this.#look();
    byId("waiting-text").focus({ preventScroll: true });
  }
}
