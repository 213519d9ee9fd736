// All devices: searched on the server, of the rows only those that are seen are drawn.
import {useEffect, useRef, useState} from "preact/hooks";
import {get, post, stream} from "console/api.mjs";
import {link} from "console/state.mjs";
import {ago, texts} from "console/texts.mjs";
import {Copyable, Dialog, Field, Head, Opens, html, note, why} from "console/ui.mjs";
import {Device} from "console/page-device.mjs";
import {PROTOCOLS, protocolName} from "console/page-overview.mjs";

const t = texts({
  title: ["Devices", "设备"],
  search: ["Search in id and name", "按编号或名称搜索"],
  protocol: ["Protocol", "协议"],
  any: ["any", "全部"],
  presence: ["Presence", "状态"],
  online: ["online", "在线"],
  offline: ["offline", "离线"],
  name: ["Name", "名称"],
  id: ["Id", "编号"],
  seen: ["Last seen", "最后在线"],
  found: ["{count} shown", "已显示 {count} 台"],
  more: ["{count} shown, scroll for more", "已显示 {count} 台，滚动加载更多"],
  nobody: ["No device fits.", "没有符合条件的设备。"],
  add: ["Add a device", "添加设备"],
  save: ["Add", "添加"],
  product: ["Product", "产品"],
  optional: ["may be left empty", "可留空"],
  made: ["Added. The secret is shown this once:", "已添加。密钥仅显示一次："],
  idMade: ["made if left empty", "留空则自动生成"],
  region: ["Region (empty: as configured)", "区域（留空按配置）"],
  added: ["Added: {id}", "已添加：{id}"],
  badJson: ["This is no JSON: {why}", "不是有效的 JSON：{why}"],
  fields: ["Further fields", "其他字段"],
  fieldsHint: ["As JSON, as the HTTP API has them: class, dev_addr, tags, parent…", "JSON 格式，与 HTTP 接口相同：class、dev_addr、tags、parent 等"],
});

/** Of one row, in CSS pixels; style.css has the same. */
const ROW = 44;
const PAGE = 100;

export function Devices({at}) {
  return at[1] ? html`<${Device} id=${at[1]} tab=${at[2] || "now"} key=${at[1]} />` : html`<${List} />`;
}

function asked() {
  const given = new URLSearchParams(location.hash.split("?")[1] || "");
  return {q: given.get("q") || "", protocol: given.get("protocol") || "", online: given.get("online") || ""};
}

/** The list as it was left, for who comes back to it: {query, rows, next, top}. */
let left = null;

function List() {
  const [wish, setWish] = useState(asked);
  const [kept] = useState(() => (left && left.query === JSON.stringify(asked()) ? left : null));
  const [rows, setRows] = useState(kept ? kept.rows : []);
  const [next, setNext] = useState(kept ? kept.next : null);
  const [busy, setBusy] = useState(true);
  const [error, setError] = useState("");
  const turn = useRef(0);

  async function load(cursor) {
    const mine = cursor ? turn.current : (turn.current += 1);
    setBusy(true);
    try {
      const page = await get("/devices", {...wish, limit: PAGE, cursor});
      if (mine !== turn.current) return;
      setRows((before) => (cursor ? [...before, ...page.items] : page.items));
      setNext(page.next);
      setError("");
    } catch (problem) {
      if (mine === turn.current) setError(why(problem));
    } finally {
      if (mine === turn.current) setBusy(false);
    }
  }

  const first = useRef(true);
  useEffect(() => {
    const again = first.current && kept;
    first.current = false;
    const timer = again ? null : setTimeout(() => load(null), 150);
    if (again) setBusy(false);
    const query = new URLSearchParams(Object.entries(wish).filter(([, value]) => value));
    history.replaceState(null, "", `${link("devices")}${query.size ? `?${query}` : ""}`);
    return () => clearTimeout(timer);
  }, [wish.q, wish.protocol, wish.online]);
  useEffect(() => {
    left = {query: JSON.stringify(wish), rows, next, top: left ? left.top : 0};
  }, [wish, rows, next]);
  useEffect(() => {
    const end = stream({kind: "presence"}, (messages) => {
      const now = new Map(messages.filter((one) => one.type === "presence").map((one) => [one.device, one]));
      setRows((before) => (before.some((row) => now.has(row.id)) ? before.map((row) => (now.has(row.id) ? {...row, online: now.get(row.id).online, last_seen: now.get(row.id).at} : row)) : before));
    });
    // The menu's link leads to the list without filters, and an address may be typed.
    const moved = () => /^#\/devices(\?|$)/.test(location.hash) && setWish(asked());
    addEventListener("hashchange", moved);
    return () => {
      end();
      removeEventListener("hashchange", moved);
    };
  }, []);

  const change = (name) => (event) => setWish((before) => ({...before, [name]: event.target.value}));
  return html`<${Head} title=${t.title}>
      <${Opens} label=${t.add} main>${(close) => html`<${AddDevice} close=${close} added=${() => load(null)} />`}</${Opens}>
    </${Head}>
    <div class="row card">
      <input class="grow" type="search" placeholder=${t.search} aria-label=${t.search} value=${wish.q} onInput=${change("q")} />
      <select aria-label=${t.protocol} value=${wish.protocol} onChange=${change("protocol")}>
        <option value="">${t.protocol}: ${t.any}</option>
        ${Object.entries(PROTOCOLS).map(([key, name]) => html`<option value=${key}>${name}</option>`)}
      </select>
      <select aria-label=${t.presence} value=${wish.online} onChange=${change("online")}>
        <option value="">${t.presence}: ${t.any}</option>
        <option value="true">${t.online}</option><option value="false">${t.offline}</option>
      </select>
    </div>
    ${error && html`<p class="bad" role="alert">${error}</p>`}
    <p class="soft small" role="status">${rows.length ? (next ? t.more : t.found)({count: rows.length}) : busy ? "…" : t.nobody}</p>
    <${Window} rows=${rows} top=${kept ? kept.top : 0} end=${() => next && !busy && load(next)} />`;
}

