// What is looked at, kept in the address, so that a link shows the same to somebody else.

const DEFAULTS = { symbol: "", exchange: "", interval: "1m", book: "", feed: "", plot: "", hours: "6", prices: "", gaps: "" };

class Selection extends EventTarget {
  #chosen = read();

  constructor() {
    super();
    addEventListener("hashchange", () => this.#become(read()));
  }

  get(name) {
    return this.#chosen[name];
  }

  set(changes) {
    this.#become({ ...this.#chosen, ...changes });
    const told = Object.entries(this.#chosen).filter(([name, value]) => value !== DEFAULTS[name]);
    const hash = new URLSearchParams(told).toString().replaceAll("%2F", "/").replaceAll("%3A", ":");
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname);
  }

  /** Calls back when one of these changes. */
  on(names, changed) {
    for (const name of names) this.addEventListener(name, changed);
  }

  /** Makes an input or a select show and choose this. */
  bind(node, name) {
    const show = () => (node.value = this.#chosen[name]);
    node.addEventListener("input", () => this.set({ [name]: node.value }));
    this.addEventListener(name, () => node.value !== this.#chosen[name] && show());
    show();
  }

  #become(chosen) {
    const before = this.#chosen;
    this.#chosen = chosen;
    for (const name of Object.keys(DEFAULTS)) if (before[name] !== chosen[name]) this.dispatchEvent(new Event(name));
  }
}

function read() {
  const told = new URLSearchParams(location.hash.slice(1));
  return Object.fromEntries(Object.entries(DEFAULTS).map(([name, value]) => [name, told.get(name) ?? value]));
}

export const selection = new Selection();
