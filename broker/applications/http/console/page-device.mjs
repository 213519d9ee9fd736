// One device: what it is, its last values and charts, what it is told, its settings; the rest has modules of its own.
import {useEffect, useState} from "preact/hooks";
import {get, patch, path, remove, stream} from "console/api.mjs";
import {link} from "console/state.mjs";
import {ago, moment, number, texts} from "console/texts.mjs";
import {Chart, Confirm, Copyable, Facts, Field, Head, Json, Loaded, More, Table, Tabs, Tag, attempt, html, useData} from "console/ui.mjs";
import {CommandBox} from "console/command-box.mjs";
import {Feed, hex, withDecoded} from "console/device-feed.mjs";
import {Presence, presenceFacts} from "console/device-presence.mjs";
import {measureOf, withHistory, withMessages, withReadings} from "console/measures.mjs";
import {word} from "console/words.mjs";
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
  id: ["Id", "编号"],
  protocol: ["Protocol", "协议"],
  product: ["Product", "产品"],
  alias: ["dev_eui", "dev_eui"],
  parent: ["Reached through", "所属网关"],
  tags: ["Tags", "标签"],
  bindings: ["Applications", "应用"],
  none: ["none", "无"],
  values: ["Last values", "最新数值"],
  unmapped: ["Keys without a sensor", "未映射的字段"],
  toSensor: ["Make it a sensor", "设为传感器"],
  sensorMade: ["{key} is a sensor of the product now.", "{key} 已成为产品传感器。"],
  key: ["Key", "字段"],
  value: ["Value", "数值"],
  when: ["When", "时间"],
  info: ["What it tells about itself", "设备信息"],
  charts: ["As it happens", "实时曲线"],
  waiting: ["Charts begin with the next message.", "收到下一条消息后开始绘制。"],
  status: ["State", "状态"],
  payload: ["Payload", "内容"],
  result: ["Result", "结果"],
  origin: ["Reference", "业务编号"],
  cancel: ["Cancel", "取消"],
  cancelled: ["Cancelled.", "已取消。"],
  queue: ["Waiting for the device", "等待设备"],
  noQueue: ["Nothing waits.", "没有等待的命令。"],
  name: ["Name", "名称"],
  save: ["Save", "保存"],
  saved: ["Saved.", "已保存。"],
  secretNew: ["New secret", "新密钥"],
  secretText: ["The device is closed out until it has the new one.", "设备需使用新密钥后才能连接。"],
  secretMade: ["The new secret, shown this once:", "新密钥仅显示一次："],
  removeDevice: ["Remove the device", "删除设备"],
  removeText: ["With its history, values, commands and bindings.", "历史、数值、命令和绑定将一并删除。"],
  removed: ["Removed.", "已删除。"],
});

const STATES = {queued: "soft", sent: "warn", pending: "warn", succeeded: "good", failed: "bad", timed_out: "bad", expired: "bad", cancelled: "soft"};
const CommandState = ({status}) => html`<${Tag} kind=${STATES[status] || "soft"}>${word(status)}</${Tag}>`;
/** Messages that are drawn, and changes of presence that are remembered. */
const MOST = 200;
const CHANGES = 100;
/** Milliseconds between two looks at what the broker has read in a device's bytes. */
const AGAIN = 1000;

export function Device({id, tab}) {
  const data = useData((signal) => get(path`/devices/${id}`, {}, signal), [id], 5000);
  const [live, setLive] = useState({up: false, messages: [], missed: 0, changes: [], events: 0});
  const [points, setPoints] = useState({});
  useEffect(() => {
    // Charts begin with what was kept, so that they show something before the device says more.
    get(path`/devices/${id}/messages`, {limit: 100}).then(
      (page) => setPoints((now) => withHistory(now, page.items.reverse().map((one) => ({...one, type: "uplink"})))),
      () => {}, // history may be off
    );
    let asked = 0; // when the device was asked for last, because of what it has said
    const kinds = ["data", "status", "event", "log", "raw", "presence", "command", "trace", "broker_event"];
    return stream({device: id, kind: kinds}, told, (up) => setLive((before) => ({...before, up})));
    function told(messages, missed) {
      const shown = messages.filter((message) => message.type !== "command" && message.type !== "event");
      setLive((before) => ({
        ...before,
        messages: [...shown.reverse(), ...before.messages].slice(0, MOST),
        changes: [...messages.filter((one) => one.type === "presence").reverse(), ...before.changes].slice(0, CHANGES),
        events: before.events + messages.filter((one) => one.type === "event").length,
        missed: before.missed + missed + messages.reduce((sum, one) => sum + (one.type === "dropped" ? one.count : 0), 0),
      }));
      setPoints((before) => withMessages(before, messages));
      const commands = messages.filter((message) => message.type === "command");
      if (commands.length) window.dispatchEvent(new CustomEvent("commands", {detail: commands}));
      const bare = messages.some((message) => message.payload_base64) && Date.now() - asked > AGAIN;
      if (bare || messages.some((message) => message.type === "presence")) {
        asked = Date.now();
        data.reload();
      }
    }
  }, [id]);
  useEffect(() => {
    if (!data.value) return;
    setPoints((before) => withReadings(before, data.value));
    setLive((before) => ({...before, messages: withDecoded(before.messages, data.value)}));
  }, [data.value]);
  const product = data.value && data.value.product;
  const sensors = useData(async (signal) => (product ? (await get(path`/products/${product}`, {}, signal)).sensors : []), [product, data.value && Object.keys(data.value.values).length]).value || [];
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
        {key: "presence", name: t.presence, href: link("devices", id, "presence")},
        {key: "settings", name: t.settings, href: link("devices", id, "settings")},
      ]} />
      ${tab === "now" && html`<${Now} device=${device} points=${points} sensors=${sensors} reload=${data.reload} />`}
      ${tab === "messages" && html`<${Feed} device=${device} live=${live} />`}
      ${tab === "commands" && html`<${Commands} device=${device} up=${live.up} />`}
      ${tab === "presence" && html`<${Presence} device=${device} changes=${live.changes} events=${live.events} />`}
      ${tab === "settings" && html`<${Settings} device=${device} reload=${data.reload} />`}`}</${Loaded}>`;
}

