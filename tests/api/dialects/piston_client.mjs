// Drives Piston's clients of npm: a call as JSON on stdin, what it returned on stdout. The first argument is the folder
// that has node_modules.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.argv[2]}/`);
const asked = JSON.parse(readFileSync(0, "utf8"));
let client;
if (asked.client === "piston-client") {
  client = (await import(pathToFileURL(require.resolve("piston-client")))).default({ server: asked.url });
} else {
  client = new (require("piston-api-client")[asked.client])({ server: asked.url });
}
const said = [];
for (const [name, ...values] of asked.calls) said.push(await client[name](...values));
console.log(JSON.stringify(said));
// One of them keeps a timer for a day.
process.exit(0);
