// One device: what it is, what it said last, what it says now, what it is told.
import {useEffect, useMemo, useRef, useState} from "preact/hooks";
import {all, get, patch, path, post, put, remove, stream} from "console/api.mjs";
import {link, place} from "console/state.mjs";
import {ago, clock, moment, number, span, texts} from "console/texts.mjs";
import {Chart, Confirm, Copyable, Dialog, Facts, Field, Head, Json, Loaded, More, Opens, Table, Tabs, Tag, attempt, html, note, useData} from "console/ui.mjs";
import {CommandBox} from "console/command-box.mjs";
import {protocolName} from "console/page-overview.mjs";

const t = texts({
  back: ["All devices", "全部设备"],
  now: ["Now", "当前"],
  feed: ["Messages", "消息"],
  commands: ["Commands", "命令"],
  presence: ["Presence", "在线记录"],
  settings: ["Settings", "设置"],
  parts: ["Parts of this page", "页面分区"],
  online: ["online", "在线"],
  offline: ["offline", "离线"],
  protocol: ["Protocol", "协议"],
  product: ["Product", "产品"],
  alias: ["dev_eui", "dev_eui"],
  seen: ["Last seen", "最后在线"],
  bindings: ["Applications", "应用"],
  none: ["none", "无"],
  values: ["Last values", "最新数值"],
  unmapped: ["Keys without a sensor", "未映射的键"],
  toSensor: ["Make it a sensor", "设为传感器"],
  sensorMade: ["{key} is a sensor of the product now.", "{key} 已成为产品传感器。"],
  noProduct: ["The device has no product: all its keys are values.", "设备没有产品，所有键都是数值。"],
  key: ["Key", "键"],
  value: ["Value", "数值"],
  when: ["When", "时间"],
  info: ["What it tells about itself", "设备信息"],
  charts: ["As it happens", "实时曲线"],
  waiting: ["Charts begin with the next message.", "收到下一条消息后开始绘制。"],
  live: ["live", "实时"],
  down: ["not connected, trying again", "已断开，正在重连"],
  trace: ["Trace its packets", "跟踪报文"],
  traceOff: ["Stop tracing", "停止跟踪"],
  traced: ["Packets are traced until {at}.", "报文跟踪至 {at}。"],
  decoded: ["decoded", "解码"],
  raw: ["raw bytes", "原始字节"],
  secret: ["(holds secrets)", "（含密钥，已隐藏）"],
  missed: ["{count} not drawn", "{count} 条未显示"],
  dropped: ["{count} missed", "丢失 {count} 条"],
  older: ["Earlier", "更早"],
  history: ["History", "历史"],
  status: ["State", "状态"],
  payload: ["Payload", "内容"],
  result: ["Result", "结果"],
  origin: ["Reference", "引用"],
  cancel: ["Cancel", "取消"],
  cancelled: ["Cancelled.", "已取消。"],
  queue: ["Waiting for the device", "等待设备"],
  noQueue: ["Nothing waits.", "没有等待的命令。"],
  name: ["Name", "名称"],
  save: ["Save", "保存"],
  saved: ["Saved.", "已保存。"],
  disabled: ["Disabled", "停用"],
  secretNew: ["New secret", "新密钥"],
  secretText: ["The device is closed out until it has the new one.", "设备需使用新密钥后才能连接。"],
  secretMade: ["The new secret, shown this once:", "新密钥仅显示一次："],
  removeDevice: ["Remove the device", "删除设备"],
  removeText: ["With its history, values, commands and bindings.", "历史、数值、命令和绑定将一并删除。"],
  removed: ["Removed.", "已删除。"],
  more: ["More", "更多"],
  since: ["Connected since", "连接时间"],
  frame: ["Last frame", "最后报文"],
  beat: ["Last heartbeat", "最后心跳"],
  flaps: ["Came and went", "上下线次数"],
  peer: ["From", "来源"],
  state: ["State", "状态"],
});

const STATES = {queued: "soft", sent: "warn", pending: "warn", succeeded: "good", failed: "bad", timed_out: "bad", expired: "bad", cancelled: "soft"};
export const CommandState = ({status}) => html`<${Tag} kind=${STATES[status] || "soft"}>${status}</${Tag}>`;
const MOST = 200;
const POINTS = 300;

