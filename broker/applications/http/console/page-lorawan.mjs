// LoRaWAN: gateways with their last stat and air time, motes with session, counters and queue, multicast groups.
import {useState} from "preact/hooks";
import {get, patch, path, post, put, remove} from "console/api.mjs";
import {link} from "console/state.mjs";
import {ago, moment, number, texts} from "console/texts.mjs";
import {Confirm, Dialog, Facts, Field, Head, Json, Loaded, More, Opens, Table, Tabs, Tag, attempt, html, note, useData} from "console/ui.mjs";

const t = texts({
  title: ["LoRaWAN", "LoRaWAN"],
  parts: ["Parts of this page", "页面分区"],
  gateways: ["Gateways", "网关"],
  motes: ["Motes", "节点"],
  groups: ["Multicast groups", "组播组"],
  none: ["No gateway is known.", "没有已知网关。"],
  noMotes: ["No mote is registered.", "没有已注册的节点。"],
  name: ["Name", "名称"],
  region: ["Region", "区域"],
  heard: ["Heard", "最近"],
  online: ["online", "在线"],
  offline: ["offline", "离线"],
  stat: ["Received / sent", "接收 / 发送"],
  statHint: ["packets with a good CRC of all, downlinks asked for and sent", "CRC 正确/全部，下行请求/发送"],
  duty: ["Air time in the last hour", "近一小时空中时间"],
  address: ["Address", "地址"],
  add: ["Add a gateway", "添加网关"],
  save: ["Save", "保存"],
  edit: ["Change", "修改"],
  gain: ["Antenna gain, dBi", "天线增益（dBi）"],
  removeIt: ["Remove", "删除"],
  removeText: ["It is unknown again until it is registered or approved.", "需重新注册或批准。"],
  removed: ["Removed.", "已删除。"],
  unregistered: ["not registered", "未注册"],
  search: ["Search in DevEUI and name", "按 DevEUI 或名称搜索"],
  joined: ["joined", "已入网"],
  notJoined: ["not joined", "未入网"],
  klass: ["Class", "类别"],
  counters: ["Counters up / down", "帧计数（上行/下行）"],
  best: ["Best gateway", "最佳网关"],
  queue: ["Queue", "队列"],
  rate: ["Data rate", "速率"],
  battery: ["Battery, margin", "电量、链路余量"],
  mains: ["mains", "外部供电"],
  mac: ["MAC state", "MAC 状态"],
  pending: ["not answered: {names}", "未应答：{names}"],
  refused: ["refused: {names}", "已拒绝：{names}"],
  counter: ["Next counter", "下一帧计数"],
  keys: ["What its members have to be given; GET /lorawan/groups/…/keys has it again.", "需写入成员的密钥，可通过 GET /lorawan/groups/…/keys 再次查看。"],
  members: ["Members", "成员"],
  frequency: ["Frequency", "频率"],
  group: ["Add a group", "添加组"],
  id: ["Id", "编号"],
  application: ["Application (may be empty)", "应用（可留空）"],
  member: ["Add a member", "添加成员"],
  send: ["Send", "发送"],
  hex: ["Payload, in hexadecimal", "内容（十六进制）"],
  port: ["Port", "端口"],
  tries: ["How often", "次数"],
  taken: ["Taken.", "已接受。"],
  badHex: ["This is no hexadecimal text of whole bytes.", "不是有效的十六进制文本。"],
});

const TABS = {gateways: Gateways, motes: Motes, groups: Groups};

export function Lorawan({at}) {
  const tab = TABS[at[1]] ? at[1] : "gateways";
  return html`<${Head} title=${t.title} />
    <${Tabs} label=${t.parts} current=${tab} items=${Object.keys(TABS).map((key) => ({key, name: t[key], href: link("lorawan", key)}))} />
    <${TABS[tab]} />`;
}

const Online = ({online}) => html`<span class=${online ? "good dot" : "soft dot"}>${online ? t.online : t.offline}</span>`;

/** A list that is asked for again, with the pages that were added to it. */
function usePages(where, query, every) {
  const [more, setMore] = useState([]);
  const data = useData((signal) => get(where, {...query, limit: 100}, signal), [where, JSON.stringify(query)], every);
  const last = more.length ? more[more.length - 1] : data.value;
  return {
    data,
    items: (page) => [page, ...more].flatMap((one) => one.items),
    next: last && last.next,
    load: async () => {
      const page = await attempt(() => get(where, {...query, limit: 100, cursor: last.next}));
      if (page) setMore([...more, page]);
    },
  };
}

// -- gateways

