// Bundle the page into one file, which loads nothing: node build.mjs [--check | --tests]
//
// The page's place is src/hourglass/analysis/explorer.html, where Python fills in the data. It is kept in git, so that
// pip and a fresh clone need no node; --check tells whether it is the build of these sources, as CI asks.
import { readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const at = path => fileURLToPath(new URL(path, import.meta.url));
const PAGE = at("../src/hourglass/analysis/explorer.html");
const common = { bundle: true, charset: "utf8", target: "es2022", jsx: "automatic", jsxImportSource: "preact" };

async function bundle(entry) {
  const { outputFiles } = await build({
    ...common, entryPoints: [at(entry)], write: false, minify: true, format: "iife", legalComments: "inline",
  });
  return outputFiles[0].text.trim();
}

async function page() {
  const script = await bundle("src/main.tsx");
  if (script.includes("</script")) throw new Error("the script ends its own element");
  const licence = readFileSync(at("node_modules/preact/LICENSE"), "utf8").trim();
  const parts = { "LICENCE": `Preact, which is part of the script below:\n\n${licence}`, "/*STYLE*/": await bundle("src/style.css"), "/*SCRIPT*/": script };
  return Object.entries(parts).reduce(
    (text, [place, part]) => text.replace(place, () => part), readFileSync(at("src/page.html"), "utf8"));
}

if (process.argv.includes("--tests")) {
  rmSync(at(".built"), { recursive: true, force: true });
  const tests = readdirSync(at("tests")).filter(name => /\.test\.tsx?$/.test(name));
  await build({
    ...common, entryPoints: tests.map(name => at(`tests/${name}`)), outdir: at(".built"), outExtension: { ".js": ".mjs" },
    format: "esm", platform: "node",
  });
} else if (process.argv.includes("--check")) {
  if (await page() !== readFileSync(PAGE, "utf8")) {
    console.error(`${PAGE} is not the build of explorer/src: run npm run build in explorer/ and commit both`);
    process.exit(1);
  }
} else {
  writeFileSync(PAGE, await page());
  console.log(`written: ${PAGE}`);
}
