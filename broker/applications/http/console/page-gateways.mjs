// 0x88 gateways: heartbeats as they come, who waits for approval, backups and replacement, firmware images.
import {useEffect, useState} from "preact/hooks";
import {all, call, get, path, post, remove, stream} from "console/api.mjs";
import {link} from "console/state.mjs";
import {ago, bytes, moment, number, span, texts} from "console/texts.mjs";
import {Confirm, Dialog, Field, Head, Json, Loaded, More, Opens, Table, Tabs, Tag, attempt, html, note, useData} from "console/ui.mjs";
import {word} from "console/words.mjs";
import {Follow} from "console/follow.mjs";
import {protocolName} from "console/page-overview.mjs";

const t = texts({
  title: ["Gateways", "网关"],
  parts: ["Parts of this page", "页面分区"],
  board: ["Heartbeats", "心跳"],
  quarantine: ["Quarantine", "待批准"],
  backups: ["Backups", "备份"],
  files: ["Firmware images", "固件文件"],
  name: ["Gateway", "网关"],
  seen: ["Heard", "最近"],
  memory: ["Memory in use", "内存占用"],
  flash: ["Flash in use", "闪存占用"],
  search: ["Search in MAC and name", "按 MAC 或名称搜索"],
  state: ["State", "状态"],
  any: ["any", "全部"],
  nobodyFits: ["No gateway fits.", "没有符合条件的网关。"],
  before60: ["Before", "上一页"],
  next60: ["Next", "下一页"],
  none: ["No gateway is registered.", "没有已注册的网关。"],
  nobody: ["Nobody waits.", "没有待批准的设备。"],
  protocol: ["Protocol", "协议"],
  from: ["From", "来源"],
  first: ["First seen", "首次出现"],
  count: ["Times", "次数"],
  says: ["What it says of itself", "上报信息"],
  approve: ["Approve", "批准"],
  approved: ["Approved.", "已批准。"],
  forget: ["Forget", "移除"],
  forgotten: ["Forgotten until it is seen again.", "已移除，再次出现时会重新列出。"],
  label: ["Name", "名称"],
  newest: ["Newest backup", "最新备份"],
  never: ["none", "无"],
  warning: ["Look at", "注意"],
  warn_none: ["none was made in time", "未按时备份"],
  warn_too_old: ["too old", "过旧"],
  warn_failing: ["failing: {error}", "失败：{error}"],
  now: ["Back up now", "立即备份"],
  ordered: ["Ordered.", "已下达。"],
  all: ["All backups", "全部备份"],
  size: ["Size", "大小"],
  made: ["Made", "时间"],
  recover: ["Recover", "恢复"],
  recoverText: ["The gateway goes back to this backup.", "网关将恢复到此备份。"],
  replace: ["Replace", "更换"],
  replaceTitle: ["Replace {name}", "更换 {name}"],
  replaceText: ["Another gateway becomes this device: name, bindings and history stay, applications need to do nothing.", "另一台网关将成为此设备：名称、绑定和历史保留，应用无需任何更改。"],
  by: ["MAC of the new gateway", "新网关的 MAC"],
  withBackup: ["Give it the newest backup", "写入最新备份"],
  look: ["What will happen", "查看影响"],
  doIt: ["Replace it", "确认更换"],
  replacedBy: ["is {by} now", "现为 {by}"],
  back: ["The way back", "撤销更换"],
  backText: ["The gateway before is the device again.", "之前的网关将恢复为此设备。"],
  backDone: ["Back.", "已撤销。"],
  upload: ["Hand in an image", "上传固件"],
  uploaded: ["Kept.", "已保存。"],
  file: ["File", "文件"],
  update: ["Update a gateway", "升级网关"],
  to: ["Version that it reports afterwards", "升级后的版本"],
  before: ["With a backup before it", "升级前备份"],
  removed: ["Removed.", "已删除。"],
  removeIt: ["Remove", "删除"],
  removeText: ["Updates that are under way and have not fetched it will fail.", "尚未下载的升级将失败。"],
});

export function Gateways({at}) {
  const tab = at[1] || "board";
  const view = {board: Board, quarantine: Quarantine, backups: Backups, files: Files}[tab] || Board;
  return html`<${Head} title=${t.title} />
    <${Tabs} label=${t.parts} current=${tab} items=${["board", "quarantine", "backups", "files"].map((key) => ({key, name: t[key], href: link("gateways", key)}))} />
    <${view} id=${at[2]} />`;
}

// -- heartbeats

