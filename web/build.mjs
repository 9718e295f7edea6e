// Builds the admin page from web/admin/src into web/admin/static, which is committed: `make up` needs no Node.
// The same locked packages give the same bytes, wherever it is built; tests/web/test_web_build.py holds it to that.
import { build } from "esbuild";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const target = process.argv[2] ?? join(here, "admin/static");
const source = "admin/src";

await rm(target, { recursive: true, force: true });
await mkdir(target, { recursive: true });

const made = await build({
  absWorkingDir: here,
  entryPoints: { main: `${source}/main.ts`, style: `${source}/style.css` },
  outdir: join(target, "assets"),
  entryNames: "[name]-[hash]",
  chunkNames: "part-[hash]",
  bundle: true,
  splitting: true,
  format: "esm",
  target: "es2022",
  minify: true,
  charset: "utf8",
  legalComments: "none", // the licences are in licences.txt
  metafile: true,
  logLevel: "warning",
});

const outputs = Object.entries(made.metafile.outputs);
const nameOf = (entry) => {
  const [path] = outputs.find(([, output]) => output.entryPoint === `${source}/${entry}`);
  return relative(target, join(here, path)).replaceAll("\\", "/");
};
const page = await readFile(join(here, source, "index.html"), "utf8");
await writeFile(
  join(target, "index.html"),
  page.replace("%STYLE%", `/${nameOf("style.css")}`).replace("%MAIN%", `/${nameOf("main.ts")}`),
);
await writeFile(join(target, "assets/icon.svg"), await readFile(join(here, source, "icon.svg")));

// The licences of third-party code require their notice in every copy.
const packages = new Set(
  Object.keys(made.metafile.inputs)
    .map((path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1])
    .filter(Boolean),
);
let notices = "The admin page contains these packages.\n";
for (const name of [...packages].sort()) {
  const folder = join(here, "node_modules", name);
  const about = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
  const text = file ? await readFile(join(folder, file), "utf8") : `${about.license}\n`;
  notices += `\n---- ${name} ${about.version} (${about.license})\n\n${text.trim()}\n`;
}
await writeFile(join(target, "licences.txt"), notices);
