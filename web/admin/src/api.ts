// Speaking with the service: one error for all that goes wrong, and events as they come.
import { token } from "./token";
import type { ErrorObject, RunEvent } from "./types";

/** An unsuccessful answer of the service; status 0 means that no answer came. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly error: ErrorObject,
    readonly requestId: string | null = null,
    readonly retryAfterS: number | null = null,
  ) {
    super(error.message);
  }
}

/** A stream that ended before its closing event. */
export class Interrupted extends Error {}

/** Milliseconds for which a stream may be silent; a live one has an event every five seconds. */
const SILENCE_MS = 20_000;

interface Options {
  method?: string;
  json?: unknown;
  form?: FormData;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  /** Without the token: for what needs none. */
  open?: boolean;
}

async function send(path: string, options: Options): Promise<Response> {
  const headers: Record<string, string> = { ...options.headers };
  const bearer = token.get();
  if (bearer && !options.open) headers["Authorization"] = `Bearer ${bearer}`;
  if (options.json !== undefined) headers["Content-Type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(path, {
      method: options.method ?? "GET",
      headers,
      body: options.form ?? (options.json === undefined ? null : JSON.stringify(options.json)),
      signal: options.signal ?? null,
      cache: "no-store",
      credentials: "omit",
    });
  } catch (e) {
    if (options.signal?.aborted) throw e;
    if (e instanceof TypeError && /header|ISO-8859|ByteString/i.test(e.message)) {
      throw new Refused(401, {
        message: "The token contains invalid characters.", type: "page", param: null, code: "malformed_token",
      });
    }
    throw new Refused(0, {
      message: "The service is unreachable.", type: "page", param: null, code: "unreachable",
    });
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response: Response): Promise<Refused> {
  let error: ErrorObject = {
    message: `The service answered ${response.status}.`, type: "page", param: null, code: "unexpected_answer",
  };
  try {
    const body = (await response.json()) as { error?: ErrorObject };
    if (typeof body.error?.message === "string") error = body.error;
  } catch {
    // Not this service's own error: a proxy in between.
  }
  const wait = Number(response.headers.get("Retry-After") ?? NaN);
  return new Refused(
    response.status, error, response.headers.get("x-request-id"), Number.isFinite(wait) ? wait : null,
  );
}

/** The JSON of an answer. Throws Refused. */
export async function call<T>(path: string, options: Options = {}): Promise<T> {
  const response = await send(path, options);
  try {
    return (await response.json()) as T;
  } catch {
    throw new Refused(0, {
      message: "The connection was lost during the response.", type: "page", param: null, code: "unreachable",
    });
  }
}

/** The bytes of a file. Throws Refused. */
export async function content(fileId: string, signal?: AbortSignal): Promise<Blob> {
  const path = `/v1/files/${encodeURIComponent(fileId)}/content`;
  const response = await send(path, signal ? { signal } : {});
  return response.blob();
}

/** The events of a run after `after`. Throws Refused, and Interrupted where the stream is cut off. */
export async function* events(runId: string, after: number, signal: AbortSignal): AsyncGenerator<RunEvent> {
  const quiet = new AbortController();
  const path = `/v1/runs/${encodeURIComponent(runId)}/events?after=${after}`;
  const response = await send(path, {
    headers: { Accept: "application/x-ndjson" },
    signal: either(signal, quiet.signal),
  });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const timer = setTimeout(() => quiet.abort(), SILENCE_MS);
    let piece: ReadableStreamReadResult<string>;
    try {
      piece = await reader.read();
    } catch (e) {
      if (signal.aborted) throw e;
      throw new Interrupted("the connection was lost");
    } finally {
      clearTimeout(timer);
    }
    if (piece.done) throw new Interrupted("the stream ended too early");
    const lines = (rest + piece.value).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (!line) continue;
      const event = JSON.parse(line) as RunEvent;
      yield event;
      if (event.event === "result" || event.event === "error") return;
    }
  }
}

function either(...signals: AbortSignal[]): AbortSignal {
  const both = new AbortController();
  for (const one of signals) {
    if (one.aborted) both.abort();
    one.addEventListener("abort", () => both.abort(), { once: true });
  }
  return both.signal;
}

/** A name for a request, so that it is never carried out twice. Works without a secure context. */
export function freshKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return "page-" + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
