// Firmware of a Gizwits product: images, whether they are offered, and to whom.
import {call, get, patch, path, remove} from "console/api.mjs";
import {bytes, number, texts} from "console/texts.mjs";
import {Confirm, Dialog, Field, Loaded, LongTable, Opens, Tag, attempt, html, note, useData} from "console/ui.mjs";

const t = texts({
  title: ["Firmware", "固件"],
  none: ["No image was handed in yet.", "尚未上传固件。"],
  add: ["Hand in an image", "上传固件"],
  file: ["File (*.bin or *.hex)", "文件（*.bin 或 *.hex）"],
  kind: ["For the", "适用于"],
  wifi: ["WiFi module", "WiFi 模组"],
  mcu: ["MCU", "MCU"],
  hard: ["Hardware version", "硬件版本"],
  soft: ["Software version", "软件版本"],
  added: ["Kept. Nobody gets it before it is active.", "已保存，启用后才会下发。"],
  who: ["Who gets it", "下发规则"],
  everybody: ["everybody", "全部设备"],
  percent: ["{percent} % of them", "其中 {percent} %"],
  devices: ["{count} named devices", "指定的 {count} 台设备"],
  from: ["from version {versions}", "仅限版本 {versions}"],
  active: ["active", "已启用"],
  inactive: ["not active", "未启用"],
  activate: ["Activate", "启用"],
  deactivate: ["Deactivate", "停用"],
  told: ["Saved, {count} devices were told.", "已保存，已通知 {count} 台设备。"],
  saved: ["Saved.", "已保存。"],
  rule: ["Change the rule", "修改规则"],
  save: ["Save", "保存"],
  dids: ["Only these devices (DIDs with commas; empty: all)", "仅限这些设备（DID，逗号分隔；留空则全部）"],
  percentage: ["Percent of them", "百分比"],
  versions: ["Only from these software versions (with commas; empty: any)", "仅限这些软件版本（逗号分隔；留空则不限）"],
  removeIt: ["Remove", "删除"],
  removeText: ["Devices that are fetching it will fail.", "正在下载的设备将失败。"],
  removed: ["Removed.", "已删除。"],
});

const list = (text) => (text || "").split(",").map((one) => one.trim()).filter(Boolean);

export function Firmware({product}) {
  const data = useData((signal) => get("/gizwits/firmware", {product}, signal), [product], 10000);
  async function change(one, changes) {
    const now = await patch(path`/gizwits/firmware/${one.id}`, changes);
    note(now.told ? t.told({count: number(now.told)}) : t.saved);
    data.reload();
  }
  return html`<section class="card"><div class="row"><h2 class="grow">${t.title}</h2>
      <${Opens} label=${t.add} main>${(close) => html`<${Add} product=${product} close=${close} done=${data.reload} />`}</${Opens}></div>
    <${Loaded} data=${data}>${(page) => html`<${LongTable} label=${t.title} items=${page.items} empty=${t.none} rowKey=${(one) => one.id} columns=${[
      {name: "fid", number: true, cell: (one) => one.id},
      {name: t.file, cell: (one) => html`${one.filename} <span class="soft small">${bytes(one.size)}</span>`},
      {name: t.kind, cell: (one) => html`${t[one.type]} <span class="soft small mono">${one.hard_version}</span>`},
      {name: t.soft, cell: (one) => html`<span class="mono">${one.soft_version}</span>`},
      {name: t.who, cell: (one) => html`<span data-rule=${one.id}>${ruleOf(one.rule)}</span>`},
      {name: "", cell: (one) => html`<${Tag} kind=${one.active ? "good" : "soft"}>${one.active ? t.active : t.inactive}</${Tag}>`},
      {name: "", cell: (one) => html`<span class="row"><button onClick=${() => attempt(() => change(one, {active: !one.active}))}>${one.active ? t.deactivate : t.activate}</button>
        <${Opens} label=${t.rule}>${(close) => html`<${Rule} one=${one} close=${close} save=${(rule) => change(one, {rule})} />`}</${Opens}>
        <${Confirm} label=${t.removeIt} title=${`${one.filename} ${one.soft_version}`} text=${t.removeText} danger done=${t.removed} work=${async () => {
          await remove(path`/gizwits/firmware/${one.id}`);
          data.reload();
        }} /></span>`},
    ]} />`}</${Loaded}></section>`;
}

function ruleOf(rule) {
  const devices = rule.devices || null;
  return [
    devices ? t.devices({count: number(devices.length)}) : t.everybody,
    rule.percentage < 100 && t.percent({percent: number(rule.percentage)}),
    rule.from_versions.length > 0 && t.from({versions: rule.from_versions.join(", ")}),
  ].filter(Boolean).join(", ");
}

function Rule({one, save, close}) {
  const submit = (values) => {
    const devices = list(values.devices);
    return save({devices: devices.length ? devices : null, percentage: values.percentage === undefined ? 100 : Number(values.percentage), from_versions: list(values.versions)});
  };
  return html`<${Dialog} title=${`${t.rule}: ${one.filename} ${one.soft_version}`} action=${t.save} submit=${submit} close=${close}>
    <${Field} label=${t.dids}><textarea name="devices" class="mono">${(one.rule.devices || []).join(", ")}</textarea></${Field}>
    <${Field} label=${t.percentage}><input name="percentage" type="number" min="0" max="100" value=${one.rule.percentage} /></${Field}>
    <${Field} label=${t.versions}><input name="versions" class="mono" value=${one.rule.from_versions.join(", ")} /></${Field}>
  </${Dialog}>`;
}

function Add({product, close, done}) {
  async function submit(values, form) {
    const file = form.image.files[0];
    const query = {product, type: values.type, hard_version: values.hard_version, soft_version: values.soft_version, filename: file.name};
    await call("POST", "/gizwits/firmware", {query, body: new Blob([file], {type: "application/octet-stream"})});
    note(t.added);
    done();
  }
  return html`<${Dialog} title=${t.add} action=${t.add} submit=${submit} close=${close}>
    <${Field} label=${t.file}><input name="image" type="file" accept=".bin,.hex" required /></${Field}>
    <${Field} label=${t.kind}><select name="type"><option value="mcu">${t.mcu}</option><option value="wifi">${t.wifi}</option></select></${Field}>
    <${Field} label=${t.hard}><input name="hard_version" required maxlength="32" class="mono" /></${Field}>
    <${Field} label=${t.soft}><input name="soft_version" required maxlength="32" class="mono" /></${Field}>
  </${Dialog}>`;
}
