// The last hour, minute by minute: three small charts with one axis of time. uPlot comes as a global of its own script.
import { byId, colour, make, setText } from "./dom.js";
import { amount, number, rate, timeOfDay } from "./format.js";
import { t } from "./texts.js";

const HOUR = 3600;
const HEIGHT = 132;
const CHARTS = [
  { field: "bytes_per_second", title: "chart_bytes", long: rate, short: amount },
  { field: "items_per_second", title: "chart_items", long: number, short: number },
  { field: "connections", title: "chart_connections", long: number, short: number },
];

class Chart {
  #kind;
  #title = make("h3");
  #reading = make("p", { classes: "reading" });
  #value = make("strong");
  #moment = make("span", { classes: "quiet" });
  #area = make("div", { classes: "area" });
  #plot = null;
  #data = [[], []];
  #end = 0;
  #at = null;

  constructor(container, kind) {
    this.#kind = kind;
    this.#reading.append(this.#value, " ", this.#moment);
    this.#area.tabIndex = 0;
    this.#area.role = "img";
    const figure = make("div", { classes: "chart" }, make("div", { classes: "head" }, this.#title, this.#reading));
    figure.append(this.#area);
    container.append(figure);
    this.#area.addEventListener("keydown", (event) => this.#onKey(event));
    this.#area.addEventListener("blur", () => this.#point(null));
    new ResizeObserver(() => this.#plot?.setSize({ width: this.#area.clientWidth, height: HEIGHT })).observe(this.#area);
  }

  show(minutes, now) {
    const times = minutes.map(({ age }) => now - age);
    this.#data = [times, minutes.map((minute) => minute[this.#kind.field])];
    this.#end = now;
    this.#plot ??= this.#build();
    this.#plot.setData(this.#data, false);
    this.#plot.setScale("x", { min: now - HOUR, max: now });
    this.#tell();
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
        { ...axis, size: 24, space: 70, grid: { show: false }, values: (_, ticks) => ticks.map((s) => timeOfDay(new Date(s * 1000))) },
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
    setText(this.#moment, at === null ? t("chart_now") : t("chart_at", { time: timeOfDay(new Date(times[at] * 1000)) }));
    const now = long(values.at(-1) ?? null);
    const label = t("chart_help", { title: t(title), now, most: long(values.length ? Math.max(...values) : null) });
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

  /** `now` is when the data was made, in seconds since 1970. */
  update({ minutes }, now) {
    for (const chart of this.#charts) chart.show(minutes, now);
  }

  renew() {
    for (const chart of this.#charts) chart.renew();
  }
}
