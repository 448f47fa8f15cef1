// The files that are being downloaded, with a map of their chunks. The first page comes with the events.
import { STATES, draw, forgetColours, tally } from "./chunk_map.js";
import { Table, actionsColumn, byId, make, plain, set, setText, showEither, textColumn } from "./dom.js";
import { amount, clock, count, duration, rate } from "./format.js";
import { ask, perform, say } from "./messages.js";
import { get, ofSpider, post } from "./server.js";
import { t } from "./texts.js";
import { turn } from "./turns.js";
import { nameOf } from "./workers.js";

const PAGE = 25;
const BUSY = ["r", "h", "t"];
const DRAWN_WITHIN = 6; // milliseconds; the other maps are drawn in later frames

const DOING = ["waiting_for_a_place", "waiting_for_a_host", "waiting_for_a_disk", "asking", "checking", "publishing", "delivering"];

/** What a file does besides receiving bytes, and since when, where that is long. */
function doing({ doing: word, doing_for }) {
  const key = word.replaceAll(" ", "_");
  if (!DOING.includes(key)) return "";
  return doing_for >= 5 ? t("doing_for", { what: t(`doing_${key}`), time: duration(doing_for) }) : t(`doing_${key}`);
}

/** Whether no byte came yet, and it does not wait for one either. */
const isOnlyBegun = (row) => row.done === 0 && doing(row) !== "";

const percent = ({ done, size }) => (size ? `${Math.floor((100 * done) / size)} %` : "");

function describe(map) {
  const cells = tally(map);
  if (cells.all === 0) return t("map_none");
  const parts = STATES.filter((state) => cells[state]).map((state) => `${t(`chunk_${state}`)} ${cells[state]}`);
  return t("map_label", { all: cells.all, parts: parts.join(", ") });
}

function busy(map) {
  const cells = tally(map);
  return BUSY.filter((state) => cells[state]).map((state) => `${cells[state]} ${t(`chunk_${state}`)}`);
}

export class Files {
  #spider = null;
  #offset = 0;
  #shown = { total: 0, sampled: false, files: [] };
  #workers = new Map();
  #table;
  #asked = 0;
  #running = 0; // files, by the status: it is told of at once, which ones only a moment after somebody looks
  #width = 0; // of each map, in CSS pixels
  #drawing = 0;

  #changed;

