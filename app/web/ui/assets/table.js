// The table of talkers. Rows stay where they are known: a row is an address', and only what changes is written.

import { Trends } from "./chart.js";
import { percent, rate, total, unknown } from "./units.js";

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

export class Table {
  #table;
  #body;
  #template;
  #rows = new Map(); // by address
  #trends = new Trends();

  constructor(table, template, sorted) {
    this.#table = table;
    this.#body = table.tBodies[0];
    this.#template = template.content.firstElementChild;
    for (const header of this.#headers()) header.firstElementChild.addEventListener("click", () => sorted(header.dataset.sort));
  }

  #headers() {
    return this.#table.tHead.querySelectorAll("[data-sort]");
  }

  // mark shows in the headers how talkers are sorted.
  mark({ sort, reverse }) {
    for (const header of this.#headers()) {
      const rises = (sort === "ip" || sort === "hostname") !== reverse;
      if (header.dataset.sort === sort) header.setAttribute("aria-sort", rises ? "ascending" : "descending");
      else header.removeAttribute("aria-sort");
    }
  }

  show(report, units) {
    this.#table.dataset.names = report.names;
    const known = report.window_seconds > 0;
    const points = Math.round(60 / report.interval_seconds);
    const gone = new Set(this.#rows.keys());
    let at = this.#body.firstElementChild;
    for (const talker of report.talkers) {
      gone.delete(talker.ip);
      const row = this.#row(talker.ip);
      if (row.element === at) at = at.nextElementSibling;
      else this.#body.insertBefore(row.element, at);
      this.#fill(row, talker, known, units, points);
    }
    for (const ip of gone) {
      const { element, trend } = this.#rows.get(ip);
      this.#trends.remove(trend);
      element.remove();
      this.#rows.delete(ip);
    }
  }

  redraw() {
    this.#trends.redraw();
  }

  #row(ip) {
    let row = this.#rows.get(ip);
    if (row) return row;
    const element = this.#template.cloneNode(true);
    const of = (name) => element.querySelector(`.${name}`);
    row = {
      element,
      hostname: of("hostname"),
      mac: of("mac"),
      receiveRate: of("receive-rate"),
      transmitRate: of("transmit-rate"),
      receiveTotal: of("receive-total"),
      transmitTotal: of("transmit-total"),
      bar: of("bar"),
      percent: of("percent"),
      trend: of("trend"),
    };
    put(of("ip"), ip);
    if (ip === "other") of("ip").title = "Further addresses together, for which there was no room in the table (--max-ips)";
    this.#trends.add(row.trend);
    this.#rows.set(ip, row);
    return row;
  }

  #fill(row, talker, known, units, points) {
    put(row.hostname, talker.hostname);
    put(row.mac, talker.mac);
    if (row.hostname.title !== talker.hostname) row.hostname.title = talker.hostname; // it may be too long for the column
    putQuantity(row.receiveRate, known ? rate(talker.receive_bytes_per_second, units) : unknown);
    putQuantity(row.transmitRate, known ? rate(talker.transmit_bytes_per_second, units) : unknown);
    putQuantity(row.receiveTotal, total(talker.receive_bytes));
    putQuantity(row.transmitTotal, total(talker.transmit_bytes));
    put(row.percent, known ? percent(talker.share) : "–");
    row.bar.style.width = `${100 * talker.share}%`;
    this.#trends.show(row.trend, talker.history, points);
  }
}
