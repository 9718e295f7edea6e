// ANSI escape sequences to styled text. Colours and weights are shown, every other sequence is dropped: a
// program must not be able to draw anything but its own text.

export interface Style {
  fg: string | null;
  bg: string | null;
  bold: boolean;
  dim: boolean;
  italic: boolean;
  underline: boolean;
  strike: boolean;
  inverse: boolean;
}

export type Piece =
  | { kind: "text"; text: string; style: Style }
  | { kind: "newline" }
  /** A carriage return: what follows replaces the line. */
  | { kind: "return" };

const PLAIN: Style = {
  fg: null, bg: null, bold: false, dim: false, italic: false, underline: false, strike: false, inverse: false,
};
const STEPS = [0, 95, 135, 175, 215, 255];
/** An unfinished sequence longer than this is no sequence. */
const LONGEST = 256;

export function isPlain(style: Style): boolean {
  return style === PLAIN || (Object.keys(PLAIN) as (keyof Style)[]).every((key) => style[key] === PLAIN[key]);
}

/** Reads one stream, piece by piece: a sequence may be cut anywhere. */
export class Ansi {
  private style: Style = PLAIN;
  private rest = "";

  read(text: string): Piece[] {
    const all = this.rest + text;
    this.rest = "";
    const pieces: Piece[] = [];
    let at = 0;
    while (at < all.length) {
      const next = nextControl(all, at);
      if (next > at) pieces.push({ kind: "text", text: all.slice(at, next), style: this.style });
      if (next >= all.length) break;
      const code = all.charCodeAt(next);
      at = next + 1;
      if (code === 0x0a) pieces.push({ kind: "newline" });
      else if (code === 0x0d) {
        if (at === all.length) {
          this.rest = "\r"; // whether a line feed follows is not known yet
          break;
        }
        if (all.charCodeAt(at) !== 0x0a) pieces.push({ kind: "return" });
      } else if (code === 0x1b) {
        const end = sequenceEnd(all, next);
        if (end === null) {
          if (all.length - next <= LONGEST) {
            this.rest = all.slice(next);
            break;
          }
        } else {
          if (all[next + 1] === "[" && all[end - 1] === "m") this.select(all.slice(next + 2, end - 1));
          at = end;
        }
      } // any other control character is nothing to look at
    }
    return pieces;
  }

  private select(parameters: string): void {
    const codes = parameters.split(/[;:]/).map((code) => (code === "" ? 0 : Number(code)));
    let style: Style = { ...this.style };
    for (let i = 0; i < codes.length; i += 1) {
      const code = codes[i] ?? 0;
      if (code === 0) style = { ...PLAIN };
      else if (code === 1) style.bold = true;
      else if (code === 2) style.dim = true;
      else if (code === 3) style.italic = true;
      else if (code === 4) style.underline = true;
      else if (code === 7) style.inverse = true;
      else if (code === 9) style.strike = true;
      else if (code === 22) style.bold = style.dim = false;
      else if (code === 23) style.italic = false;
      else if (code === 24) style.underline = false;
      else if (code === 27) style.inverse = false;
      else if (code === 29) style.strike = false;
      else if (code >= 30 && code <= 37) style.fg = `var(--ansi-${code - 30})`;
      else if (code >= 90 && code <= 97) style.fg = `var(--ansi-${code - 82})`;
      else if (code === 39) style.fg = null;
      else if (code >= 40 && code <= 47) style.bg = `var(--ansi-${code - 40})`;
      else if (code >= 100 && code <= 107) style.bg = `var(--ansi-${code - 92})`;
      else if (code === 49) style.bg = null;
      else if (code === 38 || code === 48) {
        const [colour, used] = extended(codes, i + 1);
        if (code === 38) style.fg = colour ?? style.fg;
        else style.bg = colour ?? style.bg;
        i += used;
      }
    }
    this.style = style;
  }
}

function nextControl(text: string, from: number): number {
  for (let i = from; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if ((code < 0x20 && code !== 0x09) || code === 0x7f) return i;
  }
  return text.length;
}

/** Return the end of the sequence that begins at `from`; null when it is not complete. */
function sequenceEnd(text: string, from: number): number | null {
  const kind = text[from + 1];
  if (kind === undefined) return null;
  if (kind === "[") {
    for (let i = from + 2; i < text.length; i += 1) {
      const code = text.charCodeAt(i);
      if (code >= 0x40 && code <= 0x7e) return i + 1;
      if (code < 0x20 || code > 0x3f) return i; // not a sequence after all
    }
    return null;
  }
  if ("]PX^_".includes(kind)) {
    for (let i = from + 2; i < text.length; i += 1) {
      if (text.charCodeAt(i) === 0x07) return i + 1;
      if (text.charCodeAt(i) === 0x1b) return text[i + 1] === undefined ? null : text[i + 1] === "\\" ? i + 2 : i;
      if (i - from > LONGEST) return i;
    }
    return null;
  }
  return "()*+#%".includes(kind) ? (text.length > from + 2 ? from + 3 : null) : from + 2;
}

function extended(codes: number[], at: number): [string | null, number] {
  const byte = (i: number): number => Math.min(255, Math.max(0, Math.trunc(codes[i] ?? 0) || 0));
  if (codes[at] === 2) return [`rgb(${byte(at + 1)} ${byte(at + 2)} ${byte(at + 3)})`, 4];
  if (codes[at] !== 5) return [null, 0];
  const index = byte(at + 1);
  if (index < 16) return [`var(--ansi-${index})`, 2];
  if (index >= 232) {
    const grey = 8 + (index - 232) * 10;
    return [`rgb(${grey} ${grey} ${grey})`, 2];
  }
  const cube = index - 16;
  const part = (value: number): number => STEPS[value] ?? 0;
  return [`rgb(${part(Math.floor(cube / 36))} ${part(Math.floor(cube / 6) % 6)} ${part(cube % 6)})`, 2];
}
