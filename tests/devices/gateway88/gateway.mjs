// A gateway as the document describes it, on Node.js alone: node gateway.mjs PORT MAC CONTAINER
//
// It reads a line of JSON from its standard input for each thing to do, and writes one for each thing that happens:
//   > {"do": "push", "message": {...}}              < {"answered": {...} or null, "status": 0}   its acknowledgement
//   > {"do": "on", "type": "...", "answers": [...]}  from now on such an order is answered with these, null: not at all
//   > {"do": "raw", "hex": "..."}                    bytes as they are
//   > {"do": "reconnect"}                            < {"connected": true, "resumed": bool}
//                                                    < {"order": {...}, "id": 128}               an order has come
//                                                    < {"closed": true}                          the server has hung up
import { createInterface } from "node:readline";
import tls from "node:tls";
import zlib from "node:zlib";

const [port, macText, container] = process.argv.slice(2);
const MAC = Buffer.from(macText, "hex");
const MAGIC = Buffer.from([0x88, 0x88, 0x88, 0x88]);
const SEND_AGAIN = 6000;

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

const base64 = (data) => Buffer.from(data.toString("base64"));
const unbase64 = (data) => Buffer.from(data.toString(), "base64");
const same = (data) => data;
const CONTAINERS = {
  "zlib(base64)": [(json) => zlib.deflateSync(base64(json)), (data) => unbase64(zlib.inflateSync(data))],
  zlib: [zlib.deflateSync, zlib.inflateSync],
  "gzip(base64)": [(json) => zlib.gzipSync(base64(json)), (data) => unbase64(zlib.gunzipSync(data))],
  "base64(deflate)": [(json) => base64(zlib.deflateRawSync(json)), (data) => zlib.inflateRawSync(unbase64(data))],
  json: [same, same],
};
const [pack, unpack] = CONTAINERS[container];

function frame(id, data, status = 0) {
  const body = Buffer.concat([Buffer.from([2]), MAC, Buffer.from([id]), data, Buffer.from([status])]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length + 1);
  const all = Buffer.concat([MAGIC, length, body]);
  return Buffer.concat([all, Buffer.from([all.reduce((sum, byte) => sum ^ byte, 0)])]);
}

let socket, session, buffer, nextId;
const waiting = new Map(); // our message ids -> the timer of the next repetition
const answers = new Map(); // types of orders -> what they are answered with

function connect() {
  buffer = Buffer.alloc(0);
  nextId = 1;
  // Gateways do not check the server's certificate.
  socket = tls.connect({ host: "127.0.0.1", port: Number(port), rejectUnauthorized: false, session });
  const mine = socket;
  mine.on("session", (ticket) => (session = ticket));
  mine.on("secureConnect", () => say({ connected: true, resumed: mine.isSessionReused() }));
  mine.on("data", (data) => {
    buffer = Buffer.concat([buffer, data]);
    while (buffer.length >= 8) {
      if (!buffer.subarray(0, 4).equals(MAGIC)) throw new Error("no magic: " + buffer.toString("hex"));
      const size = 8 + buffer.readUInt32BE(4);
      if (buffer.length < size) break;
      take(buffer.subarray(0, size));
      buffer = buffer.subarray(size);
    }
  });
  mine.on("error", () => {});
  mine.on("close", () => mine === socket && say({ closed: true }));
}

function take(bytes) {
  if (bytes.reduce((sum, byte) => sum ^ byte, 0) !== 0) throw new Error("checksum: " + bytes.toString("hex"));
  if (bytes[8] !== 2 || !bytes.subarray(9, 15).equals(MAC)) throw new Error("not for us: " + bytes.toString("hex"));
  const id = bytes[15];
  const data = bytes.subarray(16, -2);
  const status = bytes[bytes.length - 2];
  const message = data.length ? JSON.parse(unpack(data).toString()) : null;
  if (waiting.has(id)) {
    clearInterval(waiting.get(id));
    waiting.delete(id);
    say({ answered: message, status });
  } else if (message) {
    say({ order: message, id });
    for (const answer of answers.get(message.type) ?? []) {
      if (answer) socket.write(frame(id, pack(Buffer.from(JSON.stringify(answer)))));
    }
  }
}

function push(message) {
  const id = nextId;
  nextId = (nextId % 127) + 1;
  const bytes = frame(id, pack(Buffer.from(JSON.stringify(message))));
  let sends = 1;
  const again = () => (++sends > 3 ? socket.destroy() : socket.write(bytes));
  waiting.set(id, setInterval(again, SEND_AGAIN));
  socket.write(bytes);
}

const ACTIONS = {
  push: ({ message }) => push(message),
  on: ({ type, answers: given }) => answers.set(type, given),
  raw: ({ hex }) => socket.write(Buffer.from(hex, "hex")),
  reconnect: () => {
    for (const timer of waiting.values()) clearInterval(timer);
    waiting.clear();
    const old = socket;
    connect();
    old.destroy();
  },
};

connect();
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  ACTIONS[request.do](request);
}
process.exit();
