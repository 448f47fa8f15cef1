// What the page tells and asks a person: short messages that go away, and questions that wait for an answer.
import { byId, make, plain, setText } from "./dom.js";
import { t } from "./texts.js";

const SHOWN_FOR = 7000; // milliseconds; errors stay until they are closed

/** Show a message; an error stays. */
export function say(text, { error = false } = {}) {
  const close = make("button", { text: "×", type: "button" });
  close.ariaLabel = t("close");
  const message = make("div", { classes: error ? "message error" : "message" }, make("span", { text: plain(text) }), close);
  close.addEventListener("click", () => message.remove());
  byId("messages").append(message);
  if (!error) setTimeout(() => message.remove(), SHOWN_FOR);
}

/** Ask before something is done; resolves to whether it was confirmed. Escape and Cancel both mean no. */
export async function ask({ title, text, action, danger }) {
  const dialog = byId("confirm");
  setText(byId("confirm-title"), title);
  setText(byId("confirm-text"), text);
  setText(byId("confirm-yes"), action);
  byId("confirm-yes").className = danger ? "danger" : "main";
  return (await answer(dialog)) === "yes";
}

let pending = null;

/** Open a dialog and wait until it is closed; resolves to the value of the button that closed it. */
export function answer(dialog) {
  pending?.("no"); // opened anew before the browser told that it was closed: that event is ignored below
  return new Promise((resolve) => {
    const over = new AbortController();
    const settle = (value) => {
      over.abort();
      pending = null;
      resolve(value);
    };
    pending = settle;
    dialog.returnValue = "no";
    dialog.addEventListener("close", () => dialog.open || settle(dialog.returnValue), { signal: over.signal });
    dialog.showModal();
  });
}

/** Run what a button does; it waits meanwhile, and what goes wrong is told. Returns whether all went well. */
export async function perform(buttons, action) {
  for (const button of buttons) button.ariaDisabled = "true"; // `disabled` would take the focus away
  try {
    await action();
    return true;
  } catch (error) {
    say(t("not_done", { error: error.message }), { error: true });
    return false;
  } finally {
    for (const button of buttons) button.ariaDisabled = null;
  }
}
