// The files of a run. Their contents are hostile: images are only drawn by <img>, where no script of
// an SVG runs; tables and texts are text nodes; a page is shown in a frame that may do nothing at all.
import { content, Refused } from "./api";
import { fill, h, save } from "./dom";
import { count, size } from "./format";
import { parseTable } from "./table";
import type { Artifact, Run } from "./types";

const IMAGES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml", "image/bmp", "image/avif"]);
const MOST_IMAGE = 25 * 1024 * 1024;
const MOST_TEXT = 2 * 1024 * 1024;
const SHOWN_TEXT = 20_000;
const SHOWN_ROWS = 100;
const SHOWN_COLUMNS = 30;

const REASONS: Record<string, string> = {
  symlink: "is a symbolic link", special_file: "is not a regular file", too_large: "exceeds the size limit",
  too_many: "exceeds the limit on the number of files", too_deep: "is nested too deeply", unreadable: "could not be read",
  changed: "changed while it was read", bad_name: "has an invalid name", not_stored: "could not be stored",
};

/** Draws artifacts, and takes back what drawing them took. */
export class Artifacts {
  private urls: string[] = [];
  private stop = new AbortController();
  private shown = new Set<string>();

  constructor(private readonly host: HTMLElement) {}

  clear(): void {
    this.stop.abort();
    this.stop = new AbortController();
    for (const url of this.urls) URL.revokeObjectURL(url);
    this.urls = [];
    this.shown.clear();
    fill(this.host);
  }

  add(artifact: Artifact): void {
    if (this.shown.has(artifact.id)) return;
    this.shown.add(artifact.id);
    const preview = h("div", { class: "preview" });
    const card = h(
      "li",
      { class: "artifact", "data-name": artifact.name },
      h("div", { class: "artifact-head" },
        h("span", { class: "artifact-name", title: artifact.path }, artifact.path),
        h("span", { class: "muted" }, size(artifact.size)),
        h("button", {
          type: "button", class: "quiet", "aria-label": `Download ${artifact.name}`,
          onclick: () => void this.download(artifact, preview),
        }, "Download")),
      preview,
    );
    this.host.append(card);
    void this.preview(artifact, preview, this.stop.signal);
  }

  skipped(run: Run): void {
    if (!run.skipped_artifacts_count) return;
    const rows = run.skipped_artifacts.slice(0, 20).map(({ path, reason }) =>
      h("li", null, h("code", null, path), ` ${REASONS[reason] ?? reason}`));
    this.host.append(h("li", { class: "skipped" },
      h("p", null, `${count(run.skipped_artifacts_count, "file was", "files were")} not collected:`), h("ul", null, ...rows)));
  }

  private async download(artifact: Artifact, preview: HTMLElement): Promise<void> {
    try {
      save(artifact.name, await content(artifact.id));
    } catch (problem) {
      const elsewhere = problem instanceof Refused && problem.status === 0;
      // With S3_PRESIGN the bytes are at another origin, which may be gone to but not asked. It is an attachment.
      if (elsewhere && artifact.url && /^https?:/.test(artifact.url)) location.assign(artifact.url);
      else fill(preview, h("p", { class: "problem" }, said(problem)));
    }
  }

  private async preview(artifact: Artifact, host: HTMLElement, signal: AbortSignal): Promise<void> {
    const draw = drawing(artifact);
    if (!draw) return;
    fill(host, h("p", { class: "muted" }, "Loading the preview…"));
    try {
      const blob = await content(artifact.id, signal);
      fill(host, await draw(blob, (typed) => {
        const url = URL.createObjectURL(typed);
        this.urls.push(url);
        return url;
      }));
    } catch (problem) {
      if (!signal.aborted) fill(host, h("p", { class: "problem" }, said(problem)));
    }
  }
}

type Draw = (blob: Blob, url: (blob: Blob) => string) => Promise<HTMLElement>;

function drawing(artifact: Artifact): Draw | null {
  const type = artifact.content_type.split(";")[0]?.trim().toLowerCase() ?? "";
  const extension = artifact.name.toLowerCase().split(".").pop() ?? "";
  if (IMAGES.has(type) && artifact.size <= MOST_IMAGE) {
    return async (blob, url) => image(artifact.name, url(new Blob([blob], { type })));
  }
  if (artifact.size > MOST_TEXT) return null;
  if (type === "text/csv" || extension === "csv") return async (blob) => table(await blob.text(), ",", artifact.name);
  if (type === "text/tab-separated-values" || extension === "tsv") {
    return async (blob) => table(await blob.text(), "\t", artifact.name);
  }
  if (type === "text/html" || extension === "html" || extension === "htm") {
    return async (blob, url) => frame(artifact.name, url(new Blob([blob], { type: "text/html" })));
  }
  if (type.startsWith("text/") || /\bjson$/.test(type) || ["md", "log", "json", "yaml", "yml"].includes(extension)) {
    return async (blob) => text(await blob.text(), artifact.name);
  }
  return null;
}

export function image(name: string, url: string): HTMLElement {
  const host = h("div", { class: "picture" });
  const picture = h("img", { src: url, alt: `${name}, an image made by the program` });
  picture.addEventListener("error", () => fill(host, h("p", { class: "muted" }, "This image cannot be displayed.")));
  host.append(picture);
  return host;
}

export function frame(name: string, url: string): HTMLElement {
  // No allow-…: no script, no form, no navigation, an opaque origin. The page's own policy holds in it too.
  const element = h("iframe", { sandbox: "", title: `${name}, shown without scripts`, referrerPolicy: "no-referrer" });
  element.setAttribute("sandbox", "");
  element.src = url;
  return h("div", null, element, h("p", { class: "hint" }, "Scripts, styles and images are blocked in this preview."));
}

export function text(content: string, name: string): HTMLElement {
  const cut = content.length > SHOWN_TEXT;
  return h("pre", { tabIndex: 0, role: "region", "aria-label": name }, content.slice(0, SHOWN_TEXT), cut && "\n…");
}

function table(content: string, separator: string, name: string): HTMLElement {
  const rows = parseTable(content, separator, SHOWN_ROWS + 1);
  const [head = [], ...body] = rows.rows;
  const cells = (row: string[], tag: "td" | "th"): HTMLElement[] =>
    row.slice(0, SHOWN_COLUMNS).map((cell) => h(tag, tag === "th" ? { scope: "col" } : {
      class: cell !== "" && Number.isFinite(Number(cell)) ? "number" : "",
    }, cell));
  const wide = Math.max(0, ...rows.rows.map((row) => row.length));
  const left: string[] = [];
  if (rows.more) left.push(`the first ${SHOWN_ROWS} rows`);
  if (wide > SHOWN_COLUMNS) left.push(`${SHOWN_COLUMNS} of ${wide} columns`);
  return h("div", null,
    h("div", { class: "table-box", tabIndex: 0, role: "region", "aria-label": `Table ${name}` },
      h("table", null, h("thead", null, h("tr", null, ...cells(head, "th"))),
        h("tbody", null, ...body.map((row) => h("tr", null, ...cells(row, "td")))))),
    left.length > 0 && h("p", { class: "hint" }, `Shown: ${left.join(", ")}.`));
}

function said(problem: unknown): string {
  return problem instanceof Refused ? `No preview: ${problem.message}` : "No preview: the file could not be read.";
}
