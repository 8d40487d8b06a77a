// Numbers as they are shown: three digits, and SI prefixes.

const prefixes = ["", "k", "M", "G", "T", "P", "E"];

// scaled gives a value of at least 0 as a number and a unit: 1234567 as 1.23 and M.
function scaled(value, unit) {
  let at = 0;
  for (; value >= 999.5 && at < prefixes.length - 1; at++) value /= 1000;
  let decimals = 0;
  if (at > 0 && value < 99.95) decimals = value < 9.995 ? 2 : 1;
  return { number: value.toFixed(decimals), unit: prefixes[at] + unit };
}

// inUnits gives a rate of bytes in what rates are shown in: "bits" or "bytes".
export function inUnits(bytes, units) {
  return units === "bytes" ? bytes : 8 * bytes;
}

export function rate(bytes, units) {
  return rateOf(inUnits(bytes, units), units);
}

// rateOf is rate for what is in units already.
export function rateOf(value, units) {
  return scaled(value, units === "bytes" ? "B/s" : "bit/s");
}

export function total(bytes) {
  return scaled(bytes, "B");
}

// unknown is shown where there is no number yet.
export const unknown = { number: "–", unit: "" };

export function text({ number, unit }) {
  return unit ? `${number} ${unit}` : number;
}

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export function count(n) {
  return grouped.format(n);
}

export function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

export function time(date) {
  return clock.format(date);
}
