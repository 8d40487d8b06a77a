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

export const sorts = ["rate", "receive_rate", "transmit_rate", "receive_total", "transmit_total", "total", "ip", "hostname"];

// How many talkers are shown.
export const leastLimit = 50;
export const mostLimit = 1000;

// readView gives what the address of the page says is to be shown.
export function readView() {
  const given = new URLSearchParams(location.hash.slice(1));
  const sort = given.get("sort");
  return {
    sort: sorts.includes(sort) ? sort : sorts[0],
    reverse: given.get("reverse") === "true",
    filter: given.get("filter") ?? "",
    limit: Math.min(Math.max(parseInt(given.get("limit"), 10) || leastLimit, leastLimit), mostLimit),
  };
}

// parameters gives a view as parameters, of the page's address and of the question to promflow alike.
export function parameters(view) {
  const p = new URLSearchParams();
  if (view.sort !== sorts[0]) p.set("sort", view.sort);
  if (view.reverse) p.set("reverse", "true");
  if (view.filter) p.set("filter", view.filter);
  if (view.limit !== leastLimit) p.set("limit", view.limit);
  return p;
}

export function writeView(view) {
  const fragment = parameters(view).toString();
  history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname + location.search);
}
