// What the page says, in the language of the person who reads it. Knows no view.
import en from "./en.js";
import zh from "./zh.js";
import { recall, remember } from "./memory.js";

const LANGUAGES = { en, zh };

let language = choose();

function choose() {
  const chosen = recall("language");
  if (chosen in LANGUAGES) return chosen;
  const spoken = navigator.languages.map((tag) => tag.split("-")[0]).find((tag) => tag in LANGUAGES);
  return spoken ?? "en";
}

export const currentLanguage = () => language;

export function setLanguage(chosen) {
  language = chosen;
  remember("language", chosen);
}

/** The text of a key, with {names} filled in. An unknown key is a mistake in the page. */
export function t(key, values = {}) {
  const text = LANGUAGES[language][key];
  if (text === undefined) throw new Error(`no text for ${key}`);
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

/** Fill in what the markup of a part of the page leaves to the language. */
export function translate(part) {
  for (const element of [part, ...part.querySelectorAll("[data-t], [data-t-label], [data-t-placeholder]")]) {
    const { t: text, tLabel: label, tPlaceholder: placeholder } = element.dataset;
    if (text && element.textContent !== t(text)) element.textContent = t(text);
    if (label) element.ariaLabel = t(label);
    if (placeholder) element.placeholder = t(placeholder);
  }
}

/** What `lang` is called for browsers and screen readers. */
export const languageTag = () => (language === "zh" ? "zh-CN" : language);
