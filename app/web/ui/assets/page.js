// Joins the parts of the page: what is asked, what is shown, and what can be done with it.

import { Board, ofReport, ofSilence } from "./alerts.js";
import { address, live, poll, Refusal, usage } from "./api.js";
import { Overview, readColours } from "./chart.js";
import { clock } from "./dates.js";
import { counted, History } from "./history.js";
import {
  anew, download, fragment, isLive, leastLimit, mostLimit, next, parameters, readView, rowsOf, setting, writeView,
} from "./settings.js";
import { put, putQuantity, Talkers } from "./table.js";
import { count, rate, time, total, unknown } from "./units.js";

const of = (id) => document.getElementById(id);

let view = readView(); // what is asked for
let asked = ""; // where the report is from that is shown
let filtered = view.filter; // what those were let through by that are counted
let latest, shown; // reports, and the views that they answer
let left; // the view that somebody has come from, until another one is shown
let paused = false;
let silence = null; // since when promflow does not answer, and why

readTheme();
const board = new Board(of("alerts"), say);
export const overview = new Overview(of("chart"), of("readout"));
export const span = new History(sortBy);
const table = new Talkers(of("talkers"), of("talker"), sortBy);

let saying = [];

// say has something read out. The same again is read out again, as it was gone for a moment, and what is said meanwhile follows.
function say(text) {
  put(of("status"), "");
  if (saying.push(text) > 1) return;
  setTimeout(() => {
    put(of("status"), saying.join(" "));
    saying = [];
  }, 50);
}

const ask = poll(
  () => ({ kind: kindOf(view), parameters: parameters(view), view }),
  (report, { view }) => {
    silence = null;
    latest = { report, view };
    board.show(alerts());
    // What somebody has just asked for is shown to them, paused or not.
    const at = source(view);
    if (!paused || asked !== at) showThat(latest);
    asked = at;
    // Who does not see how many a filter lets through hears it.
    if (filtered !== view.filter) say(of("count").textContent);
    filtered = view.filter;
  },
  (error, { kind }) => {
    if (kind === usage && error.missing) {
      silence = null;
      board.show([]);
      showMissing(true);
      return;
    }
    silence ??= { since: new Date() };
    silence.refusal = error instanceof Refusal ? error.message : "";
    board.show(alerts());
  },
);

function kindOf(view) {
  return isLive(view) ? live : usage;
}

function source(view) {
  return address(kindOf(view), parameters(view));
}

// alerts are those of what was answered last. A span has none of its own.
function alerts() {
  return [
    ...(silence ? [ofSilence(silence.since, silence.refusal)] : []),
    ...(latest && isLive(view) && isLive(latest.view) ? ofReport(latest.report) : []),
  ];
}

// showThat shows a report.
function showThat({ report, view }) {
  shown = { report, view };
  showMissing(false);
  if (isLive(view)) show(report, view);
  else {
    document.title = `${span.show(report, view, linkTo(view))} – promflow`;
    showCounts(view, counted(report.matching, view), report.rows.length, report.matching);
  }
  showTime();
  of("content").removeAttribute("aria-busy");
  if (left) arrive();
}

// show shows a report of rates, and the view that it answers.
export function show(report, to = view) {
  const units = setting("units");
  const known = report.window_seconds > 0;
  document.title = "promflow";
  putQuantity(of("receive-rate"), known ? rate(report.receive_bytes_per_second, units) : unknown);
  putQuantity(of("transmit-rate"), known ? rate(report.transmit_bytes_per_second, units) : unknown);
  putQuantity(of("receive-total"), total(report.receive_bytes));
  putQuantity(of("transmit-total"), total(report.transmit_bytes));
  overview.show(report, units);
  put(of("talkers-title"), "Top talkers");
  table.show(report, units, rowsOf(to), linkTo({ ...to, view: "24h" }));
  showInterfaces(report.interfaces);
  showMonitored(report.monitored_subnets);
  const addresses = `${count(report.addresses)} addresses`;
  const filtered = isFiltered(to);
  const devices = rowsOf(to) === "device";
  const found = devices ? counted(report.matching, to) : `${count(report.matching)} of ${addresses}`;
  showCounts(to, filtered ? found : devices ? `${found}, ${addresses}` : addresses, report.talkers.length, report.matching);
  if (known) put(of("window"), `Rates are means over the last ${count(report.window_seconds)} s.`);
}

