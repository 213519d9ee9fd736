// What has happened to the fleet, who hears of what, and where it is delivered.
import {useEffect, useState} from "preact/hooks";
import {get, patch, path, post, remove, stream} from "console/api.mjs";
import {link} from "console/state.mjs";
import {ago, moment, number, texts} from "console/texts.mjs";
import {Confirm, Copyable, Dialog, Field, Head, Loaded, More, Opens, Table, Tabs, Tag, attempt, html, note, useData, yesNo} from "console/ui.mjs";

const t = texts({
  title: ["Events", "事件"],
  parts: ["Parts of this page", "页面分区"],
  events: ["Events", "事件"],
  rules: ["Rules", "规则"],
  sinks: ["Sinks", "通知渠道"],
  letters: ["Dead letters", "投递失败"],
  kind: ["Kind", "类型"],
  any: ["any", "全部"],
  when: ["When", "时间"],
  device: ["Device", "设备"],
  details: ["Details", "详情"],
  quiet: ["Nothing has happened.", "暂无事件。"],
  addRule: ["Add a rule", "添加规则"],
  noRules: ["Without a rule, events are kept and nobody is told.", "没有规则时，事件仅记录，不通知。"],
  name: ["Name", "名称"],
  save: ["Save", "保存"],
  saved: ["Saved.", "已保存。"],
  removed: ["Removed.", "已删除。"],
  removeIt: ["Remove", "删除"],
  removeText: ["What waits to be delivered goes with it.", "等待投递的内容将一并删除。"],
  enabled: ["On", "启用"],
  turn: ["On or off", "启用/停用"],
  kinds: ["Kinds (none: all)", "类型（不选则全部）"],
  protocols: ["Protocols, with commas (empty: all)", "协议，逗号分隔（留空则全部）"],
  q: ["In id or name (empty: all)", "编号或名称包含（留空则全部）"],
  offline: ["Seconds offline until it is an event (empty: as configured)", "离线多少秒后成为事件（留空按配置）"],
  to: ["Told to", "通知"],
  addSink: ["Add a sink", "添加渠道"],
  webhook: ["webhook", "Webhook"],
  email: ["e-mail", "电子邮件"],
  address: ["Address", "地址"],
  mails: ["To, with commas", "收件人，逗号分隔"],
  queued: ["Waiting", "等待"],
  dead: ["Dead letters", "投递失败"],
  delivered: ["Delivered", "已投递"],
  trouble: ["Trouble", "故障"],
  next: ["next attempt {at}", "下次尝试 {at}"],
  test: ["Test", "测试"],
  tested: ["Delivered: {detail}", "投递成功：{detail}"],
  failed: ["Not delivered: {detail}", "投递失败：{detail}"],
  secret: ["Deliveries are signed with this secret, shown this once:", "投递使用此密钥签名，仅显示一次："],
  retry: ["Try again", "重试"],
  drop: ["Drop", "丢弃"],
  done: ["{count} of them.", "共 {count} 条。"],
  why: ["Why", "原因"],
  attempts: ["Attempts", "次数"],
  none: ["None.", "无。"],
});

const COLOURS = {info: "soft", warning: "warn", critical: "bad"};
const TABS = {events: List, rules: Rules, sinks: Sinks};

export function Events({at}) {
  const tab = TABS[at[1]] ? at[1] : "events";
  return html`<${Head} title=${t.title} />
    <${Tabs} label=${t.parts} current=${tab} items=${Object.keys(TABS).map((key) => ({key, name: t[key], href: link("events", key)}))} />
    <${TABS[tab]} id=${at[2]} />`;
}

const useKinds = () => useData((signal) => get("/event-kinds", {}, signal), []).value?.items || [];

function List() {
  const [kind, setKind] = useState("");
  const kinds = useKinds();
  const [pages, setPages] = useState([]);
  const data = useData((signal) => get("/events", {kind, limit: 100}, signal), [kind]);
  const [fresh, setFresh] = useState([]);
  useEffect(() => {
    setPages([]);
    setFresh([]);
    // By name: without one, the stream would bring every message of every device.
    return stream({kind: "broker_event"}, (messages) => {
      const wanted = messages.filter((one) => one.type === "event" && (!kind || one.kind === kind));
      if (wanted.length) setFresh((before) => [...wanted.reverse(), ...before].slice(0, 200));
    });
  }, [kind]);
  const last = pages.length ? pages[pages.length - 1] : data.value;
  const more = async () => {
    const page = await attempt(() => get("/events", {kind, limit: 100, cursor: last.next}));
    if (page) setPages([...pages, page]);
  };
  return html`<section class="card"><div class="row"><select aria-label=${t.kind} value=${kind} onChange=${(event) => setKind(event.target.value)}>
      <option value="">${t.kind}: ${t.any}</option>${kinds.map((one) => html`<option value=${one.kind}>${one.kind}</option>`)}</select></div>
    <${Loaded} data=${data}>${(page) => html`<${EventTable} items=${[...fresh, page.items, ...pages.map((one) => one.items)].flat()} /><${More} next=${last && last.next} more=${more} />`}</${Loaded}></section>`;
}

