// Call the handler of a function: the input comes from a file, the output goes to one; stdout is the handler's own.
// Started as `main.js HANDLER call|check`, also as TypeScript. It is CommonJS and an ES module at once, because a
// package.json of the function's may say that this file is either.
"use strict";

(async () => {
  const fs = process.getBuiltinModule("node:fs");
  const { pathToFileURL } = process.getBuiltinModule("node:url");
  const MOST = 1 << 20;
  const [path, what] = process.argv.splice(2);
  const fail = (message) => {
    fs.writeSync(2, `${message}\n`);
    process.exit(1);
  };

  const module = await import(pathToFileURL(`/work/${path}`).href);
  const run = module.run ?? module.default?.run;
  if (typeof run !== "function") fail(`${path}: it exports no function \`run\``);
  if (what === "check") process.exit(0);

  const value = await run(JSON.parse(fs.readFileSync("/work/.runyard/input", "utf8")));
  let text;
  try {
    text = JSON.stringify(value) ?? "null";
  } catch (error) {
    fail(`the output of the handler is not JSON: ${error.message}`);
  }
  const data = Buffer.from(text);
  if (data.length > MOST) fail(`the output of the handler has ${data.length} bytes, the maximum is ${MOST}`);
  fs.writeFileSync("/work/outputs/\x01output", data);
  // A timer or a connection that the handler has left open must not keep its caller waiting.
  process.exit(0);
})();
