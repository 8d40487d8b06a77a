// Times as promflow's zone has them, in words of the browser's language.

const offset = /([+-])(\d\d):(\d\d)$/;

// there gives the time of promflow's clocks, which an answer has with their offset at that time, as one of UTC: browsers know the rules of
// their own zone, and not which one promflow is in.
function there(time) {
  const [, sign, hours, minutes] = offset.exec(time) ?? ["", "+", 0, 0];
  return Date.parse(time) + (sign === "-" ? -1 : 1) * (60 * hours + Number(minutes)) * 60_000;
}

function format(options) {
  return new Intl.DateTimeFormat(undefined, { ...options, timeZone: "UTC" });
}

const clocks = format({ hour: "2-digit", minute: "2-digit" });
const seconds = format({ timeStyle: "medium" });
const moments = format({ dateStyle: "medium", timeStyle: "short" });
const days = format({ dateStyle: "medium" });

// Steps of a chart have a short name, for its axis, and a long one.
export const steps = {
  hour: { short: clocks, long: format({ weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }) },
  day: { short: format({ day: "numeric", month: "short" }), long: format({ weekday: "short", day: "numeric", month: "long" }) },
  month: { short: format({ month: "short" }), long: format({ month: "long", year: "numeric" }) },
};

export function write(format, time) {
  return format.format(there(time));
}

export function clock(time) {
  return write(seconds, time);
}

export function moment(time) {
  return write(moments, time);
}

// span writes one that ends before a time: in hours to the minute, else by its first and last day.
export function span(from, to, step) {
  return step === "hour" ? moments.formatRange(there(from), there(to)) : days.formatRange(there(from), there(to) - 1);
}
