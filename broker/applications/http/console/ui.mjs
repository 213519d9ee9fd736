// What the pages are made of. Whatever a device or a person has named stands in text nodes alone, never in markup.
import {h} from "preact";
import {useCallback, useEffect, useRef, useState} from "preact/hooks";
import htm from "htm";
import {Refused} from "console/api.mjs";
import {reachable, state, theme, useValue} from "console/state.mjs";
import {brief, hour, language, moment, texts} from "console/texts.mjs";

export const html = htm.bind(h);

const t = texts({
  time: ["Time", "时间"],
  loading: ["Loading…", "加载中…"],
  again: ["Try again", "重试"],
  unreachable: ["The broker does not answer.", "服务器无响应。"],
  cancel: ["Cancel", "取消"],
  close: ["Close", "关闭"],
  nothing: ["Nothing here yet.", "暂无内容。"],
  more: ["Show more", "显示更多"],
  copy: ["Copy", "复制"],
  copied: ["Copied.", "已复制。"],
  yes: ["yes", "是"],
  no: ["no", "否"],
});

/** What went wrong, for people. */
export const why = (error) => (error instanceof Refused && error.slug !== "unreachable" ? error.message : error instanceof Refused ? t.unreachable : error.message || String(error));

// -- notes: what has just been done, or was refused

const notes = state([]);
let lastNote = 0;

/** Tell in the corner; `kind`: good or bad. */
export function note(text, kind = "good") {
  lastNote += 1;
  const one = {id: lastNote, text, kind};
  notes.set([...notes.value.slice(-3), one]);
  setTimeout(() => notes.set(notes.value.filter((other) => other !== one)), kind === "bad" ? 9000 : 4500);
}

/** Do something that may be refused; what it gives, or undefined. */
export async function attempt(work, done) {
  try {
    const value = await work();
    if (done) note(done);
    return value === null ? true : value;
  } catch (error) {
    note(why(error), "bad");
    return undefined;
  }
}

export function Notes() {
  const shown = useValue(notes);
  return html`<div class="notes" role="status" aria-live="polite">
    ${shown.map((one) => html`<div key=${one.id} class=${`note ${one.kind}`}>${one.text}</div>`)}
  </div>`;
}

// -- data

/**
 * What `load(signal)` gives: {value, error, reload, set}. Loaded anew when `keys` change, and every `every` milliseconds
 * while the page is seen.
 */
export function useData(load, keys = [], every = 0) {
  const [shown, set] = useState({value: undefined, error: null});
  const latest = useRef(0);
  const reload = useCallback(async (signal) => {
    const turn = (latest.current += 1);
    try {
      const value = await load(signal instanceof AbortSignal ? signal : undefined);
      if (latest.current === turn) set({value, error: null});
    } catch (error) {
      if (error.name !== "AbortError" && latest.current === turn) set((before) => ({value: before.value, error}));
    }
  }, keys);
  useEffect(() => {
    const abort = new AbortController();
    reload(abort.signal);
    const timer = every ? setInterval(() => document.hidden || reload(abort.signal), every) : null;
    return () => {
      latest.current += 1;
      abort.abort();
      clearInterval(timer);
    };
  }, [reload, every]);
  // What could not be had while the broker was away is asked for when it is back.
  const up = useValue(reachable);
  useEffect(() => {
    if (up && shown.error && shown.error.slug === "unreachable") reload();
  }, [up]);
  return {...shown, reload, set: (value) => set({value, error: null})};
}

/** What is loaded, or that it is loading, or why not. */
export function Loaded({data, children}) {
  if (data.value !== undefined) return children(data.value);
  if (!data.error) return html`<p class="soft" role="status">${t.loading}</p>`;
  return html`<div class="card" role="alert">
    <p class="bad">${why(data.error)}</p>
    <button onClick=${data.reload}>${t.again}</button>
  </div>`;
}

// -- pieces

/** The head of a page; its title is that of the document, too. */
export function Head({title, children}) {
  useEffect(() => {
    document.title = `${title} – broker`;
  }, [title]);
  return html`<div class="head"><h1 tabindex="-1">${title}</h1><div class="row">${children}</div></div>`;
}

/** A table: `columns` [{name, cell(item), number?}], `label` for screen readers. */
export function Table({label, columns, items, empty, rowKey}) {
  if (!items.length) return html`<p class="soft">${empty || t.nothing}</p>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${label}>
    <table>
      <thead><tr>${columns.map((column) => html`<th scope="col" class=${column.number ? "n" : ""}>${column.name}</th>`)}</tr></thead>
      <tbody>${items.map(
        (item, at) => html`<tr key=${rowKey ? rowKey(item) : at}>
          ${columns.map((column) => html`<td class=${column.number ? "n" : ""}>${column.cell(item)}</td>`)}
        </tr>`,
      )}</tbody>
    </table>
  </div>`;
}

/** Rows of a long table that are drawn before somebody asks for more. */
const ROWS = 100;

/** A table of which only the first rows are drawn until more are asked for: lists that come as a whole. */
export function LongTable(given) {
  const [most, setMost] = useState(ROWS);
  const hidden = given.items.length > most;
  return html`<${Table} ...${given} items=${hidden ? given.items.slice(0, most) : given.items} /><${More} next=${hidden} more=${() => setMost(most + 2 * ROWS)} />`;
}

/** Pairs of a name and what it is; those that are undefined are left out. */
export function Facts({pairs}) {
  return html`<dl class="facts">${pairs
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`;
}

/** A state with its colour: `kind` good, warn, bad or soft. */
export const Tag = ({kind, children}) => html`<span class=${`tag ${kind}`}>${children}</span>`;

export const yesNo = (value) => (value ? t.yes : t.no);

