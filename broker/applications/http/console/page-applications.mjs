// Applications of every kind: their rights on devices, who of them is connected, the users of Gizwits apps.
import {useState} from "preact/hooks";
import {call, get, patch, path, post, put, remove} from "console/api.mjs";
import {link} from "console/state.mjs";
import {number, span, texts} from "console/texts.mjs";
import {Users} from "console/gizwits-users.mjs";
import {word} from "console/words.mjs";
import {Confirm, Copyable, Dialog, Facts, Field, Head, Loaded, LongTable, Opens, Table, Tag, attempt, html, note, useData, yesNo} from "console/ui.mjs";

const t = texts({
  title: ["Applications", "应用"],
  back: ["All applications", "全部应用"],
  add: ["Add an application", "添加应用"],
  save: ["Save", "保存"],
  saved: ["Saved.", "已保存。"],
  kind: ["Kind", "类型"],
  id: ["Id", "编号"],
  idHint: ["made if left empty", "留空则自动生成"],
  name: ["Name", "名称"],
  edit: ["Edit", "编辑"],
  search: ["Search in id, name and CsEUI", "按编号、名称或 CsEUI 搜索"],
  keyStays: ["32 hexadecimal digits; left empty, it stays as it is", "32 位十六进制；留空则保持不变"],
  disabled: ["Disabled", "停用"],
  enable: ["Enable", "启用"],
  disable: ["Disable", "停用"],
  connections: ["Connected now", "当前连接"],
  nobody: ["Not connected.", "未连接。"],
  who: ["Who", "身份"],
  from: ["From", "来源"],
  since: ["For", "时长"],
  messages: ["Messages", "消息"],
  devices: ["Devices it may see", "绑定设备"],
  bind: ["Bind a device", "绑定设备"],
  device: ["Device", "设备"],
  bound: ["Bound.", "已绑定。"],
  unbind: ["Unbind", "解绑"],
  unbound: ["Unbound.", "已解绑。"],
  secret: ["New secret", "新密钥"],
  secretText: ["Its connections end until it has the new one.", "更换前的连接将断开。"],
  made: ["The secret, shown this once:", "密钥仅显示一次："],
  removeIt: ["Remove", "删除"],
  removeText: ["Its connections end and its bindings go.", "连接将断开，绑定将删除。"],
  removed: ["Removed.", "已删除。"],
  keyHint: ["32 hexadecimal digits; without it, the listener has to allow unproven clients", "32 位十六进制；留空则需监听允许未验证客户端"],
});

const KINDS = ["loracenter", "gizwits", "mqtt", "http"];

export function Applications({at}) {
  return at[1] ? html`<${One} id=${at[1]} key=${at[1]} />` : html`<${List} />`;
}

function List() {
  const data = useData((signal) => get("/applications", {}, signal), [], 10000);
  const [made, setMade] = useState(null);
  const [q, setQ] = useState("");
  return html`<${Head} title=${t.title}><${Opens} label=${t.add} main>${(close) => html`<${Form} close=${close} done=${(one) => {
      setMade(one);
      data.reload();
    }} />`}</${Opens}></${Head}>
    ${made && html`<section class="card" role="status"><p><b>${made.id}</b>: ${t.made}</p><${Copyable} text=${made.secret} /></section>`}
    <section class="card"><input type="search" aria-label=${t.search} placeholder=${t.search} onInput=${(event) => setQ(event.target.value.toLowerCase())} />
    <${Loaded} data=${data}>${(page) => html`<${LongTable} label=${t.title} items=${page.items.filter((one) => `${one.id} ${one.name} ${one.cs_eui || ""}`.toLowerCase().includes(q))} rowKey=${(one) => one.id} columns=${[
      {name: t.id, cell: (one) => html`<a href=${link("applications", one.id)}>${one.id}</a>`},
      {name: t.name, cell: (one) => one.name},
      {name: t.kind, cell: (one) => word(one.kind)},
      {name: "CsEUI", cell: (one) => html`<span class="mono">${one.cs_eui || ""}</span>`},
      {name: t.disabled, cell: (one) => (one.disabled ? html`<${Tag} kind="warn">${t.disabled}</${Tag}>` : "")},
    ]} />`}</${Loaded}></section>`;
}

function Form({close, done}) {
  const [kind, setKind] = useState("loracenter");
  return html`<${Dialog} title=${t.add} action=${t.save} close=${close} submit=${async (values) => done(await post("/applications", values))}>
    <${Field} label=${t.kind}><select name="kind" value=${kind} onChange=${(event) => setKind(event.target.value)}>
      ${KINDS.map((one) => html`<option value=${one}>${word(one)}</option>`)}</select></${Field}>
    <${Field} label=${t.id} hint=${t.idHint}><input name="id" maxlength="64" /></${Field}>
    <${Field} label=${t.name}><input name="name" maxlength="128" /></${Field}>
    ${kind === "loracenter" && html`<${Field} label="CsEUI"><input name="cs_eui" maxlength="18" required class="mono" /></${Field}>
      <${Field} label="AppKey" hint=${t.keyHint}><input name="app_key" maxlength="32" class="mono" autocomplete="off" /></${Field}>`}
  </${Dialog}>`;
}

