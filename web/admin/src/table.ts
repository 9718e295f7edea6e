// Delimited text (RFC 4180, and what people write instead) to rows.

export interface Rows {
  rows: string[][];
  /** True if there were more rows than requested. */
  more: boolean;
}

/** The first `most` rows. A quote that never closes ends with the text. */
export function parseTable(text: string, separator: string, most: number): Rows {
  const rows: string[][] = [];
  let row: string[] = [];
  let cell = "";
  let quoted = false;
  let at = text.charCodeAt(0) === 0xfeff ? 1 : 0;
  const endRow = (): void => {
    row.push(cell);
    cell = "";
    if (row.length > 1 || row[0] !== "") rows.push(row);
    row = [];
  };
  for (; at < text.length; at += 1) {
    if (rows.length === most) return { rows, more: text.slice(at).trim() !== "" };
    const letter = text[at]!;
    if (quoted) {
      if (letter !== '"') cell += letter;
      else if (text[at + 1] === '"') {
        cell += '"';
        at += 1;
      } else quoted = false;
    } else if (letter === '"' && cell === "") quoted = true;
    else if (letter === separator) {
      row.push(cell);
      cell = "";
    } else if (letter === "\n" || letter === "\r") {
      if (letter === "\r" && text[at + 1] === "\n") at += 1;
      endRow();
    } else cell += letter;
  }
  endRow();
  return { rows: rows.slice(0, most), more: rows.length > most };
}
