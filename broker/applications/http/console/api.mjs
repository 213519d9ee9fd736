// The broker's HTTP API and stream, as any other client uses them; the cookie of the sign-in goes along by itself.
import {reachable, session} from "console/state.mjs";

const API = "/api/v1";

/** A refusal: `status`, `slug` for programs, `message` for people. */
export class Refused extends Error {
  constructor(status, slug, message, details) {
    super(message);
    this.status = status;
    this.slug = slug;
    this.details = details;
  }
}

/** One call. `query`: parameters (undefined ones are left out, lists are several); `body`: an object, or a Blob as it is. */
export async function call(method, path, options = {}) {
  try {
    return await attempted(method, path, options);
  } catch (error) {
    if (error.status !== 403 || method === "GET" || !session.value) throw error;
    // Another window of this browser may have signed in anew: the cookie is its then, and our CSRF token is the old one.
    const now = await attempted("GET", "/session", {});
    if (!now || now.csrf === session.value.csrf) throw error;
    session.set(now);
    return attempted(method, path, options);
  }
}

async function attempted(method, path, {query, body, signal}) {
  const address = new URL(API + path, location.href);
  for (const [name, value] of Object.entries(query || {})) {
    for (const one of [value].flat()) {
      if (one !== undefined && one !== null && one !== "") address.searchParams.append(name, one);
    }
  }
  const headers = {};
  if (method !== "GET" && session.value) headers["X-CSRF-Token"] = session.value.csrf;
  if (body !== undefined && !(body instanceof Blob)) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(address, {method, headers, body, signal, credentials: "same-origin", redirect: "error"});
  } catch (error) {
    if (error.name === "AbortError") throw error;
    reachable.set(false);
    throw new Refused(0, "unreachable", "");
  }
  reachable.set(true);
  if (answer.status === 204) return null;
  const content = (answer.headers.get("Content-Type") || "").includes("json") ? await answer.json() : await answer.text();
  if (answer.ok) return content;
  if (answer.status === 401 && path !== "/session") session.set(null);
  throw new Refused(answer.status, content.slug || "", content.detail || content.title || String(content), content.details);
}

export const get = (path, query, signal) => call("GET", path, {query, signal});
export const post = (path, body) => call("POST", path, {body});
export const put = (path, body = {}) => call("PUT", path, {body});
export const patch = (path, body) => call("PATCH", path, {body});
export const remove = (path) => call("DELETE", path);

/** A path with its parts quoted: path`/devices/${id}/trace`. */
export const path = (texts, ...parts) =>
  texts.reduce((whole, text, at) => whole + encodeURIComponent(parts[at - 1]) + text);

/** All pages of a list, at most `most` items. */
export async function all(where, query = {}, most = 1000) {
  const items = [];
  let cursor;
  do {
    const page = await get(where, {...query, cursor});
    items.push(...page.items);
    cursor = page.next;
  } while (cursor && items.length < most);
  return items.slice(0, most);
}

/**
 * The stream of what happens. `filter`: {device, kind, protocol}, each one value or a list. `told(messages)` is given
 * what has come since the last drawing, at most four times a second, and no more than `most` of it: a thousand messages
 * a second must not freeze the page. `state(up)` says whether there is a connection. Gives what ends it.
 */
export function stream(filter, told, state = () => {}, most = 500) {
  let socket = null;
  let waiting = [];
  let missed = 0;
  let timer = null;
  let again = null;
  let delay = 1000;
  let over = false;
  const back = reachable.watch((up) => {
    if (!up || again === null) return;
    clearTimeout(again);
    open();
  });

  function flush() {
    timer = null;
    const messages = waiting;
    const count = missed;
    waiting = [];
    missed = 0;
    if (!over && messages.length) told(messages, count);
  }

  function open() {
    again = null;
    const address = new URL(`${API}/stream`, location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    for (const [name, values] of Object.entries(filter)) {
      for (const value of [values].flat()) address.searchParams.append(name, value);
    }
    socket = new WebSocket(address);
    socket.onopen = () => {
      delay = 1000;
      state(true);
    };
    socket.onmessage = (event) => {
      if (waiting.length >= most) {
        waiting.splice(0, waiting.length - most + 1);
        missed += 1;
      }
      waiting.push(JSON.parse(event.data));
      if (timer === null) timer = setTimeout(flush, 250);
    };
    socket.onclose = () => {
      state(false);
      if (over || !session.value) return;
      again = setTimeout(open, delay);
      delay = Math.min(delay * 2, 30000);
    };
  }

  open();
  return () => {
    over = true;
    back();
    clearTimeout(timer);
    clearTimeout(again);
    // Browsers complain of one that is closed before it is open.
    if (socket.readyState === WebSocket.CONNECTING) socket.onopen = () => socket.close();
    else socket.close();
  };
}
