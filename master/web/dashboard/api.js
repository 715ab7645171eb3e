// Asking the master: one question at a time for each thing shown, again and again, and patiently where it does not answer.

const PATIENCE = 10_000; // milliseconds for one answer
const TROUBLE = { TimeoutError: "It takes too long to answer.", SyntaxError: "What answers there is no master." };
const CALM = { problem: 4, unreachable: 15 }; // longest pause after failures, seconds

/** The master's own refusal (application/problem+json): `message` says what is wrong and what to change. */
export class Problem extends Error {
  constructor(status, { title, detail, change }) {
    super([detail || title || `The master answered ${status}.`, change].filter(Boolean).join(" "));
    this.status = status;
  }
}

/** No answer came, or one that no master gives. */
export class Unreachable extends Error {}

/** What is asked of the master, and what must be so before anything is asked: the page is seen, a key is given where one is needed. */
export class Master extends EventTarget {
  #key = sessionStorage.getItem("key");
  #locked = false;

  /** The answer to GET `path`. Raises Problem, Unreachable, and AbortError when `signal` says so. */
  async get(path, signal) {
    const key = this.#key;
    try {
      const response = await fetch(path, {
        cache: "no-store",
        headers: key ? { Authorization: `Bearer ${key}` } : {},
        signal: AbortSignal.any([signal, AbortSignal.timeout(PATIENCE)]),
      });
      if (response.status === 401 && key === this.#key) this.#lock();
      const answer = await response.json();
      if (!response.ok) throw new Problem(response.status, answer);
      return answer;
    } catch (error) {
      if (error instanceof Problem || signal.aborted) throw error;
      throw new Unreachable(TROUBLE[error.name] ?? "Nothing answers there.");
    }
  }

  /** Ends when a question may be asked. */
  async ready() {
    while (document.hidden || this.#locked) {
      await new Promise((resolve) => {
        const look = () => {
          document.removeEventListener("visibilitychange", look);
          this.removeEventListener("unlocked", look);
          resolve();
        };
        document.addEventListener("visibilitychange", look);
        this.addEventListener("unlocked", look);
      });
    }
  }

  #lock() {
    if (this.#locked) return;
    this.#locked = true;
    this.dispatchEvent(new CustomEvent("locked", { detail: { refused: this.#key !== null } }));
  }

  /** A person gave a key: it is kept as long as this tab. */
  unlock(key) {
    this.#key = key;
    sessionStorage.setItem("key", key);
    this.#locked = false;
    this.dispatchEvent(new Event("unlocked"));
  }
}

/** One question asked every so many seconds. `path()` is null while there is nothing to ask. */
export class Poll {
  static #all = new Set();
  #master;
  #failures = 0;
  #flight = null;
  #wake = () => {};

  constructor(master, { every, path, show, failed }) {
    this.#master = master;
    Object.assign(this, { every, path, show, failed });
    Poll.#all.add(this);
    this.#run();
  }

  /** Asks all that failed again at once. */
  static retry() {
    for (const poll of Poll.#all) if (poll.#failures) poll.again();
  }

  /** The question changed: an answer to the old one is not wanted any more. */
  again() {
    this.#failures = 0;
    this.#flight?.abort();
    this.#wake();
  }

  async #run() {
    for (;;) {
      await this.#master.ready();
      await this.#ask();
    }
  }

  async #ask() {
    const flight = (this.#flight = new AbortController());
    const path = this.path();
    let pause = this.every;
    try {
      const answer = path && (await this.#master.get(path, flight.signal));
      this.#failures = 0;
      if (path && !flight.signal.aborted) this.show(answer);
    } catch (error) {
      if (flight.signal.aborted) return;
      if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
      this.failed(error);
      const most = error instanceof Problem && error.status < 500 ? CALM.problem : CALM.unreachable;
      pause += Math.random() * Math.min(most, 2 ** this.#failures++);
    }
    if (!flight.signal.aborted) await this.#sleep(pause);
  }

  #sleep(seconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, seconds * 1000);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** `path` with the parameters that have a value. */
export function query(path, parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}
