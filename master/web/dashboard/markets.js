// Which markets there are, and which of them the chart and the ladder show.

import { Poll } from "./api.js";
import { byId, fill, Panel } from "./dom.js";
import { selection } from "./selection.js";

const NONE = { exchanges: [], books: [] };

export function markets(master) {
  const panel = new Panel("market");
  const [symbol, exchange, book] = ["symbol", "exchange", "book"].map(byId);
  let known = new Map();
  const options = (names) => names.toSorted().map((name) => [name, name]);
  const show = () => {
    const { exchanges, books } = known.get(selection.get("symbol")) ?? NONE;
    fill(symbol, options([...known.keys()]), selection.get("symbol"));
    fill(exchange, [["", "all exchanges"], ...options(exchanges)], selection.get("exchange"));
    fill(book, options(books), selection.get("book"));
  };
  for (const [name, select] of Object.entries({ symbol, exchange, book })) {
    select.addEventListener("change", () => selection.set({ [name]: select.value, ...(name === "symbol" && chosen(known.get(select.value))) }));
  }
  selection.bind(byId("interval"), "interval");
  selection.on(["symbol", "exchange", "book"], show);

  return new Poll(master, {
    every: 15,
    path: () => "/v1/symbols",
    show(answer) {
      known = new Map(answer.symbols.map((each) => [each.symbol, each]));
      const wanted = selection.get("symbol") || busiest(answer.symbols);
      if (wanted && !selection.get("book")) selection.set({ symbol: wanted, book: chosen(known.get(wanted)).book });
      show();
      panel.current();
    },
    failed: (error) => panel.failed(error),
  });
}

/** Of a symbol that was chosen: the first exchange that has a book, and the chart of all. */
function chosen({ books } = NONE) {
  return { exchange: "", book: books.toSorted()[0] ?? "" };
}

/** The symbol that most exchanges tell of. */
function busiest(symbols) {
  const rank = (a, b) => b.exchanges.length - a.exchanges.length || a.symbol.localeCompare(b.symbol);
  return symbols.toSorted(rank)[0]?.symbol;
}
