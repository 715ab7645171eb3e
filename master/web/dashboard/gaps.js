// The ledger of gaps: how complete each hour of each market is, and the holes as they were told.

import { Poll, query } from "./api.js";
import { byId, matcher, Panel, write } from "./dom.js";
import { hour, moment, number, percent, seconds } from "./format.js";
import { selection } from "./selection.js";
import { Table } from "./table.js";

const HOUR = 3600e6; // microseconds
const SHOWN = 200; // rows; more are not read by anybody

const HOURS = [
  { title: "Hour UTC", text: (row) => hour(row.hour) },
  { title: "Market", text: (row) => `${row.exchange} ${row.symbol}` },
  { title: "Channel", text: (row) => row.channel, minor: true },
  { title: "Events", text: (row) => number(row.events), kind: "number", minor: true },
  { title: "Holes", text: (row) => number(row.holes), kind: "number", minor: true },
  { title: "Filled", text: (row) => number(row.repaired), kind: "number", minor: true },
  { title: "Missing", text: missing, kind: "number", state: (row) => (row.missing_ids ? "warn" : "") },
  { title: "Complete", text: (row) => percent(row.complete), kind: "number", state: (row) => (row.complete < 1 ? "warn" : "") },
];
const GAPS = [
  { title: "Told UTC", text: (row) => moment(row.received) },
  { title: "Market", text: (row) => [row.exchange, row.symbol ?? "all markets"].filter(Boolean).join(" ") },
  { title: "Channel", text: (row) => row.channel, minor: true },
  { title: "Reason", text: (row) => row.reason.replaceAll("_", " "), kind: "reason" },
  { title: "Lasted", text: lasted, kind: "number" },
  { title: "Numbers", text: numbers, kind: "number", minor: true },
];

export function completeness(master) {
  const panel = new Panel("completeness");
  const table = new Table(byId("hours-table"), HOURS, {
    key: (row) => `${row.hour} ${row.exchange} ${row.symbol} ${row.channel}`,
    empty: "No hour to show: nothing was received, or none fits the filter.",
  });
  let rows = [];
  const show = () => {
    const fits = matcher(byId("gaps-filter"));
    const fitting = rows.filter((row) => fits(row.exchange, row.symbol, row.channel));
    const whole = fitting.filter((row) => row.complete === 1 && !row.missing_ids).length;
    const cut = fitting.length > SHOWN ? ` The ${SHOWN} least complete are shown.` : "";
    write(byId("hours-summary"), `${number(whole)} of ${number(fitting.length)} market hours are complete.${cut}`);
    table.show(fitting.slice(0, SHOWN));
  };
  selection.bind(byId("hours"), "hours");
  selection.on(["gaps"], show);

  const poll = new Poll(master, {
    every: 15,
    path: () => query("/v1/completeness", { since: (Math.floor(Date.now() / 3.6e6) - Number(selection.get("hours")) + 1) * HOUR }),
    show(answer) {
      rows = answer.rows.sort((a, b) => a.complete - b.complete || b.missing_ids - a.missing_ids || b.hour - a.hour);
      show();
      panel.current();
    },
    failed: (error) => panel.failed(error),
  });
  selection.on(["hours"], () => poll.again());
  return poll;
}

export function gaps(master) {
  const panel = new Panel("gaps");
  const table = new Table(byId("gaps-table"), GAPS, { key: (row) => row.position, empty: "No gap was told that fits the filter." });
  let rows = [];
  const show = () => {
    const fits = matcher(byId("gaps-filter"));
    const fitting = rows.filter((row) => fits(row.exchange, row.symbol ?? "", row.channel, row.reason));
    table.show(fitting.sort((a, b) => b.position - a.position));
  };
  selection.bind(byId("gaps-filter"), "gaps");
  selection.on(["gaps"], show);

  return new Poll(master, {
    every: 15,
    path: () => query("/v1/gaps", { limit: SHOWN }), // without a beginning: the newest
    show(answer) {
      rows = answer.rows;
      show();
      panel.current();
    },
    failed: (error) => panel.failed(error),
  });
}

function missing({ missing_seconds: time, missing_ids: ids }) {
  if (ids) return `${number(ids)} trades`;
  return time ? seconds(time) : "–";
}

function lasted({ since, until, reason }) {
  if (since === null || since === undefined) return "unknown";
  return until === null || until === undefined ? (reason === "backfilled" ? "–" : "open") : seconds((until - since) / 1e6);
}

function numbers({ first_missing: first, last_missing: last }) {
  if (!first && !last) return "–";
  return first === last ? first : `${first ?? "?"} – ${last ?? "?"}`;
}
