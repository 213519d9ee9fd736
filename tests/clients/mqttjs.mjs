// MQTT.js behind the lines of tests/clients/client.py: node mqttjs.mjs FOLDER, whose node_modules has mqtt.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const mqtt = createRequire(join(process.argv[2], "package.json"))("mqtt");
const SCHEMES = { tcp: "mqtt", tls: "mqtts", ws: "ws", wss: "wss" };
const clients = new Map();

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

function connect(name, login) {
  const path = login.transport.startsWith("ws") ? "/mqtt" : "";
  const client = mqtt.connect(`${SCHEMES[login.transport]}://127.0.0.1:${login.port}${path}`, {
    protocolVersion: login.version,
    clientId: login.client_id,
    username: login.user,
    password: login.password,
    ca: readFileSync(login.ca),
    clean: login.clean,
    properties: login.version === 5 && !login.clean ? { sessionExpiryInterval: login.expiry } : undefined,
    will: login.will ?? undefined,
    reconnectPeriod: 0,
  });
  clients.set(name, client);
  client.on("message", (topic, payload, { qos, retain }) =>
    say({ client: name, topic, payload: payload.toString(), qos, retain }),
  );
  return new Promise((answered, failed) => {
    client.once("connect", () => answered(0));
    // A refusal is an error with the code of the CONNACK, which is a number; any other error is none of the broker's.
    client.once("error", (error) => (typeof error.code === "number" ? answered(error.code) : failed(error)));
  });
}

const ACTIONS = {
  connect,
  subscribe: (name, { filter, qos }) =>
    new Promise((answered, failed) =>
      clients.get(name).subscribe(filter, { qos }, (error, granted, packet) =>
        packet ? answered(packet.granted[0]) : failed(error),
      ),
    ),
  publish: (name, { topic, payload, qos, retain }) =>
    clients.get(name).publishAsync(topic, payload, { qos, retain }).then(() => 0),
  disconnect: (name) => clients.get(name).endAsync().then(() => 0),
};

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  say({ answer: await ACTIONS[request.do](request.client, request) });
}
process.exit();
