// The pages, in the order of the menu: {key: the first part of the address, title(), view}.
import {texts} from "console/texts.mjs";
import {Overview} from "console/page-overview.mjs";
import {Devices} from "console/page-devices.mjs";

const t = texts({
  overview: ["Overview", "概览"],
  devices: ["Devices", "设备"],
});

export const PAGES = [
  {key: "overview", title: () => t.overview, view: Overview},
  {key: "devices", title: () => t.devices, view: Devices},
];
