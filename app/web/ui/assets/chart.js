// The charts, drawn by uPlot.

import { inUnits, rate, rateOf, text, time } from "./units.js";

const { uPlot } = window;

const span = 300; // seconds that the large chart shows
const minutes = ["−5 min", "−4 min", "−3 min", "−2 min", "−1 min", "now"];
const someMinutes = ["−5 min", "", "−3 min", "", "−1 min", "now"];

// colours gives those of the theme that there is, by which kind of thing has them. They are the stylesheet's.
export const colours = {};

export function readColours() {
  const probe = document.createElement("span");
  document.body.append(probe);
  for (const name of ["in", "out", "muted", "grid", "trend"]) {
    probe.className = `colour ${name}`;
    colours[name] = getComputedStyle(probe).color;
  }
  probe.remove();
}

// withGaps gives a report's history as uPlot wants it: where nobody watched, a value of nothing keeps the line from going on.
function withGaps({ time, receive_bytes_per_second: receive, transmit_bytes_per_second: transmit }, interval, units) {
  const data = [[], [], []];
  for (let i = 0; i < time.length; i++) {
    if (i > 0 && time[i] - time[i - 1] > 2 * interval) {
      data[0].push((time[i] + time[i - 1]) / 2);
      data[1].push(null);
      data[2].push(null);
    }
    data[0].push(time[i]);
    data[1].push(inUnits(receive[i], units));
    data[2].push(inUnits(transmit[i], units));
  }
  return data;
}

// roof gives a round number that is no less than a value, so that the scale changes seldom.
export function roof(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1000)));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((n) => n * power >= value) * power;
}

// round gives the text of a round number: 1 Mbit/s rather than 1.00 Mbit/s.
export function round({ number, unit }) {
  return text({ number: String(Number(number)), unit });
}

// whenResized tells when an element has another size. One that is hidden has none.
export function whenResized(at, tell) {
  new ResizeObserver(() => at.clientWidth > 0 && tell()).observe(at);
}

// Overview is the chart of all addresses together.
export class Overview {
  #at;
  #readout;
  #plot;
  #end = Date.now() / 1000;
  #units;

  constructor(at, readout) {
    this.#at = at;
    this.#readout = readout;
    this.#plot = new uPlot(this.#options(), [[], [], []], at);
    whenResized(at, () => this.#plot.setSize(this.#size()));
  }

  // data is what is drawn: times in seconds, rates in and out in what units are.
  get data() {
    return this.#plot.data;
  }

  // ends are the times of the axis.
  get ends() {
    return [this.#plot.scales.x.min, this.#plot.scales.x.max];
  }

  show(report, units) {
    this.#end = Date.parse(report.time) / 1000;
    this.#units = units;
    this.#plot.setData(withGaps(report.history, report.interval_seconds, units));
    this.#describe(report.history, units);
  }

  redraw() {
    this.#plot.redraw();
  }

  #size() {
    return { width: this.#at.clientWidth, height: this.#at.clientHeight };
  }

  #options() {
    const axis = { stroke: () => colours.muted, font: "12px system-ui, sans-serif", ticks: { show: false } };
    const line = { width: 1.5, points: { show: false } };
    return {
      ...this.#size(),
      padding: [8, 16, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
      scales: {
        x: { time: false, range: () => [this.#end - span, this.#end] },
        y: { range: (_, __, most) => [0, roof(most ?? 0)] },
      },
      axes: [
        {
          ...axis,
          size: 24,
          splits: () => minutes.map((_, i) => this.#end - span + 60 * i),
          values: () => (this.#at.clientWidth < 500 ? someMinutes : minutes),
          grid: { stroke: () => colours.grid, width: 1 },
        },
        {
          ...axis,
          size: 84,
          space: 36,
          values: (_, all) => all.map((v) => (v === 0 ? "0" : round(rateOf(v, this.#units)))),
          grid: { stroke: () => colours.grid, width: 1 },
        },
      ],
      series: [
        {},
        { ...line, stroke: () => colours.in, fill: () => transparent(colours.in) },
        { ...line, stroke: () => colours.out, dash: [6, 3] },
      ],
      hooks: { setCursor: [(plot) => this.#point(plot)] },
    };
  }

  // point tells the values under the cursor.
  #point(plot) {
    const at = plot.cursor.idx;
    const [times, receive, transmit] = plot.data;
    if (at == null || receive[at] == null) {
      this.#readout.textContent = "";
      return;
    }
    const value = (v) => text(rateOf(v, this.#units));
    this.#readout.textContent = `${time(times[at] * 1000)}: in ${value(receive[at])}, out ${value(transmit[at])}`;
  }

  // describe has the chart in words.
  #describe({ receive_bytes_per_second: receive, transmit_bytes_per_second: transmit }, units) {
    const words = (all) =>
      `${text(rate(all.at(-1), units))} now, at least ${text(rate(Math.min(...all), units))}, at most ${text(rate(Math.max(...all), units))}`;
    this.#at.setAttribute(
      "aria-label",
      "Rates of the last five minutes. " + (receive.length > 0 ? `In: ${words(receive)}. Out: ${words(transmit)}.` : "None yet."),
    );
  }
}

export function transparent(colour) {
  return colour.replace("rgb(", "rgba(").replace(")", ", 0.12)");
}

// Trends are small charts of the last minute, one for each row of the table. Only those that can be seen are drawn: of a thousand
// rows that is a few.
export class Trends {
  #points;
  #known = new WeakMap(); // what is drawn in an element, or would be
  #seen = new Set();
  #observer = new IntersectionObserver((entries) => this.#look(entries), { rootMargin: "200px 0px" });

  // add begins to watch an element.
  add(at) {
    this.#known.set(at, { history: [] });
    this.#observer.observe(at);
  }

  remove(at) {
    this.#observer.unobserve(at);
    this.#seen.delete(at);
    this.#known.get(at).plot?.destroy();
    this.#known.delete(at);
  }

  // show gives an element's rates, of which the last one is now and a minute has so many.
  show(at, history, points) {
    this.#points = points;
    const trend = this.#known.get(at);
    trend.history = history;
    if (this.#seen.has(at)) this.#draw(at, trend);
  }

  redraw() {
    for (const at of this.#seen) this.#known.get(at).plot?.redraw();
  }

  #look(entries) {
    for (const { target, isIntersecting } of entries) {
      const trend = this.#known.get(target);
      if (!trend) continue;
      if (!isIntersecting) {
        this.#seen.delete(target);
        continue;
      }
      this.#seen.add(target);
      this.#draw(target, trend);
    }
  }

  #draw(at, trend) {
    const begin = this.#points - trend.history.length;
    const data = [trend.history.map((_, i) => begin + i), trend.history];
    if (trend.plot) trend.plot.setData(data);
    else trend.plot = new uPlot(this.#options(), data, at);
  }

  #options() {
    return {
      width: 120,
      height: 22,
      padding: [2, 1, 1, 1],
      legend: { show: false },
      cursor: { show: false },
      select: { show: false },
      scales: {
        x: { time: false, range: () => [0, this.#points - 1] },
        y: { range: (_, __, most) => [0, most || 1] },
      },
      axes: [{ show: false }, { show: false }],
      series: [{}, { stroke: () => colours.trend, fill: () => transparent(colours.trend), width: 1, points: { show: false } }],
    };
  }
}