function showInterfaces(interfaces) {
  const most = 4;
  const real = interfaces.filter((i) => i.backend);
  const texts = real.slice(0, most).map((i) => {
    const state = i.up ? i.backend : "down";
    return i.dropped_packets > 0 ? `${i.name} ${state}, ${count(i.dropped_packets)} dropped` : `${i.name} ${state}`;
  });
  if (real.length > most) texts.push(`and ${count(real.length - most)} more`);
  const list = of("interfaces");
  while (list.childElementCount > texts.length) list.lastElementChild.remove();
  while (list.childElementCount < texts.length) list.append(document.createElement("li"));
  texts.forEach((text, i) => {
    put(list.children[i], text);
    list.children[i].className = i === most ? "" : real[i].up ? "up" : "down";
  });
}

function showMonitored(subnets) {
  const most = 8;
  const texts = subnets.slice(0, most).map((s) => (s.network === s.subnet ? s.subnet : `${s.network} ${s.subnet}`));
  if (subnets.length > most) texts.push(`and ${count(subnets.length - most)} more`);
  put(of("monitored"), `Monitored: ${texts.join(", ") || "nothing yet"}.`);
}

function isFiltered({ filter }) {
  return filter.trim() !== "";
}

// showCounts shows how many there are, and how many rows of those that match.
function showCounts(view, text, rows, matching) {
  const { offset, limit } = view;
  const end = offset + rows;
  put(of("count"), text);
  const part = offset > 0 && rows > 0 ? `${count(offset + 1)} to ${count(end)}` : count(rows);
  put(of("shown"), rows < matching ? `${part} of ${count(matching)} shown` : "");
  const all = end >= matching;
  of("more").hidden = all || limit >= mostLimit || offset > 0;
  of("next").hidden = all || limit < mostLimit || isLive(view);
  of("previous").hidden = offset === 0;
  of("nothing").hidden = rows > 0;
  const one = rowsOf(view) === "device" ? "device" : "address";
  let why = isLive(view) ? "Nobody has moved anything yet." : "Nobody moved anything in this time.";
  if (matching > 0) why = "The list ends before this.";
  else if (isFiltered(view)) why = `No ${one} matches “${view.filter.trim()}”.`;
  put(of("nothing"), why);
}

function showMissing(missing) {
  if (missing && of("missing").hidden) say("No history is kept.");
  of("missing").hidden = !missing;
  of("content").hidden = missing;
}

function showTime() {
  if (shown) {
    const at = isLive(shown.view) ? time(Date.parse(shown.report.time)) : clock(shown.report.time);
    put(of("as-of"), `${paused ? "Paused at" : "As of"} ${at}`);
  }
  of("as-of").classList.toggle("paused", paused);
}

// linkTo gives the beginning of links to one device or address of a span. Its id is to follow.
function linkTo(view) {
  return `${fragment(anew({ ...view, of: "" }))}&of=`;
}

// change asks for something else. Back leads to what is left.
function change(what, leave = false) {
  const before = view;
  view = { ...view, ...what };
  writeView(view, leave);
  reflect(before);
  ask();
}

let list = anew({ view: "24h", by: view.by, of: "" }); // the span of all that a way leads back to

