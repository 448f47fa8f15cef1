// What was given up: failed items and dead ones, filtered, a page at a time, to be put back or dropped.
import { Table, actionsColumn, byId, make, plain, set, setText, showEither } from "./dom.js";
import { amount, count, when } from "./format.js";
import { ask, perform, say } from "./messages.js";
import { get, ofSpider, post } from "./server.js";
import { t } from "./texts.js";

const PAGE = 25;
const QUIET_FOR = 300; // milliseconds without a key before what was typed is looked for
const AGAIN_AFTER = 5000; // milliseconds between two looks at a list that keeps changing
const SHOWN_OF_TEXT = 2000; // characters of an item that could not be read

const nothing = () => ({ spider: null, total: 0, items: [], next: null, scanned: 0, reasons: {} });

/** A line of the table for each file of an item; the first one has the item's buttons. */
function linesOf({ id, files, text }) {
  const records = files.length ? files : [{}];
  return records.map((record, n) => ({ id: `${id}/${n}`, item: id, first: n === 0, text: n === 0 ? text : undefined, ...record }));
}

const nameOf = ({ filename, url, text }) => plain(filename || url || (text ?? "").slice(0, 80)) || t("raw_item");

export class GivenUp {
  #table;
  #changed;
  #spider = null;
  #kind = "failed";
  #text = "";
  #reason = "";
  #starts = [""]; // cursors of the pages up to this one
  #firsts = [0]; // and how many records or matches come before each
  #shown = nothing();
  #searching = null;
  #counts = { failed: 0, dead: 0 };
  #seen = { failed: 0, dead: 0 };
  #lookedAt = 0;
  #typing = null;

