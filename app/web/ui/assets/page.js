// Joins the parts of the page: what is asked, what is shown, and what can be done with it.

import { Board, ofReport, ofSilence } from "./alerts.js";
import { poll, Refusal } from "./api.js";
import { Overview, readColours } from "./chart.js";
import { leastLimit, mostLimit, next, parameters, readView, setting, writeView } from "./settings.js";
import { put, putQuantity, Table } from "./table.js";
import { count, rate, time, total, unknown } from "./units.js";

const of = (id) => document.getElementById(id);

let view = readView(); // what is asked for
let asked = ""; // the parameters of the report that is shown
let counted = view.filter; // what those were let through by that are counted
let latest, shown; // reports
let paused = false;
let silence = null; // since when promflow does not answer, and why

readTheme();
const board = new Board(of("alerts"), say);
export const overview = new Overview(of("chart"), of("readout"));
const table = new Table(document.querySelector("table"), of("talker"), sortBy);

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
  () => parameters(view),
  (report) => {
    silence = null;
    latest = report;
    board.show(ofReport(latest));
    // What somebody has just asked for is shown to them, paused or not.
    const question = parameters(view).toString();
    if (!paused || asked !== question) show(latest);
    asked = question;
    // Who does not see how many a filter lets through hears it.
    if (counted !== view.filter) say(of("count").textContent);
    counted = view.filter;
  },
  (error) => {
    silence ??= new Date();
    const refusal = error instanceof Refusal ? error.message : "";
    board.show([ofSilence(silence, refusal), ...(latest ? ofReport(latest) : [])]);
  },
);

// show shows a report.
export function show(report) {
  shown = report;
  const units = setting("units");
  const known = report.window_seconds > 0;
  putQuantity(of("receive-rate"), known ? rate(report.receive_bytes_per_second, units) : unknown);
  putQuantity(of("transmit-rate"), known ? rate(report.transmit_bytes_per_second, units) : unknown);
  putQuantity(of("receive-total"), total(report.receive_bytes));
  putQuantity(of("transmit-total"), total(report.transmit_bytes));
  overview.show(report, units);
  table.show(report, units);
  showInterfaces(report.interfaces);
  showMonitored(report.monitored_subnets);
  showCounts(report);
  showTime();
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

function showCounts(report) {
  const { matching, talkers, addresses } = report;
  const filtered = view.filter.trim() !== "";
  put(of("count"), filtered ? `${count(matching)} of ${count(addresses)} addresses` : `${count(addresses)} addresses`);
  put(of("shown"), talkers.length < matching ? `${count(talkers.length)} of ${count(matching)} shown` : "");
  of("more").hidden = talkers.length >= matching || view.limit >= mostLimit;
  of("nothing").hidden = talkers.length > 0;
  put(of("nothing"), filtered ? `No address matches “${view.filter.trim()}”.` : "Nobody has moved anything yet.");
}

function showTime() {
  if (shown) put(of("as-of"), `${paused ? "Paused at" : "As of"} ${time(Date.parse(shown.time))}`);
  of("as-of").classList.toggle("paused", paused);
}

// change asks for something else.
function change(what) {
  view = { ...view, ...what };
  writeView(view);
  table.mark(view);
  ask();
}

function sortBy(sort) {
  change({ sort, reverse: view.sort === sort && !view.reverse });
}

function pause() {
  paused = !paused;
  put(of("pause"), paused ? "Resume" : "Pause");
  say(paused ? "Paused." : "Goes on.");
  if (!paused && latest) show(latest);
  showTime();
}

function switchUnits() {
  next("units");
  readUnits();
  if (shown) show(shown);
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
}

const filter = of("filter");
let typing;

function setFilter(text) {
  clearTimeout(typing);
  filter.value = text;
  if (text !== view.filter) change({ filter: text, limit: leastLimit });
}

filter.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => setFilter(filter.value), 250);
});
of("more").addEventListener("click", () => change({ limit: Math.min(2 * view.limit, mostLimit) }));
of("pause").addEventListener("click", pause);
of("units").addEventListener("click", switchUnits);
of("theme").addEventListener("click", switchTheme);
of("keys").addEventListener("change", () => next("keys"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("hashchange", () => {
  filter.value = readView().filter;
  change(readView());
});

const keys = { "/": () => filter.focus(), p: pause, u: switchUnits, t: switchTheme };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
  if (event.key === "Escape") {
    setFilter("");
    return;
  }
  const typed = event.target.closest("input:not([type=checkbox]), textarea, select");
  if (typed || setting("keys") === "off" || !Object.hasOwn(keys, event.key)) return;
  event.preventDefault(); // the character is not for the filter
  keys[event.key]();
});

filter.value = view.filter;
of("keys").checked = setting("keys") === "on";
readUnits();
table.mark(view);
ask();
