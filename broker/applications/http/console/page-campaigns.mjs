// Firmware campaigns: whom one would touch, how it goes, a line for each device.
import {useEffect, useState} from "preact/hooks";
import {get, path, post, remove, stream} from "console/api.mjs";
import {link} from "console/state.mjs";
import {ago, moment, number, texts} from "console/texts.mjs";
import {Confirm, Dialog, Facts, Field, Head, Json, Loaded, More, Opens, Table, Tag, attempt, html, note, useData} from "console/ui.mjs";
import {word} from "console/words.mjs";
import {protocolName} from "console/page-overview.mjs";

const t = texts({
  title: ["Campaigns", "升级任务"],
  back: ["All campaigns", "全部任务"],
  add: ["New campaign", "新建任务"],
  none: ["No campaign was made yet.", "暂无升级任务。"],
  name: ["Name", "名称"],
  image: ["Image: the name of a file, or the number of a Gizwits image", "固件：文件名，或 Gizwits 固件编号"],
  version: ["Version that devices report afterwards", "升级后上报的版本"],
  versionHint: ["may be left empty for Gizwits", "Gizwits 可留空"],
  protocol: ["Protocol", "协议"],
  devices: ["Devices, with commas (empty: by filter)", "设备，逗号分隔（留空按条件）"],
  product: ["Product (empty: any)", "产品（留空则全部）"],
  percentage: ["Percent of them", "百分比"],
  lower: ["Only with a version lower than (empty: any)", "仅限低于此版本（留空则全部）"],
  concurrency: ["At once", "同时进行"],
  spread: ["Random start within seconds", "随机起始范围（秒）"],
  stop: ["Stop at percent of failures (empty: never)", "失败百分比达到时停止（留空则不停）"],
  retries: ["Tries again", "重试次数"],
  window: ["Window (empty: always)", "时间窗（留空则全天）"],
  zone: ["Time zone", "时区"],
  ends: ["Wait for offline devices for so many days", "等待离线设备（天）"],
  backup: ["With a backup before (0x88)", "升级前备份（0x88）"],
  make: ["Make it", "创建"],
  made: ["Made, and not started.", "已创建，尚未开始。"],
  state: ["State", "状态"],
  progress: ["Progress", "进度"],
  confirmed: ["{done} of {total} confirmed", "{total} 台中已确认 {done} 台"],
  preview: ["Whom it would touch", "影响范围"],
  touched: ["{touched} would be updated, {skipped} not", "将升级 {touched} 台，跳过 {skipped} 台"],
  start: ["Start", "开始"],
  pause: ["Pause", "暂停"],
  resume: ["Resume", "继续"],
  cancel: ["Cancel", "取消"],
  cancelText: ["Devices that are at work end it; nobody else begins.", "进行中的设备将完成，其余不再开始。"],
  retry: ["Try failed ones again", "重试失败设备"],
  removeIt: ["Remove", "删除"],
  removeText: ["With its lines.", "记录将一并删除。"],
  removed: ["Removed.", "已删除。"],
  done: ["Done.", "完成。"],
  lines: ["Devices", "设备"],
  any: ["any state", "全部状态"],
  device: ["Device", "设备"],
  since: ["Since", "时间"],
  why: ["Why", "原因"],
  reported: ["Version before / reported", "之前版本 / 上报版本"],
  history: ["History", "历史"],
  opens: ["The next window opens {at}.", "下一个时间窗于 {at} 开启。"],
  plan: ["Plan", "计划"],
  created: ["Made", "创建时间"],
});

const COLOURS = {running: "good", finished: "good", confirmed: "good", failed: "bad", no_answer: "bad", stopped: "bad", paused: "warn", queued: "warn", sent: "warn", accepted: "warn", rebooted: "warn"};
const LINES = ["waiting", "queued", "sent", "accepted", "rebooted", "confirmed", "failed", "no_answer", "skipped"];
const colour = (state) => COLOURS[state] || "soft";

export function Campaigns({at}) {
  return at[1] ? html`<${One} id=${at[1]} key=${at[1]} />` : html`<${List} />`;
}

function List() {
  const data = useData((signal) => get("/campaigns", {limit: 200}, signal), [], 4000);
  return html`<${Head} title=${t.title}><${Opens} label=${t.add} main>${(close) => html`<${New} close=${close} />`}</${Opens}></${Head}>
    <section class="card"><${Loaded} data=${data}>${(page) => html`<${Table} label=${t.title} items=${page.items} empty=${t.none} rowKey=${(one) => one.id} columns=${[
      {name: t.name, cell: (one) => html`<a href=${link("campaigns", one.id)}>${one.name || one.id}</a>`},
      {name: t.protocol, cell: (one) => protocolName(one.protocol)},
      {name: t.version, cell: (one) => one.version},
      {name: t.state, cell: (one) => html`<${Tag} kind=${colour(one.state)}>${word(one.state)}</${Tag}>`},
      {name: t.progress, cell: (one) => html`<${Bar} one=${one} />`},
      {name: t.created, cell: (one) => ago(one.created_at)},
    ]} />`}</${Loaded}></section>`;
}

