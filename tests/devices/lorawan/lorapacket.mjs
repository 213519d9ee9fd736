// The npm package lora-packet behind lines of JSON: node lorapacket.mjs FOLDER, whose node_modules has it.
// {"read": hex, keys} -> what a frame says; {"write": fields, keys} -> {"frame": hex}; all bytes in hex.
// {"session": {net_id, app_nonce, dev_nonce}, "app_key"} -> {"nwk_s_key", "app_s_key"}
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const lora = createRequire(join(process.argv[2], "package.json"))("lora-packet");
const bytes = (text) => (text === undefined ? undefined : Buffer.from(text, "hex"));

function read({ read: frame, app_key, nwk_s_key, app_s_key, high }) {
  let packet = lora.fromWire(bytes(frame));
  if (packet.getMType() === "Join Accept") {
    packet = lora.fromWire(lora.decryptJoinAccept(packet, bytes(app_key)));
    return {
      genuine: lora.verifyMIC(packet, undefined, bytes(app_key)),
      app_nonce: packet.AppNonce.toString("hex"),
      net_id: packet.NetID.toString("hex"),
      dev_addr: packet.DevAddr.toString("hex"),
      rx_delay: packet.RxDelay.readUInt8(0),
      rx2_rate: packet.getDLSettingsRxTwoDataRate(),
      rx1_offset: packet.getDLSettingsRxOneDRoffset(),
      cf_list: packet.CFList.toString("hex"),
    };
  }
  return {
    genuine: lora.verifyMIC(packet, bytes(nwk_s_key), undefined, bytes(high)),
    type: packet.getMType(),
    dev_addr: packet.DevAddr.toString("hex"),
    fcnt: packet.getFCnt(),
    port: packet.getFPort(),
    ack: packet.getFCtrlACK(),
    pending: packet.getFCtrlFPending(),
    fopts: packet.FOpts.toString("hex"),
    payload:
      packet.FRMPayload && packet.FRMPayload.length
        ? lora.decrypt(packet, bytes(app_s_key), bytes(nwk_s_key), bytes(high)).toString("hex")
        : "",
  };
}

function write({ write: fields, app_key, nwk_s_key, app_s_key, high }) {
  const given = { ...fields };
  for (const name of ["DevAddr", "payload", "FOpts", "AppEUI", "DevEUI", "DevNonce", "AppNonce", "NetID", "CFList"])
    if (name in given) given[name] = bytes(given[name]);
  const packet = lora.fromFields(given, bytes(app_s_key), bytes(nwk_s_key), bytes(app_key), bytes(high));
  return { frame: packet.getPHYPayload().toString("hex") };
}

function session({ session: { net_id, app_nonce, dev_nonce }, app_key }) {
  const made = lora.generateSessionKeys10(bytes(app_key), bytes(net_id), bytes(app_nonce), bytes(dev_nonce));
  return { nwk_s_key: made.NwkSKey.toString("hex"), app_s_key: made.AppSKey.toString("hex") };
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  process.stdout.write(JSON.stringify("read" in request ? read(request) : "write" in request ? write(request) : session(request)) + "\n");
}
process.exit();
