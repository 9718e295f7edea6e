// A program in a link: its fragment, which browsers do not send. The contents of a link are untrusted, so they are
// bounded, checked, shown, and never run automatically.
import type { InputFile, RunRequest } from "./types";

const NAME = "program=";
const MOST_BYTES = 2 * 1024 * 1024;
/** Longer links are cut by mail programs, chats and proxies' logs. */
export const LONG_LINK = 8000;

export async function linkOf(program: RunRequest): Promise<string> {
  const packed = await pipe(new Blob([JSON.stringify(program)]), new CompressionStream("deflate-raw"), Infinity);
  let text = "";
  for (const byte of packed) text += String.fromCharCode(byte);
  const fragment = btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  return `${location.origin}${location.pathname}#${NAME}${fragment}`;
}

/** The program that a fragment carries; null if it carries none. Throws if what it carries is no program. */
export async function programOf(fragment: string): Promise<RunRequest | null> {
  const text = fragment.replace(/^#/, "");
  if (!text.startsWith(NAME)) return null;
  const packed = atob(text.slice(NAME.length).replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
  const plain = await pipe(new Blob([bytes]), new DecompressionStream("deflate-raw"), MOST_BYTES);
  return checked(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(plain)));
}

async function pipe(from: Blob, through: ReadableWritablePair, most: number): Promise<Uint8Array> {
  const reader = (from.stream() as ReadableStream).pipeThrough(through).getReader();
  const parts: Uint8Array[] = [];
  let total = 0;
  for (;;) {
    const { done, value } = (await reader.read()) as ReadableStreamReadResult<Uint8Array>;
    if (done) break;
    total += value.length;
    if (total > most) {
      await reader.cancel();
      throw new Error("the program in this link is too large");
    }
    parts.push(value);
  }
  const whole = new Uint8Array(total);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** A request with nothing in it but what the page knows, each of the right kind. */
export function checked(value: unknown): RunRequest {
  const given = record(value);
  const text = (name: string): string | null => (typeof given[name] === "string" ? (given[name] as string) : null);
  const language = text("language");
  if (language === null) throw new Error("the link contains no program");
  const limits = Object.entries(record(given["limits"])).filter((entry) => typeof entry[1] === "number");
  const env = Object.entries(record(given["env"])).filter((entry) => typeof entry[1] === "string");
  return {
    language,
    code: text("code"),
    entrypoint: text("entrypoint"),
    stdin: text("stdin"),
    isolation: text("isolation"),
    results: given["results"] === true ? true : null,
    args: list(given["args"]).filter((item): item is string => typeof item === "string"),
    env: Object.fromEntries(env) as Record<string, string>,
    limits: Object.fromEntries(limits) as Record<string, number>,
    files: list(given["files"]).map(file).filter((item): item is InputFile => item !== null),
  };
}

function file(value: unknown): InputFile | null {
  const { path, id, content, encoding } = record(value);
  if (typeof path !== "string") return null;
  if (typeof id === "string") return { path, id };
  if (typeof content !== "string") return null;
  return encoding === "base64" ? { path, content, encoding } : { path, content };
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}