function Gateways() {
  const pages = usePages("/lorawan/gateways", {}, 5000);
  const {data} = pages;
  return html`<section class="card"><div class="row"><h2 class="grow">${t.gateways}</h2>
      <${Opens} label=${t.add} main>${(close) => html`<${Dialog} title=${t.add} action=${t.save} close=${close} submit=${async (values) => {
        await post("/lorawan/gateways", values);
        data.reload();
      }}><${Field} label="EUI"><input name="eui" required class="mono" maxlength="23" /></${Field}><${GatewayFields} one=${{}} /></${Dialog}>`}</${Opens}></div>
    <${Loaded} data=${data}>${(page) => html`<${Table} label=${t.gateways} items=${pages.items(page)} empty=${t.none} rowKey=${(one) => one.eui} columns=${[
      {name: t.name, cell: (one) => html`<span data-eui=${one.eui}>${one.name || ""} <span class="mono">${one.eui}</span></span> ${!one.registered && html`<${Tag} kind="warn">${t.unregistered}</${Tag}>`}`},
      {name: t.heard, cell: (one) => html`<${Online} online=${one.online} /> <span class="soft small">${ago(one.last_seen)}</span>`},
      {name: t.address, cell: (one) => html`<span class="mono small">${one.address}</span>`},
      {name: t.region, cell: (one) => one.region || ""},
      {name: t.stat, cell: (one) => one.stat && html`<span title=${`${t.statHint} (${moment(one.stat_at)})`}>${number(one.stat.rxok)}/${number(one.stat.rxnb)} · ${number(one.stat.dwnb)}/${number(one.stat.txnb)}</span>`},
      {name: t.duty, cell: (one) => one.duty.map((band) => html`<div class="small" key=${band.band}>${band.band}: ${number((100 * band.used) / (band.limit || 1), 1)} % <progress aria-label=${band.band} max=${band.limit || 1} value=${band.used}></progress></div>`)},
      {name: "", cell: (one) => one.registered && html`<span class="row"><${Opens} label=${t.edit}>${(close) => html`<${Dialog} title=${one.eui} action=${t.save} close=${close} submit=${async (values) => {
          await patch(path`/lorawan/gateways/${one.eui}`, {name: values.name || "", region: values.region || null, antenna_gain: values.antenna_gain ? Number(values.antenna_gain) : null});
          data.reload();
        }}><${GatewayFields} one=${one} /></${Dialog}>`}</${Opens}>
        <${Confirm} label=${t.removeIt} title=${one.eui} text=${t.removeText} danger done=${t.removed} work=${async () => {
          await remove(path`/lorawan/gateways/${one.eui}`);
          data.reload();
        }} /></span>`},
    ]} /><${More} next=${pages.next} more=${pages.load} />`}</${Loaded}></section>`;
}

const GatewayFields = ({one}) => html`<${Field} label=${t.name}><input name="name" maxlength="128" value=${one.name || ""} /></${Field}>
  <${Field} label=${t.region}><input name="region" maxlength="32" value=${one.region || ""} /></${Field}>
  ${one.eui && html`<${Field} label=${t.gain}><input name="antenna_gain" type="number" step="0.1" value=${one.antenna_gain ?? ""} /></${Field}>`}`;

// -- motes

function Motes() {
  const [q, setQ] = useState("");
  const pages = usePages("/lorawan/motes", {q}, 5000);
  return html`<section class="card"><div class="row"><input type="search" class="grow" aria-label=${t.search} placeholder=${t.search} onInput=${(event) => setQ(event.target.value)} /></div>
    <${Loaded} data=${pages.data}>${(page) => html`<${Table} label=${t.motes} items=${pages.items(page)} empty=${t.noMotes} rowKey=${(one) => one.dev_eui} columns=${[
      {name: t.name, cell: (one) => html`<a href=${link("devices", one.dev_eui)} data-mote=${one.dev_eui}>${one.name || one.dev_eui}</a><div class="mono small soft">${one.dev_eui} ${one.network === "own" ? "" : one.network}</div>`},
      {name: t.heard, cell: (one) => html`<${Tag} kind=${one.joined ? "good" : "soft"}>${one.joined ? t.joined : t.notJoined}</${Tag}> <span class="soft small">${ago(one.last_seen)}</span>`},
      {name: t.klass, cell: (one) => one.class},
      {name: t.counters, number: true, cell: (one) => (one.up === null ? "–" : `${number(one.up)} / ${number(one.down)}`)},
      {name: t.rate, cell: (one) => one.mac && html`DR${one.mac.data_rate ?? "?"}`},
      {name: t.best, cell: (one) => html`<span class="mono small">${one.gateways[0] || ""}</span> ${one.gateways.length > 1 && html`<span class="soft small">+${one.gateways.length - 1}</span>`}`},
      {name: t.battery, cell: (one) => one.status && `${one.status.battery === 0 ? t.mains : one.status.battery === 255 ? "?" : `${number((100 * one.status.battery) / 254)} %`}, ${number(one.status.margin)} dB`},
      {name: t.queue, number: true, cell: (one) => (one.queued ? html`<a href=${link("devices", one.dev_eui, "commands")}>${number(one.queued)}</a>` : "0")},
      {name: t.mac, cell: (one) => one.mac && html`<${Opens} label="…">${(close) => html`<${Dialog} title=${one.dev_eui} close=${close}>
        ${one.mac.pending.length > 0 && html`<p class="warn">${t.pending({names: one.mac.pending.join(", ")})}</p>`}
        ${one.mac.refused.length > 0 && html`<p class="bad">${t.refused({names: one.mac.refused.join(", ")})}</p>`}
        <${Json} value=${one.mac} /></${Dialog}>`}</${Opens}>`},
    ]} /><${More} next=${pages.next} more=${pages.load} />`}</${Loaded}></section>`;
}

