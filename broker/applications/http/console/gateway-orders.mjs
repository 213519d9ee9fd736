// What a 0x88 gateway can be told besides remote_control: firmware_update, datafile_backup, datafile_recovery.
import {all, get, path, post} from "console/api.mjs";
import {ago, bytes, moment, texts} from "console/texts.mjs";
import {Confirm, Dialog, Field, Loaded, Opens, html, note, useData} from "console/ui.mjs";

const t = texts({
  title: ["Operations", "网关操作"],
  firmware: ["Update the firmware", "升级固件"],
  file: ["Image", "固件文件"],
  none: ["No image was handed in: see Gateways, Firmware images.", "尚无固件文件，请在“网关 → 固件文件”中上传。"],
  version: ["Version that it reports afterwards", "升级后的版本"],
  before: ["With a backup before it", "升级前备份"],
  backup: ["Back up", "备份"],
  backupText: ["The gateway is asked to post its data.", "网关将上传其数据。"],
  recover: ["Recover", "恢复"],
  recoverText: ["The gateway goes back to this backup.", "网关将恢复到此备份。"],
  which: ["Backup", "备份"],
  noBackup: ["There is no backup of it yet.", "尚无该网关的备份。"],
  ordered: ["Ordered.", "已下达。"],
});

export function GatewayOrders({device, sent}) {
  const where = path`/gateways/${device.id}`;
  const order = async (name, body) => {
    await post(`${where}/${name}`, body);
    note(t.ordered);
    sent();
  };
  return html`<h3>${t.title}</h3><div class="row">
    <${Opens} label=${t.firmware}>${(close) => html`<${Update} order=${order} close=${close} />`}</${Opens}>
    <${Confirm} label=${t.backup} title=${t.backup} text=${t.backupText} work=${() => order("backup", {})} />
    <${Opens} label=${t.recover}>${(close) => html`<${Recovery} where=${where} order=${order} close=${close} />`}</${Opens}>
  </div>`;
}

function Update({order, close}) {
  const files = useData(() => all("/files", {limit: 200}), []);
  const some = files.value && files.value.length > 0;
  const submit = (values, form) => order("firmware", {file: values.file, version: values.version, backup: form.backup.checked});
  return html`<${Dialog} title=${t.firmware} action=${some ? t.firmware : undefined} submit=${submit} close=${close}>
    <${Loaded} data=${files}>${(items) => (!items.length ? html`<p>${t.none}</p>` : html`
      <${Field} label=${t.file}><select name="file">${items.map((one) => html`<option value=${one.name}>${one.name} (${bytes(one.size)})</option>`)}</select></${Field}>
      <${Field} label=${t.version}><input name="version" required maxlength="64" /></${Field}>
      <label class="row"><input type="checkbox" name="backup" checked />${t.before}</label>`)}</${Loaded}>
  </${Dialog}>`;
}

function Recovery({where, order, close}) {
  const backups = useData((signal) => get(`${where}/backups`, {limit: 200}, signal), [where]);
  const some = backups.value && backups.value.items.length > 0;
  return html`<${Dialog} title=${t.recover} action=${some ? t.recover : undefined} danger submit=${(values) => order("recovery", {backup: values.backup})} close=${close}>
    <${Loaded} data=${backups}>${(page) => (!page.items.length ? html`<p>${t.noBackup}</p>` : html`<p>${t.recoverText}</p>
      <${Field} label=${t.which}><select name="backup">${[...page.items].reverse().map((one) => html`<option value=${one.id}>${moment(one.created_at)} (${ago(one.created_at)}), ${bytes(one.size)}</option>`)}</select></${Field}>`)}</${Loaded}>
  </${Dialog}>`;
}