export function Device({id, tab}) {
  const data = useData((signal) => get(path`/devices/${id}`, {}, signal), [id], 5000);
  const [live, setLive] = useState({up: false, messages: [], missed: 0, traced: false});
  const [points, setPoints] = useState({});
  useEffect(() => {
    // Charts begin with what was kept, so that they show something before the device says more.
    get(path`/devices/${id}/messages`, {limit: 100}).then(
      (page) => setPoints((now) => (Object.keys(now).length ? now : added({}, page.items.reverse().map((one) => ({...one, type: "uplink"}))))),
      () => {}, // history may be off
    );
    const kinds = ["data", "status", "event", "log", "raw", "presence", "command", "trace"];
    return stream({device: id, kind: kinds}, told, (up) => setLive((before) => ({...before, up})));
    function told(messages, missed) {
      const shown = messages.filter((message) => message.type !== "command");
      setLive((before) => ({
        ...before,
        messages: [...shown.reverse(), ...before.messages].slice(0, MOST),
        missed: before.missed + missed + messages.reduce((sum, one) => sum + (one.type === "dropped" ? one.count : 0), 0),
      }));
      setPoints((before) => added(before, messages));
      const commands = messages.filter((message) => message.type === "command");
      if (commands.length) window.dispatchEvent(new CustomEvent("commands", {detail: commands}));
      if (messages.some((message) => message.type === "presence")) data.reload();
    }
  }, [id]);
  return html`<p><a href=${link("devices")}>← ${t.back}</a></p>
    <${Loaded} data=${data}>${(device) => html`
      <${Head} title=${device.name || device.id}>
        <span class=${device.online ? "good dot" : "soft dot"} data-online=${device.online}>${device.online ? t.online : t.offline}</span>
        <span class="soft small">${protocolName(device.protocol)} <span class="mono">${device.id}</span></span>
      </${Head}>
      <${Tabs} label=${t.parts} current=${tab} items=${[
        {key: "now", name: t.now, href: link("devices", id)},
        {key: "messages", name: t.feed, href: link("devices", id, "messages")},
        {key: "commands", name: t.commands, href: link("devices", id, "commands")},
        {key: "settings", name: t.settings, href: link("devices", id, "settings")},
      ]} />
      ${tab === "now" && html`<${Now} device=${device} points=${points} />`}
      ${tab === "messages" && html`<${Feed} device=${device} live=${live} />`}
      ${tab === "commands" && html`<${Commands} device=${device} />`}
      ${tab === "settings" && html`<${Settings} device=${device} reload=${data.reload} />`}`}</${Loaded}>`;
}

// -- charts: numbers of uplinks, by key

const SIGNAL = ["rssi", "snr"];

function numbersOf(message) {
  if (message.type !== "uplink") return [];
  const payload = message.payload && typeof message.payload === "object" ? message.payload : {};
  const inner = payload.hb && typeof payload.hb === "object" ? payload.hb : payload;
  const signal = SIGNAL.filter((key) => message.meta && typeof message.meta[key] === "number").map((key) => [key, message.meta[key]]);
  return [...Object.entries(inner), ...signal]
    .map(([key, value]) => [key, typeof value === "string" && value.trim() !== "" ? Number(value) : value])
    .filter(([, value]) => typeof value === "number" && Number.isFinite(value));
}

function added(before, messages) {
  let after = before;
  for (const message of messages) {
    for (const [key, value] of numbersOf(message)) {
      const [times, values] = after[key] || [[], []];
      if (!after[key] && Object.keys(after).length >= 12) continue;
      after = {...after, [key]: [[...times, message.at].slice(-POINTS), [...values, value].slice(-POINTS)]};
    }
  }
  return after;
}

