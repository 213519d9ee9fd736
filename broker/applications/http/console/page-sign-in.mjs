// Signing in with the administrator's token.
import {useEffect, useRef, useState} from "preact/hooks";
import {get, post} from "console/api.mjs";
import {session} from "console/state.mjs";
import {language, texts} from "console/texts.mjs";
import {html, why} from "console/ui.mjs";

const t = texts({
  title: ["Sign in", "登录"],
  token: ["Administrator's token", "管理员令牌"],
  where: ["It is in the file admin.token in the broker's data folder, or in its configuration.", "令牌在数据目录的 admin.token 文件中，或在配置文件中。"],
  wrong: ["This is not the administrator's token.", "管理员令牌不正确。"],
  go: ["Sign in", "登录"],
});

export function SignIn() {
  const field = useRef(null);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    document.title = "broker";
    field.current.focus();
    // Another window of this browser may have signed in meanwhile.
    const look = () => document.hidden || get("/session").then((now) => now && session.set(now), () => {});
    document.addEventListener("visibilitychange", look);
    addEventListener("focus", look);
    return () => {
      document.removeEventListener("visibilitychange", look);
      removeEventListener("focus", look);
    };
  }, []);
  async function send(event) {
    event.preventDefault();
    setBusy(true);
    try {
      session.set(await post("/session", {token: field.current.value.trim()}));
    } catch (problem) {
      setError(problem.status === 401 ? t.wrong : why(problem));
      setBusy(false);
      field.current.select();
    }
  }
  return html`<main class="gate"><form class="card" onSubmit=${send}>
    <div class="head"><h1>broker</h1>
      <button type="button" class="plain" lang=${language.value === "zh" ? "en" : "zh-CN"}
        onClick=${() => language.set(language.value === "zh" ? "en" : "zh")}>${language.value === "zh" ? "English" : "中文"}</button></div>
    <label class="field"><span>${t.token}</span>
      <input ref=${field} type="password" name="token" autocomplete="current-password" required maxlength="1024" /></label>
    <p class="small soft">${t.where}</p>
    ${error && html`<p class="bad" role="alert">${error}</p>`}
    <button class="main" disabled=${busy}>${t.go}</button>
  </form></main>`;
}
