// What the master says of itself: the head of the page, the exchanges, and the banner while nothing is heard.

import { Poll, Problem } from "./api.js";
import { byId, mark, Panel, write } from "./dom.js";
import { clock, milliseconds, number, rate, seconds } from "./format.js";
import { selection } from "./selection.js";
import { Table } from "./table.js";

const COLUMNS = [
  { title: "Exchange", text: (row) => row.exchange },
  { title: "State", text: (row) => row.state, state: (row) => row.state, kind: "pill" },
  { title: "Events/s", text: (row) => rate(row.events_per_second), kind: "number" },
  { title: "Trades/s", text: (row) => rate(row.trades_per_second), kind: "number", minor: true },
  { title: "Lag", text: (row) => milliseconds(row.lag_ms), kind: "number" },
  { title: "Age", text: (row) => seconds(row.age), kind: "number", minor: true },
  { title: "Markets", text: (row) => number(row.symbols), kind: "number", minor: true },
  { title: "Books", text: (row) => number(row.books), kind: "number", minor: true },
  {
    title: "Recov\u00ADering",
    text: (row) => number(row.books_recovering),
    kind: "number",
    state: (row) => (row.books_recovering ? "warn" : ""),
  },
  { title: "Gaps", text: (row) => number(row.gaps), kind: "number" },
];

export function status(master) {
  const panel = new Panel("exchanges");
  const table = new Table(byId("exchanges-table"), COLUMNS, {
    key: (row) => row.exchange,
    empty: "No exchange has told anything since the master started.",
    press: (exchange) => selection.set({ plot: selection.get("plot") === exchange ? "" : exchange }),
    isOpen: (exchange) => selection.get("plot") === exchange,
  });
  let heard = null;
  let exchanges = [];
  selection.on(["plot"], () => table.show(exchanges));

  return new Poll(master, {
    every: 1,
    path: () => "/v1/status",
    show(answer) {
      if (heard === null || !byId("unreachable").hidden) Poll.retry();
      heard = answer.time;
      alarm("unreachable", "");
      head(answer);
      exchanges = answer.exchanges;
      table.show(exchanges);
      panel.current();
    },
    failed(error) {
      panel.failed(error);
      write(byId("state"), "unknown");
      mark(byId("state"), "state", "");
      if (error.status === 401) return; // the dialog says so
      const what = error instanceof Problem ? "The master does not tell its state" : `Cannot reach the master at ${location.host}`;
      const shown = heard === null ? "Nothing was heard yet." : `What is shown is from ${clock(heard)} UTC.`;
      alarm("unreachable", `${what}. ${error.message} ${shown} Trying again.`);
    },
  });
}

/** Says across the page what is wrong with all of it. */
export function alarm(id, text) {
  write(byId(id), text);
  byId(id).hidden = !text;
}

function head(answer) {
  const state = byId("state");
  write(state, answer.trouble ? `${answer.status}: ${answer.trouble}` : answer.status);
  mark(state, "state", answer.status);
  document.title = answer.status === "ok" ? "Master" : `${answer.status} – Master`;
  write(byId("stored"), number(answer.stored));
  write(byId("rate"), rate(answer.events_per_second));
  write(byId("collectors"), number(answer.collectors.length));
  write(byId("uptime"), seconds(answer.uptime));
}
