// What somebody has chosen: how the page looks is kept in the browser, what it shows is in the address, which is a link to it.

const choices = {
  units: ["bits", "bytes"],
  theme: ["auto", "light", "dark"],
  keys: ["on", "off"],
};

// setting gives a choice, the first one if there is none yet.
export function setting(name) {
  const value = stored(name);
  return choices[name].includes(value) ? value : choices[name][0];
}

// next makes the choice that comes after the one there is, and gives it.
export function next(name) {
  const all = choices[name];
  const value = all[(all.indexOf(setting(name)) + 1) % all.length];
  try {
    localStorage.setItem(`promflow.${name}`, value);
  } catch {
    // The browser keeps nothing.
  }
  chosen.set(name, value);
  return value;
}

const chosen = new Map(); // since the page was opened

function stored(name) {
  if (chosen.has(name)) return chosen.get(name);
  try {
    return localStorage.getItem(`promflow.${name}`);
  } catch {
    return null;
  }
}

// What is shown: the rates that there are now, or what was moved in a span that ends with the hour, day or month that runs now.
const views = ["live", "24h", "31d", "12mo"];

const sorts = {
  live: ["rate", "receive_rate", "transmit_rate", "receive_total", "transmit_total", "total", "ip", "hostname"],
  history: ["total", "receive", "transmit", "ip", "hostname"],
};

// How many rows are shown.
export const leastLimit = 50;
export const mostLimit = 1000;

export function isLive(view) {
  return view.view === "live";
}

function sortsOf(view) {
  return isLive(view) ? sorts.live : sorts.history;
}

// rowsOf gives what rows are of: "device" or "ip". Of one device they are its addresses; else somebody chose, or it is what promflow does
// where it is not told.
export function rowsOf(view) {
  if (view.of) return "ip";
  return view.by || (isLive(view) ? "ip" : "device");
}

// anew gives a view whose rows are from the first one, by the highest and without a filter.
export function anew(view) {
  return { ...view, sort: sortsOf(view)[0], reverse: false, filter: "", limit: leastLimit, offset: 0 };
}

// readView gives what the address of the page says is to be shown.
export function readView() {
  const given = new URLSearchParams(location.hash.slice(1));
  const one = (name, all) => (all.includes(given.get(name)) ? given.get(name) : all[0]);
  const number = (name) => parseInt(given.get(name), 10) || 0;
  const view = { view: one("view", views), by: one("by", ["", "ip", "device"]) };
  const live = isLive(view);
  return {
    ...view,
    of: (!live && given.get("of")) || "",
    sort: one("sort", sortsOf(view)),
    reverse: given.get("reverse") === "true",
    filter: given.get("filter") ?? "",
    limit: Math.min(Math.max(number("limit"), leastLimit), mostLimit),
    offset: live ? 0 : Math.max(number("offset"), 0),
  };
}

// order gives which rows there are as parameters, of the page's address and of the question to promflow alike.
function order(view) {
  const p = new URLSearchParams();
  if (view.sort !== sortsOf(view)[0]) p.set("sort", view.sort);
  if (view.reverse) p.set("reverse", "true");
  if (view.filter) p.set("filter", view.filter);
  return p;
}

// fragment gives a view as that of the page's address.
export function fragment(view) {
  const p = order(view);
  if (!isLive(view)) p.set("view", view.view);
  if (view.by) p.set("by", view.by);
  if (view.of) p.set("of", view.of);
  if (view.limit !== leastLimit) p.set("limit", view.limit);
  if (view.offset > 0) p.set("offset", view.offset);
  return `#${p}`;
}

// parameters gives a view as those of the question to promflow.
export function parameters(view) {
  const p = all(view);
  if (!isLive(view) || view.limit !== leastLimit) p.set("limit", view.limit);
  if (view.offset > 0) p.set("offset", view.offset);
  return p;
}

// download gives a span as the parameters of a file with all of its rows.
export function download(view) {
  const p = all(view);
  p.set("output", "csv");
  return p;
}

function all(view) {
  const p = order(view);
  const by = rowsOf(view);
  if (!isLive(view)) p.set("period", view.view);
  if (!isLive(view) || by !== "ip") p.set("by", by);
  if (view.of) p.set("of", view.of);
  return p;
}

// writeView has the page's address say what is shown. Back leads to what was shown before if that is left.
export function writeView(view, leave = false) {
  const at = fragment(view);
  const address = at === "#" ? location.pathname + location.search : at;
  if (leave) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}
