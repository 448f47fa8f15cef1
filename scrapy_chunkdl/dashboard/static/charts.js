// The last hour, minute by minute, or days, hour by hour: small charts with one axis of time. uPlot comes as a global of its own script.
import { byId, colour, make, set, setText } from "./dom.js";
import { amount, count, dayAndTime, dayOfYear, number, rate, timeOfDay } from "./format.js";
import { get, ofSpider } from "./server.js";
import { t } from "./texts.js";
import { inTurn } from "./turns.js";

const HOUR = 3600;
const DAY = 86400;
const HEIGHT = 132;
const CHARTS = [
  { field: "bytes_per_second", title: "chart_bytes", long: rate, short: amount },
  { field: "items_per_second", title: "chart_items", long: number, short: number },
  { field: "connections", title: "chart_connections", long: number, short: number, only: "hour" },
  { field: "given_up", title: "chart_given_up", long: count, short: count, only: "days" },
];

const HOURS_AGAIN_AFTER = 60000; // milliseconds: an hour grows slowly

class Chart {
  #kind;
  #figure;
  #title = make("h3");
  #reading = make("p", { classes: "reading" });
  #value = make("strong");
  #moment = make("span", { classes: "quiet" });
  #area = make("div", { classes: "area" });
  #plot = null;
  #data = [[], []];
  #span = HOUR;
  #at = null;

