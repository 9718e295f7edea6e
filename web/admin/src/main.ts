// The page: puts its parts together.
import { call, Refused } from "./api";
import { announce, byId, fill, h } from "./dom";
import { makeEditor } from "./editor";
import { EXAMPLES } from "./examples";
import { History } from "./history";
import { notice } from "./problems";
import { fitting, Program, Unfit } from "./program";
import { copyText, Result } from "./result";
import { Runner } from "./runner";
import { checked, linkOf, LONG_LINK, programOf } from "./share";
import { makeTabs } from "./tabs";
import { initTheme } from "./theme";
import { token } from "./token";
import type { Language, Page, Run, RunRequest } from "./types";
import { showUsage } from "./usage";

const DRAFT = "runyard.draft";
const HEALTH_MS = 30_000;

let languages: Language[] = [];
let running = false;

const picker = byId<HTMLSelectElement>("language");
const examples = byId<HTMLSelectElement>("example");
const current = (): Language | undefined => languages.find((language) => language.id === picker.value);

// -- the parts ------------------------------------------------------------------------------------

const result = new Result();
const editor = makeEditor(byId("editor"), () => keepDraft());
const program = new Program(editor, current, () => keepDraft(), (problem) => complain(problem));
const showPart = makeTabs(byId("result-tabs"), (name) => {
  if (name === "history") void runs.load();
  if (name === "usage") void showUsage();
});
const showInput = makeTabs(byId("input-tabs"));
const runner = new Runner(result, {
  busy: setBusy,
  changed: () => {
    if (!byId("part-history").hidden) void runs.load();
  },
  goTo,
  tokenWanted: () => openTokenBar(),
});
const runs = new History({
  open: (run) => void reopen(run, false),
  again: (run) => void reopen(run, true),
});

function complain(problem: unknown): void {
  if (problem instanceof Refused && problem.status === 401) openTokenBar();
  showPart("result");
  result.problem(notice(problem, { goTo }));
}

/** Complain, and show no run. */
function refuse(problem: unknown): void {
  result.clear();
  byId("status").hidden = true;
  complain(problem);
}

function goTo(param: string): (() => void) | null {
  const field = program.field(param);
  if (!field) return null;
  field.setAttribute("aria-invalid", "true");
  field.addEventListener("input", () => field.removeAttribute("aria-invalid"), { once: true });
  return () => {
    const panel = field.closest<HTMLElement>("[role=tabpanel]");
    if (panel) showInput(panel.id.replace("panel-", ""));
    field.scrollIntoView({ block: "center" });
    if (field.id === "editor") editor.focus();
    else field.focus();
  };
}

// -- running --------------------------------------------------------------------------------------

