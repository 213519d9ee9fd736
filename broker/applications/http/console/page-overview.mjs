// How the broker is: asked for every two seconds; rates are the differences of what it counts.
import {useEffect, useRef, useState} from "preact/hooks";
import {get} from "console/api.mjs";
import {link} from "console/state.mjs";
import {bytes, moment, number, span, texts} from "console/texts.mjs";
import {word} from "console/words.mjs";
import {Chart, Facts, Head, Loaded, Table, Tag, html, useData} from "console/ui.mjs";

const t = texts({
  title: ["Overview", "概览"],
  ready: ["The broker takes work.", "服务正常。"],
  trouble: ["Degraded: {trouble}", "部分功能受限：{trouble}"],
  online: ["Devices online", "在线设备"],
  of: ["of {count} registered", "共注册 {count} 台"],
  rate: ["Messages a second", "每秒消息"],
  received: ["received", "接收"],
  sent: ["sent", "发送"],
  applications: ["Applications", "应用"],
  commands: ["Commands under way", "进行中的命令"],
  taken: ["{count} taken since the start", "启动以来 {count} 条"],
  listeners: ["Listeners", "监听端口"],
  listener: ["Listener", "监听"],
  bind: ["Bound to", "地址"],
  off: ["off", "关闭"],
  connections: ["Connections", "连接"],
  messages: ["In / out", "收 / 发"],
  volume: ["Bytes in / out", "字节 收 / 发"],
  troubles: ["Refused, malformed, dropped, closed", "拒绝、格式错误、丢弃、断开"],
  none: ["none", "无"],
  malformed: ["malformed", "格式错误"],
  dropped: ["dropped,", "丢弃，"],
  wrong: ["failed log-ins", "登录失败"],
  refusals: ["Last refusals", "最近的拒绝"],
  noRefusals: ["Nobody was refused since the start.", "启动以来没有拒绝。"],
  when: ["When", "时间"],
  reason: ["Reason", "原因"],
  from: ["From", "来源"],
  node: ["Node", "节点"],
  name: ["Name", "名称"],
  version: ["Version", "版本"],
  up: ["Up for", "运行时间"],
  storage: ["Storage", "存储"],
  uplinks: ["Uplinks since the start", "启动以来上行消息"],
  streams: ["Streams open", "打开的实时流"],
});

export const PROTOCOLS = {gateway88: "0x88", gizwits: "Gizwits", lorawan: "LoRaWAN", novacloud: "NovaCloud"};
export const protocolName = (name) => PROTOCOLS[name] || name;
const sum = (values) => Object.values(values).reduce((whole, one) => whole + one, 0);
const POINTS = 150;