/** Draws the rows that are seen, and some above and below. */
function Window({rows, top, end}) {
  const element = useRef(null);
  const [first, setFirst] = useState(0);
  function scrolled() {
    const box = element.current;
    if (left) left.top = box.scrollTop;
    setFirst(Math.max(0, Math.floor(box.scrollTop / ROW) - 10));
    if (box.scrollTop + box.clientHeight > (rows.length - 15) * ROW) end();
  }
  useEffect(() => {
    if (top) element.current.scrollTop = top;
  }, []);
  useEffect(scrolled, [rows]);
  const shown = rows.slice(first, first + 60);
  return html`<div class="window" ref=${element} onScroll=${scrolled} tabindex="0" role="region" aria-label=${t.title}>
    <div class="line names"><span>${t.name}</span><span>${t.id}</span><span>${t.presence}</span><span>${t.protocol}</span><span>${t.seen}</span></div>
    <svg width="1" height=${first * ROW} aria-hidden="true"></svg>
    ${shown.map((device) => html`<a class="line" key=${device.id} href=${link("devices", device.id)}>
      <span>${device.name || device.id}</span><span class="mono">${device.id}</span>
      <span class=${device.online ? "good dot" : "soft dot"}>${device.online ? t.online : t.offline}</span>
      <span>${protocolName(device.protocol)}</span><span class="soft">${ago(device.last_seen)}</span></a>`)}
    <svg width="1" height=${Math.max(0, rows.length - first - shown.length) * ROW} aria-hidden="true"></svg>
  </div>`;
}

/** What a protocol asks for besides id and name: [name, text, is it needed]. */
const OWN = {
  lorawan: [["join_eui", "JoinEUI (AppEUI)", true], ["secret", "AppKey", false], ["region", "region", false]],
  gizwits: [["mac", "MAC", true]],
};

function AddDevice({close, added}) {
  const [made, setMade] = useState(null);
  const [protocol, setProtocol] = useState("novacloud");
  const [json, setJson] = useState(false); // what is needed may be in it
  const needsId = protocol === "lorawan" || protocol === "gateway88";
  async function submit(values) {
    const {fields, ...rest} = values;
    let more = {};
    try {
      more = fields ? JSON.parse(fields) : {};
    } catch (problem) {
      throw new Error(t.badJson({why: problem.message}));
    }
    const device = await post("/devices", {...rest, ...more});
    added();
    if (!device.secret) {
      note(t.added({id: device.id}));
      return true;
    }
    setMade(device);
    return false; // the dialog stays, with the secret in it, until it is closed
  }
  if (made) {
    return html`<${Dialog} title=${made.id} close=${close}><p>${t.made}</p><${Copyable} text=${made.secret} /></${Dialog}>`;
  }
  const idName = {lorawan: "DevEUI", gateway88: "MAC", gizwits: "DID"}[protocol] || t.id;
  return html`<${Dialog} title=${t.add} action=${t.save} submit=${submit} close=${close}>
    <${Field} label=${t.protocol}><select name="protocol" value=${protocol} onChange=${(event) => setProtocol(event.target.value)}>${Object.entries(PROTOCOLS).map(([key, name]) => html`<option value=${key}>${name}</option>`)}</select></${Field}>
    <${Field} label=${idName} hint=${needsId ? undefined : t.idMade}><input name="id" maxlength="128" required=${needsId} class="mono" /></${Field}>
    ${(OWN[protocol] || []).map(([name, text, needed]) => html`<${Field} key=${name} label=${t[text] || text} hint=${name === "secret" ? t.idMade : needed ? undefined : t.optional}><input name=${name} maxlength="64" required=${needed && !json} class="mono" autocomplete="off" /></${Field}>`)}
    <${Field} label=${t.name} hint=${t.optional}><input name="name" maxlength="128" /></${Field}>
    <${Field} label=${t.product} hint=${protocol === "gizwits" ? undefined : t.optional}><input name="product" maxlength="128" required=${protocol === "gizwits"} /></${Field}>
    <details><summary>${t.fields}</summary><${Field} label=${t.fieldsHint}><textarea name="fields" class="mono" onInput=${(event) => setJson(event.target.value.trim() !== "")}></textarea></${Field}></details>
  </${Dialog}>`;
}
