// The output of a program in the order of arrival: stdout and stderr differ by more than colour.
import { Ansi, isPlain, type Piece, type Style } from "./ansi";
import { fill, h } from "./dom";

export type Stream = "stdout" | "stderr";

/** More than this is kept and can be downloaded, but not drawn: a page with millions of lines is not readable. */
const MOST_DRAWN = 400_000;
const MOST_LINES = 10_000;

interface Block {
  stream: Stream;
  element: HTMLElement;
  line: HTMLElement;
  returned: boolean;
}

export class Terminal {
  readonly text: Record<Stream, string[]> = { stdout: [], stderr: [] };
  private readers: Record<Stream, Ansi> = { stdout: new Ansi(), stderr: new Ansi() };
  private block: Block | null = null;
  private drawn = 0;
  private lines = 0;
  private full = false;

  constructor(private readonly element: HTMLElement) {}

  clear(): void {
    this.text.stdout = [];
    this.text.stderr = [];
    this.readers = { stdout: new Ansi(), stderr: new Ansi() };
    this.block = null;
    this.drawn = this.lines = 0;
    this.full = false;
    fill(this.element);
  }

  get empty(): boolean {
    return this.text.stdout.length === 0 && this.text.stderr.length === 0;
  }

  write(stream: Stream, text: string): void {
    if (!text) return;
    this.text[stream].push(text);
    if (this.full) return;
    const atEnd = this.element.scrollHeight - this.element.scrollTop - this.element.clientHeight < 40;
    for (const piece of this.readers[stream].read(text)) {
      if (this.drawn > MOST_DRAWN || this.lines > MOST_LINES) {
        this.full = true;
        this.note("The rest is not shown here. “Copy” and “Save” include all of it.");
        break;
      }
      this.draw(stream, piece);
    }
    if (atEnd) this.element.scrollTop = this.element.scrollHeight;
  }

  note(text: string): void {
    this.block = null;
    this.element.append(h("div", { class: "note" }, text));
  }

  all(stream: Stream): string {
    return this.text[stream].join("");
  }

  private draw(stream: Stream, piece: Piece): void {
    const block = this.block?.stream === stream ? this.block : this.begin(stream);
    if (piece.kind === "newline") {
      block.line.append("\n");
      block.line = h("span");
      block.element.append(block.line);
      block.returned = false;
      this.lines += 1;
    } else if (piece.kind === "return") {
      block.returned = true;
    } else {
      if (block.returned) {
        block.line.replaceChildren();
        block.returned = false;
      }
      block.line.append(isPlain(piece.style) ? piece.text : styled(piece.text, piece.style));
      this.drawn += piece.text.length;
    }
  }

  private begin(stream: Stream): Block {
    const line = h("span");
    const element = h(
      "div",
      { class: `block ${stream}`, "data-stream": stream },
      h("span", { class: "block-name" }, stream === "stderr" ? "stderr" : "stdout"),
      line,
    );
    this.element.append(element);
    return (this.block = { stream, element, line, returned: false });
  }
}

function styled(text: string, style: Style): HTMLElement {
  const [fg, bg] = style.inverse ? [style.bg ?? "var(--term)", style.fg ?? "var(--ink)"] : [style.fg, style.bg];
  const span = h("span", null, text);
  if (fg) span.style.color = fg;
  if (bg) span.style.backgroundColor = bg;
  if (style.bold) span.style.fontWeight = "700";
  if (style.dim) span.style.opacity = "0.75";
  if (style.italic) span.style.fontStyle = "italic";
  const lines = [style.underline && "underline", style.strike && "line-through"].filter(Boolean).join(" ");
  if (lines) span.style.textDecoration = lines;
  return span;
}
