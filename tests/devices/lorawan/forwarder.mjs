// A packet forwarder over node:dgram, written from the documents of the protocol and the rules of the reference
// forwarder's queue (jitqueue.c), and from nothing of the broker's: node forwarder.mjs PORT EUI FIRST_TMST PADDING
//
// A line in:  {"pull": true}   {"stat": {...}}   {"hears": [hex, ...], "lsnr": dB, "datr": "SF7BW125"}
// Lines out:  {"ack": 1 | 4}   {"heard": tmst}   {"refused": error}   {"silent": field}   {"air": {tmst, freq, ...}}
//
// A packet stands in "air" when its time has come, not when it was asked for.
import { createSocket } from "node:dgram";
import { createInterface } from "node:readline";

const [port, euiText, first, padding] = process.argv.slice(2);
const eui = Buffer.from(euiText, "hex");
const WRAP = 2 ** 32;
const START_DELAY = 1500;
const MARGIN = 1000;
const JIT_DELAY = 30000;
const PRE = START_DELAY + JIT_DELAY;
const FURTHEST = 512e6;
const QUEUE = 32;
const GAINS = [-6, -3, 0, 3, 6, 10, 11, 12, 13, 14, 16, 20];
const MANDATORY = ["freq", "rfch", "modu", "datr", "size", "data"];

const begun = process.hrtime.bigint();
const now = () => (Number((process.hrtime.bigint() - begun) / 1000n) + Number(first)) % WRAP;
const say = (event) => process.stdout.write(JSON.stringify(event) + "\n");
const ahead = (tmst) => (((tmst - now()) % WRAP) + WRAP) % WRAP;

let token = 0;
const head = (kind) => {
  token = (token + 1) % 65536;
  return Buffer.concat([Buffer.from([2, token >> 8, token & 255, kind]), eui]);
};
const awaited = new Map();
const up = createSocket("udp4");
const down = createSocket("udp4");

function send(socket, kind, body = "") {
  const start = head(kind);
  awaited.set(start.readUInt16BE(1), kind);
  socket.send(Buffer.concat([start, Buffer.from(body)]), Number(port), "127.0.0.1");
}

function acknowledged(data) {
  const kind = awaited.get(data.readUInt16BE(1));
  if (data.length !== 4 || data[0] !== 2 || (kind === 0 ? 1 : 4) !== data[3]) throw new Error(data.toString("hex"));
  awaited.delete(data.readUInt16BE(1));
  say({ ack: data[3] });
}

// Microseconds in the air: explicit header, coding rate 4/5, no CRC, preamble of 8.
function airtime(datr, size) {
  const [, sf, bw] = /^SF(\d+)BW(\d+)$/.exec(datr).map(Number);
  const slow = bw === 125 && sf > 10 ? 1 : 0;
  const symbols = 8 + Math.max(Math.ceil((8 * size - 4 * sf + 28) / (4 * (sf - 2 * slow))) * 5, 0);
  return Math.round(((12.25 + symbols) * 2 ** sf * 1000) / bw);
}

const queue = [];
const apart = (a, b) => {
  const between = (((b.tmst - a.tmst) % WRAP) + WRAP) % WRAP;
  return between < WRAP / 2 ? between > a.length + PRE + MARGIN : WRAP - between > b.length + PRE + MARGIN;
};

function enqueue(packet) {
  if (packet.imme) packet.tmst = (now() + 1e6) % WRAP;
  else if (packet.tmms !== undefined) return "GPS_UNLOCKED";
  if (packet.freq < 863 || packet.freq > 870) return "TX_FREQ";
  if (!GAINS.includes(packet.powe ?? 0)) return "TX_POWER";
  const left = ahead(packet.tmst);
  if (left > FURTHEST) return "TOO_EARLY";
  if (left <= START_DELAY + MARGIN + JIT_DELAY) return "TOO_LATE";
  const entry = { tmst: packet.tmst, length: airtime(packet.datr, packet.size) };
  if (queue.length >= QUEUE || !queue.every((other) => apart(entry, other))) return "COLLISION_PACKET";
  queue.push(entry);
  setTimeout(() => {
    say({ air: { ...packet, data: undefined, frame: Buffer.from(packet.data, "base64").toString("hex") } });
    setTimeout(() => queue.splice(queue.indexOf(entry), 1), entry.length / 1000);
  }, left / 1000);
  return undefined;
}

function pulled(data) {
  const packet = JSON.parse(data.subarray(4).toString("ascii")).txpk;
  const missing = [...MANDATORY, ...(packet.modu === "LORA" ? ["codr"] : [])].find((name) => packet[name] === undefined);
  if (missing || ![packet.imme, packet.tmst, packet.tmms].some((value) => value !== undefined)) {
    say({ silent: missing ?? "tmst" });
    return;
  }
  const error = enqueue(packet);
  const start = Buffer.concat([Buffer.from([2, data[1], data[2], 5]), eui]);
  const body = error ? JSON.stringify({ txpk_ack: { error } }) : "";
  if (error) say({ refused: error });
  down.send(Buffer.concat([start, Buffer.from(body)]), Number(port), "127.0.0.1");
}

up.on("message", acknowledged);
down.on("message", (data) => (data[3] === 3 ? pulled(data) : acknowledged(data)));

function hears({ hears: frames, lsnr, datr }) {
  const tmst = now();
  const rxpk = frames.map((hex) => {
    const frame = Buffer.from(hex, "hex");
    const data = frame.toString(padding === "none" ? "base64url" : "base64");
    const radio = { freq: 868.3, chan: 1, rfch: 1, stat: 1, modu: "LORA", datr: datr ?? "SF7BW125", codr: "4/5" };
    return { tmst, ...radio, rssi: -71, lsnr: lsnr ?? 8.5, size: frame.length, data };
  });
  // What else is in the air: noise of which the gateway itself says that it is damaged.
  rxpk.unshift({ ...rxpk[0], stat: -1, size: 3, data: "q83v" });
  send(up, 0, JSON.stringify({ rxpk }));
  say({ heard: tmst });
}

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  if (order.pull) send(down, 2);
  else if (order.stat) send(up, 0, JSON.stringify({ stat: order.stat }));
  else hears(order);
}
process.exit();
