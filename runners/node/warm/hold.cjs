// Hold a booted Node until its program arrives: preloaded before the main module is looked up, so that all
// that follows is Node's own way of finding, telling apart (ESM or CommonJS) and running main.js.
"use strict";

const holdFd = process.env.RUNYARD_HOLD_FD;

if (holdFd !== undefined) {
  delete process.env.RUNYARD_HOLD_FD;
  const fs = require("node:fs");

  const readExactly = (fd, length) => {
    const buffer = Buffer.alloc(length);
    for (let at = 0; at < length; ) {
      const count = fs.readSync(fd, buffer, at, length - at, null);
      if (count === 0) process.exit(0); // the agent is gone
      at += count;
    }
    return buffer;
  };

  const unpack = (buffer) => {
    const parts = [];
    for (let at = 0; at < buffer.length; ) {
      const end = at + 4 + buffer.readUInt32BE(at);
      parts.push(buffer.subarray(at + 4, end));
      at = end;
    }
    return parts;
  };

  const fd = Number(holdFd);
  const [args, env] = unpack(readExactly(fd, readExactly(fd, 4).readUInt32BE(0)));
  fs.closeSync(fd);
  for (const pair of unpack(env)) {
    const text = pair.toString();
    const at = text.indexOf("=");
    process.env[text.slice(0, at)] = text.slice(at + 1);
  }
  process.argv.push(...unpack(args).map(String));
}

// Worker threads preload this file too (they inherit the options); their environment has no such variable.
process.execArgv.length = 0;
process._preload_modules.length = 0;
delete require.cache[__filename];
