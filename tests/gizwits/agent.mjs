// A Gizwits module in JavaScript, written after what real ones (GAgent 04020006) were seen to do, and sharing no code
// with the broker. It reads as they do: one recv of at most 1,024 bytes is one MQTT packet or one HTTP answer, what
// comes behind it is lost, and answers are searched as text.
//
//   node agent.mjs '{"gservice": 8081, "product": "...", "mac": "...", "tempo": 20}'
//
// All waits are divided by tempo. A line of JSON on standard output for each thing that happens; on standard input
// {"do": "report" | "request" | "log" | "ask" | "reset" | "drop", ...}. It ends with its standard input.

import net from "node:net";
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";

const RECV = 1024;
const given = JSON.parse(process.argv[2]);
const { gservice, product, mac, tempo } = given;
const host = "api.gizwits.com";
const form = "Content-Type: application/x-www-form-urlencoded\r\n\r\n";

const flash = { did: "", passcode: makePasscode(), old: null, versions: { 1: ["000LINUX", "04020006"], 2: ["00000001", "00000001"] }, fid: 1 };
let link = null; // the MQTT connection
let run = 0; // counts power-ons: what belongs to an earlier one stops

const tell = (event, more = {}) => process.stdout.write(JSON.stringify({ event, ...more }) + "\n");
// When this process last had the processor, and for how long it had none before that, in milliseconds: what it finds
// together after a while without may have been sent apart.
let alive = performance.now();
let held = 0;
setInterval(() => {
  const now = performance.now();
  held = now - alive;
  alive = now;
}, 1).unref();

const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, (seconds * 1000) / tempo));

function makePasscode() {
  return Array.from({ length: 10 }, () => String.fromCharCode(65 + Math.floor(Math.random() * 25))).join("");
}

// -- HTTP ------------------------------------------------------------------------------------------------------------

// Sends a request; the result is what the first recv gives, at most `room` bytes, and then further ones until `enough`.
function ask(request, room = RECV, enough = () => true) {
  return new Promise((resolve, reject) => {
    let got = Buffer.alloc(0);
    const socket = net.connect({
      host: "127.0.0.1",
      port: gservice,
      onread: {
        buffer: Buffer.alloc(room),
        callback(count, buffer) {
          got = Buffer.concat([got, buffer.subarray(0, count)]);
          if (enough(got)) {
            resolve(got);
            socket.destroy();
            return false;
          }
          return true;
        },
      },
    });
    socket.setTimeout(10000, () => socket.destroy(new Error("no answer")));
    socket.on("connect", () => socket.write(request));
    socket.on("error", reject);
    socket.on("close", () => reject(new Error("closed")));
  });
}

function post(path, body, method = "POST") {
  return `${method} ${path} HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${body.length}\r\n${form}${body}`;
}

// The text between the first `begin` and the next one of `ends`; null when one of them is missing.
function between(answer, begin, ...ends) {
  const from = answer.indexOf(begin);
  if (from < 0) return null;
  const rest = answer.slice(from + begin.length);
  const found = ends.map((end) => rest.indexOf(end)).filter((at) => at >= 0);
  return found.length ? rest.slice(0, Math.min(...found)) : null;
}

const status = (answer) => answer.split(" ")[1];

async function register() {
  const body = `passcode=${flash.passcode}&mac=${mac}&product_key=${product}`;
  const answer = (await ask(post("/dev/devices", body))).toString("latin1");
  const at = answer.indexOf("did=");
  const did = answer.slice(at + 4, at + 26);
  if (status(answer) !== "201" || at < 0 || did.length !== 22) throw new Error(`register: ${answer}`);
  flash.did = did;
  tell("registered", { did, passcode: flash.passcode });
}

async function provision() {
  const request = `GET /dev/devices/${flash.did} HTTP/1.1\r\nHost: ${host}\r\nCache-Control: no-cache\r\n${form}`;
  const answer = (await ask(request)).toString("latin1");
  if (status(answer) !== "200") throw new Error(`provision: ${answer}`);
  const place = between(answer, "host=", "&");
  const port = between(answer, "port=", "&");
  const time = between(answer, "server_ts=", "&", "\r");
  if (place === null || port === null || time === null) {
    tell("segfault", { answer });
    process.exit(139);
  }
  tell("provisioned", { host: place, port: Number(port), server_ts: Number(time) });
  return Number(port);
}

