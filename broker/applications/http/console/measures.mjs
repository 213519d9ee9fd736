// Numbers of uplinks for charts and tables, with the names and units that product and protocol give them.
import {bytes, number, texts} from "console/texts.mjs";

const t = texts({
  freeram: ["RAM free", "空闲内存"],
  totalram: ["RAM in all", "内存总量"],
  freedisk: ["Flash free", "空闲闪存"],
  totaldisk: ["Flash in all", "闪存总量"],
  rssi: ["RSSI", "RSSI"],
  snr: ["SNR", "SNR"],
});

/** Charts that are drawn of a device, and points that each keeps. */
const CHARTS = 12;
const POINTS = 300;
const SIGNAL = {rssi: "dBm", snr: "dB"};
/** Of a 0x88 heartbeat: what is in it, and how many bytes the unit is. Totals stay as they are: a chart says nothing. */
const MEMORY = {freeram: 1, totalram: 1, freedisk: 1024, totaldisk: 1024};
const STILL = new Set(["totalram", "totaldisk"]);

/** What a key is called and how its numbers are written: {label, unit, write(value)}. `sensors`: of its product. */
export function measureOf(key, protocol, sensors) {
  if (protocol === "gateway88" && Object.hasOwn(MEMORY, key)) return {label: t[key], unit: "", write: bytes};
  if (protocol === "lorawan" && Object.hasOwn(SIGNAL, key)) return plain(t[key], SIGNAL[key]);
  const sensor = sensors.find((one) => one.value_key === key);
  return plain((sensor && sensor.name) || key, (sensor && sensor.unit) || "");
}

const plain = (label, unit) => ({label, unit, write: (value) => `${number(value, 6)}${unit ? ` ${unit}` : ""}`});

function numbersOf(message) {
  if (message.type !== "uplink") return [];
  const payload = message.payload && typeof message.payload === "object" ? message.payload : {};
  const beat = message.protocol === "gateway88" && payload.hb && typeof payload.hb === "object";
  const inner = beat ? payload.hb : payload;
  const signal = Object.keys(SIGNAL).filter((key) => message.meta && typeof message.meta[key] === "number").map((key) => [key, message.meta[key]]);
  return [...Object.entries(inner), ...signal]
    .filter(([key]) => !beat || !STILL.has(key))
    .map(([key, value]) => [key, typeof value === "string" && value.trim() !== "" ? Number(value) : value])
    .filter(([, value]) => typeof value === "number" && Number.isFinite(value))
    .map(([key, value]) => [key, beat && Object.hasOwn(MEMORY, key) ? value * MEMORY[key] : value]);
}

function withPoint(points, key, at, value) {
  const known = Object.hasOwn(points, key);
  const [times, values] = known ? points[key] : [[], []];
  if (!known && Object.keys(points).length >= CHARTS) return points;
  return {...points, [key]: [[...times, at].slice(-POINTS), [...values, value].slice(-POINTS)]};
}

/** Points by key, with those of more messages: {key: [times in UNIX seconds, values]}. */
export function withMessages(points, messages) {
  let after = points;
  for (const message of messages) {
    for (const [key, value] of numbersOf(message)) after = withPoint(after, key, message.at, value);
  }
  return after;
}

/** The same with messages from before them, which came later than those that came live. */
export function withHistory(points, messages) {
  const after = {...withMessages({}, messages)};
  for (const [key, [times, values]] of Object.entries(points)) {
    const [old, was] = Object.hasOwn(after, key) ? after[key] : [[], []];
    const count = old.filter((at) => at < times[0]).length;
    after[key] = [[...old.slice(0, count), ...times].slice(-POINTS), [...was.slice(0, count), ...values].slice(-POINTS)];
  }
  return after;
}

/** The same with last values: those of devices that say bytes, which the broker has read by their data points. */
export function withReadings(points, device) {
  let after = points;
  for (const [key, reading] of Object.entries({...device.unmapped, ...device.values})) {
    const times = Object.hasOwn(after, key) ? after[key][0] : [];
    const fresh = !times.length || reading.at > times[times.length - 1] + 0.01;
    if (fresh && typeof reading.value === "number" && !STILL.has(key)) after = withPoint(after, key, reading.at, reading.value);
  }
  return after;
}
