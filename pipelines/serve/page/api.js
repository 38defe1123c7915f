// Requests to the service, and what their failures say.

export class Failure extends Error {
  // fields: field of the request → what is wrong with it.
  constructor(message, fields = {}) {
    super(message);
    this.fields = fields;
  }
}

const DOWN = "The service does not answer. Check that maskgr serve still runs.";

// Return the body of an answer.
export async function request(path, { body, signal } = {}) {
  const headers = { "Content-Type": "application/json" };
  const post = { method: "POST", headers, body: JSON.stringify(body) };
  let answer;
  let content;
  try {
    answer = await fetch(path, { ...(body && post), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(DOWN);
  }
  try {
    content = await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(`The service answered with status ${answer.status}, without a reason.`);
  }
  if (!answer.ok) throw failure(answer, content.detail);
  return content;
}

function failure(answer, detail) {
  if (Array.isArray(detail)) {
    const fields = Object.fromEntries(detail.map((fault) => [fault.loc.slice(1).join("."), fault.msg]));
    return new Failure(detail.map((fault) => fault.msg).join(" "), fields);
  }
  const seconds = answer.headers.get("Retry-After");
  const when = answer.status === 503 && seconds ? ` (in ${seconds} s)` : "";
  return new Failure(`${detail ?? `Status ${answer.status}.`}${when}`);
}

// Return a function that runs a task with a signal. A new call aborts the task before it, so that an old
// answer never replaces a newer one; the promise of an aborted task never settles.
export function latest() {
  let controller = new AbortController();
  return (task) => {
    controller.abort();
    controller = new AbortController();
    const { signal } = controller;
    return new Promise((resolve, reject) => {
      task(signal).then(
        (value) => signal.aborted || resolve(value),
        (error) => signal.aborted || reject(error),
      );
    });
  };
}