// reflect has everything but the reports be that of the view.
function reflect(before) {
  const kind = isLive(view) ? "live" : "history";
  for (const part of document.querySelectorAll("[data-in]")) part.hidden = part.dataset.in !== kind;
  of(`view-${view.view}`).checked = true;
  of(`by-${rowsOf(view)}`).checked = true;
  of("by").hidden = view.of !== "";
  of("back").hidden = !view.of;
  list = view.of ? { ...list, view: view.view } : isLive(view) ? anew({ ...view, view: "24h" }) : view;
  of("back").href = fragment(list);
  of("csv").href = address(usage, download(view));
  of("json").href = source(view);
  table.mark(view);
  span.mark(view);
  if (isLive(view)) showMissing(false);
  if (before.view === view.view && before.of === view.of && before.by === view.by && before.offset === view.offset) return;
  of("content").setAttribute("aria-busy", "true");
  left ??= before;
  if (isLive(before) !== isLive(view)) board.show(alerts(), true);
}

// arrive leads who has used a link that is not there any more to what it was about.
function arrive() {
  const from = left;
  left = undefined;
  const at = document.activeElement;
  if (at !== document.body && at.checkVisibility() && !at.closest("table, .more, #span-title")) return; // is somewhere else by now
  const { view } = shown;
  if (view.of && view.of !== from.of) of("span-title").focus();
  else if (from.of && !view.of) (isLive(view) ? table : span).focus(from.of);
  else if (view.offset !== from.offset) of("talkers-title").focus();
}

function sortBy(sort) {
  change({ sort, reverse: view.sort === sort && !view.reverse, offset: 0 });
}

function pause() {
  paused = !paused;
  put(of("pause"), paused ? "Resume" : "Pause");
  say(paused ? "Paused." : "Goes on.");
  if (!paused && latest && isLive(latest.view) === isLive(view)) showThat(latest);
  showTime();
}

function switchUnits() {
  next("units");
  readUnits();
  if (shown && isLive(shown.view)) show(shown.report, shown.view);
}

function readUnits() {
  put(of("units").querySelector(".value"), setting("units"));
}

function switchTheme() {
  next("theme");
  readTheme();
  redraw();
}

function readTheme() {
  const theme = setting("theme");
  put(of("theme").querySelector(".value"), theme);
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  readColours();
}

// redraw draws the charts with the colours that there are now.
function redraw() {
  readColours();
  overview.redraw();
  table.redraw();
  span.redraw();
}

const filter = of("filter");
let typing;

function setFilter(text) {
  clearTimeout(typing);
  filter.value = text;
  if (text !== view.filter) change({ filter: text, limit: leastLimit, offset: 0 });
}

filter.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => setFilter(filter.value), 250);
});
of("more").addEventListener("click", () => change({ limit: Math.min(2 * view.limit, mostLimit) }));
of("next").addEventListener("click", () => change({ offset: view.offset + view.limit }));
of("previous").addEventListener("click", () => change({ offset: Math.max(view.offset - view.limit, 0) }));
of("views").addEventListener("change", ({ target }) => {
  const to = { ...view, view: target.value };
  if (isLive(to)) to.of = "";
  go(isLive(to) === isLive(view) ? { ...to, offset: 0 } : anew(to));
});
of("by").addEventListener("change", ({ target }) => go({ ...view, by: target.value, offset: 0 }));
of("pause").addEventListener("click", pause);
of("units").addEventListener("click", switchUnits);
of("theme").addEventListener("click", switchTheme);
of("keys").addEventListener("change", () => next("keys"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("hashchange", () => go(readView(), false));

// go leads to another view.
function go(to, leave = true) {
  clearTimeout(typing);
  filter.value = to.filter;
  change(to, leave);
}

const keys = { "/": () => filter.focus(), p: pause, u: switchUnits, t: switchTheme };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
  if (event.key === "Escape") {
    setFilter("");
    return;
  }
  const typed = event.target.closest("input:not([type=checkbox], [type=radio]), textarea, select");
  if (typed || setting("keys") === "off" || !Object.hasOwn(keys, event.key)) return;
  event.preventDefault(); // the character is not for the filter
  keys[event.key]();
});

filter.value = view.filter;
of("keys").checked = setting("keys") === "on";
readUnits();
for (const choice of document.querySelectorAll(".choice")) choice.hidden = false;
reflect(view);
ask();
