// Limits of one host, set while processes run: a dialog of three numbers, and the way back to the settings.
import { byId, make, plain, set, setText } from "./dom.js";
import { answer, perform, say } from "./messages.js";
import { ofSpider, post } from "./server.js";
import { t } from "./texts.js";

const FIELDS = ["connections", "delay", "rate"];

/** A column with a button that asks for limits. `spider` tells which is shown, `changed` is called when they are set. */
export const limitsColumn = (spider, changed) => ({
  head: "host_limits",
  kind: "actions",
  build(cell) {
    const button = make("button", { type: "button" });
    button.addEventListener("click", () => askFor(button, spider(), cell.row, changed));
    cell.append(make("div", {}, button));
  },
  fill(cell, row) {
    const button = cell.firstChild.firstChild;
    cell.row = row;
    setText(button, t(row.asked ? "limits_asked" : "limits_change"));
    set(button, "ariaLabel", t("limits_of", { host: plain(row.host) }));
  },
});

async function askFor(button, spider, { host, asked }, changed) {
  const { elements } = byId("limits-form");
  setText(byId("limits-title"), t("limits_of", { host: plain(host) }));
  for (const name of FIELDS) elements[`limits-${name}`].value = asked?.[name] ?? "";
  const said = await answer(byId("limits"));
  if (said === "no") return;
  const wanted = { host };
  for (const name of FIELDS) {
    const { value } = elements[`limits-${name}`];
    if (value !== "") wanted[name] = Number(value);
  }
  perform([button], async () => {
    await post(ofSpider(spider, said === "settings" ? "hosts/reset" : "hosts/limit"), said === "settings" ? { host } : wanted);
    say(t(said === "settings" ? "limits_are_back" : "limits_are_set", { host: plain(host) }));
    await changed();
  });
}
