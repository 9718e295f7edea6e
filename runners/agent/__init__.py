"""The agent: PID 1 of every sandbox. Standard library only, and as little of it as will do.

Theory of operation
===================
The host starts this as PID 1 of a fresh sandbox with a two-way byte stream as descriptors 0 and 1. It sends
READY and waits; all steps that are possible before a job are made now:

* `fork` (Python): it has forked a child of itself, which waits on a pipe. PID 1 runs inside the interpreter's own
  `site` import, so that the released child simply returns from that import and the interpreter continues to
  open and run `main.py` as it would have anyhow: no frame of the agent lies beneath the program's.
* `hold` (Node): it has started the interpreter, which waits in a preload script on the same kind of pipe.
* `none` (bash, and what is compiled): there is no interpreter worth holding. It has forked a child, which waits
  in its complete confinement for the command to execute.

Then the host sends files and the job. For a compiled language it sends `compile`: PID 1 runs the compiler to its
end as a program's below, reports its exit status and waits, while the host applies the program's limits.

Then come stdin and `go`. PID 1 releases the child (or, where that is of no use, forks and executes the command),
and does nothing but move bytes until the main process ends, the host sends `kill`, the deadline passes or the
stream closes. Then it kills everything in the sandbox (`kill(-1)`), reaps until there is no child left, empties the
pipes, reports the end of the main process, and sends the files in /work/outputs.

Trust: none. The program runs under the same uid; the host accepts every frame of this process only
within its own bounds (see `sandbox/frames.py` on the other end). Measures for honest
programs: every signal is ignored, memory and descriptors are closed to the program (non-dumpable), and the
kernel's OOM killer is steered to the program first.

Nothing happens on import, no thread is started, nothing is opened before the stream is there.
"""

#: Called in a template when it has imported its modules, with a flag: True if it has further modules for programs.
#: None for an interpreter without such a hook.
imported = None
