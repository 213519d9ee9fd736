// What several parts of the page look at: values that tell when they change.
import {useEffect, useState} from "preact/hooks";

/** A value: `.value`, `.set(next)`, `.watch(call)` (called at once and at each change; gives what ends it). */
export function state(first) {
  const watchers = new Set();
  const self = {
    value: first,
    set(next) {
      if (next === self.value) return;
      self.value = next;
      for (const watcher of [...watchers]) watcher(next);
    },
    watch(call) {
      watchers.add(call);
      call(self.value);
      return () => watchers.delete(call);
    },
  };
  return self;
}

/** A choice that this browser remembers; `allowed` are the values that it may have. */
export function setting(name, first, allowed) {
  let kept = null;
  try {
    kept = localStorage.getItem(`broker.${name}`);
  } catch {
    // a browser that keeps nothing for us
  }
  const self = state(allowed.includes(kept) ? kept : first);
  const set = self.set;
  self.set = (next) => {
    try {
      localStorage.setItem(`broker.${name}`, next);
    } catch {
      // as above: the choice counts until the page is closed
    }
    set(next);
  };
  return self;
}

/** The value in a component, which is drawn anew when it changes. */
export function useValue(one) {
  const [drawn, draw] = useState(one.value);
  useEffect(() => one.watch((value) => draw(() => value)), [one]);
  return drawn;
}

/** light, dark, or as the system has it. */
export const theme = setting("theme", "auto", ["auto", "light", "dark"]);
theme.watch((value) => {
  document.documentElement.dataset.theme = value;
});

/** `{csrf, expires_at}` of who is signed in; null: nobody; undefined: not known yet. */
export const session = state(undefined);

/** Whether the broker has answered the last call. */
export const reachable = state(true);

/** Where the page is: the part of the address behind `#/`, cut at slashes. */
export const place = state(here());
addEventListener("hashchange", () => place.set(here()));

function here() {
  const [path] = location.hash.replace(/^#\/?/, "").split("?");
  return path.split("/").map(part);
}

function part(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The address of a place. */
export const link = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;
