// The hosts that files come from.
import { Table, byId, make, plain, set, setText, showEither, textColumn } from "./dom.js";
import { count, duration, rate } from "./format.js";
import { t } from "./texts.js";

const FEW = 20;
const ORDER = new Intl.Collator(undefined, { numeric: true });

export class Hosts {
  #table;
  #hosts = [];
  #all = false;
  #connections = 0; // by the status

  constructor() {
    this.#table = new Table(byId("hosts-table"), [
      {
        head: "host",
        kind: "title",
        build: (cell) => cell.append(make("bdi"), make("span", { classes: "badge warn" })),
        fill(cell, { host, cooling_for }) {
          setText(cell.firstChild, plain(host));
          set(cell.lastChild, "hidden", !cooling_for);
          setText(cell.lastChild, t("cooling", { time: duration(cooling_for) }));
        },
      },
      textColumn("connections", "number", ({ connections }) => count(connections)),
      textColumn("limit", "number", ({ limit }) => count(limit)),
      textColumn("bytes_rate", "number", ({ bytes_per_second }) => rate(bytes_per_second)),
      textColumn("errors", "errors", ({ errors }) =>
        Object.entries(errors)
          .sort(([, a], [, b]) => b - a)
          .map(([reason, times]) => `${plain(reason)} ${count(times)}`)
          .join(", "),
      ),
    ]);
    byId("hosts-all").addEventListener("click", () => {
      this.#all = !this.#all;
      this.update({ hosts: this.#hosts });
    });
  }

  know({ connections }) {
    this.#connections = connections;
  }

  update({ hosts }) {
    this.#hosts = hosts;
    // By name: an order by rate would turn all the time under the eyes of who reads it.
    const sorted = hosts.toSorted((a, b) => ORDER.compare(a.host, b.host));
    setText(byId("hosts-count"), count(hosts.length));
    showEither("hosts", hosts.length > 0);
    setText(byId("hosts-none"), t(this.#connections > 0 ? "told_soon" : "hosts_none"));
    this.#table.update(this.#all ? sorted : sorted.slice(0, FEW), ({ host }) => host);
    const button = byId("hosts-all");
    set(button, "hidden", hosts.length <= FEW);
    set(button, "ariaExpanded", String(this.#all));
    setText(button, this.#all ? t("hosts_few") : t("hosts_all", { n: count(hosts.length) }));
  }
}