function One({id}) {
  const where = path`/applications/${id}`;
  const data = useData((signal) => get(where, {}, signal), [id], 10000);
  const [secret, setSecret] = useState("");
  const reload = () => data.reload();
  return html`<p><a href=${link("applications")}>← ${t.back}</a></p>
    <${Loaded} data=${data}>${(one) => html`<${Head} title=${one.name || one.id}>
        <${Opens} label=${t.edit}>${(close) => html`<${Edit} one=${one} close=${close} done=${reload} />`}</${Opens}>
        <button onClick=${() => attempt(() => patch(where, {disabled: !one.disabled}), t.saved).then(reload)}>${one.disabled ? t.enable : t.disable}</button>
        <${Confirm} label=${t.secret} title=${t.secret} text=${t.secretText} work=${async () => setSecret((await patch(where, {secret: null})).secret)} />
        <${Confirm} label=${t.removeIt} title=${one.id} text=${t.removeText} danger done=${t.removed} work=${async () => {
          await remove(where);
          location.hash = link("applications");
        }} />
      </${Head}>
      ${secret && html`<section class="card"><p>${t.made}</p><${Copyable} text=${secret} /></section>`}
      <div class="grid"><section class="card">
        <${Facts} pairs=${[
          [t.id, one.id],
          [t.kind, word(one.kind)],
          ["CsEUI", one.cs_eui ? html`<span class="mono">${one.cs_eui}</span>` : undefined],
          [t.disabled, yesNo(one.disabled)],
        ]} /></section>
        <section class="card"><h2>${t.connections}</h2>
          <${Connections} who=${one.cs_eui || one.id} /></section></div>
      <section class="card"><div class="row"><h2 class="grow">${t.devices} (${number(one.devices.length)})</h2>
        <${Opens} label=${t.bind} main>${(close) => html`<${Dialog} title=${t.bind} action=${t.bind} close=${close} submit=${async (values) => {
          await put(path`/applications/${id}/devices/${values.device}`);
          note(t.bound);
          reload();
        }}><${Field} label=${t.device}><input name="device" required maxlength="128" class="mono" /></${Field}></${Dialog}>`}</${Opens}></div>
        <${Bound} ids=${one.devices} unbind=${(device) => attempt(() => call("DELETE", path`/applications/${id}/devices/${device}`), t.unbound).then(reload)} />
      </section>
      ${one.kind === "gizwits" && html`<${Users} id=${id} />`}`}</${Loaded}>`;
}

/** Name, and of a customer server its CsEUI and AppKey; the key is not shown, and stays where its field is left empty. */
function Edit({one, close, done}) {
  async function submit(values) {
    const changes = {name: values.name || ""};
    if (one.kind === "loracenter") {
      changes.cs_eui = values.cs_eui;
      if (values.app_key) changes.app_key = values.app_key;
    }
    await patch(path`/applications/${one.id}`, changes);
    note(t.saved);
    done();
  }
  return html`<${Dialog} title=${`${t.edit}: ${one.id}`} action=${t.save} close=${close} submit=${submit}>
    <${Field} label=${t.name}><input name="name" value=${one.name} maxlength="128" /></${Field}>
    ${one.kind === "loracenter" && html`<${Field} label="CsEUI"><input name="cs_eui" value=${one.cs_eui} maxlength="23" required class="mono" /></${Field}>
      <${Field} label="AppKey" hint=${t.keyStays}><input name="app_key" maxlength="32" class="mono" autocomplete="off" /></${Field}>`}
  </${Dialog}>`;
}

/** Its connections; those of a customer server are named by CsEUI and ServiceId. */
function Connections({who}) {
  const data = useData((signal) => get("/connections", {q: who, limit: 200}, signal), [who], 5000);
  const mine = data.value ? data.value.items.filter((row) => row.identity.includes(who)) : [];
  return html`<${Table} label=${t.connections} items=${mine} empty=${t.nobody} columns=${[
    {name: t.who, cell: (row) => html`<span class="mono">${row.listener}: ${row.identity}</span>`},
    {name: t.from, cell: (row) => html`<span class="mono">${row.host}</span>`},
    {name: t.since, cell: (row) => span(row.seconds)},
    {name: t.messages, number: true, cell: (row) => number(row.messages_in)},
  ]} />`;
}

const Bound = ({ids, unbind}) => html`<${LongTable} label=${t.devices} items=${ids} rowKey=${(one) => one} columns=${[
  {name: t.device, cell: (one) => html`<a class="mono" href=${link("devices", one)}>${one}</a>`},
  {name: "", cell: (one) => html`<button onClick=${() => unbind(one)}>${t.unbind}</button>`},
]} />`;
