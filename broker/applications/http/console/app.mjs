// The page around the pages: who is signed in, where we are, language and colours.
import {h, render} from "preact";
import {useEffect, useRef, useState} from "preact/hooks";
import {call, get} from "console/api.mjs";
import {link, place, reachable, session, theme, useValue} from "console/state.mjs";
import {language, texts} from "console/texts.mjs";
import {Notes, attempt, html} from "console/ui.mjs";
import {PAGES} from "console/pages.mjs";
import {SignIn} from "console/page-sign-in.mjs";

const t = texts({
  skip: ["To the content", "跳到内容"],
  pages: ["Pages", "页面"],
  menu: ["Menu", "菜单"],
  out: ["Sign out", "退出登录"],
  language: ["Language", "语言"],
  colours: ["Colours", "外观"],
  auto: ["System", "跟随系统"],
  light: ["light", "浅色"],
  dark: ["dark", "深色"],
  missing: ["There is no such page.", "页面不存在。"],
  wait: ["One moment…", "请稍候…"],
  away: ["The broker does not answer. What is shown is from before; trying again…", "服务器无响应，当前显示的是之前的数据，正在重试…"],
});

function Side({current}) {
  const [open, setOpen] = useState(false);
  const chosen = useValue(language);
  const colours = useValue(theme);
  useEffect(() => setOpen(false), [current]);
  return html`<header class=${open ? "side open" : "side"}>
    <div class="top">
      <a class="brand" href="#/"><img src="/console/icon.svg" alt="" />broker</a>
      <button class="menu" aria-expanded=${open} onClick=${() => setOpen(!open)}>${t.menu}</button>
    </div>
    <nav aria-label=${t.pages}>
      ${PAGES.map((page) => html`<a href=${link(page.key)} aria-current=${page.key === current ? "page" : undefined}>${page.title()}</a>`)}
    </nav>
    <div class="foot">
      <label class="field"><span>${t.language}</span>
        <select value=${chosen} onChange=${(event) => language.set(event.target.value)}>
          <option value="en" lang="en">English</option><option value="zh" lang="zh-CN">中文</option>
        </select>
      </label>
      <label class="field"><span>${t.colours}</span>
        <select value=${colours} onChange=${(event) => theme.set(event.target.value)}>
          ${["auto", "light", "dark"].map((one) => html`<option value=${one}>${t[one]}</option>`)}
        </select>
      </label>
      <button onClick=${() => attempt(() => call("DELETE", "/session")).then((done) => done && session.set(null))}>${t.out}</button>
    </div>
  </header>`;
}

function Content({at}) {
  const element = useRef(null);
  const page = PAGES.find((one) => one.key === (at[0] || "overview"));
  const first = useRef(true);
  useEffect(() => {
    // Who moves by keyboard or by ear has to begin with the new page; who goes from tab to tab stays at the tabs.
    if (document.activeElement && document.activeElement.closest(".tabs")) return;
    if (!first.current) element.current.focus({preventScroll: true});
    first.current = false;
    scrollTo(0, 0);
  }, [at.join("/")]);
  return html`<main id="content" ref=${element} tabindex="-1">
    ${page ? h(page.view, {at, key: page.key}) : html`<h1>${t.missing}</h1>`}
  </main>`;
}

/** Every so many milliseconds an unreachable broker is asked again. */
const AGAIN = 2000;

/** Says that the broker is away, until it is back; whoever is not signed in any more is asked for the token then. */
function Reach() {
  const up = useValue(reachable);
  useEffect(() => {
    if (up) return undefined;
    const timer = setInterval(() => get("/session").then((now) => now || session.set(null), () => {}), AGAIN);
    return () => clearInterval(timer);
  }, [up]);
  return html`<div role="alert">${!up && html`<p class="away">${t.away}</p>`}</div>`;
}

function App() {
  const who = useValue(session);
  const at = useValue(place);
  useValue(language);
  if (who === undefined) return html`<p class="gate" role="status">${t.wait}</p>`;
  if (who === null) return html`<${SignIn} />`;
  return html`<a class="skip" href="#content" onClick=${(event) => {
      event.preventDefault();
      document.getElementById("content").focus();
    }}>${t.skip}</a>
    <${Reach} />
    <div class="shell"><${Side} current=${at[0] || "overview"} /><${Content} at=${at} /></div><${Notes} />`;
}

const root = document.createElement("div");
document.body.append(root);
render(html`<${App} />`, root);
get("/session").then(session.set, () => session.set(null));