const part = (used, whole) => (typeof used === "number" && typeof whole === "number" && whole > 0 ? Math.max(0, Math.min(1, used / whole)) : null);

/** Gateways on one page of the board: only of them heartbeats are followed, however many there are. */
const SHOWN = 60;

function Board() {
  const [wish, setWish] = useState({q: "", online: ""});
  const [cursors, setCursors] = useState([]);
  const cursor = cursors[cursors.length - 1];
  const data = useData((signal) => get("/devices", {protocol: "gateway88", ...wish, limit: SHOWN, cursor}, signal), [wish.q, wish.online, cursor], 15000);
  const [beats, setBeats] = useState({});
  const seen = data.value ? data.value.items.map((one) => one.id).join(" ") : "";
  useEffect(() => {
    if (!seen) return undefined;
    return stream({device: seen.split(" "), kind: ["status", "presence"]}, (messages) =>
      setBeats((before) => {
        const after = {...before};
        for (const message of messages) {
          if (message.type === "uplink") after[message.device] = {...after[message.device], at: message.at, hb: message.payload.hb || message.payload, count: ((after[message.device] || {}).count || 0) + 1};
          if (message.type === "presence") after[message.device] = {...after[message.device], online: message.online};
        }
        return after;
      }),
    );
  }, [seen]);
  function change(name, value) {
    setCursors([]);
    setBeats({});
    setWish((before) => ({...before, [name]: value}));
  }
  return html`<div class="row card">
      <input class="grow" type="search" aria-label=${t.search} placeholder=${t.search} onInput=${(event) => change("q", event.target.value)} />
      <select aria-label=${t.state} onChange=${(event) => change("online", event.target.value)}>
        <option value="">${t.state}: ${t.any}</option><option value="true">${word("online")}</option><option value="false">${word("offline")}</option></select>
    </div>
    <${Loaded} data=${data}>${(page) => html`
      ${page.items.length ? html`<div class="grid">${page.items.map((device) => html`<${Beat} key=${device.id} device=${device} beat=${beats[device.id] || {}} />`)}</div>` : html`<p class="soft">${wish.q || wish.online ? t.nobodyFits : t.none}</p>`}
      <div class="row">${cursors.length > 0 && html`<button onClick=${() => setCursors(cursors.slice(0, -1))}>← ${t.before60}</button>`}
        ${page.next && html`<button onClick=${() => setCursors([...cursors, page.next])}>${t.next60} →</button>`}</div>`}</${Loaded}>`;
}

function Beat({device, beat}) {
  const value = (key) => (device.values[key] ? device.values[key].value : undefined);
  const hb = beat.hb || {};
  const of = (key, unit) => (hb[key] !== undefined ? Number(hb[key]) * unit : value(key));
  const rows = [
    [t.memory, of("totalram", 1), of("freeram", 1)],
    [t.flash, of("totaldisk", 1024), of("freedisk", 1024)],
  ];
  const online = beat.online === undefined ? device.online : beat.online;
  return html`<article class="card" data-gateway=${device.id} data-beats=${beat.count || 0}>
    <div class="row"><a class="grow" href=${link("devices", device.id)}><b>${device.name || device.id}</b></a><span class=${online ? "good dot" : "bad dot"}>${ago(beat.at || device.last_seen)}</span></div>
    <p class="soft small mono">${device.id} ${typeof device.info.swversion === "string" ? device.info.swversion : ""}</p>
    ${rows.map(([name, whole, free]) => {
      const used = part(whole - free, whole);
      return used === null ? null : html`<label class="small">${name}: ${number(used * 100)} % <span class="soft">(${bytes(whole - free)} / ${bytes(whole)})</span><progress max="1" value=${used}></progress></label>`;
    })}</article>`;
}

// -- quarantine

