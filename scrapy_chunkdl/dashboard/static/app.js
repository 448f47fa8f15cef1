// Joins the parts: which spider is chosen, what the server tells, who shows it.
import { showAttention } from "./attention.js";
import { Files } from "./files.js";
import { Finished } from "./finished.js";
import { GivenUp } from "./given_up.js";
import { History } from "./charts.js";
import { Hosts } from "./hosts.js";
import { Live, get } from "./server.js";
import { Spiders, inOrder, showFigures } from "./spiders.js";
import { Waiting } from "./waiting.js";
import { Workers } from "./workers.js";
import { byId, plain, set, setText } from "./dom.js";
import { recall, remember } from "./memory.js";
import { say } from "./messages.js";
import { timeOfDay } from "./format.js";
import { currentLanguage, languageTag, setLanguage, t, translate } from "./texts.js";
import { inTurn } from "./turns.js";

const COLOURED = "body > :not(main, script), #spiders, #detail > *"; // what has a ground of its own
const WORDED = "body > :not(main, script), #spiders > :not(table), #detail > * > :not(table), thead, tbody > tr";
const ELEMENTS_AT_ONCE = 300; // styled and laid out in one frame
const FEW_SPIDERS = 3; // with more, what is told of the chosen one stands beside their list
const MANY_SPIDERS = 15; // with more, their list is as high as the window

const state = {
  chosen: new URLSearchParams(location.search).get("spider"),
  connection: "connecting",
  status: null, // the last one that Redis was there for
  redisError: null,
  spider: null, // the last details of the chosen spider
};
const wanted = {}; // of language and colours, what was chosen last

document.documentElement.dataset.theme = byId("theme").value = recall("theme") ?? "auto";
byId("language").value = currentLanguage();

const history = new History(() => state.chosen);
const spiders = new Spiders(choose, refresh);
const workers = new Workers(refresh);
const files = new Files(refresh);
const finished = new Finished();
const waiting = new Waiting(refresh);
const hosts = new Hosts(refresh);
const givenUp = new GivenUp(refresh);

const live = new Live({
  status: takeStatus,
  spider: takeSpider,
  state(connection) {
    if (connection === state.connection) return;
    const wasAway = state.connection === "away";
    state.connection = connection;
    if (wasAway && state.redisError === null) say(t("back"));
    showConnection();
  },
});

document.documentElement.lang = languageTag();
translate(document.body);
showConnection();
renewColours();
live.follow(state.chosen);

byId("language").addEventListener("change", (event) => {
  setLanguage(event.target.value);
  renewWords();
});
byId("theme").addEventListener("change", (event) => {
  remember("theme", event.target.value);
  inParts("theme", event.target.value, renewColours);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", renewColours);
addEventListener("popstate", () => follow(new URLSearchParams(location.search).get("spider")));

function choose(name) {
  window.history.pushState(null, "", `?${new URLSearchParams({ spider: name })}`);
  follow(name);
}

function follow(name) {
  state.chosen = name;
  state.spider = null;
  live.follow(name);
  showSpider();
  showStatus();
}

/** Ask at once for what the next event would bring: something was just done. */
async function refresh() {
  takeStatus(await get("api/status"));
}

function takeStatus(status) {
  const wasAway = state.redisError !== null;
  state.redisError = status.redis.ok ? null : status.redis.error;
  if (status.redis.ok) {
    state.status = status;
    if (wasAway) say(t("back"));
    showStatus();
  }
  showConnection();
}

function takeSpider(detail) {
  if (detail.spider !== state.chosen) return;
  state.spider = detail;
  showSpider();
}

function showStatus() {
  if (state.status === null) return;
  const rows = state.status.spiders;
  if (!rows.some(({ spider }) => spider === state.chosen)) {
    const first = inOrder(rows)[0]?.spider ?? null; // none was chosen, or there is none of that name
    if (first !== state.chosen) return follow(first);
  }
  const row = rows.find(({ spider }) => spider === state.chosen);
  byId("main").classList.toggle("beside", rows.length > FEW_SPIDERS);
  byId("main").classList.toggle("many", rows.length > MANY_SPIDERS);
  const shown = state.status;
  const isCurrent = () => shown === state.status && row?.spider === (state.chosen ?? undefined); // else a newer one does it
  return inTurn([() => spiders.update(rows, state.chosen), ...piecesOf(row)], isCurrent);
}

/** What the status tells of the chosen spider, a piece for each section. */
function piecesOf(row) {
  const detail = () => set(byId("detail"), "hidden", row === undefined);
  if (row === undefined) return [detail];
  const known = [files, hosts, givenUp, waiting, finished].map((part) => () => void part.know(row));
  return [() => (showFigures(row), showAttention(row), detail()), ...known, () => workers.update(row)];
}

function showSpider() {
  const shown = state.spider;
  for (const part of ["history", "files"]) set(byId(part), "hidden", !shown?.[part]); // of no other spider
  if (shown === null) hosts.update({ hosts: [] });
  if (shown === null || state.status === null) return;
  const pieces = [
    () => shown.history && history.update(shown.history, Date.parse(state.status.time) / 1000),
    () => shown.files && files.update(shown.files),
    () => shown.hosts && hosts.update(shown.hosts),
  ];
  return inTurn(pieces, () => shown === state.spider); // newer ones may have come, or another was chosen
}

/**
 * Change "lang" or "theme", which have all styled and laid out anew, some parts of the page in each frame, and the page as a
 * whole at the end; then do the steps. Where it is changed again meanwhile, that counts.
 */
function inParts(attribute, value, ...steps) {
  wanted[attribute] = value;
  const change = attribute === "lang" ? speak : colour;
  const groups = grouped(document.querySelectorAll(attribute === "lang" ? WORDED : COLOURED));
  const pieces = groups.map((parts) => () => parts.forEach((part) => change(part, value)));
  return inTurn([...pieces, () => change(document.documentElement, value), ...steps], () => wanted[attribute] === value);
}

function grouped(parts) {
  const groups = [];
  let room = 0;
  for (const part of parts) {
    const size = 1 + part.getElementsByTagName("*").length;
    if (size > room) {
      groups.push([]);
      room = ELEMENTS_AT_ONCE;
    }
    groups.at(-1).push(part);
    room -= size;
  }
  return groups;
}

const colour = (part, theme) => (part.dataset.theme = theme);

function speak(part, language) {
  part.lang = language;
  if (part !== document.documentElement) translate(part);
}

function showConnection() {
  const kind = state.connection === "live" && state.redisError !== null ? "redis_away" : state.connection;
  const word = kind === "away" ? "server_away" : kind;
  const trouble = word === "server_away" || word === "redis_away";
  byId("connection").dataset.state = trouble ? "away" : kind;
  setText(byId("connection"), t(word));
  const time = state.status && timeOfDay(new Date(state.status.time), true);
  const sentence = trouble ? t(time ? `${word}_long` : `${word}_at_once`, { time, error: state.redisError }) : "";
  setText(byId("banner"), plain(sentence));
  byId("banner").classList.toggle("shown", trouble);
  byId("main").classList.toggle("old", trouble && state.status !== null);
  document.title = `${trouble ? "⚠ " : ""}${state.chosen ? `${state.chosen} · ` : ""}chunkdl`;
}

function renewColours() {
  return inTurn([() => history.renew(), () => files.renew(), () => void showSpider()]);
}

function renewWords() {
  showConnection();
  const renewed = [givenUp, waiting, finished].map((part) => () => part.renew());
  return inParts("lang", languageTag(), () => void showStatus(), ...renewed, renewColours);
}
