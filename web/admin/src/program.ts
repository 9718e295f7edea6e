// The program and its options: the contents of the page's left side, from which a request is made.
import { call, Refused } from "./api";
import { append, byId, fill, h } from "./dom";
import type { Editor } from "./editor";
import { size } from "./format";
import { checked } from "./share";
import type { InputFile, Language, RunRequest } from "./types";

interface Limit {
  name: string;
  title: string;
  unit: string;
  hint: string;
}

const LIMITS: Limit[] = [
  { name: "timeout_ms", title: "Time", unit: "ms", hint: "default 10 000, at most 60 000" },
  { name: "memory_mb", title: "Memory", unit: "MiB", hint: "default 256, from 16 to 2 048" },
  { name: "cpus", title: "CPUs", unit: "", hint: "default 1, from 0.1 to 2" },
  { name: "cpu_ms", title: "CPU time", unit: "ms", hint: "default time × CPUs, at most 120 000" },
  { name: "pids", title: "Processes", unit: "", hint: "default 64 or 256, at most 512" },
  { name: "max_output_bytes", title: "Output", unit: "B", hint: "per stream: default 1 MiB, at most 8 MiB" },
  { name: "max_artifact_bytes", title: "Artifact size", unit: "B", hint: "per file: default 10 MiB, at most 50 MiB" },
  { name: "max_artifact_files", title: "Artifacts", unit: "", hint: "default 10, at most 100" },
];
const MOST_BODY = 15 * 1024 * 1024;

/** Something in the form that cannot be sent as it is. */
export class Unfit extends Error {
  constructor(readonly param: string, message: string) {
    super(message);
  }
}

export class Program {
  private files: InputFile[] = [];
  private entrypoint: string | null = null;
  private isolation: string | null = null;

  private stdin = byId<HTMLTextAreaElement>("stdin");
  private args = byId<HTMLTextAreaElement>("args");
  private env = byId<HTMLTextAreaElement>("env");
  private list = byId("file-list");
  private wanted = byId<HTMLInputElement>("want-results");