/** How many are over; colours and counts are in the lines below it. */
function Bar({one}) {
  const over = one.counts.confirmed + one.counts.failed + one.counts.no_answer + one.counts.skipped;
  return html`<span class="small">${t.confirmed({done: number(one.counts.confirmed), total: number(one.total)})}</span>
    <progress aria-label=${one.name || one.id} max=${one.total || 1} value=${over} data-over=${over}></progress>`;
}

const list = (text) => (text || "").split(",").map((one) => one.trim()).filter(Boolean);
const whole = (text) => (text === undefined ? undefined : Number(text));
const day = 86400;

function New({close}) {
  const [protocol, setProtocol] = useState("gateway88");
  async function submit(values, form) {
    const devices = list(values.devices);
    const [from, to] = (values.window || "").split("-");
    const plan = {
      protocol,
      name: values.name || "",
      image: values.image,
      version: values.version,
      targets: {...(devices.length ? {devices} : {filter: values.product ? {product: values.product} : {}}), percentage: whole(values.percentage) || 100},
      from_versions: values.lower ? {lower_than: values.lower} : {},
      backup: !!(form.backup && form.backup.checked),
      pace: {
        concurrency: whole(values.concurrency) || 10,
        spread: whole(values.spread) || 0,
        retries: {count: whole(values.retries) || 0},
        ...(values.stop ? {stop: {percent: whole(values.stop)}} : {}),
        ...(values.window ? {windows: [{from, to, time_zone: values.zone || "UTC"}]} : {}),
        ...(values.days ? {ends_at: Date.now() / 1000 + whole(values.days) * day} : {}),
      },
    };
    const made = await post("/campaigns", plan);
    note(t.made);
    location.hash = link("campaigns", made.id);
  }
  return html`<${Dialog} title=${t.add} action=${t.make} close=${close} submit=${submit}>
    <${Field} label=${t.protocol}><select value=${protocol} onChange=${(event) => setProtocol(event.target.value)}>
      <option value="gateway88">0x88</option><option value="gizwits">Gizwits</option></select></${Field}>
    <${Field} label=${t.name}><input name="name" maxlength="128" /></${Field}>
    <${Field} label=${t.image}><input name="image" required maxlength="255" /></${Field}>
    <${Field} label=${t.version} hint=${t.versionHint}><input name="version" maxlength="64" required=${protocol === "gateway88"} /></${Field}>
    <${Field} label=${t.devices}><input name="devices" class="mono" /></${Field}>
    <${Field} label=${t.product}><input name="product" maxlength="128" /></${Field}>
    <div class="grid">
      <${Field} label=${t.percentage}><input name="percentage" type="number" min="1" max="100" placeholder="100" /></${Field}>
      <${Field} label=${t.concurrency}><input name="concurrency" type="number" min="1" placeholder="10" /></${Field}>
      <${Field} label=${t.stop}><input name="stop" type="number" min="1" max="100" /></${Field}>
      <${Field} label=${t.retries}><input name="retries" type="number" min="0" max="100" placeholder="0" /></${Field}>
      <${Field} label=${t.spread}><input name="spread" type="number" min="0" placeholder="0" /></${Field}>
      <${Field} label=${t.ends}><input name="days" type="number" min="0" step="any" /></${Field}>
      <${Field} label=${t.window}><input name="window" placeholder="02:00-05:00" pattern="[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9]" /></${Field}>
      <${Field} label=${t.zone}><input name="zone" value=${Intl.DateTimeFormat().resolvedOptions().timeZone} /></${Field}>
    </div>
    <${Field} label=${t.lower}><input name="lower" maxlength="64" /></${Field}>
    ${protocol === "gateway88" && html`<label class="row"><input type="checkbox" name="backup" />${t.backup}</label>`}
  </${Dialog}>`;
}

