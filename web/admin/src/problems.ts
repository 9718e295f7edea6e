// Error messages: the service's own text, the field, and the remedy.
import { Interrupted, Refused } from "./api";
import { h } from "./dom";
import { Unfit } from "./program";

const ADVICE: Record<string, string> = {
  missing_token: "Enter a token with the “Token” button at the top.",
  malformed_token: "Enter the token again with the “Token” button at the top.",
  invalid_token: "Check the token, or ask the operator of this service for a new one.",
  unreachable: "Check that the service is running (make status) and that you are online, then try again.",
  language_not_ready: "The image of this language is still being built. Try again in a moment.",
  overloaded: "The service is busy. Try again in a moment.",
  rate_limit_exceeded: "Too many requests with this token. Wait a moment.",
  worker_unavailable: "The service is starting or its worker is down. Try again in a moment.",
  request_too_large: "Upload large files instead of pasting them.",
  file_too_large: "Choose a smaller file, or ask the operator to raise MAX_UPLOAD_MB.",
  storage_quota_exceeded: "Delete files that you no longer need.",
  limit_exceeds_maximum: "Lower the limit, or leave it empty for the default.",
  limit_below_minimum: "Raise the limit, or leave it empty for the default.",
  file_not_found: "The file has expired or was deleted. Remove it from the list and upload it again.",
  run_not_found: "The run was deleted: runs are kept for a limited time.",
  duplicate_path: "Give each file a different path.",
  queue_timeout: "The service was too busy. Run it again.",
  worker_lost: "The service was restarted during the run. Run the program again.",
};

interface Actions {
  goTo?: (param: string) => (() => void) | null;
  again?: () => void;
  resume?: () => void;
}

/** A problem as a notice, with a way on. */
export function notice(problem: unknown, actions: Actions = {}): HTMLElement {
  if (problem instanceof Unfit) return box("The request is not valid yet", problem.message, problem.param, "", actions, null);
  if (problem instanceof Interrupted) {
    return box("The connection was lost", "Your program is still running; its output is being saved.", null, "", actions, null);
  }
  if (!(problem instanceof Refused)) {
    console.error(problem);
    return box("This page had an internal error", String(problem), null, "Reload the page.", actions, null);
  }
  const { error, status, requestId, retryAfterS } = problem;
  const titles: Record<number, string> = {
    0: "No response", 401: "Invalid token", 404: "Not found", 413: "Too large", 429: "Too many requests",
    503: "Temporarily unavailable",
  };
  const title = titles[status] ?? (status >= 500 ? "The service failed" : "The service rejected the request");
  let advice = ADVICE[error.code] ?? "";
  if (retryAfterS) advice += ` (${retryAfterS} s)`;
  return box(title, error.message, error.param, advice, actions, requestId && `${error.code}, request ${requestId}`);
}

function box(
  title: string, message: string, param: string | null, advice: string, actions: Actions, small: string | null,
): HTMLElement {
  const go = param ? actions.goTo?.(param) : null;
  return h(
    "div",
    { class: "notice bad", role: "alert" },
    h("strong", null, title),
    h("p", { class: "message" }, message),
    advice && h("p", null, advice),
    (go || actions.again || actions.resume) && h("p", { class: "actions" },
      go && h("button", { type: "button", onclick: go }, "Go to the field"),
      actions.again && h("button", { type: "button", onclick: actions.again }, "Try again"),
      actions.resume && h("button", { type: "button", onclick: actions.resume }, "Resume")),
    small && h("p", { class: "hint" }, small),
  );
}
