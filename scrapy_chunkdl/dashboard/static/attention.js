// What the chosen spider waits for and what a person should do, a sentence each: processes that wait, hosts left alone.
import { byId, make, plain, set, setText } from "./dom.js";
import { count, duration } from "./format.js";
import { t } from "./texts.js";
import { nameOf } from "./workers.js";

const MOST = 5; // of each kind; the others are in the tables of workers and hosts

/** Since when a host is left alone, why, and when it is tried next. */
export function illness({ reason, since_s, next_in_s, tries, is_tried }) {
  const next = is_tried ? t("ill_tried_now") : next_in_s < 1 ? t("ill_next_now") : t("ill_next", { time: duration(next_in_s) });
  const tried = tries ? t("ill_tries", { n: count(tries) }) : "";
  return [t("ill_since", { time: duration(since_s), reason: plain(reason) }), tried, next].filter(Boolean).join(t("ill_and"));
}

/** Show it above all else that is told of the spider, nothing where nothing is to be said. */
export function showAttention({ workers, ill_hosts, parked }) {
  const waiting = Map.groupBy(
    workers.flatMap((worker) => worker.waits.map((sentence) => ({ sentence, name: nameOf(worker) }))),
    ({ sentence }) => sentence,
  );
  const lines = [...waiting].slice(0, MOST).map(([sentence, those]) => {
    const who = those.length === 1 ? those[0].name : t("waits_several", { n: count(those.length) });
    return t("waits_line", { who, sentence: plain(sentence) });
  });
  if (waiting.size > MOST) lines.push(t("waits_more", { n: count(waiting.size - MOST) }));
  for (const ill of ill_hosts.slice(0, MOST)) lines.push(t("ill_line", { host: plain(ill.host), what: illness(ill) }));
  if (ill_hosts.length > MOST) lines.push(t("ill_more", { n: count(ill_hosts.length - MOST) }));
  if (ill_hosts.length) lines.push(t("ill_items", { n: count(parked) }));
  const list = byId("attention");
  while (list.children.length > lines.length) list.lastChild.remove();
  lines.forEach((line, n) => setText(list.children[n] ?? list.appendChild(make("li")), line));
  set(list, "hidden", lines.length === 0);
}