function One({id}) {
  const where = path`/campaigns/${id}`;
  const data = useData((signal) => get(where, {}, signal), [id], 5000);
  const [state, setState] = useState("");
  const [tick, setTick] = useState(0);
  useEffect(
    () =>
      stream({kind: "campaign"}, (messages) => {
        const mine = messages.filter((one) => one.id === id || (one.campaign && one.campaign.id === id));
        if (mine.length) {
          data.reload();
          setTick((count) => count + 1);
        }
      }),
    [id],
  );
  const act = (name, text) => attempt(() => post(`${where}/${name}`), text || t.done).then(() => {
    data.reload();
    setTick((count) => count + 1);
  });
  return html`<p><a href=${link("campaigns")}>← ${t.back}</a></p>
    <${Loaded} data=${data}>${(one) => html`<${Head} title=${one.name || one.id}>
        <span data-campaign=${one.state}><${Tag} kind=${colour(one.state)}>${word(one.state)}</${Tag}></span>
        <${Opens} label=${t.preview}>${(close) => html`<${PreviewOf} where=${where} close=${close} />`}</${Opens}>
        ${one.state === "draft" && html`<button class="main" onClick=${() => act("start")}>${t.start}</button>`}
        ${one.state === "running" && html`<button onClick=${() => act("pause")}>${t.pause}</button>`}
        ${["paused", "stopped"].includes(one.state) && html`<button class="main" onClick=${() => act("resume")}>${t.resume}</button>`}
        ${one.counts.failed + one.counts.no_answer > 0 && html`<button onClick=${() => act("retry")}>${t.retry}</button>`}
        ${!["finished", "cancelled"].includes(one.state) && html`<${Confirm} label=${t.cancel} title=${t.cancel} text=${t.cancelText} danger done=${t.done} work=${() => post(`${where}/cancel`).then(data.reload)} />`}
        ${(one.closed || one.state === "draft") && html`<${Confirm} label=${t.removeIt} title=${one.name || one.id} text=${t.removeText} danger done=${t.removed} work=${async () => {
          await remove(where);
          location.hash = link("campaigns");
        }} />`}
      </${Head}>
      ${one.reason && html`<p class="card warn" role="status">${one.reason}</p>`}
      ${one.opens_at && html`<p class="soft" role="status">${t.opens({at: moment(one.opens_at)})}</p>`}
      <section class="card"><h2>${t.progress}</h2><${Bar} one=${one} />
        <div class="row">${LINES.filter((name) => one.counts[name]).map((name) => html`<button class="plain" onClick=${() => setState(name)}><${Tag} kind=${colour(name)}>${word(name)} ${number(one.counts[name])}</${Tag}></button>`)}</div></section>
      <${Lines} where=${where} state=${state} setState=${setState} tick=${tick} />
      <section class="card"><h2>${t.plan}</h2><${Facts} pairs=${[
        [t.protocol, protocolName(one.protocol)],
        [t.image, one.image],
        [t.version, one.version],
        [t.created, moment(one.created_at)],
      ]} /><${Json} value=${{targets: one.targets, from_versions: one.from_versions, pace: one.pace, backup: one.backup}} /></section>`}</${Loaded}>`;
}

function Lines({where, state, setState, tick}) {
  const [more, setMore] = useState([]);
  const data = useData((signal) => get(`${where}/lines`, {state, limit: 100}, signal), [where, state, tick]);
  useEffect(() => setMore([]), [state, tick]);
  const last = more.length ? more[more.length - 1] : data.value;
  const next = async () => {
    const page = await attempt(() => get(`${where}/lines`, {state, limit: 200, cursor: last.next}));
    if (page) setMore([...more, page]);
  };
  return html`<section class="card"><div class="row"><h2 class="grow">${t.lines}</h2>
      <select aria-label=${t.state} value=${state} onChange=${(event) => setState(event.target.value)}><option value="">${t.any}</option>${LINES.map((name) => html`<option value=${name}>${word(name)}</option>`)}</select></div>
    <${Loaded} data=${data}>${(page) => html`<${Table} label=${t.lines} items=${[page, ...more].flatMap((one) => one.items)} rowKey=${(one) => one.device} columns=${[
      {name: t.device, cell: (one) => html`<a class="mono" href=${link("devices", one.device)}>${one.device}</a>`},
      {name: t.state, cell: (one) => html`<span data-line=${one.state}><${Tag} kind=${colour(one.state)}>${word(one.state)}</${Tag}></span>`},
      {name: t.since, cell: (one) => ago(one.since)},
      {name: t.reported, cell: (one) => `${one.version || "?"} / ${one.reported || "–"}`},
      {name: t.why, cell: (one) => one.reason},
      {name: t.history, cell: (one) => html`<${Opens} label="…">${(close) => html`<${Dialog} title=${one.device} close=${close}>
        <${Table} label=${t.history} items=${one.history} columns=${[
          {name: t.since, cell: (step) => moment(step.at)},
          {name: t.state, cell: (step) => word(step.state)},
          {name: t.why, cell: (step) => step.note},
        ]} /></${Dialog}>`}</${Opens}>`},
    ]} /><${More} next=${last && last.next} more=${next} />`}</${Loaded}></section>`;
}

function PreviewOf({where, close}) {
  const data = useData((signal) => get(`${where}/preview`, {limit: 200}, signal), [where]);
  return html`<${Dialog} title=${t.preview} close=${close}><${Loaded} data=${data}>${(page) => html`<p>${t.touched({touched: number(page.touched), skipped: number(page.skipped)})}</p>
    <${Table} label=${t.preview} items=${page.items} rowKey=${(one) => one.device} columns=${[
      {name: t.device, cell: (one) => html`<span class="mono">${one.device}</span>`},
      {name: t.version, cell: (one) => one.version || "?"},
      {name: t.why, cell: (one) => (one.touched ? html`<span class="good">✓</span>` : one.reason)},
    ]} />`}</${Loaded}></${Dialog}>`;
}
