// The parts of the API that the page uses: docs/api.md has all.

export interface Language {
  id: string;
  aliases: string[];
  version: string | null;
  entry_file: string;
  packages: unknown;
  ready: boolean;
  example: string;
  /** True if a run may have rich results. */
  results?: boolean;
}

export interface InputFile {
  path: string;
  id?: string;
  content?: string;
  encoding?: string;
}

/** The fields of `POST /v1/runs` that the page sends. */
export interface RunRequest {
  language: string;
  code?: string | null;
  entrypoint?: string | null;
  files?: InputFile[] | null;
  args?: string[] | null;
  stdin?: string | null;
  env?: Record<string, string> | null;
  limits?: Record<string, number | null> | null;
  isolation?: string | null;
  results?: boolean | null;
}

/** One result of a cell: what it has of the formats; binary ones are base64. */
export interface RichResult {
  text?: string;
  html?: string;
  markdown?: string;
  svg?: string;
  png?: string;
  jpeg?: string;
  pdf?: string;
  latex?: string;
  javascript?: string;
  json?: unknown;
  data?: unknown;
  chart?: unknown;
  extra?: Record<string, unknown>;
  display_id: string | null;
  update: boolean;
}

export interface Exception {
  name: string;
  value: string;
  traceback: string[];
}

export interface Hint {
  code: string;
  message: string;
}

export interface Artifact {
  id: string;
  name: string;
  path: string;
  size: number;
  sha256: string;
  content_type: string;
  url: string | null;
}

export interface ErrorObject {
  message: string;
  type: string;
  param: string | null;
  code: string;
}

export interface Run {
  id: string;
  status: string;
  language: string;
  exit_code: number | null;
  signal: string | null;
  timed_out: boolean;
  oom_killed: boolean;
  stdout: string;
  stderr: string;
  stdout_truncated: boolean;
  stderr_truncated: boolean;
  usage: { wall_ms: number; cpu_ms: number; max_rss_mb: number; queue_ms: number };
  compile: { stdout: string; stderr: string; exit_code: number | null; wall_ms: number; cpu_ms?: number } | null;
  artifacts: Artifact[];
  skipped_artifacts: { path: string; reason: string }[];
  skipped_artifacts_count: number;
  limits: Record<string, number>;
  isolation: Record<string, unknown> | null;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
  error: ErrorObject | null;
  request?: RunRequest | null;
  /** A run of the history may be older than these. */
  hints?: Hint[];
  results?: RichResult[];
  results_dropped?: number;
  exception?: Exception | null;
}

export interface RunEvent {
  seq: number;
  event: string;
  data: unknown;
  t_ms: number;
}

export interface Page<T> {
  data: T[];
  last_id: string | null;
  has_more: boolean;
}

export interface Usage {
  from: string;
  to: string;
  plan: string | null;
  runs: number;
  runs_limit: number | null;
  cpu_seconds: number;
  wall_seconds: number;
  gb_seconds: number;
  bytes_in: number;
  bytes_out: number;
  by_language: Record<string, Record<string, number>>;
}

export const LIVE = new Set(["queued", "running"]);
