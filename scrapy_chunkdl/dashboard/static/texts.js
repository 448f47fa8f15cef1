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

/** Fill in what the markup leaves to the language. */
export function translate(root) {
  for (const element of root.querySelectorAll("[data-t]")) {
    const text = t(element.dataset.t);
    if (element.textContent !== text) element.textContent = text;
  }
  for (const element of root.querySelectorAll("[data-t-label]")) element.ariaLabel = t(element.dataset.tLabel);
  for (const element of root.querySelectorAll("[data-t-placeholder]")) {
    element.placeholder = t(element.dataset.tPlaceholder);
  }
  document.documentElement.lang = language === "zh" ? "zh-CN" : language; // last: all has to be styled anew for it
}
