// The right side: the state of a run, its output, its files and its confinement.
import { Artifacts } from "./artifacts";
import { announce, byId, fill, h, save } from "./dom";
import { duration, size } from "./format";
import { hints, RichResults } from "./rich";
import { Terminal, type Stream } from "./terminal";
import type { Artifact, Exception, RichResult, Run, RunEvent } from "./types";

const TITLES: Record<string, string> = {
  loading: "Loading", sending: "Sending", queued: "Queued", running: "Running", succeeded: "Succeeded", failed: "Failed",
  timeout: "Timed out", oom: "Out of memory", cancelled: "Cancelled", killed: "Killed", error: "Service error",
  lost: "Connection lost", refused: "Not started",
};

export class Result {
  readonly terminal = new Terminal(byId("terminal"));
  private artifacts = new Artifacts(byId("artifacts"));
  private rich = new RichResults(byId("rich-part"), byId("rich"));
  private clock: number | undefined;

  constructor() {
    byId("copy-output").addEventListener("click", () => void this.copy());
    byId("save-output").addEventListener("click", () => save("output.txt", new Blob([this.whole()])));
    for (const button of document.querySelectorAll<HTMLButtonElement>("[data-show]")) {
      button.addEventListener("click", () => this.show(button.dataset["show"] ?? "all"));
    }
  }

  /** Make room for another run. */
  clear(): void {
    this.stopClock();
    this.terminal.clear();
    this.artifacts.clear();
    this.rich.clear();
    fill(byId("hints"));
    this.show("all");
    fill(byId("problem"));
    fill(byId("facts"));
    fill(byId("chips"));
    fill(byId("compile"));
    for (const id of ["artifacts-part", "isolation", "compile", "output-part", "facts"]) byId(id).hidden = true;
    byId("empty").hidden = true;
  }

  problem(notice: HTMLElement | null): void {
    byId("empty").hidden = byId("empty").hidden || notice !== null;
    fill(byId("problem"), notice);
    if (matchMedia("(max-width: 999px)").matches) notice?.scrollIntoView({ block: "nearest" });
  }

  status(name: string, detail = ""): void {
    const strip = byId("status");
    strip.hidden = false;
    strip.dataset["status"] = name;
    byId("status-name").textContent = TITLES[name] ?? name;
    byId("status-detail").textContent = detail;
  }

  /** Count the time from now on, for as long as the program runs. */
  startClock(): void {
    this.stopClock();
    const began = performance.now();
    this.clock = window.setInterval(() => {
      byId("status-detail").textContent = `${((performance.now() - began) / 1000).toFixed(1)} s`;
    }, 100);
  }

  stopClock(): void {
    window.clearInterval(this.clock);
  }

  /** One event of the run, as it comes. */
  event(event: RunEvent): void {
    const data = (event.data ?? {}) as Record<string, unknown>;
    if (event.event === "stdout" || event.event === "stderr") {
      byId("output-part").hidden = false;
      this.rich.output();
      this.terminal.write(event.event, String(event.data));
    } else if (event.event === "artifact") {
      byId("artifacts-part").hidden = false;
      this.artifacts.add(event.data as Artifact);
    } else if (event.event === "display") {
      this.rich.add(event.data as RichResult);
    } else if (event.event === "clear") {
      this.rich.clearEvent(data["wait"] === true);
    } else if (event.event === "exception") {
      this.rich.exception(event.data as Exception);
    } else if (event.event === "phase") {
      this.status("running", "");
      byId("status-name").textContent = data["name"] === "compile" ? "Compiling" : "Running";
    } else if (event.event === "info" && data["status"] === "queued") {
      const position = Number(data["position"]);
      this.status("queued", position > 0 ? `${position === 1 ? "next" : `position ${position}`} in the queue` : "");
    } else if (event.event === "info" && data["status"] === "running") {
      this.status("running");
      this.startClock();
    }
  }

  /** Show the end of the run. */
  end(run: Run): void {
    this.stopClock();
    const [name, detail] = outcome(run);
    this.status(name, detail);
    announce(`${TITLES[name] ?? name}. ${detail}`);
    this.compiled(run);
    byId("output-part").hidden = false;
    for (const stream of ["stdout", "stderr"] as const) {
      // The stream of a run whose events were not kept has none of its text.
      if (!this.terminal.all(stream) && run[stream]) this.terminal.write(stream, run[stream]);
      if (run[`${stream}_truncated`]) {
        this.terminal.note(`${stream} was truncated at ${size(run.limits["max_output_bytes"] ?? 0)} (the limit “Output”).`);
      }
    }
    const followed = this.rich.isFollowed;
    if (!followed) {
      // As above: a run whose events were not kept. Otherwise the events have cleared what is not shown.
      for (const result of run.results ?? []) this.rich.add(result);
      if (run.exception) this.rich.exception(run.exception);
    }
    this.rich.dropped(run.results_dropped ?? 0);
    fill(byId("hints"), hints(run.hints ?? []));
    if (this.terminal.empty && this.rich.empty) this.terminal.note(emptyNote(run, followed));
    for (const artifact of run.artifacts) this.artifacts.add(artifact);
    this.artifacts.skipped(run);
    byId("artifacts-part").hidden = run.artifacts.length + run.skipped_artifacts_count === 0;
    this.facts(run);
    this.isolation(run);
  }

