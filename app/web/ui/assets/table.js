// Tables of who moves what. Rows stay where they are known: a row is a device's or an address', and only what changes is written.

import { Trends } from "./chart.js";
import { count, percent, rate, total, unknown } from "./units.js";

// put writes text where it has changed. All text of a report gets to the page this way: it comes from the network, and is never HTML.
export function put(at, text) {
  if (at.firstChild?.data !== text || at.childNodes.length !== 1) at.textContent = text;
}

// putQuantity writes a number and its unit.
export function putQuantity(at, { number, unit }) {
  if (at.childElementCount !== 2) {
    at.replaceChildren(document.createElement("span"), "\u00a0", document.createElement("span"));
    at.lastChild.className = "unit";
  }
  put(at.firstChild, number);
  put(at.lastChild, unit);
  at.classList.toggle("zero", number === "0");
}

const fewAddresses = 2; // of a device are shown
const mostAddresses = 32; // of a device are told

// Table is what tables have in common. Those of a kind have make, fill and drop for what else is in a row.
class Table {
  #table;
  #body;
  #template;
  #rows = new Map(); // by id

  constructor(table, template, sorted) {
    this.#table = table;
    this.#body = table.tBodies[0];
    this.#template = template.content.firstElementChild;
    for (const header of this.#headers()) header.firstElementChild.addEventListener("click", () => sorted(header.dataset.sort));
    // A row is a large thing to click at. Who selects a text in there wants that.
    this.#body.addEventListener("click", (event) => {
      const row = event.target.closest("tr");
      if (row && !event.target.closest("a") && getSelection().isCollapsed) row.querySelector("a").click();
    });
  }

  get data() {
    return this.#table.dataset;
  }

  #headers() {
    return this.#table.tHead.querySelectorAll("[data-sort]");
  }

  // mark shows in the headers how rows are sorted.
  mark({ sort, reverse }) {
    for (const header of this.#headers()) {
      const rises = (sort === "ip" || sort === "hostname") !== reverse;
      if (header.dataset.sort === sort) header.setAttribute("aria-sort", rises ? "ascending" : "descending");
      else header.removeAttribute("aria-sort");
    }
  }

  // head has the first two columns be those of devices or of addresses.
  head(by) {
    const [first, second] = this.#headers();
    const [firstText, secondText] = by === "device" ? ["Device", "Addresses"] : ["Address", "Name"];
    put(first.firstElementChild, firstText);
    put(second.firstElementChild, secondText);
    [first.dataset.sort, second.dataset.sort] = by === "device" ? ["hostname", "ip"] : ["ip", "hostname"];
  }

  // put has a row for each of these, which link to a beginning and their id.
  put(all, by, link) {
    const gone = new Set(this.#rows.keys());
    let at = this.#body.firstElementChild;
    for (const each of all) {
      const id = each.id || each.ip;
      gone.delete(id);
      const row = this.#row(id);
      if (row.element === at) at = at.nextElementSibling;
      else this.#body.insertBefore(row.element, at);
      if (row.link !== link) {
        row.who.href = link + encodeURIComponent(id);
        row.link = link;
      }
      call(row, each, id, by);
      this.fill(row, each);
    }
    for (const id of gone) {
      const row = this.#rows.get(id);
      this.drop?.(row);
      row.element.remove();
      this.#rows.delete(id);
    }
  }

  // focus leads to an id's row, if there is one.
  focus(id) {
    this.#rows.get(id)?.who.focus();
  }

  #row(id) {
    let row = this.#rows.get(id);
    if (row) return row;
    const element = this.#template.cloneNode(true);
    const of = (name) => element.querySelector(`.${name}`);
    row = { element, ...this.make(of) };
    for (const name of ["who", "hostname", "addresses", "further", "mac"]) row[name] = of(name);
    if (id === "other") row.who.title = "Further addresses together, for which there was no room in the table (--max-ips)";
    this.#rows.set(id, row);
    return row;
  }
}

// call writes who a row is of: a device by its name, or else its MAC, and some of its addresses; or an address and whose it is.
function call(row, { hostname, mac, ips }, id, by) {
  const device = by === "device";
  put(row.who, (device && (hostname || mac)) || id);
  const shown = device ? "" : hostname;
  put(row.hostname, shown);
  if (row.hostname.title !== shown) row.hostname.title = shown; // it may be too long for the column
  put(row.mac, device && !hostname ? "" : mac);
  const addresses = device && ips && ips[0] !== row.who.textContent ? ips : [];
  put(row.addresses, addresses.slice(0, fewAddresses).join(", "));
  const further = addresses.length - fewAddresses;
  put(row.further, further > 0 ? `and ${count(further)} ${addresses.length < mostAddresses ? "more" : "or more"}` : "");
}

// Talkers is the table of rates.
export class Talkers extends Table {
  #trends = new Trends();
  #known;
  #units;
  #points;

  show(report, units, by, link) {
    this.#known = report.window_seconds > 0;
    this.#units = units;
    this.#points = Math.round(60 / report.interval_seconds);
    this.data.names = report.names || by === "device";
    this.head(by);
    this.put(report.talkers, by, link);
  }

  redraw() {
    this.#trends.redraw();
  }

  make(of) {
    const row = {
      receiveRate: of("receive-rate"),
      transmitRate: of("transmit-rate"),
      receiveTotal: of("receive-total"),
      transmitTotal: of("transmit-total"),
      bar: of("bar"),
      percent: of("percent"),
      trend: of("trend"),
    };
    this.#trends.add(row.trend);
    return row;
  }

  fill(row, talker) {
    const ofRate = (bytes) => (this.#known ? rate(bytes, this.#units) : unknown);
    putQuantity(row.receiveRate, ofRate(talker.receive_bytes_per_second));
    putQuantity(row.transmitRate, ofRate(talker.transmit_bytes_per_second));
    putQuantity(row.receiveTotal, total(talker.receive_bytes));
    putQuantity(row.transmitTotal, total(talker.transmit_bytes));
    put(row.percent, this.#known ? percent(talker.share) : "–");
    row.bar.style.width = `${100 * talker.share}%`;
    this.#trends.show(row.trend, talker.history, this.#points);
  }

  drop({ trend }) {
    this.#trends.remove(trend);
  }
}

// Usage is the table of a span.
export class Usage extends Table {
  #all;

  // show has the rows of a report, whose shares are of all bytes.
  show(report, all, by, link) {
    this.#all = all;
    this.data.names = by === "device" || report.rows.some((r) => r.hostname || r.mac);
    this.data.networks = report.rows.some((r) => r.network);
    this.head(by);
    this.put(report.rows, by, link);
  }

  make(of) {
    return {
      network: of("network"),
      receive: of("receive"),
      transmit: of("transmit"),
      total: of("total"),
      bar: of("bar"),
      percent: of("percent"),
    };
  }

  fill(row, { network, receive_bytes: receive, transmit_bytes: transmit }) {
    put(row.network, network);
    putQuantity(row.receive, total(receive));
    putQuantity(row.transmit, total(transmit));
    putQuantity(row.total, total(receive + transmit));
    const share = this.#all > 0 ? (receive + transmit) / this.#all : 0;
    put(row.percent, percent(share));
    row.bar.style.width = `${100 * share}%`;
  }
}