async function check(kind) {
  const [hard, soft] = flash.versions[kind];
  const body = `passcode=${flash.passcode}&type=${kind}&hard_version=${hard}&soft_version=${soft}`;
  const head = `POST /dev/ota/v4.1/update_and_check/${flash.did} HTTP/1.1\r\nHost:${host}\r\nContent-Length:${body.length}\r\n`;
  const answer = (await ask(head + form + body)).toString("latin1");
  const version = between(answer, "soft_ver=", "&");
  const url = between(answer, "download_url=", "\r\n");
  if (status(answer) !== "200" || version === null || url === null || url.length > 255 || !(soft < version)) {
    tell("no firmware", { kind, status: status(answer) });
    return;
  }
  await download(url, "Soft-Version: ");
  flash.versions[kind] = [hard, version];
  tell("upgraded", { kind, version });
  powerOn();
}

async function download(url, versionHeader) {
  const path = url.slice(url.indexOf("/", 7));
  let first = null; // what the first recv of 600 bytes gives: it has to reach into the image
  let size = 0;
  let digest = "";
  let begin = 0;
  const request = `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/text\r\n\r\n`;
  const got = await ask(request, 600, (bytes) => {
    if (first === null) {
      first = bytes.toString("latin1");
      begin = first.indexOf("\r\n\r\n") + 4;
      size = Number(between(first, "Content-Length: ", "\r\n"));
      digest = between(first, "Firmware-MD5: ", "\r\n");
      const name = between(first, 'filename="', '"');
      const version = between(first, versionHeader, "\r\n");
      if (status(first) !== "200" || begin < 4 || begin >= bytes.length || !size || !digest || !version || !/\.(bin|hex)$/.test(name)) {
        throw new Error(`download: ${first}`);
      }
    }
    return bytes.length >= begin + size;
  });
  const image = got.subarray(begin, begin + size);
  const md5 = createHash("md5").update(image).digest("hex");
  if (md5 !== digest) throw new Error("download: another MD5");
  tell("downloaded", { size, md5 });
}

async function disable([did, passcode]) {
  const answer = (await ask(post("/dev/devices", `did=${did}&passcode=${passcode}`, "DELETE"))).toString("latin1");
  tell("disabled", { did, status: status(answer) });
}

// -- MQTT ------------------------------------------------------------------------------------------------------------

const text = (value) => Buffer.concat([Buffer.from([value.length >> 8, value.length & 255]), Buffer.from(value)]);

function packet(first, ...parts) {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from([first]), length(body.length), body]);
}

function length(value) {
  const bytes = [];
  do {
    bytes.push(value > 127 ? (value & 127) | 128 : value);
    value >>= 7;
  } while (value > 0);
  return Buffer.from(bytes);
}

const business = (command, ...parts) => {
  const rest = Buffer.concat([Buffer.from([0, command >> 8, command & 255]), ...parts]);
  return Buffer.concat([Buffer.from([0, 0, 0, 3]), length(rest.length), rest]);
};

class Link {
  constructor(port, mine) {
    this.mine = mine;
    this.subscribed = 0;
    this.unanswered = 0;
    this.filters = [`ser2cli_noti/${product}`, `ser2cli_res/${flash.did}`, `app2dev/${flash.did}/#`];
    this.gone = new Promise((resolve) => {
      this.socket = net.connect({
        host: "127.0.0.1",
        port,
        noDelay: true,
        onread: {
          buffer: Buffer.alloc(RECV),
          callback: (count, buffer) => {
            this.received(Buffer.from(buffer.subarray(0, count)));
            return true;
          },
        },
      });
      this.socket.on("connect", () => this.connect());
      this.socket.on("error", () => {});
      this.socket.on("close", () => {
        clearInterval(this.pings);
        resolve();
      });
    });
  }

  connect() {
    const head = Buffer.from([0, 6, 0x4d, 0x51, 0x49, 0x73, 0x64, 0x70, 3, 0xc2, 0, 120]);
    this.socket.write(packet(0x10, head, text(flash.did), text(flash.did), text(flash.passcode)));
  }

  subscribe() {
    this.subscribed += 1;
    this.socket.write(packet(0x82, Buffer.from([0, this.subscribed]), text(this.filters[this.subscribed - 1]), Buffer.from([0])));
  }

  publish(topic, payload) {
    this.socket.write(packet(0x30, text(topic), payload));
  }

  received(data) {
    // One recv, one packet; the remaining length is believed.
    let size = 0;
    let at = 1;
    for (let shift = 0; at < data.length; shift += 7) {
      size |= (data[at] & 127) << shift;
      if (data[at++] < 128) break;
    }
    if (at + size !== data.length) {
      const late = Math.max(held, performance.now() - alive);
      tell("lost", { received: data.length, packet: at + size, late });
    }
    if (at + size > data.length) return;
    const body = data.subarray(at, at + size);
    const kind = data[0] >> 4;
    if (kind === 2) this.accepted(body[1]);
    else if (kind === 9 && body[1] === this.subscribed) {
      if (this.subscribed < 3) this.subscribe();
      else this.up();
    } else if (kind === 13) this.unanswered = 0;
    else if (kind === 3) {
      const topic = body.subarray(2, 2 + body.readUInt16BE(0)).toString();
      this.heard(topic, body.subarray(2 + topic.length + (data[0] & 6 ? 2 : 0)));
    }
  }