function Quarantine() {
  const data = useData((signal) => get("/quarantine", {limit: 200}, signal), [], 4000);
  return html`<section class="card"><${Loaded} data=${data}>${(page) => html`<${Table} label=${t.quarantine} items=${page.items} empty=${t.nobody} rowKey=${(one) => `${one.protocol}/${one.id}`} columns=${[
    {name: t.name, cell: (one) => html`<span class="mono">${one.id}</span>`},
    {name: t.protocol, cell: (one) => protocolName(one.protocol)},
    {name: t.from, cell: (one) => html`<span class="mono">${one.peer}</span>`},
    {name: t.first, cell: (one) => moment(one.first_seen)},
    {name: t.seen, cell: (one) => ago(one.last_seen)},
    {name: t.count, number: true, cell: (one) => number(one.count)},
    {name: t.says, cell: (one) => (Object.keys(one.info).length ? html`<${Opens} label="…">${(close) => html`<${Dialog} title=${one.id} close=${close}><${Json} value=${one.info} /></${Dialog}>`}</${Opens}>` : "")},
    {name: "", cell: (one) => html`<span class="row"><${Opens} label=${t.approve} main>${(close) => html`<${Dialog} title=${`${t.approve} ${one.id}`} action=${t.approve} close=${close}
        submit=${async (values) => {
          await call("POST", path`/quarantine/${one.id}/approve`, {query: {protocol: one.protocol}, body: values});
          note(t.approved);
          data.reload();
        }}><${Field} label=${t.label}><input name="name" maxlength="128" /></${Field}></${Dialog}>`}</${Opens}>
      <button onClick=${() => attempt(() => call("DELETE", path`/quarantine/${one.id}`, {query: {protocol: one.protocol}}), t.forgotten).then(data.reload)}>${t.forget}</button></span>`},
  ]} />`}</${Loaded}></section>`;
}

// -- backups and replacement

function Backups({id}) {
  const [more, setMore] = useState([]);
  const data = useData((signal) => get("/backups", {limit: 100}, signal), [], 6000);
  const replaced = useData((signal) => get("/replacements", {}, signal), [], 6000);
  const [commands, setCommands] = useState([]);
  const follow = (command) => setCommands((before) => [command, ...before.filter((one) => one !== command)].slice(0, 5));
  const by = Object.fromEntries(((replaced.value && replaced.value.items) || []).map((one) => [one.gateway, one]));
  async function next() {
    const last = more.length ? more[more.length - 1] : data.value;
    const page = await attempt(() => get("/backups", {limit: 100, cursor: last.next}));
    if (page) setMore([...more, page]);
  }
  if (id) return html`<${BackupsOf} id=${id} />`;
  return html`${commands.map((command) => html`<${Follow} key=${command} id=${command} />`)}
    <section class="card"><${Loaded} data=${data}>${(page) => html`<${Table} label=${t.backups} items=${[page, ...more].flatMap((one) => one.items)} empty=${t.none} rowKey=${(one) => one.gateway} columns=${[
      {name: t.name, cell: (one) => html`<a href=${link("devices", one.gateway)}>${one.name || one.gateway}</a>
        ${by[one.gateway] && html`<div class="small soft">${t.replacedBy({by: by[one.gateway].by})}</div>`}`},
      {name: t.newest, cell: (one) => (one.newest ? html`<span title=${moment(one.newest.created_at)}>${ago(one.newest.created_at)}</span> <span class="soft">${bytes(one.newest.size)}</span>` : html`<span class="soft">${t.never}</span>`)},
      {name: t.warning, cell: (one) => one.warning && html`<${Tag} kind="bad">${one.warning === "failing" ? t.warn_failing({error: one.error}) : t[`warn_${one.warning}`]}</${Tag}>`},
      {name: "", cell: (one) => html`<span class="row">
        <button onClick=${async () => {
          const taken = await attempt(() => post(path`/gateways/${one.gateway}/backup`), t.ordered);
          if (taken) follow(taken.id);
        }}>${t.now}</button>
        ${one.newest && html`<${Confirm} label=${t.recover} title=${`${t.recover}: ${one.name || one.gateway}`} text=${`${t.recoverText} (${moment(one.newest.created_at)})`} done=${t.ordered}
          work=${async () => follow((await post(path`/gateways/${one.gateway}/recovery`, {backup: one.newest.id})).id)} />`}
        <a class="button" href=${link("gateways", "backups", one.gateway)}>${t.all}</a>
        <${Opens} label=${t.replace}>${(close) => html`<${Replace} one=${one} close=${close} taken=${(command) => {
          if (command) follow(command);
          replaced.reload();
        }} />`}</${Opens}>
        ${by[one.gateway] && html`<${Confirm} label=${t.back} title=${t.back} text=${t.backText} danger done=${t.backDone} work=${async () => {
          await remove(path`/gateways/${one.gateway}/replacement`);
          replaced.reload();
        }} />`}</span>`},
    ]} /><${More} next=${(more.length ? more[more.length - 1] : page).next} more=${next} />`}</${Loaded}></section>`;
}

