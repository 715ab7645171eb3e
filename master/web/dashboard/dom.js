// The few things done to the document. Data becomes text, never markup.

export const byId = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

/** Writes only what changed: an untouched node keeps its selection, and costs no layout. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function mark(node, name, value) {
  if (!value) delete node.dataset[name];
  else if (node.dataset[name] !== value) node.dataset[name] = value;
}

/** One section of the page, which says so when what it shows is not current. */
export class Panel {
  constructor(id) {
    this.node = byId(id);
    this.note = this.node.querySelector(".note");
  }

  current() {
    mark(this.node, "stale", "");
    this.say("");
  }

  failed(error) {
    mark(this.node, "stale", "yes");
    this.say(error.message);
  }

  say(text) {
    write(this.note, text);
    this.note.hidden = !text;
  }
}

/** Fills a select, and keeps what is chosen, also where it is not among the options any more. */
export function fill(select, options, chosen) {
  if (!options.some(([value]) => value === chosen)) options = [[chosen, chosen || "–"], ...options];
  const wanted = JSON.stringify(options);
  if (select.dataset.options !== wanted) {
    select.dataset.options = wanted;
    select.replaceChildren(...options.map(([value, text]) => element("option", { value }, text)));
  }
  if (select.value !== chosen) select.value = chosen;
}

/** A test for the words of a filter: each must be in the text. */
export function matcher(input) {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  return (...texts) => {
    const text = texts.join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  };
}
