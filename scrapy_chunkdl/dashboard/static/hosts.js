// The hosts that files come from.
import { illness } from "./attention.js";
import { Table, byId, make, plain, set, setText, showEither, textColumn } from "./dom.js";
import { count, duration, rate } from "./format.js";
import { limitsColumn } from "./host_limits.js";
import { t } from "./texts.js";

const FEW = 20;
const ORDER = new Intl.Collator(undefined, { numeric: true });

export class Hosts {
  #table;
  #hosts = [];
  #all = false;
  #connections = 0; // by the status
  #spider = null;
  #ill = []; // by the status, too: nothing runs there, so that no process tells of them

  constructor(changed) {
    this.#table = new Table(byId("hosts-table"), [
      {
        head: "host",
        kind: "title",
        build: (cell) => cell.append(make("bdi"), make("span", { classes: "badge warn" }), make("bdi", { classes: "under warn" })),
        fill(cell, { host, cooling_for, ill }) {
          const [name, badge, why] = cell.children;
          setText(name, plain(host));
          set(badge, "hidden", !cooling_for && !ill);
          setText(badge, ill ? t("ill") : t("cooling", { time: duration(cooling_for) }));
          set(why, "hidden", !ill);
          setText(why, ill ? illness(ill) : "");
        },
      },
      textColumn("connections", "number", ({ connections }) => count(connections)),
      textColumn("limit", "number", ({ limit }) => count(limit)),
      textColumn("bytes_rate", "number", ({ bytes_per_second }) => rate(bytes_per_second)),
      textColumn("errors", "errors", ({ errors }) =>
        Object.entries(errors ?? {})
          .sort(([, a], [, b]) => b - a)
          .map(([reason, times]) => `${plain(reason)} ${count(times)}`)
          .join(", "),
      ),
      limitsColumn(() => this.#spider, changed),
    ]);
    byId("hosts-all").addEventListener("click", () => {
      this.#all = !this.#all;
      this.update({ hosts: this.#hosts });
    });
  }

  know({ spider, connections, ill_hosts }) {
    this.#spider = spider;
    this.#connections = connections;
    const before = this.#ill.length;
    this.#ill = ill_hosts;
    if (before || ill_hosts.length) this.update({ hosts: this.#hosts });
  }

  update({ hosts }) {
    this.#hosts = hosts;
    const told = new Map(hosts.map((host) => [host.host, host]));
    for (const ill of this.#ill) told.set(ill.host, { ...told.get(ill.host), host: ill.host, ill });
    // By name: an order by rate would turn all the time under the eyes of who reads it.
    const sorted = [...told.values()].sort((a, b) => !a.ill - !b.ill || ORDER.compare(a.host, b.host));
    setText(byId("hosts-count"), count(sorted.length));
    showEither("hosts", sorted.length > 0);
    setText(byId("hosts-none"), t(this.#connections > 0 ? "told_soon" : "hosts_none"));
    this.#table.update(this.#all ? sorted : sorted.slice(0, FEW), ({ host }) => host);
    const button = byId("hosts-all");
    set(button, "hidden", sorted.length <= FEW);
    set(button, "ariaExpanded", String(this.#all));
    setText(button, this.#all ? t("show_fewer") : t("hosts_all", { n: count(sorted.length) }));
  }
}
