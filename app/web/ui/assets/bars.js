// The chart of a span: for each step a bar of what was received, and one of what was transmitted.

import { colours, roof, round, transparent, whenResized } from "./chart.js";
import { steps as names, write } from "./dates.js";
import { text, total } from "./units.js";

const { uPlot } = window;

const labelWidth = 64; // px

// stepOf gives what the steps of a report are: "hour", "day" or "month". Clocks are changed by an hour, and days are longer then.
export function stepOf({ steps }) {
  const hours = steps.length > 0 ? (Date.parse(steps[0].end) - Date.parse(steps[0].start)) / 3_600_000 : 1;
  return hours < 12 ? "hour" : hours < 48 ? "day" : "month";
}

export class Bars {
  #at;
  #readout;
  #list;
  #plot;
  #steps = []; // what each is called, and what was moved in it

  constructor(at, readout, list) {
    this.#at = at;
    this.#readout = readout;
    this.#list = list;
    whenResized(at, () => this.#plot?.setSize(this.#size()));
  }

  // data is what is drawn: numbers of steps, bytes received and transmitted.
  get data() {
    return this.#plot?.data;
  }

  // show draws a report's steps, once the chart can be seen.
  show(report) {
    const step = stepOf(report);
    const now = Date.parse(report.time);
    this.#steps = report.steps.map(({ start, end, receive_bytes: receive, transmit_bytes: transmit }) => {
      const runs = Date.parse(start) <= now && now < Date.parse(end);
      const long = write(names[step].long, start);
      return { short: runs ? "now" : write(names[step].short, start), long: runs ? `${long}, until now` : long, receive, transmit };
    });
    const bars = (of) => this.#steps.map((s) => s[of] || null); // of nothing there is none
    const data = [this.#steps.map((_, i) => i), bars("receive"), bars("transmit")];
    if (this.#plot) this.#plot.setData(data);
    else this.#plot = new uPlot(this.#options(), data, this.#at);
    this.#describe(step);
  }

  redraw() {
    this.#plot?.redraw();
  }

  #size() {
    return { width: this.#at.clientWidth, height: this.#at.clientHeight };
  }

  // labelled gives the steps that there is room to name: always the last one.
  #labelled() {
    const apart = Math.ceil((this.#steps.length * labelWidth) / Math.max(this.#at.clientWidth - labelWidth, labelWidth));
    return this.#steps.map((_, i) => i).filter((i) => (this.#steps.length - 1 - i) % apart === 0);
  }

  #options() {
    const axis = { stroke: () => colours.muted, font: "12px system-ui, sans-serif", ticks: { show: false } };
    const bars = (align) => ({ points: { show: false }, width: 1, paths: uPlot.paths.bars({ size: [0.38, 32], align }) });
    return {
      ...this.#size(),
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: {
        x: { time: false, range: () => [-0.5, this.#steps.length - 0.5] },
        y: { range: (_, __, most) => [0, roof(most ?? 0)] },
      },
      axes: [
        {
          ...axis,
          size: 24,
          splits: () => this.#labelled(),
          values: (_, all) => all.map((i) => this.#steps[i]?.short ?? ""),
          grid: { show: false },
        },
        {
          ...axis,
          size: 64,
          space: 36,
          values: (_, all) => all.map((v) => (v === 0 ? "0" : round(total(v)))),
          grid: { stroke: () => colours.grid, width: 1 },
        },
      ],
      series: [
        {},
        { ...bars(-1), stroke: () => colours.in, fill: () => colours.in },
        { ...bars(1), stroke: () => colours.out, fill: () => transparent(colours.out) },
      ],
      hooks: { setCursor: [(plot) => this.#point(plot)] },
    };
  }

  // point tells the values under the cursor.
  #point(plot) {
    const step = this.#steps[plot.cursor.idx];
    this.#readout.textContent = step ? inWords(step) : "";
  }

  // describe has the chart in words: in short for the chart itself, and all of it in a list.
  #describe(step) {
    const words = (of) => {
      const all = this.#steps.map((s) => s[of]);
      const sum = all.reduce((sum, v) => sum + v, 0);
      const most = Math.max(...all);
      return `${text(total(sum))} in all, at most ${text(total(most))} (${this.#steps[all.indexOf(most)].long})`;
    };
    const some = this.#steps.some((s) => s.receive + s.transmit > 0);
    this.#at.setAttribute(
      "aria-label",
      `Bars of bytes by ${step}. ` + (some ? `Received: ${words("receive")}. Transmitted: ${words("transmit")}.` : "Nothing was moved."),
    );
    const { children } = this.#list;
    while (children.length > this.#steps.length) this.#list.lastElementChild.remove();
    while (children.length < this.#steps.length) this.#list.append(document.createElement("li"));
    this.#steps.forEach((s, i) => (children[i].textContent = inWords(s)));
  }
}

function inWords({ long, receive, transmit }) {
  return `${long}: received ${text(total(receive))}, transmitted ${text(total(transmit))}`;
}
