// The results of a cell: values, figures, tables, its exception; and the hints of a run. All of it is hostile:
// texts are text nodes, images (SVG too: no script of it runs there) are drawn by <img>, HTML is shown in a frame
// that may do nothing at all, and a PDF is only offered for download.
import { frame, image, text } from "./artifacts";
import { fill, h, save } from "./dom";
import { size } from "./format";
import type { Exception, Hint, RichResult } from "./types";

const SHOWN_ROWS = 50;
const SHOWN_COLUMNS = 20;
const SHOWN_CELL = 1000;
const MOST_CARDS = 100;
const TYPES: Record<string, string> = { png: "image/png", jpeg: "image/jpeg", svg: "image/svg+xml" };
const TEXTS = ["text", "markdown", "latex", "javascript"] as const;

/** Draws results, and takes back what drawing them took. */
export class RichResults {
  private urls: string[] = [];
  private named = new Map<string, HTMLElement>();
  private count = 0;
  /** True if the results shown are to be erased at the next output. */
  private obsolete = false;
  /** True if events of the run have been drawn or erased: then the list of its results has nothing to add. */
  private followed = false;

  constructor(private readonly part: HTMLElement, private readonly host: HTMLElement) {}

  /** Make room for another run. */
  clear(): void {
    this.erase();
    this.followed = false;
  }

  /** Erase the results shown: `wait` defers that to the next output. */
  clearEvent(wait: boolean): void {
    this.followed = true;
    if (wait) this.obsolete = true;
    else this.erase();
  }

  /** Erase obsolete results, because the program has written an output. */
  output(): void {
    this.followed = true;
    if (this.obsolete) this.erase();
  }

  get isFollowed(): boolean {
    return this.followed;
  }

  private erase(): void {
    for (const url of this.urls) URL.revokeObjectURL(url);
    this.urls = [];
    this.named.clear();
    this.count = 0;
    this.obsolete = false;
    fill(this.host);
    this.part.hidden = true;
  }

  get empty(): boolean {
    return this.count === 0;
  }

  add(result: RichResult): void {
    this.output();
    const id = result.display_id;
    const known = id ? this.named.get(id) : undefined;
    const drawn = this.drawn(result);
    if (known) {
      if (result.update) fill(known, drawn);
      if (result.update) return;
    }
    if (this.count >= MOST_CARDS) return;
    const card = this.card("", drawn);
    if (id) this.named.set(id, card);
  }

  exception(raised: Exception): void {
    this.output();
    const lines = raised.traceback.length ? raised.traceback.join("\n") : `${raised.name}: ${raised.value}`;
    this.card("raised", text(lines, `Exception ${raised.name}`));
  }

  dropped(count: number): void {
    if (count) this.host.append(h("li", { class: "skipped" }, `${count} more results were left out.`));
  }

  private card(kind: string, content: HTMLElement): HTMLElement {
    const card = h("li", { class: `artifact rich ${kind}`.trim() }, content);
    this.host.append(card);
    this.part.hidden = false;
    this.count += 1;
    return card;
  }

  private drawn(result: RichResult): HTMLElement {
    for (const [name, type] of Object.entries(TYPES)) {
      const given = result[name as "png" | "jpeg" | "svg"];
      const bytes = given === undefined ? null : name === "svg" ? new TextEncoder().encode(given) : decoded(given);
      if (bytes) return image("A result", this.url(new Blob([bytes], { type })));
    }
    if (isTable(result.data)) return table(result.data);
    if (result.html !== undefined) return frame("A result", this.url(new Blob([result.html], { type: "text/html" })));
    for (const name of TEXTS) if (result[name] !== undefined) return text(String(result[name]), "A result");
    const pdf = result.pdf === undefined ? null : decoded(result.pdf);
    if (pdf) return download("PDF document", "result.pdf", new Blob([pdf], { type: "application/pdf" }));
    const rest = result.json ?? result.chart ?? result.data ?? result.extra ?? null;
    return text(JSON.stringify(rest, null, 2), result.json === undefined && result.chart ? "Data of a chart" : "A result");
  }

  private url(blob: Blob): string {
    const url = URL.createObjectURL(blob);
    this.urls.push(url);
    return url;
  }
}

/** The reasons for which a program failed, as the service sees them. */
export function hints(found: Hint[]): HTMLElement | null {
  if (!found.length) return null;
  return h("ul", { class: "notice hints" }, ...found.map((one) => h("li", null, one.message)));
}

/** An offer of bytes that the page does not draw. */
function download(title: string, name: string, content: Blob): HTMLElement {
  return h("div", { class: "artifact-head" },
    h("span", { class: "artifact-name" }, title),
    h("span", { class: "muted" }, size(content.size)),
    h("button", { type: "button", class: "quiet", onclick: () => save(name, content) }, "Download"));
}

function decoded(base64: string): Uint8Array<ArrayBuffer> | null {
  try {
    const letters = atob(base64);
    const bytes = new Uint8Array(letters.length);
    for (let at = 0; at < letters.length; at += 1) bytes[at] = letters.charCodeAt(at);
    return bytes;
  } catch {
    return null;
  }
}

function isTable(data: unknown): data is Record<string, unknown[]> {
  if (data === null || typeof data !== "object" || Array.isArray(data)) return false;
  const columns = Object.values(data);
  return columns.length > 0 && columns.every((column) => Array.isArray(column));
}

function table(data: Record<string, unknown[]>): HTMLElement {
  const all = Object.entries(data);
  const columns = all.slice(0, SHOWN_COLUMNS);
  const rows = Math.max(...columns.map(([, column]) => column.length));
  const cell = (value: unknown): HTMLElement =>
    h("td", { class: typeof value === "number" ? "number" : "" }, cellText(value));
  const body = Array.from({ length: Math.min(rows, SHOWN_ROWS) }, (_, at) =>
    h("tr", null, ...columns.map(([, column]) => cell(column[at]))));
  const cut = rows > SHOWN_ROWS || all.length > SHOWN_COLUMNS;
  return h("div", null,
    h("div", { class: "table-box", tabIndex: 0, role: "region", "aria-label": "A table" },
      h("table", null, h("thead", null, h("tr", null, ...columns.map(([name]) => h("th", { scope: "col" }, name)))),
        h("tbody", null, ...body))),
    cut && h("p", { class: "hint" }, `${rows} rows and ${all.length} columns in all.`));
}

/** The text of a table's cell: lists and objects are JSON. */
function cellText(value: unknown): string {
  if (value === null || value === undefined) return "";
  const content = typeof value === "object" ? JSON.stringify(value) : String(value);
  return content.length > SHOWN_CELL ? `${content.slice(0, SHOWN_CELL)}…` : content;
}
