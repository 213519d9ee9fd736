// aedes with authentication and an access list: node aedes.mjs PORT USER PASSWORD
import { createServer } from "node:net";
import * as module from "aedes";

const [port, user, password] = process.argv.slice(2);
const options = {
  concurrency: 1000,
  queueLimit: 10000,
  authenticate: (client, name, given, done) => done(null, name === user && given.toString() === password),
  authorizePublish: (client, packet, done) => done(packet.topic.startsWith("bench/") ? null : new Error("not allowed")),
  authorizeSubscribe: (client, wish, done) => done(null, wish.topic.startsWith("bench/") ? wish : null),
};
const Aedes = module.Aedes ?? module.default;
const broker = Aedes.createBroker ? await Aedes.createBroker(options) : new Aedes(options);
createServer({ noDelay: true }, broker.handle).listen(Number(port), "127.0.0.1");
