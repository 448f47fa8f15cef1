// All spiders in a table, and what can be done to the chosen one: pause, resume, its rate limit.
import { Table, byId, make, plain, set, setText, showEither, textColumn } from "./dom.js";
import { amount, count, duration, number, rate } from "./format.js";
import { recall, remember } from "./memory.js";
import { answer, perform, say } from "./messages.js";
import { ofSpider, post } from "./server.js";
import { t } from "./texts.js";

/** The state of a spider, as a key of the texts and a class. */
function stateOf({ paused, workers }) {
  if (paused) return ["state_paused", "warn"];
  if (!workers.some(({ state }) => state !== "silent")) return ["state_idle", "quiet"];
  if (workers.some(({ state }) => state === "claiming")) return ["state_claiming", "good"];
  return workers.some(({ state }) => state === "paused") ? ["state_paused", "warn"] : ["state_closing", "quiet"];
}

const badge = {
  build: (cell) => cell.append(make("span"), make("span", { classes: "under" })),
  fill(cell, row) {
    const [key, kind] = stateOf(row);
    set(cell.firstChild, "className", `badge ${kind}`);
    setText(cell.firstChild, t(key));
    set(cell.lastChild, "className", `under ${URGENT.includes(row.need) ? "bad" : "warn"}`);
    setText(cell.lastChild, row.need === null ? "" : t(`need_${row.need}`));
  },
};

const URGENT = ["nobody", "stands", "silent", "disk"];
const AT_ONCE = 50; // rows shown until more are asked for
const ORDER = new Intl.Collator(undefined, { numeric: true });

/** What needs a person first, then by name. */
export const inOrder = (rows) => rows.toSorted((a, b) => a.rank - b.rank || ORDER.compare(a.spider, b.spider));

/** When all is done: how long, and how sure that is. */
export function emptyIn({ backlog, empty_in }) {
  if (backlog === 0) return t("unknown");
  if (empty_in === null) return t("empty_unknown");
  const { seconds, at_best, at_worst, sureness } = empty_in;
  if (sureness === "good") return t("empty_good", { time: duration(seconds) });
  if (sureness === "rough") return t("empty_rough", { best: duration(at_best), worst: duration(at_worst) });
  return t("empty_guess", { time: duration(seconds) });
}

/** What is known of the chosen spider besides the lists. */
export function showFigures(row) {
  const { done, oldest_waits } = row;
  const lines = [
    t("figure_done", { files: count(done.files), bytes: amount(done.bytes), items: count(done.items) }),
    t("figure_left", { n: count(row.backlog), time: emptyIn(row) }),
    t("figure_states", { waiting: count(row.waiting), leased: count(row.leased), delayed: count(row.delayed) }),
    oldest_waits === null ? "" : t("figure_oldest", { time: duration(oldest_waits) }),
  ].filter(Boolean);
  const list = byId("figures");
  while (list.children.length > lines.length) list.lastChild.remove();
  lines.forEach((line, n) => setText(list.children[n] ?? list.appendChild(make("li")), line));
}

const doneColumn = {
  fill(cell, { done }) {
    setText(cell, amount(done.bytes));
    set(cell, "title", t("figure_done", { files: count(done.files), bytes: amount(done.bytes), items: count(done.items) }));
  },
};

const throughput = (field, show) => ({
  kind: "number wide-only",
  fill(cell, { throughput: over }) {
    setText(cell, show(over["1m"][field]));
    const lines = Object.entries(over).map(([window, { items_per_second, bytes_per_second }]) =>
      t("rate_over", {
        minutes: t("minutes", { n: parseInt(window, 10) }),
        items: number(items_per_second),
        bytes: rate(bytes_per_second),
      }),
    );
    set(cell, "title", lines.join("\n"));
  },
});

const alarming = (head, field) => ({
  head,
  kind: "number",
  fill(cell, row) {
    setText(cell, count(row[field]));
    cell.classList.toggle("bad", row[field] > 0);
  },
});

export class Spiders {
  #choose;
  #chosen = null;
  #table;

