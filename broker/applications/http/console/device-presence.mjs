// When a device came and went: its connection as it is, every change while the page is open, and what was an event.
import {useState} from "preact/hooks";
import {get} from "console/api.mjs";
import {ago, moment, number, span, texts} from "console/texts.mjs";
import {Facts, Loaded, More, Table, Tag, attempt, html, useData, yesNo} from "console/ui.mjs";
import {word} from "console/words.mjs";

const t = texts({
  now: ["Connection", "连接"],
  connected: ["Connected", "已连接"],
  since: ["Connected since", "连接时间"],
  gone: ["Disconnected since", "断开时间"],
  reason: ["Reason", "原因"],
  peer: ["From", "来源"],
  frame: ["Last frame", "最后报文"],
  beat: ["Last heartbeat", "最后心跳"],
  flaps: ["Went away lately", "近期断开次数"],
  state: ["State", "状态"],
  seen: ["Last seen", "最后在线"],
  changes: ["Since this page was opened", "打开本页以来"],
  still: ["The connection has not changed.", "连接没有变化。"],
  history: ["Presence history", "在线记录"],
  hint: ["What lasted long enough to be an event, as the rules have it.", "持续时间达到规则要求的上下线事件。"],
  none: ["It was never away for long enough to be an event.", "没有达到事件条件的离线记录。"],
  when: ["When", "时间"],
  what: ["What", "变化"],
  details: ["Details", "详情"],
  after: ["offline for {span}", "离线 {span}"],
  online: ["online", "在线"],
  offline: ["offline", "离线"],
});

const KINDS = ["device_offline", "device_online", "gateway_offline", "gateway_online", "device_flapping", "device_steady"];
const COLOURS = {device_online: "good", gateway_online: "good", device_steady: "good"};
const at = (time) => html`${moment(time)} <span class="soft">(${ago(time)})</span>`;

/** Pairs for `Facts`. */
export function presenceFacts(device) {
  const presence = device.presence;
  return [
    [t.state, word(presence.state)],
    [t.connected, yesNo(presence.connected)],
    [t.since, presence.connected && presence.connected_at ? at(presence.connected_at) : undefined],
    [t.gone, !presence.connected && presence.disconnected_at ? at(presence.disconnected_at) : undefined],
    [t.reason, presence.reason ? word(presence.reason) : undefined],
    [t.peer, presence.peer ? html`<span class="mono">${presence.peer}</span>` : undefined],
    [t.frame, presence.last_frame ? at(presence.last_frame) : undefined],
    [t.beat, presence.last_heartbeat ? at(presence.last_heartbeat) : undefined],
    [t.flaps, number(presence.flaps)],
    [t.seen, device.last_seen ? at(device.last_seen) : undefined],
  ];
}

/** `changes`: messages `presence` of the stream, the newest first; `events`: how many events it has had meanwhile. */
export function Presence({device, changes, events}) {
  const asked = {device: device.id, kind: KINDS, limit: 50};
  const data = useData((signal) => get("/events", asked, signal), [device.id, events], 15000);
  const [older, setOlder] = useState([]);
  const last = older.length ? older[older.length - 1] : data.value;
  async function more() {
    const page = await attempt(() => get("/events", {...asked, cursor: last.next}));
    if (page) setOlder([...older, page]);
  }
  return html`<div class="grid"><section class="card"><h2>${t.now}</h2><${Facts} pairs=${presenceFacts(device)} /></section>
      <section class="card"><h2>${t.changes}</h2><${Table} label=${t.changes} items=${changes} empty=${t.still} columns=${[
        {name: t.when, cell: (one) => moment(one.at)},
        {name: t.what, cell: (one) => html`<span data-presence=${one.online}><${Tag} kind=${one.online ? "good" : "bad"}>${one.online ? t.online : t.offline}</${Tag}></span>`},
        {name: t.reason, cell: (one) => word(one.reason)},
      ]} /></section></div>
    <section class="card"><h2>${t.history}</h2><p class="soft small">${t.hint}</p>
      <${Loaded} data=${data}>${(page) => html`<${Table} label=${t.history} items=${[page, ...older].flatMap((one) => one.items)} empty=${t.none} rowKey=${(one) => one.id} columns=${[
        {name: t.when, cell: (one) => at(one.at)},
        {name: t.what, cell: (one) => html`<span data-event=${one.kind}><${Tag} kind=${COLOURS[one.kind] || "bad"}>${word(one.kind)}</${Tag}></span>`},
        {name: t.details, cell: (one) => detailsOf(one.details)},
      ]} /><${More} next=${last && last.next} more=${more} />`}</${Loaded}></section>`;
}

function detailsOf(details) {
  const {offline_for: away, since, offline_since: sinceThen, name, ...rest} = details; // times and name are shown beside it
  return html`${typeof away === "number" ? `${t.after({span: span(away)})} ` : ""}<span class="mono small">${Object.keys(rest).length ? JSON.stringify(rest) : ""}</span>`;
}