export function Overview() {
  const data = useData((signal) => get("/overview", {}, signal), [], 2000);
  const [rates, setRates] = useState([[], [], []]);
  const before = useRef(null);
  useEffect(() => {
    const now = data.value;
    if (!now) return;
    const total = (key) => now.listeners.reduce((whole, one) => whole + one[key], 0);
    const last = {at: now.at, started: now.started_at, received: total("messages_in"), sent: total("messages_out")};
    const old = before.current;
    before.current = last;
    if (!old || old.started !== last.started || last.at <= old.at) return;
    const seconds = last.at - old.at;
    setRates(([times, received, sent]) => [
      [...times, last.at].slice(-POINTS),
      [...received, Math.max(0, last.received - old.received) / seconds].slice(-POINTS),
      [...sent, Math.max(0, last.sent - old.sent) / seconds].slice(-POINTS),
    ]);
  }, [data.value]);
  return html`<${Head} title=${t.title} />
    <${Loaded} data=${data}>${(now) => html`
      ${now.problems.map((problem) => html`<p class="card bad" role="alert">${problem}</p>`)}
      ${now.troubles.map((trouble) => html`<p class="card warn" role="status" data-trouble>${t.trouble({trouble})}</p>`)}
      <div class="grid">
        <section class="card" aria-label=${t.online}>
          <h2>${t.online}</h2>
          <div class="figure" data-figure="online">${number(sum(now.devices.online))}</div>
          <p class="soft">${t.of({count: number(sum(now.devices.registered))})}</p>
          ${Object.entries(now.devices.registered).map(([protocol, count]) => html`<div class="row">
            <a class="grow" href=${`${link("devices")}?protocol=${encodeURIComponent(protocol)}`}>${protocolName(protocol)}</a>
            <span>${number(now.devices.online[protocol] || 0)} / ${number(count)}</span></div>`)}
        </section>
        <section class="card" aria-label=${t.applications}>
          <h2>${t.applications}</h2>
          <div class="figure">${number(sum(now.applications))}</div>
          ${Object.entries(now.applications).map(([kind, count]) => html`<div class="row"><span class="grow">${word(kind)}</span><span>${number(count)}</span></div>`)}
        </section>
        <section class="card" aria-label=${t.commands}>
          <h2>${t.commands}</h2>
          <div class="figure">${number(now.commands.open)}</div>
          <p class="soft">${t.taken({count: number(now.commands.submitted)})}</p>
          ${Object.entries(now.commands.ended).map(([status, count]) => html`<div class="row"><span class="grow">${word(status)}</span><span>${number(count)}</span></div>`)}
        </section>
        <section class="card" aria-label=${t.node}>
          <h2>${t.node}</h2>
          <${Facts} pairs=${[
            [t.name, now.name],
            [t.version, now.version],
            [t.up, span(now.at - now.started_at)],
            [t.storage, html`${now.storage} ${now.problems.length ? null : html`<span class="good dot small">${t.ready}</span>`}`],
            [t.uplinks, number(now.uplinks)],
            [t.streams, number(now.streams)],
          ]} />
        </section>
      </div>
      <section class="card">
        <h2>${t.rate}</h2>
        <${Chart} label=${t.rate} data=${rates} series=${[{label: t.received}, {label: t.sent}]} />
      </section>
      <section class="card">
        <h2>${t.listeners}</h2>
        <${Table} label=${t.listeners} items=${now.listeners} rowKey=${(one) => one.name} columns=${[
          {name: t.listener, cell: (one) => one.name},
          {name: t.bind, cell: (one) => html`<span class="mono">${one.bind.join(" ") || t.off}</span>`},
          {name: t.connections, number: true, cell: (one) => number(one.connections)},
          {name: t.messages, number: true, cell: (one) => `${number(one.messages_in)} / ${number(one.messages_out)}`},
          {name: t.volume, number: true, cell: (one) => `${bytes(one.bytes_in)} / ${bytes(one.bytes_out)}`},
          {name: t.troubles, cell: (one) => troubles(one)},
        ]} />
      </section>
      <section class="card">
        <h2>${t.refusals}</h2>
        <${Table} label=${t.refusals} items=${now.refusals} empty=${t.noRefusals} columns=${[
          {name: t.when, cell: (one) => moment(one.at)},
          {name: t.listener, cell: (one) => one.listener},
          {name: t.reason, cell: (one) => html`<${Tag} kind="warn">${word(one.reason)}</${Tag}>`},
          {name: t.from, cell: (one) => html`<span class="mono">${one.host} ${one.identity}</span>`},
        ]} />
      </section>`}</${Loaded}>`;
}

/** Ends of connections that say nothing about anybody's faults. */
const ORDINARY = new Set(["client_closed", "connection_lost", "shutdown", "takeover", "removed", "replaced"]);

function troubles(one) {
  const counts = {...one.refused};
  for (const [name, count] of Object.entries(one.closed)) if (!ORDINARY.has(name)) counts[name] = (counts[name] || 0) + count;
  const found = Object.entries(counts).map(([name, count]) => [word(name), count]);
  if (one.malformed && !counts.malformed) found.push([t.malformed, one.malformed]);
  if (one.logins_failed) found.push([t.wrong, one.logins_failed]);
  for (const [name, count] of Object.entries(one.dropped)) found.push([`${t.dropped} ${word(name)}`, count]);
  return found.length ? found.map(([name, count]) => html`<div class="warn small">${name}: ${number(count)}</div>`) : html`<span class="soft">${t.none}</span>`;
}
