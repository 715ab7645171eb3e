// The price board: what the master makes of all sources of each feed, and of which ones.

import { Poll, query } from "./api.js";
import { byId, element, matcher, Panel, write } from "./dom.js";
import { bps, number, padded, percent, price, seconds } from "./format.js";
import { selection } from "./selection.js";
import { Table } from "./table.js";

const FEEDS = [
  { title: "Feed", text: (row) => row.feed },
  { title: "Price", text: (row) => price(row.price), kind: "number", state: (row) => (row.price === null ? "bad" : "") },
  { title: "Spread bps", text: (row) => bps(row.spread_bps), kind: "number" },
  { title: "Confidence", text: (row) => number(row.confidence, 2), kind: "number", minor: true },
  { title: "Used", text: (row) => number(row.used), kind: "number" },
  { title: "Refused", text: (row) => number(row.refused), kind: "number" },
];
const SOURCES = [
  { title: "Source", text: (row) => `${row.exchange} ${row.symbol}` },
  { title: "Said", text: (row) => (row.raw === null ? "–" : padded(row.raw)), kind: "number" },
  { title: "Age", text: (row) => seconds(row.age), kind: "number" },
  { title: "Weight", text: (row) => percent(row.weight), kind: "number", share: (row) => row.weight },
  { title: "Off by bps", text: (row) => bps(row.deviation_bps, true), kind: "number" },
];
const REFUSED = [
  SOURCES[0],
  { title: "Refused because", text: (row) => [row.reason, row.detail].filter(Boolean).join(": "), kind: "reason" },
  SOURCES[1],
  SOURCES[2],
];
const sourceKey = (row) => `${row.exchange} ${row.symbol}`;

export function board(master) {
  const panel = new Panel("board");
  const filter = byId("board-filter");
  const detail = new Detail();
  const table = new Table(byId("board-table"), FEEDS, {
    key: (row) => row.feed,
    empty: "No feed to show: none is configured, or none fits the filter.",
    press: (feed) => selection.set({ feed: selection.get("feed") === feed ? "" : feed }),
    isOpen: (feed) => selection.get("feed") === feed,
  });
  let prices = [];
  const show = () => {
    const fits = matcher(filter);
    table.show(prices.filter((row) => fits(row.feed)));
  };
  const open = () => {
    detail.clear();
    table.detail(selection.get("feed"), selection.get("feed") ? detail.node : null);
    show();
    sources.again();
  };
  const sources = new Poll(master, {
    every: 1,
    path: () => selection.get("feed") && query("/v1/price", { feed: selection.get("feed") }),
    show: (answer) => detail.show(answer),
    failed: (error) => detail.say(error.message),
  });
  selection.bind(filter, "prices");
  selection.on(["prices"], show);
  selection.on(["feed"], open);
  open();

  return new Poll(master, {
    every: 1,
    path: () => "/v1/prices/live",
    show(answer) {
      prices = answer.prices;
      show();
      panel.current();
    },
    failed: (error) => panel.failed(error),
  });
}

/** The sources of one feed: used with their weights, refused with the reasons. */
class Detail {
  #summary = element("p", { class: "summary" });
  #usedTable = element("table", { "aria-label": "Sources used" });
  #refusedTable = element("table", { "aria-label": "Sources refused" });
  node = element("div", { class: "sources" }, this.#summary, this.#usedTable, this.#refusedTable);
  #used = new Table(this.#usedTable, SOURCES, { key: sourceKey, empty: "No source was used." });
  #refused = new Table(this.#refusedTable, REFUSED, { key: sourceKey, empty: "No source was refused." });

  clear() {
    this.say("Asking …");
    this.#usedTable.hidden = this.#refusedTable.hidden = true;
  }

  say(text) {
    write(this.#summary, text);
  }

  show(answer) {
    const converted = answer.conversions.map(
      ({ from, to, price: at, sources, age }) => `${from} as ${price(at)} ${to} (${sources} ${sources === 1 ? "source" : "sources"}, ${seconds(age)} old)`,
    );
    const method = answer.price === null ? `No price: ${answer.reason}` : `By ${answer.method.replaceAll("_", " ")}`;
    this.say([method, ...converted].join("; "));
    this.#usedTable.hidden = false;
    this.#refusedTable.hidden = !answer.refused.length;
    this.#used.show(answer.used);
    this.#refused.show(answer.refused);
  }
}
