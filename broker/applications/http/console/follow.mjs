// One command on its way, from the moment it was taken to its end.
import {useEffect} from "preact/hooks";
import {get, path} from "console/api.mjs";
import {texts} from "console/texts.mjs";
import {word} from "console/words.mjs";
import {Tag, html, useData} from "console/ui.mjs";

const t = texts({
  command: ["Command for {device}", "{device} 的命令"],
});

const KINDS = {queued: "soft", sent: "warn", pending: "warn", succeeded: "good"};
const OVER = new Set(["succeeded", "failed", "timed_out", "expired", "cancelled"]);

/** Looks once a second until it is over. */
export function Follow({id}) {
  const data = useData((signal) => get(path`/commands/${id}`, {}, signal), [id]);
  const over = data.value && OVER.has(data.value.status);
  useEffect(() => {
    if (over) return undefined;
    const timer = setInterval(data.reload, 1000);
    return () => clearInterval(timer);
  }, [id, over]);
  const one = data.value;
  if (!one) return null;
  return html`<div class="card row" role="status" data-followed=${one.status}><span class="grow">${t.command({device: one.device})}</span>
    <span class="mono small">${one.result === null || one.result === undefined ? "" : JSON.stringify(one.result)}</span>
    <${Tag} kind=${KINDS[one.status] || "bad"}>${word(one.status)}</${Tag}>${!over && html`<progress aria-label=${word(one.status)}></progress>`}</div>`;
}
