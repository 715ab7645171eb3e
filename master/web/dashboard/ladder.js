// One order book as a ladder: asks above, bids below, the spread between them. Prices and amounts are as exact as
// the venue's own text; all of a column have the same decimals.

import { Poll, query } from "./api.js";
import { byId, element, mark, Panel, write } from "./dom.js";
import { bps, decimals, number, padded, seconds } from "./format.js";
import { selection } from "./selection.js";

const DEPTH = 12; // levels of a side

export function ladder(master) {
  const panel = new Panel("ladder");
  const asks = new Side(byId("asks"));
  const bids = new Side(byId("bids"));
  const state = byId("ladder-state");
  const says = (text, name) => {
    write(state, text);
    mark(state, "state", name);
  };
  /** A book that is not known to be right is not shown. */
  const absent = (text) => {
    says(text, text);
    asks.show([]);
    bids.show([]);
    write(byId("spread"), "–");
  };

  const poll = new Poll(master, {
    every: 0.5,
    path: () =>
      selection.get("symbol") &&
      selection.get("book") &&
      query("/v1/market/book", { exchange: selection.get("book"), symbol: selection.get("symbol"), depth: DEPTH }),
    show(book) {
      if (!book.bids) {
        absent(book.state);
        panel.current();
        panel.say("Something of this book was missed. It is back when it is whole again.");
        return;
      }
      const most = Math.max(...[book.asks, book.bids].map(total));
      const [price, amount] = [0, 1].map((column) => Math.max(0, ...[...book.asks, ...book.bids].map((level) => decimals(level[column]))));
      asks.show(book.asks, most, price, amount);
      bids.show(book.bids, most, price, amount);
      write(byId("spread"), spread(book));
      says(`${book.state}, ${seconds(book.age)} old`, book.state);
      panel.current();
    },
    failed(error) {
      absent("absent");
      panel.say(error.message);
    },
  });
  selection.on(["symbol", "book"], () => {
    absent(selection.get("book") ? "asking" : "absent");
    poll.again();
  });
  return poll;
}

const total = (levels) => levels.slice(0, DEPTH).reduce((sum, [, amount]) => sum + Number(amount), 0);

function spread({ bids, asks }) {
  if (!bids.length || !asks.length) return "one side is empty";
  const [bid, ask] = [bids[0][0], asks[0][0]];
  const digits = Math.max(decimals(bid), decimals(ask));
  return `${number(ask - bid, Math.min(digits, 12))}  ·  ${bps(((ask - bid) / ((+ask + +bid) / 2)) * 1e4)} bps`;
}

/** Rows that stay where they are while the levels pass through them; the style sheet turns those of the asks upside down. */
class Side {
  constructor(body) {
    this.rows = Array.from({ length: DEPTH }, () => {
      const row = element("tr", {}, element("td"), element("td"), element("td"));
      body.append(row);
      return row;
    });
    if (body.id === "asks") this.rows.reverse();
  }

  /** `price` and `amount`: the decimals of each. */
  show(levels, most, price, amount) {
    let sum = 0;
    this.rows.forEach((row, index) => {
      const level = levels[index];
      sum += Number(level?.[1] ?? 0);
      const texts = level ? [padded(level[0], price), padded(level[1], amount), number(sum, Math.min(amount, 12))] : ["", "", ""];
      texts.forEach((text, cell) => write(row.children[cell], text));
      row.style.setProperty("--share", level ? sum / most : 0);
    });
  }
}
