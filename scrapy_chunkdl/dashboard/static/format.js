// Numbers as people read them, in their language. Pure text.
import { currentLanguage, t } from "./texts.js";

const made = new Map();

function numbers(digits) {
  const key = `${currentLanguage()}/${digits}`;
  if (!made.has(key)) {
    made.set(key, new Intl.NumberFormat(currentLanguage(), { maximumFractionDigits: digits }));
  }
  return made.get(key);
}

const missing = (value) => value === null || value === undefined;

/** A count. */
export const count = (value) => (missing(value) ? t("unknown") : numbers(0).format(value));

/** A number with up to one digit behind the point; small ones get two. */
export const number = (value) => (missing(value) ? t("unknown") : numbers(value < 10 ? 2 : 1).format(value));

/** Bytes, in powers of 1000 as `scrapy chunkdl status` has them. */
export function amount(bytes) {
  if (missing(bytes)) return t("unknown");
  let size = bytes;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (size < 999.5) return `${numbers(unit === "B" || size >= 100 ? 0 : 1).format(size)} ${unit}`;
    size /= 1000;
  }
  return `${numbers(2).format(size)} TB`;
}

/** Bytes per second. */
export const rate = (bytes) => (missing(bytes) ? t("unknown") : `${amount(bytes)}/s`);

/** Seconds, roughly. */
export function duration(seconds) {
  if (missing(seconds)) return t("unknown");
  const whole = Math.round(seconds);
  if (whole < 60) return t("seconds", { n: whole });
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return t("minutes", { n: minutes });
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return t("hours", { h: hours, n: minutes % 60 });
  return t("days", { d: Math.floor(hours / 24), h: hours % 24 });
}

/** Seconds as 2:03 or 1:02:03. */
export function clock(seconds) {
  if (missing(seconds)) return t("unknown");
  const whole = Math.round(seconds);
  const two = (value) => String(value).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** A Date as the time of day. */
export const timeOfDay = (date, seconds = false) =>
  date.toLocaleTimeString(currentLanguage(), {
    hour: "2-digit",
    minute: "2-digit",
    second: seconds ? "2-digit" : undefined,
    hourCycle: "h23",
  });

/** A Date as its day, without the year. */
export const dayOfYear = (date) => date.toLocaleDateString(currentLanguage(), { month: "short", day: "numeric" });

/** A Date as its day and time. */
export const dayAndTime = (date) => `${dayOfYear(date)} ${timeOfDay(date)}`;

/** What a record says of when it was written; left as it is where it is no time. */
export function when(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return String(text ?? t("unknown"));
  const two = (value) => String(value).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${timeOfDay(date, true)}`;
}