  accepted(code) {
    if (code === 0) {
      this.subscribe();
      return;
    }
    tell("refused", { code });
    wait(6).then(() => this.socket.writable && this.connect());
  }

  up() {
    tell("online", { did: flash.did });
    const ping = () => {
      if (this.unanswered > 2) this.socket.destroy();
      this.unanswered += 1;
      this.socket.write(Buffer.from([0xc0, 0]));
    };
    wait(2).then(() => this.socket.writable && ping());
    this.pings = setInterval(ping, 50000 / tempo);
  }

  heard(topic, payload) {
    const parts = topic.split("/");
    tell("heard", { topic, payload: payload.toString("hex") });
    if (parts[0] === "app2dev") this.business(parts[2].slice(0, 23), payload);
    else if (parts[0] === "ser2cli_res") this.system(payload);
  }

  business(app, payload) {
    let at = 4;
    while (payload[at] > 127) at += 1;
    const command = payload.readUInt16BE(at + 2);
    const rest = payload.subarray(at + 4);
    if (command === 0x0090) this.publish(`dev2app/${flash.did}`, business(0x0091, Buffer.from([3]), rest.subarray(1)));
    else if (command === 0x0093) {
      const answer = Buffer.concat([rest.subarray(0, 4), Buffer.from([3]), rest.subarray(5)]);
      this.publish(`dev2app/${flash.did}/${app}`, business(0x0094, answer));
    } else if (command === 0x0010) this.publish(`dev2app/${flash.did}`, business(0x0091));
  }

  system(payload) {
    const command = payload.readUInt16BE(4);
    if (command === 0x0210) tell("apps", { count: payload.readUInt16BE(6) });
    else if (command === 0x0211) attempt(() => check(payload[6]));
    else if (command === 0x020e) attempt(() => this.fetch(payload));
  }

  async fetch(payload) {
    const kind = payload[6];
    const fid = payload.readUInt32BE(7);
    const url = payload.subarray(13, 13 + payload.readUInt16BE(11)).toString();
    await download(url, "Firmware-Version: ");
    flash.fid = fid;
    const [hard, soft] = flash.versions[kind];
    const query = `did=${flash.did}&product_key=${product}&type=${kind}&hard_version=${hard}&soft_version=${soft}&current_fid=${fid}`;
    const answer = await ask(`GET /dev/ota/target_fid?${query} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/text\r\n\r\n`);
    tell("current", { fid, status: status(answer.toString("latin1")) });
  }
}

// -- its life ----------------------------------------------------------------------------------------------------------

function attempt(work) {
  return work().catch((error) => tell("failed", { why: error.message }));
}

async function persist(mine, work) {
  for (let delay = 6; mine === run; delay += 10) {
    try {
      return await work();
    } catch (error) {
      tell("failed", { why: error.message });
    }
    await wait(delay);
  }
}

async function powerOn() {
  run += 1;
  const mine = run;
  if (link) link.socket.destroy();
  await wait(1);
  if (mine !== run) return;
  tell("power on");
  if (!flash.did) await persist(mine, register);
  const port = await persist(mine, provision);
  if (mine !== run) return;
  attempt(async () => {
    await check(1);
    if (mine === run) await check(2);
    if (mine === run && flash.old) {
      const old = flash.old;
      flash.old = null;
      await disable(old);
    }
  });
  const hourly = setInterval(() => attempt(provision), 3600000 / tempo);
  await wait(1);
  for (let failed = 0; mine === run; failed += 1) {
    if (failed) await wait(10 * (failed - 1));
    if (mine !== run) break;
    link = new Link(port, mine);
    await link.gone;
    if (mine === run) tell("offline");
    if (link.subscribed === 3) failed = 0;
  }
  clearInterval(hourly);
}

function reset() {
  flash.old = [flash.did, flash.passcode];
  const gone = flash.old;
  attempt(() => disable(gone));
  flash.did = "";
  flash.passcode = makePasscode();
  powerOn();
}

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const order = JSON.parse(line);
    const data = Buffer.from(order.data ?? "", "hex");
    if (order.do === "report") link.publish(`dev2app/${flash.did}`, business(0x0091, data));
    else if (order.do === "request") link.publish(`dev2app/${flash.did}`, business(0x0093, data));
    else if (order.do === "publish") link.publish(order.topic, data);
    else if (order.do === "ask") link.publish(order.topic, Buffer.from("00000003020f", "hex"));
    else if (order.do === "drop") link.socket.destroy();
    else if (order.do === "reset") reset();
  })
  .on("close", () => process.exit(0));

powerOn();