  /** `choose(name)` is called when a person picks a spider, `changed()` after something was done to one. */
  constructor(choose, changed) {
    this.#choose = choose;
    const link = {
      head: "spider",
      kind: "title",
      build: (cell, row) => cell.append(this.#link(row.spider)),
      fill: () => {},
    };
    this.#table = new Table(
      byId("spiders-table"),
      [
        link,
        textColumn("waiting", "number", ({ waiting }) => count(waiting)),
        textColumn("leased", "number", ({ leased }) => count(leased)),
        textColumn("delayed", "number", ({ delayed }) => count(delayed)),
        alarming("failed", "failed"),
        alarming("dead", "dead"),
        textColumn("running", "number", ({ files }) => count(files)),
        textColumn("connections", "number", ({ connections }) => count(connections)),
        { head: "items_rate", ...throughput("items_per_second", number) },
        { head: "bytes_rate", ...throughput("bytes_per_second", rate) },
        { head: "done", kind: "number wide-only", ...doneColumn },
        textColumn("empty_in", "number", emptyIn),
        { head: "state", kind: "state", ...badge },
      ],
      (element, { spider }) => {
        const chosen = spider === this.#chosen;
        element.classList.toggle("chosen-row", chosen);
        element.querySelector("a").ariaCurrent = chosen ? "true" : null;
      },
    );
    this.#listen();
    byId("pause-button").addEventListener("click", (event) => this.#pause(event.currentTarget, changed));
    byId("rate-button").addEventListener("click", (event) => this.#limit(event.currentTarget, changed));
    const form = byId("rate-form");
    byId("rate-amount").addEventListener("input", () => (form.elements.limit.value = "some"));
    form.addEventListener("change", () => this.#requireAmount());
  }

  #row = null;
  #spiders = [];
  #room = AT_ONCE;

  update(spiders, chosen) {
    this.#chosen = chosen;
    this.#spiders = spiders;
    this.#row = spiders.find(({ spider }) => spider === chosen) ?? null;
    set(byId("spiders-filter"), "hidden", spiders.length < 2);
    this.#show();
    if (this.#row) this.#showChosen(this.#row);
  }

  /** Those that are wanted, what needs a person first; the chosen one always. */
  #show() {
    const text = byId("spiders-text").value.trim().toLowerCase();
    const busy = byId("spiders-busy").checked;
    const wanted = inOrder(this.#spiders).filter(
      (row) => row.spider === this.#chosen || (row.spider.toLowerCase().includes(text) && !(busy && row.is_idle)),
    );
    const shown = wanted.filter((row, n) => n < this.#room || row.spider === this.#chosen);
    showEither("spiders", this.#spiders.length > 0);
    this.#table.update(shown, ({ spider }) => spider);
    setText(byId("spiders-place"), t("spiders_shown", { n: count(shown.length), total: count(this.#spiders.length) }));
    set(byId("spiders-more"), "hidden", shown.length === wanted.length);
    setText(byId("spiders-more"), t("spiders_more", { n: count(wanted.length - shown.length) }));
  }

  #listen() {
    byId("spiders-busy").checked = recall("busy") === "yes";
    byId("spiders-busy").addEventListener("change", (event) => {
      remember("busy", event.target.checked ? "yes" : "no");
      this.#show();
    });
    byId("spiders-text").addEventListener("input", () => this.#show());
    byId("spiders-filter").addEventListener("submit", (event) => event.preventDefault());
    byId("spiders-more").addEventListener("click", () => {
      this.#room += AT_ONCE;
      this.#show();
    });
  }

  #link(name) {
    const link = make("a", {}, make("bdi", { text: plain(name) }));
    link.href = `?${new URLSearchParams({ spider: name })}`;
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.#choose(name);
    });
    return link;
  }

  #showChosen({ spider, key, paused, max_rate }) {
    setText(byId("chosen-name"), plain(spider));
    setText(byId("chosen-key"), plain(key));
    set(byId("chosen-paused"), "hidden", !paused);
    setText(byId("pause-button"), t(paused ? "resume_spider" : "pause_spider"));
    set(byId("pause-button"), "className", paused ? "main" : "");
    const how = max_rate === null ? "settings" : max_rate === 0 ? "none" : "some";
    setText(byId("rate-button"), t(`rate_button_${how}`, { rate: rate(max_rate) }));
  }

  #pause(button, changed) {
    const { spider, paused } = this.#row;
    perform([button], async () => {
      await post(ofSpider(spider, paused ? "resume" : "pause"), {});
      say(t(paused ? "resumed_spider" : "paused_spider", { spider }));
      await changed();
    });
  }

  async #limit(button, changed) {
    const { spider, max_rate } = this.#row;
    const { limit } = byId("rate-form").elements;
    limit.value = max_rate === null ? "settings" : max_rate === 0 ? "none" : "some";
    const unit = [1e9, 1e6, 1e3].find((size) => max_rate >= size) ?? 1e6;
    byId("rate-unit").value = String(unit);
    byId("rate-amount").value = max_rate ? String(max_rate / unit) : "";
    this.#requireAmount();
    if ((await answer(byId("rate"))) !== "yes") return;
    const some = Math.round(byId("rate-amount").valueAsNumber * Number(byId("rate-unit").value));
    const wanted = { settings: null, none: 0, some }[limit.value];
    perform([button], async () => {
      await post(ofSpider(spider, "rate"), { bytes_per_second: wanted });
      say(t("rate_changed", { spider }));
      await changed();
    });
  }

  #requireAmount() {
    byId("rate-amount").required = byId("rate-form").elements.limit.value === "some";
  }
}

