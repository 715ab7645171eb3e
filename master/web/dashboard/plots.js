// Events a second and lag of the last ten minutes, of all exchanges or of the one chosen in their table.

import { Poll } from "./api.js";
import { byId, Panel, write } from "./dom.js";
import { milliseconds, rate } from "./format.js";
import { selection } from "./selection.js";
import { colour, painted } from "./theme.js";

const HEIGHT = 132;
const SECONDS = 600; // that are shown, also while the master is younger
const minute = (second) => new Date(second * 1000).toISOString().slice(11, 16);

export function plots(master) {
  const panel = new Panel("plots");
  const drawn = [
    new Plot("plot-events", "events_per_second", "accent", rate),
    new Plot("plot-lag", "lag_ms", "second", milliseconds),
  ];
  let history = null;
  const show = () => {
    const exchange = selection.get("plot");
    write(byId("plot-of"), exchange || "all exchanges");
    if (history) for (const plot of drawn) plot.show(history.time, exchange ? history.exchanges[exchange] ?? {} : history);
  };
  selection.on(["plot"], show);

  return new Poll(master, {
    every: 5,
    path: () => "/v1/status/history",
    show(answer) {
      history = answer;
      show();
      panel.current();
    },
    failed: (error) => panel.failed(error),
  });
}

class Plot {
  #uplot = null;
  #data = [[], []];

  constructor(id, field, ink, format) {
    Object.assign(this, { node: byId(id), value: byId(`${id}-value`), field, ink, format });
    painted(() => this.#make());
    new ResizeObserver(() => this.#uplot.setSize(this.#size())).observe(this.node);
  }

  show(time, series) {
    this.#data = [time.map((micros) => micros / 1e6), series[this.field] ?? time.map(() => null)];
    this.#uplot.setData(this.#data);
    this.#tell();
  }

  /** uPlot takes its colours when it is made. */
  #make() {
    this.#uplot?.destroy();
    const axis = { stroke: colour("muted"), font: "11px system-ui", grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
    const options = {
      ...this.#size(),
      legend: { show: false },
      cursor: { sync: { key: "plots" }, y: false, drag: { x: false, y: false }, points: { size: 6 } },
      scales: { x: { range: (_, __, last) => [last - SECONDS, last] }, y: { range: (_, low, high) => [0, (high || 1) * 1.1] } },
      axes: [
        { ...axis, size: 24, space: 56, values: (_, splits) => splits.map(minute) },
        { ...axis, size: 52, space: 28, values: (_, splits) => splits.map((value) => this.format(value)) },
      ],
      series: [{}, { stroke: colour(this.ink), fill: colour(`${this.ink}-soft`), width: 1.5, points: { show: false } }],
      hooks: { setCursor: [() => this.#tell()] },
    };
    this.#uplot = new uPlot(options, this.#data, this.node);
  }

  #size() {
    return { width: Math.max(this.node.clientWidth, 120), height: HEIGHT };
  }

  /** The value under the cursor, else the newest. */
  #tell() {
    const [time, values] = this.#data;
    const under = this.#uplot?.cursor.idx ?? null;
    const index = under ?? time.length - 1;
    const when = under === null || index < 0 ? "now" : new Date(time[index] * 1000).toISOString().slice(11, 19);
    write(this.value, `${this.format(values[index])} ${when}`);
    this.node.setAttribute("aria-label", `${this.value.previousElementSibling.textContent}: ${this.value.textContent}`);
  }
}