/** JSON as people read it. */
export const Json = ({value}) => html`<pre class="mono">${JSON.stringify(value, null, 2)}</pre>`;

/** A labelled field of a form; `children` is its input. */
export const Field = ({label, hint, children}) => html`<label class="field">
  <span>${label}</span>${children}${hint && html`<span class="small soft">${hint}</span>`}
</label>`;

/** The values of a form by name; empty ones are left out. */
export function formValues(form) {
  const found = {};
  for (const [name, value] of new FormData(form)) {
    if (typeof value === "string" && value.trim() !== "") found[name] = value.trim();
  }
  return found;
}

/**
 * A form in a dialog. `submit(values, form)` may throw: what it says is shown and the dialog stays, as it does for false.
 * `close()` ends it.
 */
export function Dialog({title, action, danger, submit, close, children}) {
  const element = useRef(null);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    const opener = document.activeElement;
    element.current.showModal();
    return () => opener && opener.focus && opener.focus();
  }, []);
  async function send(event) {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setError("");
    try {
      if ((await submit(formValues(event.target), event.target)) === false) setBusy(false);
      else close();
    } catch (problem) {
      setError(why(problem));
      setBusy(false);
    }
  }
  return html`<dialog ref=${element} aria-label=${title} onCancel=${close} onClose=${close}>
    <form onSubmit=${send}>
      <h2>${title}</h2>
      ${children}
      ${error && html`<p class="bad" role="alert">${error}</p>`}
      <div class="row">
        <span class="grow"></span>
        <button type="button" onClick=${close}>${submit ? t.cancel : t.close}</button>
        ${action && html`<button class=${danger ? "danger" : "main"} disabled=${busy}>${action}</button>`}
      </div>
    </form>
  </dialog>`;
}

/** A button that opens a dialog: `children(close)` gives it. */
export function Opens({label, main, danger, disabled, children}) {
  const [open, setOpen] = useState(false);
  return html`<button class=${main ? "main" : danger ? "danger" : ""} disabled=${disabled} onClick=${() => setOpen(true)}>${label}</button>
    ${open && children(() => setOpen(false))}`;
}

/** A button that asks before it does `work`. */
export function Confirm({label, title, text, action, danger, disabled, work, done}) {
  return html`<${Opens} label=${label} danger=${danger} disabled=${disabled}>
    ${(close) => html`<${Dialog} title=${title} action=${action || label} danger=${danger} close=${close}
      submit=${async () => {
        await work();
        if (done) note(done);
      }}><p>${text}</p></${Dialog}>`}
  </${Opens}>`;
}

/** A text that is shown once and can be copied: a secret, an id. */
export function Copyable({text}) {
  async function copy() {
    await navigator.clipboard.writeText(text);
    note(t.copied);
  }
  return html`<span class="row"><code class="mono">${text}</code>
    ${navigator.clipboard && html`<button type="button" class="plain" onClick=${copy}>${t.copy}</button>`}</span>`;
}

/** Links that are tabs; `items` [{key, name, href}]. */
export const Tabs = ({items, current, label}) => html`<nav class="tabs" aria-label=${label}>
  ${items.map((item) => html`<a href=${item.href} aria-current=${item.key === current ? "page" : undefined}>${item.name}</a>`)}
</nav>`;

/** A list that goes on when asked: `items`, `next` cursor, `more()` loads. */
export const More = ({next, more}) => (next ? html`<p><button onClick=${more}>${t.more}</button></p>` : null);

/**
 * A chart over time. `data`: uPlot's [times in UNIX seconds, values…]; `series` [{label}]; `write`: a value as a text, for
 * the axis; drawn anew at most as often as it is given new data.
 */
export function Chart({label, data, series, write = brief, height = 170}) {
  const element = useRef(null);
  const plot = useRef(null);
  const colours = useValue(theme);
  const words = useValue(language);
  const names = series.map((one) => one.label).join("|");
  // Around a single point uPlot would draw years.
  const drawn = data[0].length === 1 ? [[data[0][0] - 60, data[0][0]], ...data.slice(1).map((values) => [null, values[0]])] : data;
  useEffect(() => {
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--soft").trim();
    const grid = {stroke: style.getPropertyValue("--line").trim(), width: 1};
    const strokes = ["--mark", "--good", "--warn", "--bad"].map((name) => style.getPropertyValue(name).trim());
    plot.current = new globalThis.uPlot(
      {
        width: element.current.clientWidth || 300,
        height,
        series: [{label: t.time, value: (self, at) => moment(at)}, ...series.map((one, at) => ({label: one.label, stroke: strokes[at % 4], width: 2, spanGaps: true, value: (self, value) => (value === null || value === undefined ? "–" : write(value))}))],
        scales: {x: {range: (self, low, high) => (low === null ? [0, 1] : [Math.min(low, high - 60), high])}},
        axes: [
          {stroke: ink, grid, ticks: grid, size: 34, space: 72, values: (self, times, axis, space, step) => times.map((at) => hour(at, step < 60))},
          {stroke: ink, grid, ticks: grid, size: 70, values: (self, values) => values.map(write)},
        ],
        legend: {show: series.length > 1},
      },
      drawn,
      element.current,
    );
    const watcher = new ResizeObserver(([entry]) => plot.current && plot.current.setSize({width: Math.max(120, entry.contentRect.width), height}));
    watcher.observe(element.current);
    return () => {
      watcher.disconnect();
      plot.current.destroy();
      plot.current = null;
    };
  }, [names, height, colours, words]);
  useEffect(() => {
    if (plot.current) plot.current.setData(drawn);
  }, [data]);
  const points = data[0].length;
  return html`<div class="plot" ref=${element} role="img" aria-label=${label} data-points=${points} data-last=${points ? data[0][points - 1] : ""}></div>`;
}
