// The runs of this token, newest first.
import { call } from "./api";
import { byId, fill, h } from "./dom";
import { ago, duration } from "./format";
import { notice } from "./problems";
import { token } from "./token";
import type { Page, Run } from "./types";

const PAGE = 20;

interface Hooks {
  /** Show it, with its program in the editor. */
  open(run: Run): void;
  /** Open the run's program and run it again. */
  again(run: Run): void;
}

export class History {
  private last: string | null = null;
  private asked = 0;

  constructor(private readonly hooks: Hooks) {
    byId("history-status").addEventListener("change", () => void this.load());
    byId("history-refresh").addEventListener("click", () => void this.load());
    byId("history-more").addEventListener("click", () => void this.load(this.last));
  }

  /** The newest, or those after one. */
  async load(after: string | null = null): Promise<void> {
    const list = byId("history-list");
    const empty = byId("history-empty");
    const asked = (this.asked += 1);
    if (!token.get()) {
      fill(list);
      empty.textContent = "Enter a token to see its runs.";
      empty.hidden = false;
      byId("history-more").hidden = true;
      return;
    }
    const query = new URLSearchParams({ limit: String(PAGE) });
    const status = byId<HTMLSelectElement>("history-status").value;
    if (status) query.set("status", status);
    if (after) query.set("after", after);
    try {
      const page = await call<Page<Run>>(`/v1/runs?${query}`);
      if (asked !== this.asked) return;
      if (!after) fill(list);
      for (const run of page.data) list.append(this.row(run));
      this.last = page.last_id;
      byId("history-more").hidden = !page.has_more;
      empty.textContent = status ? "No runs with this status." : "No runs with this token yet.";
      empty.hidden = list.childElementCount > 0;
      fill(byId("history-problem"));
    } catch (problem) {
      if (asked === this.asked) fill(byId("history-problem"), notice(problem, { again: () => void this.load(after) }));
    }
  }

  private row(run: Run): HTMLElement {
    const first = (run.stdout || run.stderr || run.compile?.stderr || "").replaceAll(/\x1b\[[0-9;]*m/g, "");
    const line = first.split("\n").find((text) => text.trim()) ?? "no output";
    const ended = run.finished_at !== null && run.finished_at !== undefined;
    return h(
      "li",
      { class: "run-row", "data-status": run.status, "data-run": run.id },
      h("button", { type: "button", class: "run-open", onclick: () => this.hooks.open(run) },
        h("span", { class: "dot", "aria-hidden": "true" }),
        h("span", { class: "run-main" },
          h("span", { class: "run-title" }, h("b", null, run.language), ` ${run.status}`),
          h("span", { class: "run-line" }, line.slice(0, 120))),
        h("span", { class: "run-when" },
          h("span", null, ago(run.created_at)), h("span", null, ended ? duration(run.usage.wall_ms) : "…"))),
      h("button", {
        type: "button", class: "quiet", "aria-label": `Run again: ${run.language}, ${run.status}, ${ago(run.created_at)}`,
        onclick: () => this.hooks.again(run),
      }, "Run again"),
    );
  }
}
