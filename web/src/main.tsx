// The page's frame: where one is, who one is, light or dark.
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import "./app.css";
import { onSignInNeeded, sentenceOf, signIn, signOut } from "./api";
import { link, useRoute } from "./route";
import { Problem } from "./parts";
import { ComparePage } from "./views/compare";
import { EditorPage } from "./views/editor";
import { SweepPage } from "./views/sweep";
import { SweepsPage } from "./views/sweeps";
import { TrialPage } from "./views/trial";
import { WorkersPage } from "./views/workers";

function setTheme(theme: string) {
  if (theme) document.documentElement.dataset.theme = theme; else delete document.documentElement.dataset.theme;
  try { localStorage.setItem("loupe-theme", theme); } catch { /* private windows may have none */ }
  dispatchEvent(new Event("loupe-theme"));
}
function storedTheme(): string {
  try { return localStorage.getItem("loupe-theme") ?? ""; } catch { return ""; }
}

function SignIn({ done }: { done: () => void }) {
  const [problem, setProblem] = useState("");
  const submit = async (event: Event) => {
    event.preventDefault();
    const field = (event.currentTarget as HTMLFormElement).elements.namedItem("token") as HTMLInputElement;
    setProblem("");
    try {
      await signIn(field.value.trim());
      field.value = "";
      done();
    } catch (error) { setProblem(sentenceOf(error)); }
  };
  return (
    <main class="sign-in">
      <h1>Sign in</h1>
      <p>This coordinator asks for an access token. It is in the file <code>token</code> of its data folder; <code>loupe-coordinator token add</code> makes others, that may only look.</p>
      <form onSubmit={submit}>
        <label>Token <input name="token" type="password" autocomplete="off" required spellcheck={false} /></label>
        <button type="submit">Sign in</button>
      </form>
      <Problem>{problem}</Problem>
    </main>
  );
}

function App() {
  const route = useRoute();
  const [signedOut, setSignedOut] = useState(false);
  const [theme, chooseTheme] = useState(storedTheme);
  useEffect(() => onSignInNeeded(() => setSignedOut(true)), []);
  useEffect(() => setTheme(theme), [theme]);
  const [area, sweep, third, index] = route.parts;
  useEffect(() => {
    document.title = [third === "trials" ? `trial ${index}` : "", sweep, area === "workers" ? "Workers" : "", "Loupe"].filter(Boolean).join(" · ");
  }, [area, sweep, third, index]);
  const here = (name: string) => ({ "aria-current": (area ?? "sweeps") === name ? ("page" as const) : undefined });
  let page = <SweepsPage route={route} />;
  if (area === "new") page = <EditorPage route={route} />;
  else if (area === "compare") page = <ComparePage route={route} />;
  else if (area === "workers") page = <WorkersPage route={route} />;
  else if (area === "sweeps" && sweep && third === "trials" && index) page = <TrialPage key={sweep + index} route={route} sweep={sweep} index={Number(index)} />;
  else if (area === "sweeps" && sweep) page = <SweepPage key={sweep} route={route} sweep={sweep} />;
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.querySelector("main")?.focus(); }}>Skip to the content</a>
      <header class="top">
        <a class="brand" href={link([])}><img src="/icon.svg" alt="" width="24" height="24" />Loupe</a>
        <nav aria-label="Pages">
          <a href={link([])} {...here("sweeps")}>Sweeps</a>
          <a href={link(["workers"])} {...here("workers")}>Workers</a>
          <a href={link(["new"])} {...here("new")}>New sweep</a>
        </nav>
        <span class="spacer" />
        <label class="theme"><span class="hidden">Colours</span>
          <select value={theme} onChange={(event) => chooseTheme(event.currentTarget.value)}>
            <option value="">system colours</option><option value="light">light</option><option value="dark">dark</option>
          </select>
        </label>
        {!signedOut && <button type="button" class="plain" onClick={() => signOut().catch(() => {}).then(() => setSignedOut(true))}>Sign out</button>}
      </header>
      {signedOut ? <SignIn done={() => setSignedOut(false)} /> : <main id="main" tabIndex={-1}>{page}</main>}
    </>
  );
}

// Menus close by Escape, and when one points elsewhere.
function closeMenus(except: Node | null, focus = false) {
  for (const menu of document.querySelectorAll<HTMLDetailsElement>("details.menu[open]")) {
    if (except && menu.contains(except)) continue;
    if (focus) menu.querySelector("summary")?.focus();
    menu.open = false;
  }
}
addEventListener("pointerdown", (event) => closeMenus(event.target as Node));
addEventListener("keydown", (event) => { if (event.key === "Escape") closeMenus(null, true); });

render(<App />, document.getElementById("app")!);
