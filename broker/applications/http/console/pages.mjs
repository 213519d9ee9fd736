// The pages, in the order of the menu: {key: the first part of the address, title(), view}.
import {texts} from "console/texts.mjs";
import {Overview} from "console/page-overview.mjs";
import {Campaigns} from "console/page-campaigns.mjs";
import {Devices} from "console/page-devices.mjs";
import {Applications} from "console/page-applications.mjs";
import {Events} from "console/page-events.mjs";
import {Gateways} from "console/page-gateways.mjs";
import {Lorawan} from "console/page-lorawan.mjs";
import {Products} from "console/page-products.mjs";

const t = texts({
  overview: ["Overview", "概览"],
  devices: ["Devices", "设备"],
  gateways: ["Gateways", "网关"],
  campaigns: ["Campaigns", "升级任务"],
  lorawan: ["LoRaWAN", "LoRaWAN"],
  applications: ["Applications", "应用"],
  events: ["Events", "事件"],
  products: ["Products", "产品"],
});

export const PAGES = [
  {key: "overview", title: () => t.overview, view: Overview},
  {key: "devices", title: () => t.devices, view: Devices},
  {key: "gateways", title: () => t.gateways, view: Gateways},
  {key: "campaigns", title: () => t.campaigns, view: Campaigns},
  {key: "lorawan", title: () => t.lorawan, view: Lorawan},
  {key: "applications", title: () => t.applications, view: Applications},
  {key: "products", title: () => t.products, view: Products},
  {key: "events", title: () => t.events, view: Events},
];
