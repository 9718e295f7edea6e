// One run at a time, from Run to its end. Runs are made in the background and then followed: so a lost
// connection, a closed lid or a reloaded page does not end them, and they can be taken up where they were.
import { call, events, freshKey, Interrupted, Refused } from "./api";
import { notice } from "./problems";
import type { Result } from "./result";
import type { ErrorObject, Run, RunRequest } from "./types";

interface Hooks {
  /** True while a program runs. */
  busy(running: boolean): void;
  /** A run has begun or ended: lists are out of date. */
  changed(): void;
  goTo(param: string): (() => void) | null;
  tokenWanted(): void;
}

export class Runner {
  private run: { id: string; seq: number } | null = null;
  private following = new AbortController();
  private lost = false;

  constructor(private readonly result: Result, private readonly hooks: Hooks) {
    window.addEventListener("online", () => {
      if (this.lost && this.run) void this.resume();
    });
  }

  /** Run it. `key` names the attempt: the same attempt made twice is one run. */
  async start(request: RunRequest, key = freshKey()): Promise<void> {
    const mine = this.take();
    this.result.clear();
    this.result.status("sending");
    this.hooks.busy(true);
    try {
      const run = await call<Run>("/v1/runs", {
        method: "POST",
        json: { ...request, background: true },
        headers: { "Idempotency-Key": key },
      });
      if (mine.signal.aborted) return;
      this.run = { id: run.id, seq: 0 };
      this.hooks.changed();
    } catch (problem) {
      if (mine.signal.aborted) return;
      this.hooks.busy(false);
      this.result.status("refused");
      const again = (): void => void this.start(request, key);
      this.say(problem, retryable(problem) ? again : undefined);
      return;
    }
    await this.follow(mine.signal);
  }

  /** Show nothing until a run that was made before is looked up. Gives whether that is still what is wanted. */
  awaitRun(): () => boolean {
    const mine = this.take();
    this.result.clear();
    this.result.status("loading");
    this.hooks.busy(false);
    return () => !mine.signal.aborted;
  }

  /** Show a run that was made before, live if it still goes on. */
  async open(id: string): Promise<void> {
    const mine = this.take();
    this.result.clear();
    this.run = { id, seq: 0 };
    this.result.status("sending");
    this.hooks.busy(true);
    await this.follow(mine.signal);
  }

  /** Go on where the connection was lost. */
  async resume(): Promise<void> {
    const mine = this.take(true);
    this.result.problem(null);
    this.result.status("running");
    this.hooks.busy(true);
    await this.follow(mine.signal);
  }

  async cancel(): Promise<void> {
    if (!this.run) return;
    const { id } = this.run;
    try {
      const run = await call<Run>(`/v1/runs/${encodeURIComponent(id)}/cancel`, { method: "POST" });
      if (this.lost && this.run?.id === id) {
        this.lost = false;
        this.end(run);
      }
    } catch (problem) {
      this.say(problem, () => void this.cancel());
    }
  }

  private take(keep = false): AbortController {
    this.following.abort();
    this.following = new AbortController();
    this.lost = false;
    if (!keep) this.run = null;
    return this.following;
  }

  private async follow(signal: AbortSignal): Promise<void> {
    const run = this.run!;
    try {
      for await (const event of events(run.id, run.seq, signal)) {
        if (signal.aborted) return;
        run.seq = event.seq;
        if (event.event === "result") return this.end(event.data as Run);
        if (event.event === "error") return await this.failed(run.id, event.data as ErrorObject);
        this.result.event(event);
      }
    } catch (problem) {
      if (signal.aborted) return;
      this.result.stopClock();
      this.lost = problem instanceof Interrupted || (problem instanceof Refused && retryable(problem));
      if (this.lost) this.result.status("lost", "");
      else {
        this.result.status("error", "");
        this.hooks.busy(false);
      }
      this.say(this.lost ? new Interrupted() : problem, undefined, this.lost ? () => void this.resume() : undefined);
    }
  }

  private async failed(id: string, error: ErrorObject): Promise<void> {
    try {
      this.end(await call<Run>(`/v1/runs/${encodeURIComponent(id)}`));
    } catch {
      this.hooks.busy(false);
      this.result.status("error", error.code);
    }
    this.say(new Refused(500, error));
  }

  private end(run: Run): void {
    this.result.problem(null);
    this.result.end(run);
    this.hooks.busy(false);
    this.hooks.changed();
  }

  private say(problem: unknown, again?: () => void, resume?: () => void): void {
    if (problem instanceof Refused && problem.status === 401) this.hooks.tokenWanted();
    const actions: Parameters<typeof notice>[1] = { goTo: (param) => this.hooks.goTo(param) };
    if (again) actions.again = again;
    if (resume) actions.resume = resume;
    this.result.problem(notice(problem, actions));
  }
}

/** Return whether the same request may succeed later. */
function retryable(problem: unknown): boolean {
  return problem instanceof Refused && (problem.status === 0 || problem.status === 429 || problem.status >= 500);
}
