// The processes at work on the chosen spider's queue.
import { Table, byId, make, plain, set, setText, showEither, textColumn } from "./dom.js";
import { amount, count, duration } from "./format.js";
import { perform, say } from "./messages.js";
import { ofSpider, post } from "./server.js";
import { t } from "./texts.js";

const ORDER = new Intl.Collator(undefined, { numeric: true });
const KINDS = new Map(Object.entries({ claiming: "good", paused: "warn", closing: "quiet", silent: "bad" }));

const FULL = 0.05; // free share of a disk below which somebody should make room
const isFull = ({ state, disk_free, disk_size }) => state !== "silent" && disk_size > 0 && disk_free / disk_size < FULL;

/** How people call a process. */
export const nameOf = ({ host, pid }) => plain(pid === null ? host : `${host} : ${pid}`);

function heartbeat(cell, { state, silent_for }) {
  if (silent_for === null) setText(cell, t("never"));
  else setText(cell, t(state === "silent" ? "silent" : "ago", { time: duration(silent_for) }));
}

const FEW = 20;

export class Workers {
  #spider = null;
  #sorted = [];
  #all = false;
  #table;

  constructor(changed) {
    this.#table = new Table(
      byId("workers-table"),
      [
        {
          head: "worker",
          kind: "title",
          build: (cell) => cell.append(make("bdi")),
          fill: (cell, row) => setText(cell.firstChild, nameOf(row)),
        },
        {
          head: "state",
          kind: "state",
          build: (cell) => cell.append(make("span"), make("bdi", { classes: "under warn" })),
          fill(cell, { state, paused, waits }) {
            const shown = paused && state === "claiming" ? "paused" : state; // it has not told yet that it knows
            set(cell.firstChild, "className", `badge ${KINDS.get(shown) ?? "quiet words"}`);
            setText(cell.firstChild, KINDS.has(shown) ? t(`state_${shown}`) : plain(shown));
            setText(cell.lastChild, plain(waits.join(" ")));
          },
        },
        { head: "heartbeat", kind: "number", fill: heartbeat },
        textColumn("items", "number", ({ items }) => count(items)),
        textColumn("running", "number", ({ files }) => count(files)),
        textColumn("connections", "number", ({ connections }) => count(connections)),
        textColumn("longest_held", "number", ({ longest_held }) => duration(longest_held)),
        textColumn("up_for", "number", ({ up_for }) => duration(up_for)),
        {
          head: "disk_free",
          kind: "number",
          fill(cell, row) {
            setText(cell, amount(row.disk_free));
            cell.classList.toggle("bad", isFull(row));
          },
        },
        textColumn("version", "number words", ({ version }) => (version === null ? t("unknown") : plain(version))),
        {
          head: "actions",
          kind: "actions",
          build: (cell) => this.#buildAction(cell, changed),
          fill(cell, row) {
            const button = cell.firstChild;
            button.row = row;
            set(button, "hidden", row.state === "silent" || row.state === "closing");
            setText(button, t(row.paused ? "resume" : "pause"));
            set(button, "ariaLabel", t(row.paused ? "resume_worker" : "pause_worker", { worker: nameOf(row) }));
          },
        },
      ],
      (element, { state }) => element.classList.toggle("silent", state === "silent"),
    );
    byId("workers-all").addEventListener("click", () => {
      this.#all = !this.#all;
      this.#show();
    });
  }

  update({ spider, workers }) {
    if (spider !== this.#spider) [this.#spider, this.#all] = [spider, false];
    const rank = ({ state, waits }) => (state === "silent" ? 0 : waits.length ? 1 : 2); // what needs a look comes first
    this.#sorted = workers.toSorted((a, b) => rank(a) - rank(b) || ORDER.compare(nameOf(a), nameOf(b)));
    const alive = workers.filter(({ state }) => state !== "silent").length;
    setText(byId("workers-count"), alive === workers.length ? alive : `${alive}/${workers.length}`);
    this.#show();
  }

  #show() {
    const all = this.#sorted.length;
    showEither("workers", all > 0);
    this.#table.update(this.#all ? this.#sorted : this.#sorted.slice(0, FEW), ({ id }) => id);
    const button = byId("workers-all");
    set(button, "hidden", all <= FEW);
    set(button, "ariaExpanded", String(this.#all));
    setText(button, this.#all ? t("show_fewer") : t("workers_all", { n: count(all) }));
  }

  #buildAction(cell, changed) {
    const button = make("button", { type: "button" });
    cell.append(button);
    button.addEventListener("click", () => {
      const { row } = button;
      perform([button], async () => {
        await post(ofSpider(this.#spider, row.paused ? "resume" : "pause"), { worker: row.id });
        say(t(row.paused ? "resumed_worker" : "paused_worker", { worker: nameOf(row) }));
        await changed();
      });
    });
  }
}
