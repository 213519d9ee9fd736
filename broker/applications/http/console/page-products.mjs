// Products: what their devices measure and can be told, data points and firmware rules of Gizwits ones.
import {useState} from "preact/hooks";
import {get, patch, path, post, put, remove} from "console/api.mjs";
import {link} from "console/state.mjs";
import {number, texts} from "console/texts.mjs";
import {Confirm, Dialog, Field, Head, Loaded, LongTable, Opens, Table, Tag, attempt, html, note, useData} from "console/ui.mjs";
import {Firmware} from "console/firmware.mjs";
import {PROTOCOLS, protocolName} from "console/page-overview.mjs";

const t = texts({
  title: ["Products", "产品"],
  back: ["All products", "全部产品"],
  add: ["Add a product", "添加产品"],
  save: ["Save", "保存"],
  saved: ["Saved.", "已保存。"],
  key: ["Key", "标识"],
  name: ["Name", "名称"],
  protocol: ["Protocol", "协议"],
  sensors: ["Sensors", "传感器"],
  sensorsHint: ["What its devices measure: keys of their uplinks that become values.", "设备上行数据中作为数值保存的字段。"],
  actuators: ["Actuators", "执行器"],
  actuatorsHint: ["What its devices can be told: keys of commands.", "可下发命令的字段。"],
  unit: ["Unit", "单位"],
  addRow: ["Add", "添加"],
  take: ["Remove", "移除"],
  removeIt: ["Remove the product", "删除产品"],
  removeText: ["Only a product without devices can be removed.", "仅能删除没有设备的产品。"],
  removed: ["Removed.", "已删除。"],
  search: ["Search in key and name", "按标识或名称搜索"],
  rename: ["Rename", "重命名"],
  unmapped: ["Keys without a sensor", "未映射的字段"],
  unmappedHint: ["What devices of this product say and no sensor is there for.", "该产品的设备上报、但尚无对应传感器的字段。"],
  allMapped: ["Every key has a sensor.", "所有字段均已映射。"],
  example: ["Such as", "示例"],
  toSensor: ["Make it a sensor", "设为传感器"],
  points: ["Data points", "数据点"],
  pointsHint: ["As JSON, as the HTTP API has them.", "JSON 格式，与 HTTP 接口相同。"],
});

export function Products({at}) {
  return at[1] ? html`<${One} id=${at[1]} key=${at[1]} />` : html`<${List} />`;
}

function List() {
  const data = useData((signal) => get("/products", {}, signal), [], 10000);
  const [q, setQ] = useState("");
  return html`<${Head} title=${t.title}><${Opens} label=${t.add} main>${(close) => html`<${Dialog} title=${t.add} action=${t.save} close=${close}
      submit=${async (values) => {
        await post("/products", values);
        location.hash = link("products", values.key);
      }}>
      <${Field} label=${t.protocol}><select name="protocol">${Object.entries(PROTOCOLS).map(([key, name]) => html`<option value=${key}>${name}</option>`)}</select></${Field}>
      <${Field} label=${t.key}><input name="key" required maxlength="64" pattern="[A-Za-z0-9_.\\-]+" class="mono" /></${Field}>
      <${Field} label=${t.name}><input name="name" maxlength="128" /></${Field}></${Dialog}>`}</${Opens}></${Head}>
    <section class="card"><input type="search" aria-label=${t.search} placeholder=${t.search} onInput=${(event) => setQ(event.target.value.toLowerCase())} />
    <${Loaded} data=${data}>${(page) => html`<${LongTable} label=${t.title} items=${page.items.filter((one) => `${one.key} ${one.name}`.toLowerCase().includes(q))} rowKey=${(one) => one.key} columns=${[
      {name: t.name, cell: (one) => html`<a href=${link("products", one.key)}>${one.name}</a>`},
      {name: t.key, cell: (one) => html`<span class="mono">${one.key}</span>`},
      {name: t.protocol, cell: (one) => protocolName(one.protocol)},
      {name: t.sensors, number: true, cell: (one) => number(one.sensors.length)},
      {name: t.actuators, number: true, cell: (one) => number(one.actuators.length)},
    ]} />`}</${Loaded}></section>`;
}

