// What somebody should know before they believe the numbers.

import { count, time } from "./units.js";

const dropsStay = 10_000; // ms that drops are told of after the last one, so that the page does not jump

let lastDrop = -Infinity;

// ofReport gives what there is to say about a report. The title tells what is the matter and is read out when it changes, the text
// may change each time.
export function ofReport(report) {
  const alerts = [];
  const down = report.interfaces.filter((i) => i.backend && !i.up).map((i) => i.name);
  if (down.length > 0) {
    alerts.push({
      key: "down",
      kind: "bad",
      title: down.length === 1 ? `${down[0]} is down.` : `${count(down.length)} interfaces are down: ${several(down)}.`,
      text: "Nothing is counted there until it is back; totals stay.",
      over: "All interfaces are up again.",
    });
  }

  const taken = Date.parse(report.time);
  const dropping = report.interfaces.filter((i) => i.dropped_packets_per_second > 0);
  // Where promflow's clock was set back, the last drop is not yet to come.
  lastDrop = dropping.length > 0 ? taken : Math.min(lastDrop, taken);
  if (taken - lastDrop < dropsStay) {
    const all = report.interfaces.filter((i) => i.dropped_packets > 0);
    const sum = (of) => all.reduce((n, i) => n + i[of], 0);
    alerts.push({
      key: "drops",
      kind: "bad",
      title: "Packets are being dropped.",
      text:
        `${count(sum("dropped_packets_per_second"))} packets a second, ${count(sum("dropped_packets"))} in all, on ` +
        `${several(all.map((i) => i.name))}: they were lost before they could be counted, so rates and totals are too low.`,
      over: "No packets are being dropped any more.",
    });
  }

  if (report.addresses > 0 && report.addresses >= report.addresses_limit) {
    alerts.push({
      key: "full",
      kind: "warning",
      title: "The table is full.",
      text: `There is room for ${count(report.addresses_limit)} addresses (--max-ips). Further ones count together as “other”.`,
      over: "The table has room again.",
    });
  }
  if (report.addresses === 0 && report.receive_bytes + report.transmit_bytes === 0) {
    alerts.push({
      key: "empty",
      kind: "info",
      title: "No addresses yet.",
      text: "Addresses appear once they move something. If there should be some: are they in --monitor-subnets, and is it the right interface, or do routers report to promflow?",
    });
  }
  return alerts;
}

// ofSilence tells that promflow does not answer.
export function ofSilence(since, refusal) {
  return {
    key: "away",
    kind: "bad",
    title: refusal ? "promflow does not answer as it should." : "promflow can’t be reached.",
    text: `Since ${time(since)}${refusal ? `: ${refusal}` : ""}. What is shown may be older; the page tries again by itself.`,
    over: refusal ? "promflow answers again." : "promflow is back.",
  };
}

function several(names) {
  const most = 4;
  return names.length > most ? `${names.slice(0, most).join(", ")} and ${count(names.length - most)} more` : names.join(", ");
}

// Board shows alerts, and says when one is over.
export class Board {
  #at;
  #say;
  #shown = new Map();

  constructor(at, say) {
    this.#at = at;
    this.#say = say;
  }

  // show shows these alone. Of others it says that they are over, unless that is not known.
  show(alerts, quietly = false) {
    for (const [key, { row, over }] of this.#shown) {
      if (alerts.some((a) => a.key === key)) continue;
      row.remove();
      this.#shown.delete(key);
      if (over && !quietly) this.#say(over);
    }
    for (const alert of alerts) this.#put(alert);
  }

  #put({ key, kind, title, text, over }) {
    let shown = this.#shown.get(key);
    if (!shown) {
      const row = document.createElement("p");
      const [strong, span] = [document.createElement("strong"), document.createElement("span")];
      row.className = `alert ${kind}`;
      strong.setAttribute("role", kind === "info" ? "status" : "alert"); // an alert of numbers would be read out all the time
      row.append(strong, " ", span);
      this.#at.append(row);
      shown = { row, strong, span };
      this.#shown.set(key, shown);
    }
    shown.over = over;
    if (shown.strong.textContent !== title) shown.strong.textContent = title;
    if (shown.span.textContent !== text) shown.span.textContent = text;
  }
}