  constructor(
    private readonly editor: Editor,
    private readonly languages: () => Language | undefined,
    private readonly changed: () => void,
    private readonly complain: (problem: unknown) => void,
  ) {
    this.makeLimits();
    for (const field of [this.stdin, this.args, this.env]) field.addEventListener("input", () => this.touched());
    this.wanted.addEventListener("change", () => this.touched());
    byId("add-inline").addEventListener("click", () => this.addInline());
    const picker = byId<HTMLInputElement>("upload");
    picker.addEventListener("change", () => {
      void this.upload([...(picker.files ?? [])]).finally(() => (picker.value = ""));
    });
    const zone = byId("panel-files");
    zone.addEventListener("dragover", (event) => event.preventDefault());
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      void this.upload([...(event.dataTransfer?.files ?? [])]);
    });
    this.showFiles();
  }

  /** Return the contents of the form, to be sent, linked or stored. Throws Unfit. */
  request(language: string): RunRequest {
    const code = this.editor.text();
    const request: RunRequest = { language };
    const files = this.files.map((file) => ({ ...file }));
    if (this.entrypoint === null) request.code = code;
    else {
      request.entrypoint = this.entrypoint;
      files.unshift({ path: this.entrypoint, content: code });
    }
    if (files.length) request.files = files;
    const args = lines(this.args.value);
    if (args.length) request.args = args;
    if (this.stdin.value) request.stdin = this.stdin.value;
    const env = this.variables();
    if (Object.keys(env).length) request.env = env;
    const limits = this.limits();
    if (Object.keys(limits).length) request.limits = limits;
    if (this.isolation && this.isolation !== "default") request.isolation = this.isolation;
    // A cell is code alone.
    if (this.wanted.checked && this.languages()?.results && request.code && !request.args) request.results = true;
    return request;
  }

  /** Put a request into the form; it may be untrusted. */
  load(given: RunRequest): void {
    const request = checked(given);
    const files = [...(request.files ?? [])];
    const entry = request.entrypoint ?? null;
    const at = files.findIndex((file) => file.path === entry && file.content !== undefined);
    const main = at >= 0 && files[at]?.encoding !== "base64" ? files.splice(at, 1)[0] : undefined;
    this.entrypoint = main ? entry : null;
    this.editor.set(main?.content ?? request.code ?? "");
    this.files = files;
    this.stdin.value = request.stdin ?? "";
    this.args.value = (request.args ?? []).join("\n");
    this.env.value = Object.entries(request.env ?? {}).map(([name, value]) => `${name}=${value}`).join("\n");
    this.isolation = request.isolation ?? null;
    this.wanted.checked = request.results === true;
    for (const { name } of LIMITS) {
      const value = request.limits?.[name];
      byId<HTMLInputElement>(`limit-${name}`).value = value === undefined || value === null ? "" : String(value);
    }
    this.showFiles();
    this.touched();
  }

  /** The file that the editor's text becomes. */
  entryFile(): string {
    return this.entrypoint ?? this.languages()?.entry_file ?? "main";
  }

  /** Return the field that an error names, if the page has it. */
  field(param: string): HTMLElement | null {
    const [head, second] = param.split(".");
    if (head === "limits" && second) return document.getElementById(`limit-${second}`);
    if (head === "files") return byId(`file-path-${second ?? 0}`) ?? null;
    const ids: Record<string, string> = { stdin: "stdin", args: "args", env: "env", code: "editor", language: "language" };
    const id = ids[head ?? ""];
    return id ? document.getElementById(id) : null;
  }

  private touched(): void {
    badge("files", this.files.length);
    badge("input", this.stdin.value ? 1 : 0, "•");
    badge("args", lines(this.args.value).length + lines(this.env.value).length);
    badge("limits", LIMITS.filter(({ name }) => byId<HTMLInputElement>(`limit-${name}`).value !== "").length);
    this.changed();
  }

  private makeLimits(): void {
    const grid = byId("limit-grid");
    for (const { name, title, unit, hint } of LIMITS) {
      const input = h("input", {
        id: `limit-${name}`, type: "text", inputMode: "decimal", autocomplete: "off", placeholder: "default",
        "aria-describedby": `hint-${name}`, oninput: () => this.touched(),
      });
      append(
        grid,
        h("div", { class: "field" },
          h("label", { for: `limit-${name}` }, title, unit && h("span", { class: "unit" }, ` ${unit}`)),
          input,
          h("p", { class: "hint", id: `hint-${name}` }, hint)),
      );
    }
  }

  private limits(): Record<string, number> {
    const found: Record<string, number> = {};
    for (const { name, title } of LIMITS) {
      const text = byId<HTMLInputElement>(`limit-${name}`).value.replaceAll(/[\s_]/g, "");
      if (!text) continue;
      const value = Number(text);
      if (!Number.isFinite(value)) throw new Unfit(`limits.${name}`, `${title}: “${text}” is not a number`);
      found[name] = value;
    }
    return found;
  }

  private variables(): Record<string, string> {
    const found: Record<string, string> = {};
    for (const line of lines(this.env.value)) {
      const at = line.indexOf("=");
      if (at < 1) throw new Unfit("env", `Environment: use NAME=value instead of “${line.slice(0, 60)}”`);
      found[line.slice(0, at)] = line.slice(at + 1);
    }
    return found;
  }

  // -- files --------------------------------------------------------------------------------------

  private addInline(): void {
    const taken = new Set(this.files.map((file) => file.path));
    let path = "data.txt";
    for (let n = 2; taken.has(path); n += 1) path = `data-${n}.txt`;
    this.files.push({ path, content: "" });
    this.showFiles();
    this.touched();
    byId(`file-content-${this.files.length - 1}`).focus();
  }

  private async upload(chosen: File[]): Promise<void> {
    const status = byId("upload-status");
    for (const file of chosen) {
      status.textContent = `Uploading ${file.name} (${size(file.size)})…`;
      const form = new FormData();
      form.append("file", file, file.name);
      try {
        const kept = await call<{ id: string; name: string; size: number }>("/v1/files", { method: "POST", form });
        this.files.push({ path: kept.name, id: kept.id });
        status.textContent = `${kept.name} uploaded.`;
      } catch (problem) {
        status.textContent = problem instanceof Refused ? `${file.name}: ${problem.message}` : "";
        this.complain(problem);
        break;
      } finally {
        this.showFiles();
        this.touched();
      }
    }
  }

  private showFiles(): void {
    const shift = this.entrypoint === null ? 0 : 1; // the request's own numbering begins with the entry file
    fill(this.list, ...this.files.map((file, n) => this.fileRow(file, n, shift)));
    byId("files-empty").hidden = this.files.length > 0;
  }

  private fileRow(file: InputFile, n: number, shift: number): HTMLElement {
    const where = file.id ? "/work/inputs/" : "/work/";
    const path = h("input", {
      id: `file-path-${n + shift}`, value: file.path, spellcheck: false, autocomplete: "off",
      "aria-label": `Path of file ${n + 1}`,
      oninput: (event: Event) => {
        file.path = (event.target as HTMLInputElement).value;
        this.changed();
      },
    });
    const remove = h("button", {
      type: "button", class: "quiet", "aria-label": `Remove ${file.path}`,
      onclick: () => {
        this.files.splice(n, 1);
        this.showFiles();
        this.touched();
        byId("add-inline").focus();
      },
    }, "Remove");
    const body = file.id
      ? h("p", { class: "hint" }, `Uploaded (${file.id.slice(0, 12)}…)`)
      : file.encoding === "base64"
        ? h("p", { class: "hint" }, `Binary, ${size(Math.floor(((file.content?.length ?? 0) * 3) / 4))}`)
        : h("textarea", {
            id: `file-content-${n}`, rows: 4, value: file.content ?? "", spellcheck: false,
            "aria-label": `Content of file ${n + 1}`,
            oninput: (event: Event) => {
              file.content = (event.target as HTMLTextAreaElement).value;
              this.changed();
            },
          });
    return h("li", { class: "file" }, h("div", { class: "file-head" },
      h("span", { class: "prefix", "aria-hidden": "true" }, where), path, remove), body);
  }
}

/** Larger requests are refused anyway; a file of that size is better uploaded. */
export function fitting(request: RunRequest): RunRequest {
  const bytes = new Blob([JSON.stringify(request)]).size;
  if (bytes > MOST_BODY) {
    throw new Unfit("files", `The request is ${size(bytes)}, which is too large: upload the files instead.`);
  }
  return request;
}

function lines(text: string): string[] {
  return text.split("\n").map((line) => line.replace(/\r$/, "")).filter((line) => line !== "");
}

function badge(tab: string, value: number, shown: string | number = value): void {
  const element = byId(`badge-${tab}`);
  element.textContent = value ? String(shown) : "";
  element.hidden = !value;
}