function One({id}) {
  const where = path`/products/${id}`;
  const data = useData((signal) => get(where, {}, signal), [id]);
  const change = (changes) => attempt(() => patch(where, changes), t.saved).then(data.reload);
  return html`<p><a href=${link("products")}>← ${t.back}</a></p>
    <${Loaded} data=${data}>${(one) => html`<${Head} title=${one.name}>
        <${Tag} kind="soft">${protocolName(one.protocol)}</${Tag}>
        <${Opens} label=${t.rename}>${(close) => html`<${Dialog} title=${t.rename} action=${t.save} close=${close} submit=${async (values) => {
          await patch(where, {name: values.name});
          data.reload();
        }}><${Field} label=${t.name}><input name="name" value=${one.name} required maxlength="128" /></${Field}></${Dialog}>`}</${Opens}>
        <${Confirm} label=${t.removeIt} title=${one.name} text=${t.removeText} danger done=${t.removed} work=${async () => {
          await remove(where);
          location.hash = link("products");
        }} />
      </${Head}>
      <div class="grid">
        <${Rows} title=${t.sensors} hint=${t.sensorsHint} items=${one.sensors} named="value_key" more=${["unit"]} change=${(sensors) => change({sensors})} />
        <${Rows} title=${t.actuators} hint=${t.actuatorsHint} items=${one.actuators} named="command_key" more=${[]} change=${(actuators) => change({actuators})} />
      </div>
      <${Unmapped} product=${one} add=${(key) => change({sensors: [...one.sensors, {value_key: key, name: key, unit: ""}]})} />
      ${one.protocol === "gizwits" && html`<${Points} product=${id} /><${Firmware} product=${id} />`}`}</${Loaded}>`;
}

/** Rows of sensors or actuators, with one more to fill in below them. */
function Rows({title, hint, items, named, more, change}) {
  function add(event) {
    event.preventDefault();
    const form = event.target;
    const row = {[named]: form.key.value.trim(), name: form.name.value.trim()};
    for (const field of more) row[field] = form[field].value.trim();
    form.reset();
    change([...items.filter((one) => one[named] !== row[named]), row]);
  }
  return html`<section class="card"><h2>${title}</h2><p class="soft small">${hint}</p>
    <${Table} label=${title} items=${items} rowKey=${(one) => one[named]} columns=${[
      {name: t.key, cell: (one) => html`<span class="mono">${one[named]}</span>`},
      {name: t.name, cell: (one) => one.name},
      ...more.map((field) => ({name: t[field], cell: (one) => one[field]})),
      {name: "", cell: (one) => html`<button onClick=${() => change(items.filter((other) => other !== one))}>${t.take}</button>`},
    ]} />
    <form class="row" onSubmit=${add} aria-label=${title}>
      <input name="key" required maxlength="128" size="12" aria-label=${t.key} placeholder=${t.key} />
      <input name="name" maxlength="128" size="12" aria-label=${t.name} placeholder=${t.name} />
      ${more.map((field) => html`<input name=${field} maxlength="32" size="6" aria-label=${t[field]} placeholder=${t[field]} />`)}
      <button>${t.addRow}</button>
    </form></section>`;
}

/** Devices of a product that are looked at for keys without a sensor. */
const LOOKED_AT = 50;

/** What its devices say and no sensor is there for: one click makes it one. */
function Unmapped({product, add}) {
  const known = product.sensors.map((one) => one.value_key).join("\n");
  const data = useData((signal) => get("/devices", {product: product.key, limit: LOOKED_AT}, signal), [product.key, known], 10000);
  return html`<section class="card"><h2>${t.unmapped}</h2><p class="soft small">${t.unmappedHint}</p>
    <${Loaded} data=${data}>${(page) => {
      const found = new Map(page.items.flatMap((device) => Object.entries(device.unmapped).map(([key, reading]) => [key, {key, device: device.id, value: reading.value}])));
      const rows = [...found.values()].filter((row) => !product.sensors.some((one) => one.value_key === row.key));
      return html`<${LongTable} label=${t.unmapped} items=${rows} empty=${t.allMapped} rowKey=${(row) => row.key} columns=${[
        {name: t.key, cell: (row) => html`<span class="mono">${row.key}</span>`},
        {name: t.example, cell: (row) => html`<span class="mono">${JSON.stringify(row.value)}</span> <a class="small" href=${link("devices", row.device)}>${row.device}</a>`},
        {name: "", cell: (row) => html`<button data-map=${row.key} onClick=${() => add(row.key)}>${t.toSensor}</button>`},
      ]} />`;
    }}</${Loaded}></section>`;
}

function Points({product}) {
  const where = path`/gizwits/products/${product}/datapoints`;
  const data = useData((signal) => get(where, {}, signal), [product]);
  const [error, setError] = useState("");
  async function save(event) {
    event.preventDefault();
    try {
      const datapoints = JSON.parse(event.target.points.value || "[]");
      await put(where, {datapoints});
      setError("");
      note(t.saved);
      data.reload();
    } catch (problem) {
      setError(problem.message);
    }
  }
  return html`<section class="card"><h2>${t.points}</h2><${Loaded} data=${data}>${(value) => html`<form onSubmit=${save}>
    <${Field} label=${t.pointsHint}><textarea name="points" class="mono" rows="8">${JSON.stringify(value.datapoints, null, 1)}</textarea></${Field}>
    ${error && html`<p class="bad" role="alert">${error}</p>`}<button>${t.save}</button></form>`}</${Loaded}></section>`;
}
