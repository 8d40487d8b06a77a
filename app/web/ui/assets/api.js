// Asks promflow for reports, again and again while somebody looks.

// Where the page is may have a user and a password in it, which a question must not have.
const path = new URL("api/v1/talkers", location.origin + location.pathname).href;

const patience = 10_000; // ms, for an answer
const retry = 2_000; // ms, until promflow is asked again after it did not answer
// The first report has no rates yet. The next one is there a second later, and a little time for who is late.
const first = 1_100;

// Refusal is an answer that is no report, with what promflow says.
export class Refusal extends Error {}

async function ask(parameters, signal) {
  const question = parameters.toString();
  const response = await fetch(question ? `${path}?${question}` : path, { signal, cache: "no-store" });
  if (response.ok) {
    const report = await response.json();
    if (Array.isArray(report?.talkers)) return report;
    throw new Refusal("what it answers is no report");
  }
  if (response.status === 401) throw new Refusal("it asks for a user and a password: load the page again");
  if (response.status === 404) throw new Refusal("it has no live page any more");
  throw new Refusal((await response.text()).trim().slice(0, 300) || response.statusText);
}

// poll asks what question gives, one question after the other, and tells what came of it. It returns a function that asks at once.
export function poll(question, answered, failed) {
  let timer, current;

  async function now() {
    clearTimeout(timer);
    current?.abort();
    current = undefined;
    if (document.hidden) return;
    const mine = (current = new AbortController());
    const begin = performance.now();
    let report, error;
    try {
      report = await ask(question(), AbortSignal.any([mine.signal, AbortSignal.timeout(patience)]));
    } catch (e) {
      error = e;
    }
    if (mine !== current) return; // something else is asked
    current = undefined;
    let wait = retry;
    try {
      if (report) {
        answered(report);
        wait = report.window_seconds > 0 ? report.interval_seconds * 1000 : first;
      } else {
        failed(error);
      }
    } finally { // a report that cannot be shown is not the last one
      timer = setTimeout(now, Math.max(wait - (performance.now() - begin), 0));
    }
  }

  document.addEventListener("visibilitychange", now);
  return now;
}