function Now({device, points, sensors, reload}) {
  const keys = Object.keys(points).sort();
  const measure = (key) => measureOf(key, device.protocol, sensors);
  const more = Object.entries(device).filter(([key, value]) => !KNOWN.has(key) && value !== null && !(Array.isArray(value) && !value.length));
  return html`<div class="grid">
      <section class="card"><h2>${device.name || device.id}</h2>
        <${Facts} pairs=${[
          [t.protocol, protocolName(device.protocol)],
          [t.id, html`<span class="mono">${device.id}</span>`],
          [t.product, device.product ? html`<a href=${link("products", device.product)}>${device.product}</a>` : t.none],
          [t.alias, device.dev_eui || undefined],
          [t.parent, device.parent ? html`<a class="mono" href=${link("devices", device.parent)}>${device.parent}</a>` : undefined],
          [t.tags, device.tags.length ? device.tags.join(", ") : undefined],
          [t.bindings, device.applications.length ? device.applications.map((one) => html`<a href=${link("applications", one)}>${one}</a> `) : t.none],
          ...presenceFacts(device),
          ...more.map(([key, value]) => [key, typeof value === "object" ? html`<${Json} value=${value} />` : String(value)]),
        ]} />
      </section>
      <section class="card"><h2>${t.values}</h2><${Values} readings=${device.values} measure=${measure} />
        ${Object.keys(device.unmapped).length > 0 && html`<h3>${t.unmapped}</h3><${Unmapped} device=${device} reload=${reload} />`}
      </section>
    </div>
    <section class="card"><h2>${t.charts}</h2>
      ${keys.length ? html`<div class="grid">${keys.map((key) => html`<${Curve} key=${key} name=${key} data=${points[key]} measure=${measure(key)} />`)}</div>` : html`<p class="soft">${t.waiting}</p>`}
    </section>
    ${Object.keys(device.info).length > 0 && html`<section class="card"><h2>${t.info}</h2><${Json} value=${device.info} /></section>`}`;
}

function Curve({name, data, measure}) {
  const {label, unit, write} = measure;
  return html`<div data-chart=${name}><h3>${label}${unit && html` <span class="soft small">${unit}</span>`} <span class="soft">${write(data[1][data[1].length - 1])}</span></h3>
    <${Chart} label=${label} data=${data} series=${[{label}]} write=${unit ? undefined : write} height=${140} /></div>`;
}

const KNOWN = new Set(["presence", "id", "protocol", "name", "product", "online", "last_seen", "dev_eui", "applications", "values", "unmapped", "info", "secret", "parent", "tags"]);
const shown = (value) => (value !== null && typeof value === "object" ? JSON.stringify(value) : typeof value === "number" ? number(value, 6) : String(value));

const Values = ({readings, measure}) => html`<${Table} label=${t.values} items=${Object.entries(readings)} rowKey=${([key]) => key} columns=${[
  {name: t.key, cell: ([key]) => html`${measure(key).label}${measure(key).label !== key && html` <span class="soft small mono">${key}</span>`}`},
  {name: t.value, number: true, cell: ([key, reading]) => html`<span data-value=${key}>${typeof reading.value === "number" ? measure(key).write(reading.value) : shown(reading.value)}</span>`},
  {name: t.when, cell: ([, reading]) => ago(reading.at)},
]} />`;

function Unmapped({device, reload}) {
  async function make(key) {
    const product = await get(path`/products/${device.product}`);
    const sensors = [...product.sensors, {value_key: key, name: key, unit: ""}];
    await patch(path`/products/${device.product}`, {sensors});
  }
  return html`<${Table} label=${t.unmapped} items=${Object.entries(device.unmapped)} rowKey=${([key]) => key} columns=${[
    {name: t.key, cell: ([key]) => key},
    {name: t.value, number: true, cell: ([, reading]) => shown(reading.value)},
    {name: "", cell: ([key]) => device.product && html`<button onClick=${() => attempt(() => make(key), t.sensorMade({key})).then(reload)}>${t.toSensor}</button>`},
  ]} />`;
}

// -- commands

function Commands({device, up}) {
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
  }, [device.id, up]); // anew when the stream is back: what changed meanwhile was not told
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
