// SIGINT by Node's own watchdog, which runs for the whole life of the kernel: a listener of `process` is removed, and
// added again, around each script that SIGINT may end, and a signal between the two would end the process.
"use strict";

const { emitWarning } = process;
process.emitWarning = () => {}; // it warns that the module is not for users
const { startSigintWatchdog, stopSigintWatchdog } = require("internal/test/binding").internalBinding("contextify");
process.emitWarning = emitWarning;

const POLL_MS = 20;
const { clearInterval: clear, setInterval: repeat } = globalThis;
let timer = null;

startSigintWatchdog();

// Return whether a signal has arrived since the last call that no script has received.
function arrived() {
  startSigintWatchdog(); // only the second of two that run is stopped
  return stopSigintWatchdog();
}

// Call `action` for each signal from now on, while the loop is not busy.
function watch(action) {
  timer ??= repeat(() => {
    if (arrived()) action();
  }, POLL_MS);
}

function unwatch() {
  clear(timer);
  timer = null;
}

module.exports = { arrived, unwatch, watch };
