// Which markets there are, and which of them the chart and the ladder show.

import { Poll } from "./api.js";
import { byId, fill, Panel } from "./dom.js";
import { selection } from "./selection.js";

export function markets(master) {
  const panel = new Panel("market");
  const [symbol, exchange, book] = ["symbol", "exchange", "book"].map(byId);
  let sources = [];
  const show = () => {
    const of = sources.filter((source) => source.symbol === selection.get("symbol"));
    const symbols = [...new Set(sources.map((source) => source.symbol))].sort();
    fill(symbol, symbols.map((name) => [name, name]), selection.get("symbol"));
    const names = of.map((source) => source.exchange).sort();
    fill(exchange, [["", "all exchanges"], ...names.map((name) => [name, name])], selection.get("exchange"));
    fill(book, names.map((name) => [name, name]), selection.get("book"));
  };
  for (const [name, select] of Object.entries({ symbol, exchange, book })) {
    select.addEventListener("change", () => selection.set({ [name]: select.value, ...(name === "symbol" && chosen(sources, select.value)) }));
  }
  selection.bind(byId("interval"), "interval");
  selection.on(["symbol", "exchange", "book"], show);

  return new Poll(master, {
    every: 15,
    path: () => "/v1/market",
    show(answer) {
      sources = answer.sources;
      const wanted = selection.get("symbol") || busiest(sources);
      if (wanted && !selection.get("book")) selection.set({ symbol: wanted, book: chosen(sources, wanted).book });
      show();
      panel.current();
    },
    failed: (error) => panel.failed(error),
  });
}

/** Of a symbol that was chosen: the first exchange whose book can be shown, and the chart of all. */
function chosen(sources, symbol) {
  const of = sources.filter((source) => source.symbol === symbol).sort((a, b) => a.exchange.localeCompare(b.exchange));
  return { exchange: "", book: (of.find((source) => source.book) ?? of[0])?.exchange ?? "" };
}

/** The symbol that most exchanges tell of. */
function busiest(sources) {
  const counts = new Map();
  for (const { symbol } of sources) counts.set(symbol, (counts.get(symbol) ?? 0) + 1);
  return [...counts].sort(([a, m], [b, n]) => n - m || a.localeCompare(b))[0]?.[0];
}
