// What a device is told, in the words of its protocol: actuators as controls, the operations of 0x88 gateways, port and
// priority of motes, bytes for Gizwits, JSON for whoever wants it.
import {useState} from "preact/hooks";
import {get, path, post} from "console/api.mjs";
import {texts} from "console/texts.mjs";
import {Field, attempt, html, useData} from "console/ui.mjs";
import {GatewayOrders} from "console/gateway-orders.mjs";

const t = texts({
  send: ["Send", "发送"],
  title: ["Send a command", "发送命令"],
  taken: ["Taken.", "已接受。"],
  json: ["Payload, as JSON", "内容（JSON）"],
  cmd: ["remote_control: cmd, as JSON", "remote_control 的 cmd（JSON）"],
  hex: ["Payload, in hexadecimal", "内容（十六进制）"],
  port: ["Port", "端口"],
  confirm: ["Confirmed", "需确认"],
  priority: ["Priority (0 to 64)", "优先级（0–64）"],
  ack: ["With acknowledgement (0x0093)", "需应答（0x0093）"],
  force: ["Even if its product does not know the keys", "忽略产品定义"],
  expires: ["Seconds that it may wait", "最长等待（秒）"],
  value: ["Value for {name}", "{name} 的值"],
  badHex: ["This is no hexadecimal text of whole bytes.", "不是有效的十六进制文本。"],
  badJson: ["This is no JSON: {why}", "不是有效的 JSON：{why}"],
  actuators: ["Actuators", "执行器"],
});

const BYTES = new Set(["lorawan", "gizwits"]);

export function CommandBox({device, sent}) {
  const [form, setForm] = useState(BYTES.has(device.protocol) ? "hex" : "json");
  const [error, setError] = useState("");
  const product = useData(async (signal) => (device.product ? get(path`/products/${device.product}`, {}, signal) : null), [device.product]);
  const actuators = (product.value && product.value.actuators) || [];

  async function order(body) {
    setError("");
    if (await attempt(() => post(path`/devices/${device.id}/commands`, body), t.taken)) sent();
  }

  function submit(event) {
    event.preventDefault();
    const fields = event.target;
    const body = {};
    try {
      if (form === "hex") body.payload_base64 = base64(fields.payload.value);
      else body.payload = JSON.parse(fields.payload.value || "{}");
    } catch (problem) {
      setError(form === "hex" ? t.badHex : t.badJson({why: problem.message}));
      return;
    }
    if (fields.expires.value) body.expires = Number(fields.expires.value);
    if (fields.force && fields.force.checked) body.force = true;
    if (fields.ack && fields.ack.checked) body.ack = true;
    if (fields.port && fields.port.value) body.port = Number(fields.port.value);
    if (fields.confirm && fields.confirm.checked) body.confirm = true;
    if (fields.priority && fields.priority.value) body.priority = Number(fields.priority.value);
    order(body);
  }

  return html`<h2>${t.title}</h2>
    ${actuators.length > 0 && html`<h3>${t.actuators}</h3><div class="grid">${actuators.map((one) => html`<${Actuator} one=${one} order=${order} />`)}</div>`}
    <form onSubmit=${submit} aria-label=${t.title}>
      ${BYTES.has(device.protocol) && html`<div class="row" role="radiogroup" aria-label=${t.title}>
        ${["hex", "json"].map((one) => html`<label class="row"><input type="radio" name="form" checked=${form === one} onChange=${() => setForm(one)} />${t[one]}</label>`)}</div>`}
      <${Field} label=${form === "hex" ? t.hex : device.protocol === "gateway88" ? t.cmd : t.json}>
        <textarea name="payload" class="mono" spellcheck=${false} placeholder=${form === "hex" ? "01 02 ff" : '{"light": "ON"}'}></textarea></${Field}>
      <div class="row">
        ${device.protocol === "lorawan" && html`
          <${Field} label=${t.port}><input name="port" type="number" min="1" max="255" /></${Field}>
          <${Field} label=${t.priority}><input name="priority" type="number" min="0" max="64" /></${Field}>
          <label class="row"><input name="confirm" type="checkbox" />${t.confirm}</label>`}
        ${device.protocol === "gizwits" && html`<label class="row"><input name="ack" type="checkbox" />${t.ack}</label>`}
        <${Field} label=${t.expires}><input name="expires" type="number" min="0" max="2592000" placeholder="3600" /></${Field}>
        ${device.product && html`<label class="row"><input name="force" type="checkbox" />${t.force}</label>`}
      </div>
      ${error && html`<p class="bad" role="alert">${error}</p>`}
      <button class="main">${t.send}</button>
    </form>
    ${device.protocol === "gateway88" && html`<${GatewayOrders} device=${device} sent=${sent} />`}`;
}

/** On and off for what can be both, a field for everything else. */
function Actuator({one, order}) {
  const name = one.name || one.command_key;
  const say = (value) => order({payload: {[one.command_key]: value}});
  return html`<form class="row" onSubmit=${(event) => {
      event.preventDefault();
      say(literal(event.target.value.value));
    }}><span class="grow">${name}</span>
    <button type="button" onClick=${() => say("ON")}>ON</button><button type="button" onClick=${() => say("OFF")}>OFF</button>
    <input name="value" aria-label=${t.value({name})} size="6" /><button>${t.send}</button></form>`;
}

/** What somebody typed as JSON, else as a text. */
function literal(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function base64(text) {
  const digits = text.replace(/[\s:,]|0x/gi, "");
  if (digits.length % 2 || /[^0-9a-f]/i.test(digits)) throw new Error();
  return btoa((digits.match(/../g) || []).map((pair) => String.fromCharCode(parseInt(pair, 16))).join(""));
}