  constructor(container, kind) {
    this.#kind = kind;
    this.#reading.append(this.#value, " ", this.#moment);
    this.#area.tabIndex = 0;
    this.#area.role = "img";
    this.#figure = make("div", { classes: "chart" }, make("div", { classes: "head" }, this.#title, this.#reading));
    this.#figure.append(this.#area);
    this.#figure.hidden = kind.only === "days"; // until days are asked for
    container.append(this.#figure);
    this.#area.addEventListener("keydown", (event) => this.#onKey(event));
    this.#area.addEventListener("blur", () => this.#point(null));
    new ResizeObserver(() => this.#plot?.setSize({ width: this.#area.clientWidth, height: HEIGHT })).observe(this.#area);
  }

  /** `points` have a time `at` in seconds since 1970; `span` is the seconds up to `now` that are drawn. */
  show(points, now, span) {
    this.#data = [points.map(({ at }) => at), points.map((point) => point[this.#kind.field] ?? null)];
    if (span !== this.#span) this.renew();
    this.#span = span;
    const shown = span === HOUR ? "hour" : "days";
    set(this.#figure, "hidden", (this.#kind.only ?? shown) !== shown);
    if (this.#figure.hidden) return;
    this.#plot ??= this.#build();
    this.#plot.setData(this.#data, false);
    this.#plot.setScale("x", { min: now - span, max: now });
    this.#tell();
  }

  #momentOf(seconds) {
    const date = new Date(seconds * 1000);
    return this.#span === HOUR ? timeOfDay(date) : dayAndTime(date);
  }

  /** Colours or words have changed. */
  renew() {
    this.#plot?.destroy();
    this.#plot = null;
  }

  #build() {
    const [ink, line, bar] = ["--quiet", "--line", "--accent"].map(colour);
    const axis = { stroke: ink, font: "11px system-ui, sans-serif", ticks: { show: false }, grid: { stroke: line, width: 1 } };
    const options = {
      width: this.#area.clientWidth,
      height: HEIGHT,
      padding: [8, 6, 0, 0],
      legend: { show: false },
      cursor: {
        sync: { key: "history" },
        drag: { x: false, y: false },
        points: { show: false },
        y: false,
      },
      scales: { x: { time: true }, y: { range: (_, low, high) => [0, Math.max(high ?? 0, 1) * 1.1] } },
      axes: [
        { ...axis, size: 24, space: 70, grid: { show: false }, values: (_, ticks) => ticks.map((s) => (this.#span === HOUR ? timeOfDay : dayOfYear)(new Date(s * 1000))) },
        { ...axis, size: 58, space: 36, values: (_, ticks) => ticks.map((value) => this.#kind.short(value)) },
      ],
      series: [{}, { fill: bar, stroke: bar, width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.8, 12], align: 1 }) }],
      hooks: { setCursor: [(plot) => this.#read(plot.cursor.idx)] },
    };
    return new uPlot(options, this.#data, this.#area);
  }

  #read(index) {
    this.#at = index ?? null;
    this.#tell();
  }

  #tell() {
    const [times, values] = this.#data;
    const { title, long } = this.#kind;
    setText(this.#title, t(title));
    const at = this.#at !== null && this.#at < times.length ? this.#at : null;
    const value = values[at ?? values.length - 1];
    setText(this.#value, value === undefined ? t("chart_nothing") : long(value));
    const last = this.#span === HOUR ? t("chart_now") : t("chart_last_hour");
    setText(this.#moment, at === null ? last : t("chart_at", { time: this.#momentOf(times[at]) }));
    const now = long(values.at(-1) ?? null);
    const label = t(this.#span === HOUR ? "chart_help" : "chart_help_days", { title: t(title), now, most: long(values.length ? Math.max(...values) : null) });
    if (this.#area.ariaLabel !== label) this.#area.ariaLabel = label;
  }

  #onKey(event) {
    const last = this.#data[0].length - 1;
    const here = this.#at ?? last + 1;
    const to = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: last }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.#point(Math.min(last, Math.max(0, to)));
    this.#reading.ariaLive = "polite";
  }

  #point(index) {
    this.#reading.ariaLive = null;
    if (!this.#plot) return;
    const left = index === null ? -10 : this.#plot.valToPos(this.#data[0][index] + 20, "x");
    this.#plot.setCursor({ left, top: index === null ? -10 : 10 });
    this.#read(index);
  }
}

export class History {
  #charts = CHARTS.map((kind) => new Chart(byId("history"), kind));
  #chosen;
  #days = 0; // 0: the last hour, as it comes with the events
  #hours = null;
  #hoursOf = null;
  #askedAt = -Infinity;
  #round = 0;

  /** `chosen()` names the spider that is shown. */
  constructor(chosen) {
    this.#chosen = chosen;
    byId("history-span").addEventListener("change", async (event) => {
      this.#days = event.target.value === "hour" ? 0 : Number(event.target.value);
      this.#askedAt = -Infinity;
      await this.#showHours();
    });
  }

  /** `now` is when the data was made, in seconds since 1970. */
  async update({ minutes }, now) {
    if (this.#days > 0) return this.#showHours();
    const points = minutes.map((minute) => ({ ...minute, at: now - minute.age }));
    await this.#show(points, now, HOUR);
  }

  async #showHours() {
    const [days, spider] = [this.#days, this.#chosen()];
    if (days === 0 || spider === null) return;
    if (spider !== this.#hoursOf || performance.now() - this.#askedAt > HOURS_AGAIN_AFTER) {
      this.#askedAt = performance.now();
      const found = await get(ofSpider(spider, "hours", { days })).catch(() => null);
      if (found === null || spider !== this.#chosen() || days !== this.#days) return;
      [this.#hours, this.#hoursOf] = [found.hours, spider];
    }
    const now = Date.now() / 1000;
    const points = this.#hours.map((hour) => ({
      at: hour.at,
      bytes_per_second: (hour.received ?? 0) / HOUR,
      items_per_second: (hour["items/finished"] ?? 0) / HOUR,
      given_up: hour["files/failed"] ?? 0,
    }));
    await this.#show(points, now, days * DAY);
  }

  /** A chart in each frame; what comes meanwhile is shown instead. */
  #show(...shown) {
    const round = ++this.#round;
    return inTurn(this.#charts.map((chart) => () => chart.show(...shown)), () => round === this.#round);
  }

  renew() {
    for (const chart of this.#charts) chart.renew();
  }
}
