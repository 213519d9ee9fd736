// What a device says: live above, history below; its packets while it is traced.
import {useEffect, useState} from "preact/hooks";
import {get, path, put, remove} from "console/api.mjs";
import {clock, moment, number, texts} from "console/texts.mjs";
import {More, Tag, attempt, html, useData} from "console/ui.mjs";

const t = texts({
  feed: ["Messages", "消息"],
  live: ["live", "实时"],
  down: ["not connected, trying again", "已断开，正在重连"],
  waiting: ["What the device says from now on appears here.", "设备此后的消息将显示在这里。"],
  trace: ["Trace its packets", "跟踪报文"],
  traceOff: ["Stop tracing", "停止跟踪"],
  traced: ["Packets are traced until {at}.", "报文跟踪至 {at}。"],
  raw: ["raw bytes", "原始字节"],
  rawHint: ["The bytes of whole packets come with tracing.", "完整报文的字节需开启跟踪后查看。"],
  secret: ["(holds secrets)", "（含密钥，已隐藏）"],
  missed: ["{count} not drawn", "{count} 条未显示"],
  history: ["History", "历史"],
  none: ["Nothing is kept of this device.", "没有该设备的历史记录。"],
  uplink: ["port {port}, counter {fcnt}", "端口 {port}，帧计数 {fcnt}"],
  signal: ["{rssi} dBm, SNR {snr} dB", "{rssi} dBm，信噪比 {snr} dB"],
  gateways: ["{count} gateways", "{count} 个网关"],
  confirmed: ["confirmed", "需确认"],
});

export function Feed({device, live}) {
  const [raw, setRaw] = useState(false);
  const traces = useData((signal) => get("/traces", {}, signal), [device.id], 5000);
  const until = ((traces.value || {items: []}).items.find((one) => one.device === device.id) || {}).until;
  const where = path`/devices/${device.id}/trace`;
  const [old, setOld] = useState({items: [], next: null, asked: false});
  async function earlier() {
    const page = await attempt(() => get(path`/devices/${device.id}/messages`, {limit: 50, cursor: old.next}));
    if (page) setOld((before) => ({items: [...before.items, ...page.items], next: page.next, asked: true}));
  }
  useEffect(() => {
    earlier();
  }, [device.id]);
  return html`<section class="card">
      <div class="row"><h2 class="grow">${t.feed} <span class=${live.up ? "good small dot" : "warn small dot"}>${live.up ? t.live : t.down}</span></h2>
        <label class="row"><input type="checkbox" checked=${raw} onChange=${(event) => setRaw(event.target.checked)} />${t.raw}</label>
        ${until
          ? html`<button onClick=${() => attempt(() => remove(where)).then(traces.reload)}>${t.traceOff}</button>`
          : html`<button onClick=${() => attempt(() => put(where, {seconds: 600})).then(traces.reload)}>${t.trace}</button>`}
      </div>
      ${until && html`<p class="soft small" role="status">${t.traced({at: moment(until)})}</p>`}
      ${raw && !until && html`<p class="soft small">${t.rawHint}</p>`}
      ${live.missed > 0 && html`<p class="warn small">${t.missed({count: number(live.missed)})}</p>`}
      ${!live.messages.length && html`<p class="soft">${t.waiting}</p>`}
      <div class="feed" tabindex="0" role="log" aria-live="off" aria-label=${t.feed} data-feed="live">${live.messages.map((message, at) => html`<${Message} key=${live.messages.length - at} message=${message} raw=${raw} />`)}</div>
    </section>
    <section class="card"><h2>${t.history}</h2>
      ${old.asked && !old.items.length && html`<p class="soft">${t.none}</p>`}
      <div class="feed" tabindex="0" role="region" aria-label=${t.history} data-feed="history">${old.items.map((message) => html`<${Message} message=${message} raw=${raw} />`)}</div>
      <${More} next=${old.next} more=${earlier} />
    </section>`;
}

/** What is in it, for people, and below that its bytes as far as they are known. */
function Message({message, raw}) {
  const traced = message.type === "trace";
  const kind = traced ? (message.direction === "in" ? "→" : "←") : message.kind || message.type;
  const bare = traced ? (message.raw ? spaced(message.raw) : t.secret) : message.payload_base64 ? hex(message.payload_base64) : "";
  // What was said in bytes has nothing else to show: they are not asked for twice.
  const lines = [decoded(message), raw || (!traced && message.payload_base64) ? bare : "", raw && message.meta ? JSON.stringify(message.meta) : ""];
  return html`<div><span class="soft small">${clock(message.at)}</span> <${Tag} kind="soft">${kind}</${Tag}>
    <pre class="mono">${lines.filter(Boolean).join("\n")}</pre></div>`;
}

function decoded(message) {
  if (message.type === "trace") return JSON.stringify(message.decoded);
  if (message.type === "presence") return JSON.stringify({online: message.online, reason: message.reason});
  if (message.payload !== undefined) return JSON.stringify(message.payload);
  const meta = message.meta || {};
  return [
    message.decoded && JSON.stringify(message.decoded),
    meta.port !== undefined && t.uplink({port: meta.port, fcnt: meta.fcnt}),
    meta.rssi !== undefined && t.signal({rssi: meta.rssi, snr: meta.snr}),
    meta.data_rate,
    meta.frequency && `${number(meta.frequency / 1e6, 3)} MHz`,
    meta.gateways && t.gateways({count: meta.gateways.length}),
    meta.confirmed && t.confirmed,
  ].filter(Boolean).join(" · ");
}

/** Messages in bytes, with the values that the broker has read in the last one of them. */
export function withDecoded(messages, device) {
  const at = messages.findIndex((one) => one.payload_base64);
  if (at < 0 || messages[at].decoded) return messages;
  const readings = Object.entries({...device.unmapped, ...device.values}).filter(([, reading]) => Math.abs(reading.at - messages[at].at) < 0.01);
  if (!readings.length) return messages;
  const decoded = Object.fromEntries(readings.map(([key, reading]) => [key, reading.value]));
  return messages.map((one, place) => (place === at ? {...one, decoded} : one));
}

const spaced = (digits) => (digits.match(/../g) || []).join(" ");

/** Base64 as hexadecimal digits. */
export function hex(base64) {
  if (!base64) return "";
  return Array.from(atob(base64), (one) => one.charCodeAt(0).toString(16).padStart(2, "0")).join(" ");
}