const EventTable = ({items}) => html`<${Table} label=${t.events} items=${items} empty=${t.quiet} rowKey=${(one) => one.id} columns=${[
  {name: t.when, cell: (one) => html`<span title=${moment(one.at)}>${ago(one.at)}</span>`},
  {name: t.kind, cell: (one) => html`<span data-event=${one.kind}><${Tag} kind=${COLOURS[one.severity] || "soft"}>${one.kind}</${Tag}></span>`},
  {name: t.device, cell: (one) => one.device && html`<a class="mono" href=${link("devices", one.device)}>${one.device}</a>`},
  {name: t.details, cell: (one) => html`<span class="mono small">${JSON.stringify(one.details)}</span>`},
]} />`;

// -- rules

function Rules() {
  const data = useData((signal) => get("/event-rules", {}, signal), [], 10000);
  const sinks = useData((signal) => get("/sinks", {}, signal), []).value?.items || [];
  const kinds = useKinds();
  return html`<section class="card"><div class="row"><h2 class="grow">${t.rules}</h2>
      <${Opens} label=${t.addRule} main>${(close) => html`<${AddRule} kinds=${kinds} sinks=${sinks} close=${close} done=${data.reload} />`}</${Opens}></div>
    <${Loaded} data=${data}>${(page) => html`<${Table} label=${t.rules} items=${page.items} empty=${t.noRules} rowKey=${(one) => one.id} columns=${[
      {name: t.name, cell: (one) => one.name || one.id},
      {name: t.kind, cell: (one) => one.kinds.join(", ") || t.any},
      {name: t.device, cell: (one) => html`<span class="mono small">${JSON.stringify(Object.fromEntries(Object.entries(one.devices).filter(([, value]) => value.length)))}</span>`},
      {name: t.to, cell: (one) => one.sinks.map((id) => (sinks.find((sink) => sink.id === id) || {}).name || id).join(", ")},
      {name: t.enabled, cell: (one) => yesNo(one.enabled)},
      {name: "", cell: (one) => html`<span class="row"><button onClick=${() => attempt(() => patch(path`/event-rules/${one.id}`, {enabled: !one.enabled}), t.saved).then(data.reload)}>${t.turn}</button>
        <${Confirm} label=${t.removeIt} title=${one.name || one.id} text=${t.removeText} danger done=${t.removed} work=${async () => {
          await remove(path`/event-rules/${one.id}`);
          data.reload();
        }} /></span>`},
    ]} />`}</${Loaded}></section>`;
}

const list = (text) => (text || "").split(",").map((one) => one.trim()).filter(Boolean);

function AddRule({kinds, sinks, close, done}) {
  async function submit(values, form) {
    const chosen = (name) => [...form.querySelectorAll(`[name=${name}]:checked`)].map((one) => one.value);
    await post("/event-rules", {
      name: values.name || "",
      kinds: chosen("kind"),
      sinks: chosen("sink"),
      devices: {protocols: list(values.protocols), q: values.q || ""},
      ...(values.offline_after ? {offline_after: Number(values.offline_after)} : {}),
    });
    note(t.saved);
    done();
  }
  const box = (name, value, label) => html`<label class="row"><input type="checkbox" name=${name} value=${value} />${label}</label>`;
  return html`<${Dialog} title=${t.addRule} action=${t.save} close=${close} submit=${submit}>
    <${Field} label=${t.name}><input name="name" maxlength="128" /></${Field}>
    <fieldset><legend class="soft small">${t.kinds}</legend>${kinds.map((one) => box("kind", one.kind, one.kind))}</fieldset>
    <${Field} label=${t.protocols}><input name="protocols" maxlength="200" /></${Field}>
    <${Field} label=${t.q}><input name="q" maxlength="128" /></${Field}>
    <${Field} label=${t.offline}><input name="offline_after" type="number" min="1" /></${Field}>
    <fieldset><legend class="soft small">${t.to}</legend>${sinks.map((one) => box("sink", one.id, one.name || one.id))}</fieldset>
  </${Dialog}>`;
}

// -- sinks