function run(): void {
  if (running) return;
  for (const field of document.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  showPart("result");
  if (!token.get()) {
    openTokenBar("A token is needed to run programs.");
    return;
  }
  try {
    void runner.start(fitting(program.request(picker.value)));
  } catch (problem) {
    if (!(problem instanceof Unfit)) throw problem;
    refuse(problem);
  }
  if (matchMedia("(max-width: 999px)").matches) byId("results").scrollIntoView({ block: "start" });
}

function setBusy(busy: boolean): void {
  running = busy;
  byId("terminal").setAttribute("aria-busy", String(busy));
  const [runButton, cancelButton] = [byId<HTMLButtonElement>("run"), byId<HTMLButtonElement>("cancel")];
  const focused = document.activeElement === runButton || document.activeElement === cancelButton;
  runButton.hidden = busy;
  cancelButton.hidden = !busy;
  cancelButton.disabled = false;
  if (focused) (busy ? cancelButton : runButton).focus();
}

async function reopen(listed: Run, again: boolean): Promise<void> {
  showPart("result");
  const wanted = runner.awaitRun();
  try {
    const found = await call<Run>(`/v1/runs/${encodeURIComponent(listed.id)}?include=request`);
    if (!wanted()) return;
    if (found.request) load(found.request);
    if (!again) return await runner.open(found.id);
    if (!found.request) throw new Unfit("", "The program of this run has been deleted.");
    run();
  } catch (problem) {
    if (wanted()) refuse(problem);
  }
}

// -- the program ----------------------------------------------------------------------------------

function load(request: RunRequest): void {
  choose(request.language);
  program.load(request);
  keepDraft();
}

function choose(name: string): void {
  const found = languages.find((language) => language.id === name || language.aliases.includes(name));
  picker.value = found?.id ?? picker.value;
  languageChanged();
}

function languageChanged(): void {
  const language = current();
  if (!language) return;
  editor.language(language.id);
  editor.label(`Program in ${language.id}`);
  byId("entry-file").textContent = program.entryFile();
  byId("version").textContent = language.version ?? "";
  fill(examples, h("option", { value: "" }, "Examples"), h("option", { value: "0" }, "Hello"),
    ...(EXAMPLES[language.id] ?? []).map((example, n) => h("option", { value: String(n + 1) }, example.name)));
  byId("not-ready").hidden = language.ready;
  byId("results-box").hidden = !language.results;
}

function useExample(n: number): void {
  const language = current();
  if (!language) return;
  const chosen = n === 0 ? { code: `${language.example.trim()}\n` } : EXAMPLES[language.id]?.[n - 1]?.program;
  if (chosen) program.load({ language: language.id, ...chosen });
}

function keepDraft(): void {
  byId("entry-file").textContent = program.entryFile();
  try {
    sessionStorage.setItem(DRAFT, JSON.stringify(program.request(picker.value)));
  } catch {
    // A program that cannot be stored, or is not complete yet, is only in the page.
  }
}

function draft(): RunRequest | null {
  try {
    return checked(JSON.parse(sessionStorage.getItem(DRAFT) ?? "null"));
  } catch {
    return null;
  }
}

async function share(): Promise<void> {
  try {
    const request = program.request(picker.value);
    const uploads = request.files?.filter((file) => file.id).length ?? 0;
    if (uploads) request.files = request.files!.filter((file) => !file.id);
    const link = await linkOf(request);
    history.replaceState(null, "", link);
    await copyText(link);
    const warnings = [
      uploads && "uploaded files are not included",
      request.env && "environment variables are included",
      link.length > LONG_LINK && "it may be too long for some applications",
    ].filter(Boolean);
    toast(`Link copied${warnings.length ? `; ${warnings.join(", ")}` : ""}.`);
  } catch (problem) {
    complain(problem);
  }
}

async function fromLink(): Promise<boolean> {
  try {
    const shared = await programOf(location.hash);
    if (!shared) return false;
    load(shared);
    toast("This program was loaded from a link. Read it before you run it.");
    return true;
  } catch {
    toast("The link contains no valid program.");
    return false;
  }
}

function toast(text: string): void {
  const host = byId("toast");
  host.textContent = text;
  host.hidden = false;
  announce(text);
  window.setTimeout(() => {
    if (host.textContent === text) host.hidden = true;
  }, 6000);
}

// -- token and health -----------------------------------------------------------------------------

function openTokenBar(problem = ""): void {
  const bar = byId("token-bar");
  bar.hidden = false;
  byId("token-button").setAttribute("aria-expanded", "true");
  const field = byId<HTMLInputElement>("token");
  field.value = token.get();
  byId<HTMLInputElement>("remember").checked = token.remembered();
  if (problem) byId("token-problem").textContent = problem;
  field.focus();
}

function closeTokenBar(): void {
  byId("token-bar").hidden = true;
  byId("token-button").setAttribute("aria-expanded", "false");
}

function showToken(): void {
  byId("token-state").textContent = token.get() ? token.hint() : "none";
  byId("token-button").dataset["set"] = String(Boolean(token.get()));
}

async function useToken(): Promise<void> {
  const field = byId<HTMLInputElement>("token");
  const said = byId("token-problem");
  token.set(field.value.trim(), byId<HTMLInputElement>("remember").checked);
  showToken();
  said.textContent = "";
  field.removeAttribute("aria-invalid");
  if (!token.get()) return void runs.load();
  try {
    await call<Page<Run>>("/v1/runs?limit=1");
    closeTokenBar();
    result.problem(null);
    byId("empty").hidden = byId("status").hidden === false;
    editor.focus();
  } catch (problem) {
    said.textContent = problem instanceof Refused ? problem.message : String(problem);
    field.setAttribute("aria-invalid", "true");
    field.focus();
  }
  if (!byId("part-history").hidden) void runs.load();
  if (!byId("part-usage").hidden) void showUsage();
}

async function checkHealth(): Promise<void> {
  const dot = byId("health");
  try {
    const { status, checks } = await call<{ status: string; checks: Record<string, string> }>("/v1/health", { open: true });
    const bad = Object.keys(checks).filter((name) => checks[name] !== "ok");
    dot.dataset["state"] = status;
    byId("health-text").textContent = status === "ok" ? "Healthy" : `Degraded: ${bad.join(", ")}`;
  } catch {
    dot.dataset["state"] = "down";
    byId("health-text").textContent = "Unreachable";
  }
}

async function loadLanguages(): Promise<void> {
  const { data } = await call<Page<Language>>("/v1/languages", { open: true });
  const before = picker.value;
  languages = data;
  fill(picker, ...data.map((language) =>
    h("option", { value: language.id }, language.ready ? language.id : `${language.id} (not built yet)`)));
  if (before) picker.value = before;
  byId("not-ready").hidden = current()?.ready ?? true;
}

// -- beginning ------------------------------------------------------------------------------------

byId("run").addEventListener("click", run);
byId("cancel").addEventListener("click", () => {
  byId<HTMLButtonElement>("cancel").disabled = true;
  void runner.cancel().finally(() => (byId<HTMLButtonElement>("cancel").disabled = false));
});
byId("share").addEventListener("click", () => void share());
byId("token-button").addEventListener("click", () => (byId("token-bar").hidden ? openTokenBar() : closeTokenBar()));
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  void useToken();
});
picker.addEventListener("change", () => {
  languageChanged();
  const first = EXAMPLES[picker.value]?.length ? 1 : 0;
  useExample(first);
});
examples.addEventListener("change", () => {
  if (examples.value !== "") useExample(Number(examples.value));
  examples.value = "";
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) {
    event.preventDefault();
    run();
  }
}, { capture: true });
window.addEventListener("hashchange", () => void fromLink());

async function begin(): Promise<void> {
  initTheme();
  showToken();
  void checkHealth();
  window.setInterval(() => {
    if (document.visibilityState !== "visible") return;
    void checkHealth();
    if (languages.some((language) => !language.ready)) void loadLanguages().catch(() => undefined);
  }, HEALTH_MS);
  try {
    await loadLanguages();
  } catch (problem) {
    result.problem(notice(problem, { again: () => location.reload() }));
    return;
  }
  const kept = draft();
  if (!(await fromLink())) {
    if (kept) load(kept);
    else {
      choose(languages.some((language) => language.id === "python") ? "python" : (languages[0]?.id ?? ""));
      useExample(1);
    }
  }
  if (!token.get()) openTokenBar();
  document.documentElement.dataset["ready"] = "true";
}

void begin();
