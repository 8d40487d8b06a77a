// What was moved in a span: its chart, its sums, and a table of who moved it.

import { Bars, stepOf } from "./bars.js";
import { moment, span } from "./dates.js";
import { rowsOf } from "./settings.js";
import { put, putQuantity, Usage } from "./table.js";
import { count, total } from "./units.js";

const of = (id) => document.getElementById(id);

const titles = { "24h": "24 hours", "31d": "31 days", "12mo": "12 months" };

export class History {
  #bars = new Bars(of("bars"), of("bars-readout"), of("steps"));
  #table;

  constructor(sorted) {
    this.#table = new Usage(of("usage"), of("user"), sorted);
  }

  get bars() {
    return this.#bars;
  }

  mark(view) {
    this.#table.mark(view);
  }

  focus(id) {
    this.#table.focus(id);
  }

  redraw() {
    this.#bars.redraw();
  }

  // show shows the report that answers a view, and gives what that is called. The rows of a report link to a beginning and their id.
  show(report, view, link) {
    const step = stepOf(report);
    const sum = (what) => report.steps.reduce((sum, s) => sum + s[what], 0);
    const [received, transmitted] = [sum("receive_bytes"), sum("transmit_bytes")];
    const name = (view.of && report.rows.find((r) => r.hostname)?.hostname) || view.of;
    const title = name ? `${name}, ${titles[view.view]}` : titles[view.view];
    put(of("span-title"), title);
    // To now, and not to the end of the hour, day or month that runs.
    const end = Date.parse(report.to) < Date.parse(report.time) ? report.to : report.time;
    put(of("span-dates"), span(report.from, end, step));
    put(of("since"), since(report));
    putQuantity(of("span-received"), total(received));
    putQuantity(of("span-transmitted"), total(transmitted));
    putQuantity(of("span-total"), total(received + transmitted));
    put(of("bars-caption"), `By ${step}`);
    this.#bars.show(report);
    put(of("talkers-title"), view.of ? "Its addresses" : rowsOf(view) === "device" ? "Devices" : "Addresses");
    put(of("share-of"), `Share is of what ${view.of ? "it" : "all"} moved in this time, both directions together.`);
    this.#table.show(report, received + transmitted, rowsOf(view), link);
    this.#showSums(report, view);
    return title;
  }

  #showSums({ matching, receive_bytes: receive, transmit_bytes: transmit }, view) {
    put(of("sums-of"), `${counted(matching, view)} together`);
    putQuantity(of("sum-received"), total(receive));
    putQuantity(of("sum-transmitted"), total(transmit));
    putQuantity(of("sum-total"), total(receive + transmit));
  }
}

// counted gives how many devices or addresses there are.
export function counted(n, view) {
  const [one, several] = rowsOf(view) === "device" ? ["device", "devices"] : ["address", "addresses"];
  return n === 1 ? `1 ${one}` : `${count(n)} ${several}`;
}

// since tells when history began, if that was within the span.
function since({ since, from }) {
  if (!since) return "Nothing has been written to history yet.";
  return Date.parse(since) > Date.parse(from) ? `History began ${moment(since)}.` : "";
}
