// The usage of this token.
import { call, Refused } from "./api";
import { byId, fill, h } from "./dom";
import { amount, size } from "./format";
import { notice } from "./problems";
import { token } from "./token";
import type { Usage } from "./types";

export async function showUsage(): Promise<void> {
  const host = byId("usage");
  if (!token.get()) return fill(host, h("p", { class: "empty" }, "Enter a token to see its usage."));
  try {
    draw(host, await call<Usage>("/v1/usage"));
  } catch (problem) {
    if (problem instanceof Refused && problem.status === 404) {
      fill(host, h("p", { class: "empty" }, "This service does not provide usage data."));
    } else fill(host, notice(problem, { again: () => void showUsage() }));
  }
}

function draw(host: HTMLElement, usage: Usage): void {
  const tiles: [string, string][] = [
    ["Runs", amount(usage.runs)],
    ["CPU", `${amount(usage.cpu_seconds)} s`],
    ["Wall clock", `${amount(usage.wall_seconds)} s`],
    ["Memory × time", `${amount(usage.gb_seconds)} GB·s`],
    ["Sent", size(usage.bytes_in)],
    ["Received", size(usage.bytes_out)],
  ];
  const limit = usage.runs_limit;
  const day = (iso: string): string => new Date(iso).toLocaleDateString();
  fill(
    host,
    h("p", { class: "muted" }, `${usage.plan ? `Plan ${usage.plan}, ` : ""}${day(usage.from)} to ${day(usage.to)}`),
    limit !== null && limit !== undefined && h("div", { class: "quota" },
      h("label", { for: "quota" }, `${amount(usage.runs)} of ${amount(limit)} runs`),
      h("progress", { id: "quota", max: Math.max(1, limit), value: Math.min(usage.runs, limit) })),
    h("dl", { class: "facts" }, ...tiles.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value)))),
    languages(usage),
  );
}

function languages(usage: Usage): HTMLElement | null {
  const rows = Object.entries(usage.by_language ?? {});
  if (rows.length === 0) return null;
  const columns = [...new Set(rows.flatMap(([, numbers]) => Object.keys(numbers)))];
  const title = (name: string): string => name.replaceAll("_", " ");
  return h("div", { class: "table-box", tabIndex: 0, role: "region", "aria-label": "Usage by language" },
    h("table", null,
      h("thead", null, h("tr", null, h("th", { scope: "col" }, "language"),
        ...columns.map((name) => h("th", { scope: "col" }, title(name))))),
      h("tbody", null, ...rows.map(([language, numbers]) => h("tr", null, h("th", { scope: "row" }, language),
        ...columns.map((name) => h("td", { class: "number" }, typeof numbers[name] === "number" ? amount(numbers[name]) : "")))))));
}