  private compiled(run: Run): void {
    const host = byId("compile");
    if (!run.compile) return;
    const { stdout, stderr, exit_code, wall_ms } = run.compile;
    host.hidden = false;
    const said = (stdout + stderr).trim();
    const title = exit_code === 0 ? `Compiled in ${duration(wall_ms)}` : "Compilation failed";
    if (!said) fill(host, h("p", { class: "muted" }, title));
    else {
      const text = h("div", { class: "terminal", tabIndex: 0, role: "region", "aria-label": "Compiler output" });
      const terminal = new Terminal(text);
      terminal.write("stdout", stdout);
      terminal.write("stderr", stderr);
      fill(host, h("details", { open: exit_code !== 0 }, h("summary", null, title), text));
    }
  }

  private facts(run: Run): void {
    const { wall_ms, cpu_ms, max_rss_mb, queue_ms } = run.usage;
    const rows: [string, string][] = [
      ["Wall clock", duration(wall_ms)], ["CPU", duration(cpu_ms)], ["Peak memory", `${max_rss_mb} MiB`],
      ["Time in queue", duration(queue_ms)],
    ];
    if (run.compile) {
      const { wall_ms, cpu_ms } = run.compile;
      rows.unshift(["Compile", duration(wall_ms)]);
      // A run of the history may be older than this fact.
      if (cpu_ms !== undefined) rows.splice(1, 0, ["Compile CPU", duration(cpu_ms)]);
    }
    if (run.oom_killed && run.status !== "oom") rows.push(["Out of memory", "a process was killed"]);
    fill(byId("facts"), ...rows.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
    byId("facts").hidden = false;
  }

  private isolation(run: Run): void {
    byId("isolation").hidden = false;
    const found = run.isolation ?? {};
    const word = (value: unknown): string => (value === null || value === undefined ? "none" : String(value));
    const rows: [string, string][] = [
      ["Run", run.id],
      ...Object.entries(found).map(([name, value]): [string, string] => [
        name.replaceAll("_", " "),
        value === true ? "yes" : value === false ? "no" : word(value),
      ]),
      ["limits", Object.entries(run.limits).map(([name, value]) => `${name} ${value}`).join(", ")],
    ];
    fill(byId("isolation-list"), ...rows.flatMap(([name, value]) => [h("dt", null, name), h("dd", null, value)]));
    const chips = [
      found["runtime"] ? `${word(found["runtime"])}` : null,
      found["network"] === "none" ? "no network" : null,
      found["user_namespace"] ? "own user namespace" : null,
      found["seccomp"] ? "seccomp" : null,
      found["apparmor"] ? "AppArmor" : null,
      found["source"] ? `from ${word(found["source"])}` : null,
    ].filter((chip) => chip !== null);
    fill(byId("chips"), ...chips.map((chip) => h("span", { class: "chip" }, chip)));
  }

  private show(which: string): void {
    byId("terminal").dataset["only"] = which;
    for (const button of document.querySelectorAll<HTMLButtonElement>("[data-show]")) {
      button.setAttribute("aria-pressed", String(button.dataset["show"] === which));
    }
  }

  private whole(): string {
    const only = byId("terminal").dataset["only"];
    const streams: Stream[] = only === "stdout" || only === "stderr" ? [only] : ["stdout", "stderr"];
    return streams.map((stream) => this.terminal.all(stream)).join("");
  }

  private async copy(): Promise<void> {
    await copyText(this.whole());
    announce("Output copied.");
  }
}

export async function copyText(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { class: "off-screen", value: text, "aria-hidden": "true" }); // no secure context
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

/** The note in place of an output. */
function emptyNote(run: Run, followed: boolean): string {
  if (followed) return "The program cleared its results.";
  return run.status === "succeeded" ? "The program printed nothing." : "No output.";
}

function outcome(run: Run): [string, string] {
  if (run.status === "timeout") {
    const { timeout_ms = 0, cpu_ms = 0 } = run.limits;
    const by = run.usage.wall_ms >= timeout_ms ? `after ${duration(timeout_ms)}` : `CPU limit ${duration(cpu_ms)}`;
    return ["timeout", by];
  }
  if (run.status === "oom") return ["oom", `limit ${run.limits["memory_mb"]} MiB`];
  if (run.status === "error") return ["error", run.error?.code ?? ""];
  if (run.status === "failed" && run.compile && run.compile.exit_code !== 0) return ["failed", "compilation failed"];
  if (run.signal) return [run.status, run.signal];
  if (run.status === "failed") return ["failed", `exit code ${run.exit_code}`];
  if (run.status === "succeeded") return ["succeeded", `in ${duration(run.usage.wall_ms)}`];
  return [run.status, ""];
}
