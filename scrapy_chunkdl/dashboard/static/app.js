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
import { byId, set, setText } from "./dom.js";
import { recall, remember } from "./memory.js";
import { say } from "./messages.js";
import { timeOfDay } from "./format.js";
import { currentLanguage, setLanguage, t, translate } from "./texts.js";

const FEW_SPIDERS = 3; // with more, what is told of the chosen one stands beside their list

const state = {
  chosen: new URLSearchParams(location.search).get("spider"),
  connection: "connecting",
  status: null, // the last one that Redis was there for
  redisError: null,
  spider: null, // the last details of the chosen spider
};

applyTheme(recall("theme") ?? "auto");
byId("theme").value = document.documentElement.dataset.theme;
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

renewWords();
live.follow(state.chosen);

byId("language").addEventListener("change", (event) => {
  setLanguage(event.target.value);
  renewWords();
});
byId("theme").addEventListener("change", (event) => {
  remember("theme", event.target.value);
  inParts(() => applyTheme(event.target.value), renewColours);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => inParts(renewColours));
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
  const shown = state.status;
  const current = (show) => () => shown === state.status && show(); // else a newer one does it
  return inTurn([current(() => spiders.update(rows, state.chosen)), current(() => showRow(row))]);
}

/** What the status tells of the chosen spider. */
function showRow(row) {
  set(byId("detail"), "hidden", row === undefined);
  if (row === undefined || row.spider !== state.chosen) return;
  showFigures(row);
  showAttention(row);
  for (const part of [files, hosts, givenUp, waiting, finished]) part.know(row);
  workers.update(row);
}

function showSpider() {
  const shown = state.spider;
  for (const part of ["history", "files"]) set(byId(part), "hidden", !shown?.[part]); // of no other spider
  if (shown === null) hosts.update({ hosts: [] });
  if (shown === null || state.status === null) return;
  const current = (show) => () => shown === state.spider && show(); // newer ones may have come, or another was chosen
  return inTurn([
    current(() => shown.history && history.update(shown.history, Date.parse(state.status.time) / 1000)),
    current(() => shown.files && files.update(shown.files)),
    current(() => shown.hosts && hosts.update(shown.hosts)),
  ]);
}

/** Do one after another, with room for the person's clicks and keys in between. */
async function inTurn(parts) {
  for (const part of parts) {
    await new Promise((resolve) => setTimeout(resolve));
    await part();
  }
}

/** Do what has the whole page styled and laid out anew: out of sight first, and then a section in each frame. */
async function inParts(...steps) {
  const sections = [...byId("main").querySelectorAll("section, details")];
  for (const section of sections) section.classList.add("later");
  await inTurn(steps);
  for (const section of sections) {
    section.classList.remove("later");
    if (!document.hidden) await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  }
}

function showConnection() {
  const kind = state.connection === "live" && state.redisError !== null ? "redis_away" : state.connection;
  const word = kind === "away" ? "server_away" : kind;
  const trouble = word === "server_away" || word === "redis_away";
  byId("connection").dataset.state = trouble ? "away" : kind;
  setText(byId("connection"), t(word));
  const time = state.status && timeOfDay(new Date(state.status.time), true);
  const sentence = trouble ? t(time ? `${word}_long` : `${word}_at_once`, { time, error: state.redisError }) : "";
  setText(byId("banner"), sentence);
  byId("banner").classList.toggle("shown", trouble);
  byId("main").classList.toggle("old", trouble && state.status !== null);
  document.title = `${trouble ? "⚠ " : ""}${state.chosen ? `${state.chosen} · ` : ""}chunkdl`;
}

function applyTheme(theme) {
  document.documentElement.dataset.theme = theme;
}

function renewColours() {
  return inTurn([() => history.renew(), () => files.renew(), showSpider]);
}

function renewWords() {
  showConnection();
  return inParts(() => translate(document), showStatus, () => givenUp.renew(), () => waiting.renew(), () => finished.renew(), renewColours);
}