  constructor(changed) {
    this.#changed = changed;
    this.#table = new Table(byId("files-table"), [
      {
        head: "file",
        kind: "title",
        build: (cell) => cell.append(make("bdi"), make("bdi", { classes: "under" }), make("bdi", { classes: "under" })),
        fill(cell, { name, url, title, page }) {
          const [top, under, of] = cell.children;
          setText(top, plain(name || url));
          setText(under, plain(url));
          setText(of, plain([title, page].filter(Boolean).join(" · ")));
          set(of, "hidden", !title && !page);
        },
      },
      {
        head: "chunks",
        kind: "map",
        build(cell) {
          const canvas = make("canvas");
          canvas.role = "img";
          cell.append(canvas, make("span", { classes: "under" }));
        },
        fill(cell, { map, chunks }) {
          const [canvas, under] = cell.children;
          set(canvas, "ariaLabel", describe(map));
          canvas.map = map;
          const words = busy(map);
          if (chunks !== null) words.unshift(t("n_chunks", { n: count(chunks) }));
          setText(under, words.join(" · ") || t("map_none"));
        },
      },
      {
        head: "progress",
        kind: "number pair",
        build: (cell) => cell.append(make("span"), make("span", { classes: "under" })),
        fill(cell, row) {
          const [top, under] = cell.children;
          const bytes = row.size === null ? amount(row.done) : t("of_size", { done: amount(row.done), size: amount(row.size) });
          const parts = [doing(row), percent(row), bytes].filter(Boolean);
          if (isOnlyBegun(row)) parts.splice(1); // what it does says more than "0 B"
          setText(top, parts.shift());
          setText(under, parts.join(" · "));
        },
      },
      textColumn("bytes_rate", "number", (row) => (doing(row) && !row.bytes_per_second ? t("unknown") : rate(row.bytes_per_second))),
      textColumn("eta", "number", ({ eta }) => clock(eta)),
      textColumn("retries", "number", ({ retries }) => count(retries)),
      {
        head: "worker",
        kind: "wide-only pair",
        build: (cell) => cell.append(make("bdi")),
        fill: (cell, { worker }) => setText(cell.firstChild, this.#workers.get(worker) ?? plain(worker)),
      },
      actionsColumn({
        actions: ["again", "give_up"],
        text: (action) => t(`file_${action}`),
        label: (action, { name, url }) => t(`file_${action}_one`, { name: plain(name || url) }),
        act: (action, row, button) => this.#act(action, row, button),
        isFor: ({ id }) => id,
      }),
    ]);
    byId("files-before").addEventListener("click", () => this.#turn(-PAGE));
    byId("files-after").addEventListener("click", () => this.#turn(PAGE));
    // Width is asked for only when the browser has laid out the table anyway; while it is out of sight, that is never.
    new ResizeObserver(() => {
      this.#width = byId("files-table").querySelector("td.map canvas")?.clientWidth ?? 0;
      turn().then(() => this.#drawMaps()); // not in the frame that is being laid out
    }).observe(byId("files-table"));
  }

  /** Another spider, or the same with other workers: names of processes come from there. */
  know({ spider, workers, files }) {
    if (spider !== this.#spider) {
      this.#spider = spider;
      this.#offset = 0;
    }
    this.#running = files;
    setText(byId("files-count"), count(files));
    this.#workers = new Map(workers.map((worker) => [worker.id, nameOf(worker)]));
  }

  /** `first` is the first page, as events bring it. */
  async update(first) {
    if (this.#offset === 0) this.#show({ ...first, files: first.files.slice(0, PAGE) });
    else await this.#fetch();
  }

  async #act(action, { worker, id, name, url }, button) {
    const shown = plain(name || url);
    const question = { title: t(`title_file_${action}`), text: t(`ask_file_${action}`, { name: shown }), action: t(`file_${action}`) };
    if (!(await ask({ ...question, danger: action === "give_up" }))) return;
    await perform([button], async () => {
      await post(ofSpider(this.#spider, `files/${action === "again" ? "retry" : "give-up"}`), { worker, file: id });
      say(t("file_asked", { name: shown }));
      await this.#changed();
    });
  }

  /** Colours or words have changed. */
  renew() {
    forgetColours();
    this.#legend();
    this.#show(this.#shown);
  }

  #legend() {
    const samples = ["d", "r", "h", "t", "m"].map((state) => {
      const canvas = make("canvas");
      const item = make("li", {}, canvas, make("span", { text: t(`chunk_${state}_long`) }));
      canvas.ariaHidden = "true";
      draw(canvas, `3${state}`, 24);
      return item;
    });
    byId("legend").replaceChildren(...samples);
  }

  async #turn(by) {
    this.#offset = Math.max(0, this.#offset + by);
    await this.#fetch();
    byId("files").focus({ preventScroll: true });
    byId("files").scrollIntoView();
  }

  async #fetch() {
    const turn = ++this.#asked;
    const shown = await get(ofSpider(this.#spider, "files", { offset: this.#offset, limit: PAGE })).catch(() => null);
    if (shown === null || turn !== this.#asked) return; // that the server is away is told elsewhere
    if (shown.files.length === 0 && this.#offset > 0) {
      this.#offset = Math.max(0, PAGE * (Math.ceil(shown.total / PAGE) - 1));
      if (shown.total > 0) return this.#fetch();
    }
    this.#show(shown);
  }

  #show(shown) {
    this.#shown = shown;
    const { total, sampled, files } = shown;
    showEither("files", files.length > 0);
    setText(byId("files-none"), t(this.#running > 0 ? "told_soon" : "files_none"));
    this.#table.update(files, ({ worker, url, name }) => `${worker} ${url} ${name}`, () => this.#drawMaps());
    const more = total > PAGE || this.#offset > 0;
    set(byId("files-pager"), "hidden", !more && !sampled);
    const place = { from: count(this.#offset + 1), to: count(this.#offset + files.length), total: count(total) };
    setText(byId("files-place"), t("place", place));
    set(byId("files-before"), "disabled", this.#offset === 0);
    set(byId("files-after"), "disabled", this.#offset + files.length >= total);
    set(byId("files-sampled"), "hidden", !sampled);
  }

  async #drawMaps() {
    const round = ++this.#drawing;
    let over = performance.now() + DRAWN_WITHIN;
    for (const canvas of byId("files-table").querySelectorAll("td.map canvas")) {
      if (this.#width === 0 || round !== this.#drawing) return;
      draw(canvas, canvas.map, this.#width);
      if (performance.now() < over) continue;
      await turn();
      over = performance.now() + DRAWN_WITHIN;
    }
  }
}