  constructor(changed) {
    this.#changed = changed;
    this.#table = new Table(
      byId("given-up-table"),
      [
        {
          head: "file",
          kind: "title",
          build: (cell) => cell.append(make("bdi"), make("bdi", { classes: "under" }), make("code", { classes: "raw" })),
          fill(cell, { filename, url, text, first }) {
            const [name, under, raw] = cell.children;
            setText(name, plain(filename || url || "") || (first ? t("raw_item") : t("same_item")));
            setText(under, filename ? plain(url ?? "") : "");
            setText(raw, plain((text ?? "").slice(0, SHOWN_OF_TEXT)));
            set(raw, "hidden", !text);
          },
        },
        {
          head: "what",
          kind: "why",
          build: (cell) => cell.append(make("code"), " ", make("bdi")),
          fill(cell, { reason, message, url }) {
            setText(cell.firstChild, plain(reason ?? ""));
            setText(cell.lastChild, plain((message ?? "").replace(url || "\n", () => t("it")))); // it stands beside it
          },
        },
        { head: "attempts", kind: "number", fill: (cell, { attempts }) => setText(cell, count(attempts)) },
        { head: "kept", kind: "number", fill: (cell, { bytes_done }) => setText(cell, amount(bytes_done)) },
        { head: "when", kind: "number when", fill: (cell, { time }) => setText(cell, time ? plain(when(time)) : t("unknown")) },
        actionsColumn({
          actions: ["retry", "drop"],
          text: (action) => t(action),
          label: (action, row) => t(`${action}_one`, { name: nameOf(row) }),
          act: (action, row, button) => this.#askForOne(action, row, button),
          isFor: ({ first }) => first,
        }),
      ],
      (element, { first }) => element.classList.toggle("same-item", !first),
    );
    this.#listen();
  }

  /** Numbers have come; the list is looked at again where that disturbs nobody. */
  know({ spider, failed, dead }) {
    this.#counts = { failed, dead };
    setText(byId("failed-count"), count(failed));
    setText(byId("dead-count"), count(dead));
    setText(byId("given-up-count"), count(failed + dead));
    if (spider !== this.#spider) {
      this.#spider = spider;
      this.#restart();
    } else if (this.#isOld() && !this.#filtered() && this.#starts.length === 1) {
      if (!this.#searching && performance.now() - this.#lookedAt > AGAIN_AFTER) this.#look();
    }
    this.#tell();
  }

  /** The language has changed. */
  renew() {
    this.#show();
  }

  #listen() {
    const form = byId("filter");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#restart();
    });
    form.elements.kind.forEach((choice) => choice.addEventListener("change", () => this.#restart({ reason: "" })));
    byId("reason-filter").addEventListener("change", () => this.#restart());
    byId("text-filter").addEventListener("input", () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#restart(), QUIET_FOR);
    });
    byId("list-again").addEventListener("click", () => this.#look());
    byId("retry-many").addEventListener("click", () => this.#askForMany("retry"));
    byId("drop-many").addEventListener("click", () => this.#askForMany("drop"));
    byId("given-up-after").addEventListener("click", () => {
      this.#starts.push(this.#shown.next);
      this.#firsts.push(this.#firsts.at(-1) + this.#shown.items.length);
      this.#turn();
    });
    byId("given-up-before").addEventListener("click", () => {
      this.#starts.pop();
      this.#firsts.pop();
      this.#turn();
    });
  }

  #filtered() {
    return this.#text !== "" || this.#reason !== "";
  }

  #isOld() {
    return this.#seen[this.#kind] !== this.#counts[this.#kind];
  }

  #restart({ reason = byId("reason-filter").value } = {}) {
    clearTimeout(this.#typing);
    const kind = byId("filter").elements.kind.value;
    if (kind !== this.#kind || this.#shown.spider !== this.#spider) this.#shown = nothing();
    this.#kind = kind;
    this.#text = byId("text-filter").value.trim();
    this.#reason = reason;
    this.#starts = [""];
    this.#firsts = [0];
    this.#look();
  }

  async #turn() {
    await this.#look();
    byId("given-up").focus({ preventScroll: true });
    byId("given-up").scrollIntoView();
  }

  /** Read the page that begins at the last cursor. The server looks at so many records a call, so it may take several. */
  async #look() {
    this.#searching?.abort();
    const search = new AbortController();
    this.#searching = search;
    const asked = { spider: this.#spider, kind: this.#kind, seen: this.#counts[this.#kind] };
    const found = { ...nothing(), spider: asked.spider, next: this.#starts.at(-1) };
    this.#tell();
    try {
      do {
        const query = { kind: asked.kind, text: this.#text, reason: this.#reason, limit: PAGE - found.items.length };
        if (found.next) query.cursor = found.next;
        const part = await get(ofSpider(asked.spider, "failed", query), search.signal);
        found.items.push(...part.items);
        found.total = part.total;
        found.scanned += part.scanned;
        found.next = part.next;
        for (const [reason, n] of Object.entries(part.reasons)) found.reasons[reason] = (found.reasons[reason] ?? 0) + n;
        setText(byId("given-up-place"), t("listing", { n: count(found.scanned) }));
      } while (found.items.length < PAGE && found.next !== null);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#searching = null;
      setText(byId("given-up-place"), t("list_failed", { error: error.message }));
      return;
    }
    this.#searching = null;
    this.#lookedAt = performance.now();
    this.#seen[asked.kind] = asked.seen;
    if (found.items.length === 0 && this.#starts.length > 1) {
      this.#starts.pop(); // all of this page went meanwhile
      this.#firsts.pop();
      return this.#look();
    }
    this.#shown = found;
    this.#show();
  }

  #show() {
    const { items, next, reasons } = this.#shown;
    this.#offerReasons(reasons);
    showEither("given-up", items.length > 0);
    setText(byId("given-up-none"), t(this.#filtered() ? "none_match" : "none_given_up"));
    this.#table.update(items.flatMap(linesOf), ({ id }) => id);
    if (document.activeElement === document.body && this.#hadFocus) byId("given-up").focus({ preventScroll: true });
    this.#hadFocus = false;
    const several = next !== null || this.#starts.length > 1;
    set(byId("given-up-pager"), "hidden", !several);
    set(byId("given-up-before"), "disabled", this.#starts.length === 1);
    set(byId("given-up-after"), "disabled", next === null);
    this.#tell();
  }

  #hadFocus = false;

  /** The reasons there are to choose from: those seen so far, and the chosen one. */
  #offerReasons(reasons) {
    const choice = byId("reason-filter");
    const offered = new Set([...choice.options].map(({ value }) => value).filter(Boolean));
    if (this.#shown.spider !== this.#offeredFor || this.#kind !== this.#offeredKind) offered.clear();
    [this.#offeredFor, this.#offeredKind] = [this.#shown.spider, this.#kind];
    for (const reason of Object.keys(reasons)) offered.add(reason);
    if (this.#reason) offered.add(this.#reason);
    const names = ["", ...[...offered].sort()];
    const words = names.map((name) => plain(name) || t("any_reason"));
    if (words.join() !== [...choice.options].map(({ text }) => text).join()) {
      choice.replaceChildren(...words.map((word, n) => Object.assign(make("option", { text: word }), { value: names[n] })));
    }
    set(choice, "value", this.#reason);
  }

  #offeredFor = null;
  #offeredKind = null;

  #tell() {
    const filtered = this.#filtered();
    for (const action of ["retry", "drop"]) setText(byId(`${action}-many`), t(filtered ? `${action}_filtered` : `${action}_all`));
    const { items, total, scanned } = this.#shown;
    for (const action of ["retry", "drop"]) set(byId(`${action}-many`), "disabled", items.length === 0);
    if (this.#searching) return;
    const before = this.#firsts.at(-1);
    const place = { from: count(before + 1), to: count(before + items.length), total: count(total), scanned: count(scanned) };
    const words = items.length === 0 ? "" : t(filtered ? "shown_filtered" : "shown_all", place);
    const old = this.#isOld() && (filtered || this.#starts.length > 1) ? t("shown_old") : "";
    setText(byId("given-up-place"), [words, old].filter(Boolean).join(" · "));
  }

  async #askForOne(action, row, button) {
    const text = t(`ask_${action}_one`, { name: nameOf(row) });
    if (await this.#confirmed(action, text, t(action))) this.#act(action, { ids: [row.item] }, [button]);
  }

  async #askForMany(action) {
    const chosen = this.#filtered() ? { text: this.#text, reason: this.#reason } : { text: "", reason: "", all: true };
    const extent = this.#filtered() ? "filtered" : "all";
    const values = { filter: this.#describeFilter(), n: count(this.#counts[this.#kind]) };
    const kind = this.#kind;
    if (!(await this.#confirmed(action, t(`ask_${action}_${extent}`, values), t(extent === "all" ? `${action}_all` : `${action}_filtered`)))) return;
    if (kind !== this.#kind) return;
    await this.#act(action, chosen, ["retry-many", "drop-many"].map(byId));
  }

  #confirmed(action, text, label) {
    return ask({ title: t(`title_${action}`), text, action: label, danger: action === "drop" });
  }

  async #act(action, chosen, buttons) {
    const spider = this.#spider;
    setText(byId("given-up-place"), t("working"));
    await perform(buttons, async () => {
      const { items } = await post(ofSpider(spider, `failed/${action}`), { kind: this.#kind, ...chosen });
      say(t(action === "retry" ? "retried" : "dropped", { n: count(items) }));
      await this.#changed();
    });
    this.#hadFocus = byId("given-up").contains(document.activeElement);
    await this.#look();
  }

  #describeFilter() {
    const text = this.#text && t("filter_text", { text: plain(this.#text) });
    const reason = this.#reason && t("filter_reason", { reason: plain(this.#reason) });
    return text && reason ? t("filter_both", { text, reason }) : text || reason;
  }
}
