// Hold a booted Node with the hooks in place; then everything is as if only those had been preloaded.
"use strict";

const HOOKS = "/opt/runyard/typescript/hooks.cjs";
const warm = process.env.RUNYARD_HOLD_FD !== undefined;

const { transform } = require(HOOKS);
if (warm) transform("main.ts", "export const ready: boolean = true;");
require("/opt/runyard/node/hold.cjs"); // waits, and forgets what was preloaded

process.execArgv.push("--require", HOOKS);
process._preload_modules.push(HOOKS);
delete require.cache[__filename];
