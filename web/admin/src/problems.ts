// What is said when something goes wrong: the service's own words, the field, and what to do now.
import { Interrupted, Refused } from "./api";
import { h } from "./dom";
import { Unfit } from "./program";

const ADVICE: Record<string, string> = {
  missing_token: "Enter a token: the button “Token” at the top.",
  malformed_token: "Enter the token again: the button “Token” at the top.",
  invalid_token: "Check the token, or ask whoever runs this service for a new one.",
  unreachable: "Check that the service is up (make status) and that you are online, then try again.",
  language_not_ready: "Its image is still being built. Try again in a moment.",
  overloaded: "The service is busy. Try again in a moment.",
  rate_limit_exceeded: "This token has made too many requests. Wait a moment.",
  worker_unavailable: "The service is starting or its worker is down. Try again in a moment.",
  request_too_large: "Upload large files instead of pasting them.",
  file_too_large: "Give a smaller file, or have MAX_UPLOAD_MB raised.",
  storage_quota_exceeded: "Delete files that are not needed any more.",
  limit_exceeds_maximum: "Lower the limit, or leave it empty for the default.",
  limit_below_minimum: "Raise the limit, or leave it empty for the default.",
  file_not_found: "It has expired or was deleted. Remove it from the files and upload it again.",
  run_not_found: "It has been forgotten: runs are kept for a limited time.",
  duplicate_path: "Give each file a path of its own.",
  queue_timeout: "The service was too busy. Run it again.",
  worker_lost: "The service was restarted while the program ran. Run it again.",
};

interface Actions {
  goTo?: (param: string) => (() => void) | null;
  again?: () => void;
  resume?: () => void;
}

/** A problem as a notice, with a way on. */
export function notice(problem: unknown, actions: Actions = {}): HTMLElement {
  if (problem instanceof Unfit) return box("This cannot be sent yet", problem.message, problem.param, "", actions, null);
  if (problem instanceof Interrupted) {
    return box("The connection was lost", "Your program is still running; its output is being saved.", null, "", actions, null);
  }
  if (!(problem instanceof Refused)) {
    console.error(problem);
    return box("Something in this page went wrong", String(problem), null, "Reload the page.", actions, null);
  }
  const { error, status, requestId, retryAfterS } = problem;
  const titles: Record<number, string> = {
    0: "No answer", 401: "The token is not accepted", 404: "Not found", 413: "Too large", 429: "Too many requests",
    503: "Not possible right now",
  };
  const title = titles[status] ?? (status >= 500 ? "The service failed" : "The service did not accept this");
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
