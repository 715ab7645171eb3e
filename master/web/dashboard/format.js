// Numbers and times as a person reads them: the same width from one second to the next, times in UTC.

const NONE = "–";
const grouped = (digits) => new Intl.NumberFormat("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const formats = Array.from({ length: 13 }, (_, digits) => grouped(digits));

const some = (show) => (value) => (value === null || value === undefined ? NONE : show(value));

/** A number with this many decimals and grouped thousands. */
export const number = (value, digits = 0) => some((given) => formats[digits].format(given))(value);

/** Events a second: whole ones once there are many. */
export const rate = some((value) => number(value, value && value < 9.95 ? 1 : 0));

/** A price that was computed, to seven significant digits. */
export const price = some((value) => {
  const magnitude = value > 0 ? Math.floor(Math.log10(value)) : 0;
  return number(value, Math.min(12, Math.max(2, 6 - magnitude)));
});

/** Basis points, with a sign where `signed`. */
export const bps = (value, signed = false) => some((given) => (signed && given > 0 ? "+" : "") + number(given, 2))(value);

/** A share from 0 to 1. Less than all is never shown as 100 %. */
export const percent = some((value) => `${value < 1 ? number(Math.floor(value * 10_000) / 100, 2) : "100"} %`);

export const milliseconds = some((value) => (value < 1000 ? `${number(value, value && value < 9.95 ? 1 : 0)} ms` : seconds(value / 1000)));

/** A time span in its largest sensible unit. */
export const seconds = some((value) => {
  if (value < 60) return `${number(value, value < 9.95 ? 1 : 0)} s`;
  if (value < 3600) return `${number(Math.floor(value / 60))} min`;
  if (value < 172_800) return `${number(Math.floor(value / 3600))} h`;
  return `${number(Math.floor(value / 86_400))} d`;
});

/** Microseconds UTC as a Date. */
const date = (micros) => new Date(micros / 1000);

export const clock = some((micros) => date(micros).toISOString().slice(11, 19));
export const moment = some((micros) => date(micros).toISOString().slice(5, 19).replace("T", " "));
export const hour = some((micros) => date(micros).toISOString().slice(5, 16).replace("T", " "));

/** Decimals of a number's text, without the zeros at its end that some venues fill it up with. */
export const decimals = (text) => (text.split(".")[1] ?? "").replace(/0+$/, "").length;

/** A number's own text, with this many decimals: no fewer than `decimals` says of it, so that nothing is rounded. */
export const padded = (text, digits = decimals(text)) => {
  const [whole, part = ""] = text.split(".");
  return digits ? `${whole}.${part.slice(0, digits).padEnd(digits, "0")}` : whole;
};
