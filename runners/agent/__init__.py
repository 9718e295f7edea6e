"""The agent: PID 1 of every sandbox. Standard library only, and as little of it as will do.

Theory of operation
===================
The host starts this as PID 1 of a fresh sandbox with a two-way byte stream as descriptors 0 and 1. It says
`ready` and waits; whatever it can do ahead of a job it does now:

* `fork` (Python): it has forked a child of itself, which waits on a pipe. PID 1 runs inside the interpreter's own
  `site` import, so that the released child simply returns from that import and the interpreter goes on to
  open and run `main.py` as it would have anyhow: no frame of the agent lies beneath the program's.
* `hold` (Node): it has started the interpreter, which waits in a preload script on the same kind of pipe.
* `none` (bash, and what is compiled): there is no interpreter worth holding. It has forked a child, which waits
  behind all its walls to be told what to execute.

Then the host sends files and the job. For a compiled language it says `compile`: PID 1 starts the compiler, sees to
its end as to a program's below, says how it ended and waits, while the host puts the program's limits in force.

Then come stdin and `go`. PID 1 releases the child (or, where that is of no use, forks and executes the command),
and does nothing but move bytes until the main process ends, the host says `kill`, the deadline passes or the stream
closes. Then it kills everything in the sandbox (`kill(-1)`), reaps until there is no child left, empties the pipes,
says how the main process ended, and sends what lies in /work/outputs.

Who is trusted: nobody here. The program runs under the same uid; the host believes nothing that this
process says beyond its own bounds (see `sandbox/frames.py` on the other end). What is done here for honest
programs: every signal is ignored, memory and descriptors are closed to the program (non-dumpable), and the
kernel's OOM killer is steered to the program first.

Nothing happens on import, no thread is started, nothing is opened before the stream is there.
"""

#: What waits for a program in a template's children, told when the template has imported all it is to have ready: a
#: callable that takes whether that is something for programs to find. None where there is nothing to tell.
imported = None
