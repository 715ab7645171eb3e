// A table of rows that are told anew every second: only what changed is written, and the focus stays where it is.

import { element, mark, write } from "./dom.js";

/**
 * columns: {title, text(row), kind: "number" | undefined, minor: hidden on a phone, state(row): a word that styles the cell,
 * share(row): 0 to 1, drawn as a bar}. The first is the row's head. `key(row)` tells rows apart. With `press(key)`, heads are buttons
 * that arrow keys move between; `isOpen(key)` says which are open.
 */
export class Table {
  #rows = new Map();
  #body = element("tbody");
  #detail = null;

  constructor(table, columns, { key, empty, press, isOpen }) {
    Object.assign(this, { columns, key, press, isOpen });
    this.empty = element("tr", {}, element("td", { class: "empty", colspan: columns.length }, empty));
    table.append(element("thead", {}, element("tr", {}, ...columns.map(heading))), this.#body);
    if (press) {
      this.#body.addEventListener("click", (event) => this.#clicked(event));
      this.#body.addEventListener("keydown", (event) => this.#keyed(event));
      this.#body.addEventListener("focusin", (event) => this.#reached(event.target));
    }
  }

  /** Puts `node` below the row of this key, and nothing below others; null for none. */
  detail(key, node) {
    this.#detail?.row.remove();
    const row = node && element("tr", { class: "detail" }, element("td", { colspan: this.columns.length }, node));
    this.#detail = node && { key, row };
  }

  show(rows) {
    const order = [];
    for (const row of rows) {
      const key = this.key(row);
      order.push(this.#row(key, row));
      if (this.#detail?.key === key) order.push(this.#detail.row);
    }
    const wanted = new Set(order);
    for (const [key, node] of this.#rows) if (!wanted.has(node)) this.#rows.delete(key);
    this.#place(order.length ? order : [this.empty]);
    if (this.press && !this.#body.querySelector('button[tabindex="0"]')) this.#reached(this.#buttons()[0]);
  }

  #place(order) {
    const wanted = new Set(order);
    for (const node of [...this.#body.children]) if (!wanted.has(node)) node.remove();
    order.forEach((node, index) => {
      const there = this.#body.children[index];
      if (there !== node) this.#body.insertBefore(node, there ?? null);
    });
  }

  #row(key, row) {
    const node = this.#rows.get(key) ?? this.#made(key);
    this.columns.forEach((column, index) => {
      const cell = node.children[index];
      write(index === 0 && this.press ? cell.firstChild : cell, column.text(row));
      if (column.state) mark(cell, "state", column.state(row));
      if (column.share) cell.style.setProperty("--share", column.share(row));
    });
    if (this.press) node.firstChild.firstChild.setAttribute("aria-expanded", this.isOpen(key));
    return node;
  }

  #made(key) {
    const cells = this.columns.map((column, index) => element(index ? "td" : "th", { class: classes(column), scope: !index && "row" }));
    if (this.press) cells[0].append(element("button", { type: "button", tabindex: -1 }));
    const node = element("tr", {}, ...cells);
    node.key = key;
    this.#rows.set(key, node);
    return node;
  }

  #buttons() {
    return [...this.#body.querySelectorAll("th button")];
  }

  #clicked(event) {
    const row = event.target.closest("tr");
    if (row?.key !== undefined) this.press(row.key);
  }

  #keyed(event) {
    const buttons = this.#buttons();
    const now = buttons.indexOf(event.target);
    const next = { ArrowDown: now + 1, ArrowUp: now - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (now < 0 || next === undefined) return;
    event.preventDefault();
    buttons[Math.min(Math.max(next, 0), buttons.length - 1)].focus();
  }

  #reached(button) {
    if (!button?.matches("th button")) return;
    for (const each of this.#buttons()) each.tabIndex = each === button ? 0 : -1;
  }
}

const classes = ({ kind, minor, share }) => [kind, minor && "minor", share && "bar"].filter(Boolean).join(" ") || undefined;

const heading = ({ title, kind, minor }) => element("th", { scope: "col", class: classes({ kind: kind?.startsWith("number") && "number", minor }) }, title);
