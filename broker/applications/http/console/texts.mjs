// Two languages. A module brings its own texts: `const t = texts({save: ["Save", "保存"]})`, then `t.save` is the text
// in the language of the page, and `t.sent({n: 3})` one with places: ["{n} sent", "已发送 {n} 条"].
import {setting} from "console/state.mjs";

const LANGUAGES = ["en", "zh"];
/** The first of the browser's languages that we have. */
const usual = (navigator.languages || [navigator.language]).map((tag) => tag.toLowerCase().slice(0, 2)).find((tag) => LANGUAGES.includes(tag)) || "en";

/** The language of the page: en or zh. */
export const language = setting("language", usual, LANGUAGES);
language.watch((value) => {
  document.documentElement.lang = value === "zh" ? "zh-CN" : "en";
});

/** Texts by name; those with places are functions of an object. */
export function texts(table) {
  const found = {};
  for (const [name, forms] of Object.entries(table)) {
    if (forms[0].includes("{")) found[name] = (values) => filled(forms[LANGUAGES.indexOf(language.value)], values);
    else Object.defineProperty(found, name, {get: () => forms[LANGUAGES.indexOf(language.value)]});
  }
  return found;
}

function filled(text, values) {
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

const locale = () => (language.value === "zh" ? "zh-CN" : "en-GB");

/** A number as people of the language read it. */
export const number = (value, digits = 0) =>
  value === null || value === undefined ? "–" : new Intl.NumberFormat(locale(), {maximumFractionDigits: digits}).format(value);

/** UNIX seconds as date and time of day, of this browser's place. */
export const moment = (at) =>
  at === null || at === undefined
    ? "–"
    : new Intl.DateTimeFormat(locale(), {dateStyle: "short", timeStyle: "medium"}).format(new Date(at * 1000));

/** UNIX seconds as the time of day, with tenths. */
export const clock = (at) =>
  new Intl.DateTimeFormat(locale(), {hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 1}).format(
    new Date(at * 1000),
  );

/** The same without them, for axes of charts; `fine`: with seconds. */
export const hour = (at, fine) =>
  new Intl.DateTimeFormat(locale(), {hour: "2-digit", minute: "2-digit", ...(fine ? {second: "2-digit"} : {}), hourCycle: "h23"}).format(new Date(at * 1000));

/** A number as short as it is said: 1.2M, 120万. */
export const brief = (value) => new Intl.NumberFormat(locale(), {notation: "compact", maximumSignificantDigits: 4}).format(value);

const STEPS = [
  [86400, "day"],
  [3600, "hour"],
  [60, "minute"],
  [1, "second"],
];

/** How long ago (UNIX seconds), in the largest unit that fits. */
export function ago(at) {
  if (at === null || at === undefined) return "–";
  const seconds = Date.now() / 1000 - at;
  const [size, unit] = STEPS.find(([step]) => Math.abs(seconds) >= step) || STEPS[3];
  return new Intl.RelativeTimeFormat(locale(), {numeric: "auto", style: "short"}).format(-Math.round(seconds / size), unit);
}

/** Seconds as a length of time. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const [size, unit] = STEPS.find(([step]) => seconds >= step) || STEPS[3];
  return new Intl.NumberFormat(locale(), {style: "unit", unit, unitDisplay: "short", maximumFractionDigits: 1}).format(seconds / size);
}

/** Bytes in the largest unit that fits. */
export function bytes(size) {
  if (size === null || size === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let step = 0;
  while (size >= 1024 && step < units.length - 1) {
    size /= 1024;
    step += 1;
  }
  return `${number(size, step ? 1 : 0)} ${units[step]}`;
}
