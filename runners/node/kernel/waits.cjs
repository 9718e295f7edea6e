// The promises that the top level of a cell waits for. They are held here, because V8 ends the process when a promise
// that an inspector waits for is collected, and so that SIGINT can reject them.
"use strict";

const held = new Map();

class Interrupt extends Error {
  name = "Interrupt";
}

function wait(value) {
  const { promise, resolve, reject } = Promise.withResolvers();
  held.set(promise, reject);
  const settled = (settle) => (result) => {
    held.delete(promise);
    settle(result);
  };
  Promise.resolve(value).then(settled(resolve), settled(reject));
  return promise;
}

// The iterator of a `for await`. It is closed where the loop is left, not where it fails: then it may never answer.
async function* iterate(source) {
  const iterator = source[Symbol.asyncIterator]?.() ?? source[Symbol.iterator]();
  let inBody = false;
  try {
    for (let step = await wait(iterator.next()); !step.done; step = await wait(iterator.next())) {
      const value = await wait(step.value);
      inBody = true;
      yield value;
      inBody = false;
    }
  } finally {
    if (inBody) await wait(iterator.return?.());
  }
}

// Reject everything that is waited for. Return whether there was anything.
function interrupt() {
  const rejects = [...held.values()];
  held.clear();
  for (const reject of rejects) reject(new Interrupt());
  return rejects.length > 0;
}

module.exports = { Interrupt, interrupt, iterate, wait };
