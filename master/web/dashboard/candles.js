// The candle chart of one market, or of one symbol over all exchanges.

import { Poll, query } from "./api.js";
import { byId, mark, Panel, write } from "./dom.js";
import { decimals, moment, padded } from "./format.js";
import { selection } from "./selection.js";
import { colour, painted } from "./theme.js";

const SECONDS = { "1s": 1, "1m": 60, "5m": 300, "15m": 900, "1h": 3600, "4h": 14_400, "1d": 86_400 };
const SHOWN = 300; // candles
const QUESTION = ["symbol", "exchange", "interval"];

export function candles(master) {
  const panel = new Panel("chart");
  const chart = new Chart(byId("candles"));
  const known = new Map();

  const poll = new Poll(master, {
    every: 2,
    path: () => selection.get("symbol") && query("/v1/candles", question(known)),
    show(answer) {
      for (const candle of answer.rows) known.set(candle.start, candle);
      const rows = [...known.values()].sort((a, b) => a.start - b.start).slice(-SHOWN);
      chart.show(rows);
      panel.current();
      if (!rows.length) panel.say(`No trade of ${selection.get("symbol")} in the time of ${SHOWN} candles.`);
    },
    failed: (error) => panel.failed(error),
  });
  selection.on(QUESTION, () => {
    known.clear();
    chart.show([]);
    poll.again();
  });
  return poll;
}

/** All candles shown at first; later the last two, as late trades may still change the one that ended. */
function question(known) {
  const interval = selection.get("interval");
  const width = (SECONDS[interval] ?? SECONDS["1m"]) * 1e6;
  const first = Math.floor((Date.now() * 1000) / width - SHOWN + 1) * width;
  const start = known.size ? Math.max(first, Math.max(...known.keys()) - width) : first;
  return { symbol: selection.get("symbol"), exchange: selection.get("exchange"), interval, start, limit: SHOWN + 2 };
}

class Chart {
  #candles = new Map();
  #last = null;
  #precision = 0;

  constructor(node) {
    this.node = node;
    this.legend = byId("candle");
    const { createChart, CandlestickSeries, HistogramSeries } = LightweightCharts;
    this.chart = createChart(node, { autoSize: true, timeScale: { timeVisible: true, secondsVisible: false, rightOffset: 2 } });
    this.series = this.chart.addSeries(CandlestickSeries, {});
    this.volume = this.chart.addSeries(HistogramSeries, { priceScaleId: "", priceFormat: { type: "volume" }, priceLineVisible: false, lastValueVisible: false });
    this.volume.priceScale().applyOptions({ scaleMargins: { top: 0.82, bottom: 0 } });
    this.series.priceScale().applyOptions({ scaleMargins: { top: 0.08, bottom: 0.22 } });
    this.chart.subscribeCrosshairMove(({ time }) => this.#tell(this.#candles.get(time) ?? this.#last));
    painted(() => this.#paint());
  }

  show(rows) {
    const isNew = this.#candles.size === 0;
    this.#candles = new Map(rows.map((row) => [row.start / 1e6, row]));
    this.#last = rows.at(-1) ?? null;
    const precision = (this.#precision = Math.max(0, ...rows.slice(-50).map((row) => decimals(row.close))));
    this.series.applyOptions({ priceFormat: { type: "price", precision, minMove: 10 ** -precision } });
    this.series.setData(
      rows.map(({ start, open, high, low, close }) => ({ time: start / 1e6, open: +open, high: +high, low: +low, close: +close })),
    );
    this.#bars(rows);
    if (isNew && rows.length) this.#fit(rows.length);
    this.#tell(this.#last);
  }

  /** As many candles as are readable, the newest at the right. */
  #fit(count) {
    const readable = Math.floor(this.node.clientWidth / 7);
    this.chart.timeScale().setVisibleLogicalRange({ from: count - readable, to: count + 2 });
    this.chart.applyOptions({ timeScale: { secondsVisible: selection.get("interval") === "1s" } });
  }

  #bars(rows) {
    const [up, down] = [colour("up-soft"), colour("down-soft")];
    this.volume.setData(rows.map((row) => ({ time: row.start / 1e6, value: +row.volume, color: +row.close < +row.open ? down : up })));
  }

  /** Rising candles are hollow: they differ by more than colour. */
  #paint() {
    const [up, down, line] = [colour("up"), colour("down"), colour("line")];
    this.chart.applyOptions({
      layout: { background: { color: colour("panel") }, textColor: colour("muted"), fontFamily: "system-ui, sans-serif", fontSize: 11 },
      grid: { vertLines: { color: line }, horzLines: { color: line } },
      timeScale: { borderColor: line },
      rightPriceScale: { borderColor: line },
    });
    this.series.applyOptions({
      upColor: colour("panel"), borderUpColor: up, wickUpColor: up, downColor: down, borderDownColor: down, wickDownColor: down,
      priceLineColor: colour("ink"),
    });
    this.#bars([...this.#candles.values()]);
  }

  #tell(candle) {
    const price = (name) => `${name[0].toUpperCase()} ${padded(candle[name], Math.max(this.#precision, decimals(candle[name])))}`;
    const text = candle
      ? `${moment(candle.start)}  ${["open", "high", "low", "close"].map(price).join("  ")}  V ${padded(candle.volume)}`
      : "";
    write(this.legend, text);
    mark(this.legend, "state", candle && (+candle.close < +candle.open ? "down" : "up"));
    const market = `${selection.get("symbol")}, ${selection.get("exchange") || "all exchanges"}, ${selection.get("interval")}`;
    this.node.setAttribute("aria-label", `Candles of ${market}. ${text}`);
  }
}