// -- multicast groups

function Groups() {
  const data = useData((signal) => get("/lorawan/groups", {limit: 200}, signal), [], 8000);
  const [made, setMade] = useState(null);
  return html`${made && html`<section class="card" role="status"><p>${t.keys}</p><${Facts} pairs=${["dev_addr", "mc_nwk_s_key", "mc_app_s_key"].map((key) => [key, html`<code class="mono">${made[key]}</code>`])} /></section>`}
    <section class="card"><div class="row"><h2 class="grow">${t.groups}</h2>
      <${Opens} label=${t.group} main>${(close) => html`<${Dialog} title=${t.group} action=${t.save} close=${close} submit=${async (values) => {
        setMade(await post("/lorawan/groups", values));
        data.reload();
      }}><${Field} label=${t.id}><input name="id" required maxlength="64" /></${Field}><${Field} label=${t.name}><input name="name" maxlength="128" /></${Field}>
        <${Field} label=${t.application}><input name="application" maxlength="64" /></${Field}></${Dialog}>`}</${Opens}></div>
    <${Loaded} data=${data}>${(page) => html`<${Table} label=${t.groups} items=${page.items} rowKey=${(one) => one.id} columns=${[
      {name: t.name, cell: (one) => html`${one.name || one.id} <span class="mono small soft">${one.dev_addr}</span>`},
      {name: t.frequency, cell: (one) => (one.frequency ? `${number(one.frequency / 1e6, 3)} MHz` : "")},
      {name: t.members, number: true, cell: (one) => number(one.members)},
      {name: t.counter, number: true, cell: (one) => number(one.counter)},
      {name: t.queue, number: true, cell: (one) => number(one.waiting)},
      {name: "", cell: (one) => html`<span class="row"><${Opens} label=${t.member}>${(close) => html`<${Dialog} title=${t.member} action=${t.save} close=${close} submit=${async (values) => {
          await put(path`/lorawan/groups/${one.id}/devices/${values.device}`);
          data.reload();
        }}><${Field} label="DevEUI"><input name="device" required class="mono" maxlength="23" /></${Field}></${Dialog}>`}</${Opens}>
        <${Opens} label=${t.send}>${(close) => html`<${Dialog} title=${t.send} action=${t.send} close=${close} submit=${async (values) => {
          await post(path`/lorawan/groups/${one.id}/messages`, {payload_base64: base64(values.payload || ""), port: Number(values.port), tries: Number(values.tries || 1)});
          note(t.taken);
        }}><${Field} label=${t.hex}><input name="payload" class="mono" required /></${Field}><${Field} label=${t.port}><input name="port" type="number" min="1" max="255" required /></${Field}>
          <${Field} label=${t.tries}><input name="tries" type="number" min="1" max="10" placeholder="1" /></${Field}></${Dialog}>`}</${Opens}>
        <${Confirm} label=${t.removeIt} title=${one.name || one.id} text=${t.removeIt} danger done=${t.removed} work=${async () => {
          await remove(path`/lorawan/groups/${one.id}`);
          data.reload();
        }} /></span>`},
    ]} />`}</${Loaded}></section>`;
}

function base64(text) {
  const digits = text.replace(/[\s:,]/g, "");
  if (!digits || digits.length % 2 || /[^0-9a-f]/i.test(digits)) throw new Error(t.badHex);
  return btoa(digits.match(/../g).map((pair) => String.fromCharCode(parseInt(pair, 16))).join(""));
}