function Now({device, points}) {
  const keys = Object.keys(points).sort();
  const more = Object.entries(device).filter(([key, value]) => !KNOWN.has(key) && value !== null && !(Array.isArray(value) && !value.length));
  return html`<div class="grid">
      <section class="card"><h2>${device.name || device.id}</h2>
        <${Facts} pairs=${[
          [t.protocol, protocolName(device.protocol)],
          ["id", html`<span class="mono">${device.id}</span>`],
          [t.product, device.product || t.none],
          [t.alias, device.dev_eui || undefined],
          ...presenceOf(device.presence || {}),
          [t.seen, html`${moment(device.last_seen)} <span class="soft">(${ago(device.last_seen)})</span>`],
          [t.bindings, device.applications.join(", ") || t.none],
          ...more.map(([key, value]) => [key, typeof value === "object" ? html`<${Json} value=${value} />` : String(value)]),
        ]} />
      </section>
      <section class="card"><h2>${t.values}</h2><${Values} readings=${device.values} />
        ${Object.keys(device.unmapped).length > 0 && html`<h3>${t.unmapped}</h3><${Unmapped} device=${device} />`}
      </section>
    </div>
    <section class="card"><h2>${t.charts}</h2>
      ${keys.length ? html`<div class="grid">${keys.map((key) => html`<div key=${key} data-chart=${key}><h3>${key}</h3>
        <${Chart} label=${key} data=${points[key]} series=${[{label: key}]} height=${140} /></div>`)}</div>` : html`<p class="soft">${t.waiting}</p>`}
    </section>
    ${Object.keys(device.info).length > 0 && html`<section class="card"><h2>${t.info}</h2><${Json} value=${device.info} /></section>`}`;
}

/** What is known of its connection; whatever the broker adds is shown by its own name. */
function presenceOf(presence) {
  const named = {state: t.state, connected_at: t.since, last_frame: t.frame, last_heartbeat: t.beat, flaps: t.flaps, peer: t.peer};
  return Object.entries(presence)
    .filter(([, value]) => value !== null && value !== "" && typeof value !== "object")
    .map(([key, value]) => [named[key] || key, typeof value === "number" && value > 1e9 ? `${moment(value)} (${ago(value)})` : String(value)]);
}

const KNOWN = new Set(["presence", "id", "protocol", "name", "product", "online", "last_seen", "dev_eui", "applications", "values", "unmapped", "info", "secret"]);
const shown = (value) => (value !== null && typeof value === "object" ? JSON.stringify(value) : typeof value === "number" ? number(value, 6) : String(value));

const Values = ({readings}) => html`<${Table} label=${t.values} items=${Object.entries(readings)} rowKey=${([key]) => key} columns=${[
  {name: t.key, cell: ([key]) => key},
  {name: t.value, number: true, cell: ([key, reading]) => html`<span data-value=${key}>${shown(reading.value)}</span>`},
  {name: t.when, cell: ([, reading]) => ago(reading.at)},
]} />`;

function Unmapped({device}) {
  async function make(key) {
    const product = await get(path`/products/${device.product}`);
    const sensors = [...product.sensors, {value_key: key, name: key, unit: ""}];
    await patch(path`/products/${device.product}`, {sensors});
  }
  return html`<${Table} label=${t.unmapped} items=${Object.entries(device.unmapped)} rowKey=${([key]) => key} columns=${[
    {name: t.key, cell: ([key]) => key},
    {name: t.value, number: true, cell: ([, reading]) => shown(reading.value)},
    {name: "", cell: ([key]) => device.product && html`<button onClick=${() => attempt(() => make(key), t.sensorMade({key}))}>${t.toSensor}</button>`},
  ]} />`;
}

// -- messages: live above, history below

