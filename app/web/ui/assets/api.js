// Asks promflow for reports, again and again while somebody looks.

// Where the page is may have a user and a password in it, which a question must not have.
const here = location.origin + location.pathname;

const patience = 10_000; // ms, for an answer
const retry = 2_000; // ms, until promflow is asked again after it did not answer
const retryMissing = 10_000; // ms, likewise, where there is no such report

// Live is the report of rates. The first one has none yet. The next one is there a second later, and a little time for who is late.
export const live = {
  path: new URL("api/v1/talkers", here).href,
  list: "talkers",
  wait: (report) => (report.window_seconds > 0 ? report.interval_seconds * 1000 : 1_100), // ms, until there is another one
};

// Usage is the report of a span.
export const usage = { path: new URL("api/v1/usage", here).href, list: "rows", wait: () => 30_000 };

// address gives where a report is.
export function address({ path }, parameters) {
  const question = parameters.toString();
  return question ? `${path}?${question}` : path;
}

// Refusal is an answer that is no report, with what promflow says.
export class Refusal extends Error {
  constructor(message, missing = false) {
    super(message);
    this.missing = missing; // promflow has no such report
  }
}

async function ask(kind, parameters, signal) {
  const response = await fetch(address(kind, parameters), { signal, cache: "no-store" });
  if (response.ok) {
    const report = await response.json();
    if (Array.isArray(report?.[kind.list])) return report;
    throw new Refusal("what it answers is no report");
  }
  if (response.status === 401) throw new Refusal("it asks for a user and a password: load the page again");
  if (response.status === 404) throw new Refusal("it has no live page any more", true);
  throw new Refusal((await response.text()).trim().slice(0, 300) || response.statusText);
}

// poll asks what question gives, a kind of report and parameters, one question after the other, and tells what came of it. It returns a
// function that asks at once.
export function poll(question, answered, failed) {
  let timer, current;

  async function now() {
    clearTimeout(timer);
    current?.abort();
    current = undefined;
    if (document.hidden) return;
    const mine = (current = new AbortController());
    const begin = performance.now();
    const asked = question();
    let report, error;
    try {
      report = await ask(asked.kind, asked.parameters, AbortSignal.any([mine.signal, AbortSignal.timeout(patience)]));
    } catch (e) {
      error = e;
    }
    if (mine !== current) return; // something else is asked
    current = undefined;
    let wait = retry;
    try {
      if (report) {
        answered(report, asked);
        wait = asked.kind.wait(report);
      } else {
        if (error.missing) wait = retryMissing;
        failed(error, asked);
      }
    } finally { // a report that cannot be shown is not the last one
      timer = setTimeout(now, Math.max(wait - (performance.now() - begin), 0));
    }
  }

  document.addEventListener("visibilitychange", now);
  return now;
}