function Sinks({id}) {
  const data = useData((signal) => get("/sinks", {}, signal), [], 5000);
  const [made, setMade] = useState(null);
  if (id) return html`<${Letters} id=${id} />`;
  async function test(one) {
    const result = await attempt(() => post(path`/sinks/${one.id}/test`));
    if (result) note(result.delivered ? t.tested(result) : t.failed(result), result.delivered ? "good" : "bad");
  }
  return html`${made && html`<section class="card" role="status"><p>${t.secret}</p><${Copyable} text=${made.secret} /></section>`}
    <section class="card"><div class="row"><h2 class="grow">${t.sinks}</h2><${Opens} label=${t.addSink} main>${(close) => html`<${AddSink} close=${close} done=${(one) => {
      if (one.secret) setMade(one);
      data.reload();
    }} />`}</${Opens}></div>
    <${Loaded} data=${data}>${(page) => html`<${Table} label=${t.sinks} items=${page.items} rowKey=${(one) => one.id} columns=${[
      {name: t.name, cell: (one) => one.name || one.id},
      {name: t.address, cell: (one) => html`<span class="mono small">${one.url || (one.to || []).join(", ")}</span>`},
      {name: t.enabled, cell: (one) => yesNo(one.enabled)},
      {name: t.queued, number: true, cell: (one) => number(one.queued)},
      {name: t.delivered, number: true, cell: (one) => number(one.delivered)},
      {name: t.dead, number: true, cell: (one) => (one.dead_letters ? html`<a href=${link("events", "sinks", one.id)}>${number(one.dead_letters)}</a>` : "0")},
      {name: t.trouble, cell: (one) => one.trouble && html`<span class="bad">${one.trouble.detail}</span> ${one.trouble.next_attempt && html`<span class="soft small">${t.next({at: moment(one.trouble.next_attempt)})}</span>`}`},
      {name: "", cell: (one) => html`<span class="row"><button onClick=${() => test(one)}>${t.test}</button>
        <button onClick=${() => attempt(() => patch(path`/sinks/${one.id}`, {enabled: !one.enabled}), t.saved).then(data.reload)}>${t.turn}</button>
        <${Confirm} label=${t.removeIt} title=${one.name || one.id} text=${t.removeText} danger done=${t.removed} work=${async () => {
          await remove(path`/sinks/${one.id}`);
          data.reload();
        }} /></span>`},
    ]} />`}</${Loaded}></section>`;
}

function AddSink({close, done}) {
  const [kind, setKind] = useState("webhook");
  const submit = async (values) => done(await post("/sinks", {kind, name: values.name || "", ...(kind === "webhook" ? {url: values.url} : {to: list(values.to)})}));
  return html`<${Dialog} title=${t.addSink} action=${t.save} close=${close} submit=${submit}>
    <${Field} label=${t.kind}><select value=${kind} onChange=${(event) => setKind(event.target.value)}><option value="webhook">${t.webhook}</option><option value="email">${t.email}</option></select></${Field}>
    <${Field} label=${t.name}><input name="name" maxlength="128" /></${Field}>
    ${kind === "webhook" ? html`<${Field} label=${t.address}><input name="url" type="url" required maxlength="2048" /></${Field}>` : html`<${Field} label=${t.mails}><input name="to" required /></${Field}>`}
  </${Dialog}>`;
}

function Letters({id}) {
  const where = path`/sinks/${id}/dead-letters`;
  const data = useData((signal) => get(where, {limit: 200}, signal), [id], 8000);
  return html`<p><a href=${link("events", "sinks")}>← ${t.sinks}</a></p><section class="card"><div class="row"><h2 class="grow">${t.letters}</h2>
      <button onClick=${async () => {
        const answer = await attempt(() => post(`${where}/retry`));
        if (answer) note(t.done(answer));
        data.reload();
      }}>${t.retry}</button>
      <${Confirm} label=${t.drop} title=${t.drop} text=${t.letters} danger done=${t.removed} work=${async () => {
        await remove(where);
        data.reload();
      }} /></div>
    <${Loaded} data=${data}>${(page) => html`<${Table} label=${t.letters} items=${page.items} empty=${t.none} rowKey=${(one) => one.event.id} columns=${[
      {name: t.when, cell: (one) => moment(one.at)},
      {name: t.kind, cell: (one) => one.event.kind},
      {name: t.device, cell: (one) => one.event.device},
      {name: t.attempts, number: true, cell: (one) => number(one.attempts)},
      {name: t.why, cell: (one) => `${one.status || ""} ${one.reason}`},
    ]} />`}</${Loaded}></section>`;
}