function Feed({device, live}) {
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
      ${live.missed > 0 && html`<p class="warn small">${t.missed({count: number(live.missed)})}</p>`}
      <div class="feed" tabindex="0" role="log" aria-label=${t.feed}>${live.messages.map((message, at) => html`<${Message} key=${live.messages.length - at} message=${message} raw=${raw} />`)}</div>
    </section>
    <section class="card"><h2>${t.history}</h2>
      <div class="feed" tabindex="0" role="region" aria-label=${t.history}>${old.items.map((message) => html`<${Message} message=${message} raw=${raw} />`)}</div>
      <${More} next=${old.next} more=${earlier} />
    </section>`;
}

function Message({message, raw}) {
  const kind = message.type === "trace" ? (message.direction === "in" ? "→" : "←") : message.kind || message.type;
  const body = message.type === "trace" ? message.decoded : message.type === "presence" ? {online: message.online, reason: message.reason} : message.payload !== undefined ? message.payload : {bytes: hex(message.payload_base64)};
  const bare = message.type === "trace" ? message.raw || t.secret : message.payload_base64 ? hex(message.payload_base64) : "";
  return html`<div><span class="soft small">${clock(message.at)}</span> <${Tag} kind="soft">${kind}</${Tag}>
    <pre class="mono">${JSON.stringify(body)}${raw && bare ? `\n${bare}` : ""}${raw && message.meta ? `\n${JSON.stringify(message.meta)}` : ""}</pre></div>`;
}

function hex(base64) {
  if (!base64) return "";
  return Array.from(atob(base64), (one) => one.charCodeAt(0).toString(16).padStart(2, "0")).join(" ");
}

// -- commands

function Commands({device}) {
  const [list, setList] = useState({items: [], next: null});
  async function load(cursor) {
    const page = await attempt(() => get(path`/devices/${device.id}/commands`, {limit: 50, cursor}));
    if (page) setList((before) => ({items: cursor ? [...before.items, ...page.items] : page.items, next: page.next}));
  }
  useEffect(() => {
    load();
    const changed = (event) => setList((before) => ({...before, items: merged(before.items, event.detail)}));
    addEventListener("commands", changed);
    return () => removeEventListener("commands", changed);
  }, [device.id]);
  const waiting = list.items.filter((one) => one.status === "queued");
  return html`<section class="card"><${CommandBox} device=${device} sent=${() => load()} /></section>
    <section class="card"><h2>${t.queue}</h2>
      ${waiting.length === 0 ? html`<p class="soft">${t.noQueue}</p>` : html`<${CommandTable} label=${t.queue} items=${waiting} cancel />`}
    </section>
    <section class="card"><h2>${t.commands}</h2><${CommandTable} label=${t.commands} items=${list.items} />
      <${More} next=${list.next} more=${() => load(list.next)} /></section>`;
}

function merged(items, changes) {
  let after = items;
  for (const change of changes) {
    const {type, ...command} = change;
    const at = after.findIndex((one) => one.id === command.id);
    after = at < 0 ? [command, ...after] : after.map((one, place) => (place === at ? {...one, ...command} : one));
  }
  return after.slice(0, 500);
}

const CommandTable = ({label, items, cancel}) => html`<${Table} label=${label} items=${items} rowKey=${(one) => one.id} columns=${[
  {name: t.when, cell: (one) => moment(one.created_at)},
  {name: t.status, cell: (one) => html`<span data-command=${one.id}><${CommandState} status=${one.status} /></span>`},
  {name: t.payload, cell: (one) => html`<span class="mono">${JSON.stringify(one.payload === undefined ? hex(one.payload_base64) : one.payload)}</span>`},
  {name: t.result, cell: (one) => html`<span class="mono">${one.result === null || one.result === undefined ? "" : JSON.stringify(one.result)}</span>`},
  {name: t.origin, cell: (one) => one.ref || ""},
  ...(cancel ? [{name: "", cell: (one) => html`<button onClick=${() => attempt(() => remove(path`/commands/${one.id}`), t.cancelled)}>${t.cancel}</button>`}] : []),
]} />`;

// -- settings

function Settings({device, reload}) {
  const [secret, setSecret] = useState("");
  const where = path`/devices/${device.id}`;
  async function save(event) {
    event.preventDefault();
    const form = event.target;
    const changes = {name: form.name.value.trim(), product: form.product.value.trim() || null, dev_eui: form.dev_eui.value.trim() || null};
    if (await attempt(() => patch(where, changes), t.saved)) reload();
  }
  return html`<section class="card"><form onSubmit=${save}>
      <${Field} label=${t.name}><input name="name" maxlength="128" value=${device.name} /></${Field}>
      <${Field} label=${t.product}><input name="product" maxlength="128" value=${device.product || ""} /></${Field}>
      <${Field} label=${t.alias}><input name="dev_eui" maxlength="16" value=${device.dev_eui || ""} /></${Field}>
      <button class="main">${t.save}</button>
    </form></section>
    <section class="card"><div class="row">
      ${device.protocol !== "gateway88" && html`<${Confirm} label=${t.secretNew} title=${t.secretNew} text=${t.secretText}
        work=${async () => setSecret((await patch(where, {secret: null})).secret)} />`}
      <${Confirm} label=${t.removeDevice} title=${t.removeDevice} text=${t.removeText} danger done=${t.removed} work=${async () => {
        await remove(where);
        location.hash = link("devices");
      }} />
    </div>
    ${secret && html`<p>${t.secretMade}</p><${Copyable} text=${secret} />`}</section>`;
}
