// The page: what stands where is in index.html, what it looks like in style.css.

import { Master, Poll } from "./api.js";
import { board } from "./board.js";
import { candles } from "./candles.js";
import { byId } from "./dom.js";
import { completeness, gaps } from "./gaps.js";
import { ladder } from "./ladder.js";
import { markets } from "./markets.js";
import { plots } from "./plots.js";
import { alarm, status } from "./status.js";
import { theme } from "./theme.js";

/** `/` goes to the filter of the panel that has the focus, else to the first; Escape empties it. */
function keys() {
  const isTyping = (node) => node.matches("input, select, textarea, dialog *");
  addEventListener("keydown", (event) => {
    const { target } = event;
    if (event.key === "/" && !isTyping(target) && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      (target.closest("section")?.querySelector("input[type=search]") ?? byId("board-filter")).focus();
    }
    if (event.key === "Escape" && target.matches("input[type=search]")) {
      target.value = "";
      target.dispatchEvent(new Event("input"));
    }
  });
}

/** The dialog for the key of a consumer, shown when the master asks for one. */
function asksForKey(master) {
  const dialog = byId("key");
  const input = byId("key-input");
  master.addEventListener("locked", ({ detail }) => {
    byId("key-refused").hidden = !detail.refused;
    dialog.showModal();
  });
  dialog.addEventListener("cancel", (event) => event.preventDefault()); // there is nothing to see without it
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.close();
    master.unlock(input.value);
    input.value = "";
    Poll.retry();
  });
}

/** A fault of the page must not look like a quiet market. */
function tellsFaults() {
  const tell = (what) => alarm("fault", `This page has a fault and may not be current: ${what}. Reload it.`);
  addEventListener("error", (event) => tell(event.message));
  addEventListener("unhandledrejection", (event) => tell(event.reason?.message ?? event.reason));
}

tellsFaults();
const master = new Master();
theme(byId("theme"));
keys();
asksForKey(master);
for (const part of [status, plots, board, markets, candles, ladder, gaps, completeness]) part(master);
