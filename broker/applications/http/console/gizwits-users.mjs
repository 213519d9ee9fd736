// The users of a Gizwits app: their names and the devices that they have bound, with what the operator may change.
import {useState} from "preact/hooks";
import {get, path, post, put, remove} from "console/api.mjs";
import {link} from "console/state.mjs";
import {moment, number, texts} from "console/texts.mjs";
import {Confirm, Dialog, Field, Loaded, More, Opens, Table, attempt, html, note, useData} from "console/ui.mjs";

const t = texts({
  users: ["Users", "用户"],
  none: ["No user has registered yet.", "暂无注册用户。"],
  names: ["Names", "名称"],
  tokens: ["Tokens", "令牌"],
  since: ["Since", "注册时间"],
  add: ["Add a user", "添加用户"],
  added: ["Added: {uid}", "已添加：{uid}"],
  username: ["User name", "用户名"],
  password: ["Password", "密码"],
  bindings: ["Devices", "设备"],
  bind: ["Bind a device", "绑定设备"],
  device: ["DID", "DID"],
  bound: ["Bound.", "已绑定。"],
  unbind: ["Unbind", "解绑"],
  unbound: ["Unbound.", "已解绑。"],
  removeUser: ["Remove the user", "删除用户"],
  removeText: ["With its bindings; its apps are disconnected.", "绑定将删除，其应用将断开。"],
  removed: ["Removed.", "已删除。"],
});

export function Users({id}) {
  const where = path`/gizwits/applications/${id}/users`;
  const data = useData((signal) => get(where, {limit: 100}, signal), [id], 10000);
  const [older, setOlder] = useState([]);
  const last = older.length ? older[older.length - 1] : data.value;
  async function more() {
    const page = await attempt(() => get(where, {limit: 100, cursor: last.next}));
    if (page) setOlder([...older, page]);
  }
  function changed() {
    setOlder([]);
    data.reload();
  }
  return html`<section class="card"><div class="row"><h2 class="grow">${t.users}</h2>
      <${Opens} label=${t.add} main>${(close) => html`<${Dialog} title=${t.add} action=${t.add} close=${close} submit=${async (values) => {
        note(t.added(await post(where, values)));
        changed();
      }}><${Field} label=${t.username}><input name="username" required maxlength="64" /></${Field}>
        <${Field} label=${t.password}><input name="password" type="password" required maxlength="128" autocomplete="new-password" /></${Field}></${Dialog}>`}</${Opens}></div>
    <${Loaded} data=${data}>${(page) => html`<${Table} label=${t.users} items=${[page, ...older].flatMap((one) => one.items)} empty=${t.none} rowKey=${(one) => one.uid} columns=${[
      {name: "uid", cell: (one) => html`<span class="mono">${one.uid}</span>`},
      {name: t.names, cell: (one) => Object.entries(one.names).map(([kind, name]) => html`<div>${kind}: ${name}</div>`)},
      {name: t.bindings, cell: (one) => one.devices.map((device) => html`<div class="row"><a class="mono" href=${link("devices", device)}>${device}</a>
        <button class="plain" aria-label=${`${t.unbind} ${device}`} onClick=${() => attempt(() => remove(`${where}/${one.uid}/devices/${encodeURIComponent(device)}`), t.unbound).then(changed)}>${t.unbind}</button></div>`)},
      {name: t.tokens, number: true, cell: (one) => number(one.tokens)},
      {name: t.since, cell: (one) => moment(one.created_at)},
      {name: "", cell: (one) => html`<span class="row"><${Opens} label=${t.bind}>${(close) => html`<${Dialog} title=${`${t.bind}: ${one.uid}`} action=${t.bind} close=${close} submit=${async (values) => {
          await put(`${where}/${one.uid}/devices/${encodeURIComponent(values.device)}`);
          note(t.bound);
          changed();
        }}><${Field} label=${t.device}><input name="device" required maxlength="64" class="mono" /></${Field}></${Dialog}>`}</${Opens}>
        <${Confirm} label=${t.removeUser} title=${one.uid} text=${t.removeText} danger done=${t.removed} work=${async () => {
          await remove(`${where}/${one.uid}`);
          changed();
        }} /></span>`},
    ]} /><${More} next=${last && last.next} more=${more} />`}</${Loaded}></section>`;
}