/** Says what would happen first; only then it can be confirmed. */
function Replace({one, close, taken}) {
  const [asked, setAsked] = useState(null);
  async function submit(values, form) {
    const body = {by: values.by || asked.body.by, backup: (asked ? asked.body.backup : form.backup.checked ? "newest" : null)};
    if (!asked) {
      const preview = await get(path`/gateways/${one.gateway}/replacement/preview`, {by: body.by, backup: body.backup || " "});
      setAsked({body, text: preview.text});
      return false;
    }
    const answer = await post(path`/gateways/${one.gateway}/replacement`, {...asked.body, confirm: true});
    note(t.ordered);
    taken(answer.id);
    return true;
  }
  return html`<${Dialog} title=${t.replaceTitle({name: one.name || one.gateway})} action=${asked ? t.doIt : t.look} danger=${!!asked} close=${close} submit=${submit}>
    <p>${asked ? asked.text : t.replaceText}</p>
    ${!asked && html`<${Field} label=${t.by}><input name="by" required class="mono" maxlength="17" /></${Field}>
      <label class="row"><input type="checkbox" name="backup" checked=${!!one.newest} disabled=${!one.newest} />${t.withBackup}</label>`}
  </${Dialog}>`;
}

function BackupsOf({id}) {
  const data = useData(() => all(path`/gateways/${id}/backups`, {limit: 200}), [id], 10000);
  const [command, setCommand] = useState(null);
  return html`<p><a href=${link("gateways", "backups")}>← ${t.backups}</a></p>${command && html`<${Follow} id=${command} key=${command} />`}
    <section class="card"><h2>${id}</h2><${Loaded} data=${data}>${(items) => html`<${Table} label=${t.all} items=${[...items].reverse()} rowKey=${(one) => one.id} columns=${[
    {name: t.made, cell: (one) => html`${moment(one.created_at)} <span class="soft">(${ago(one.created_at)})</span>`},
    {name: t.size, number: true, cell: (one) => bytes(one.size)},
    {name: "SHA-256", cell: (one) => html`<span class="mono small">${one.sha256}</span>`},
    {name: "", cell: (one) => html`<${Confirm} label=${t.recover} title=${t.recover} text=${t.recoverText} done=${t.ordered}
      work=${async () => setCommand((await post(path`/gateways/${id}/recovery`, {backup: one.id, confirm: true})).id)} />`},
  ]} />`}</${Loaded}></section>`;
}

// -- firmware images

function Files() {
  const data = useData(() => all("/files", {limit: 200}), [], 10000);
  const [sent, setSent] = useState(null);
  const [command, setCommand] = useState(null);
  async function upload(event) {
    const file = event.target.files[0];
    event.target.value = "";
    if (!file) return;
    setSent(file.name);
    await attempt(() => call("PUT", path`/files/${file.name}`, {body: new Blob([file], {type: "application/octet-stream"})}), t.uploaded);
    setSent(null);
    data.reload();
  }
  return html`${command && html`<${Follow} id=${command} key=${command} />`}
    <section class="card"><label class="field"><span>${t.upload}</span><input type="file" onChange=${upload} disabled=${!!sent} /></label>
      ${sent && html`<progress aria-label=${sent}></progress>`}
      <${Loaded} data=${data}>${(items) => html`<${Table} label=${t.files} items=${items} rowKey=${(one) => one.id} columns=${[
        {name: t.file, cell: (one) => one.name},
        {name: t.size, number: true, cell: (one) => bytes(one.size)},
        {name: t.made, cell: (one) => moment(one.created_at)},
        {name: "MD5", cell: (one) => html`<span class="mono small">${one.md5}</span>`},
        {name: "", cell: (one) => html`<span class="row"><${Opens} label=${t.update}>${(close) => html`<${Dialog} title=${`${t.update}: ${one.name}`} action=${t.update} close=${close}
            submit=${async (values, form) => {
              const taken = await post(path`/gateways/${values.gateway}/firmware`, {file: one.name, version: values.version, backup: form.backup.checked});
              note(t.ordered);
              setCommand(taken.id);
            }}><${Field} label="MAC"><input name="gateway" required class="mono" /></${Field}>
            <${Field} label=${t.to}><input name="version" required maxlength="64" /></${Field}>
            <label class="row"><input type="checkbox" name="backup" checked />${t.before}</label></${Dialog}>`}</${Opens}>
          <${Confirm} label=${t.removeIt} title=${one.name} text=${t.removeText} danger done=${t.removed} work=${async () => {
            await remove(path`/files/${one.name}`);
            data.reload();
          }} /></span>`},
      ]} />`}</${Loaded}></section>`;
}
