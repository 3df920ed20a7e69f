// Bundles src/ into dist/: index.html, app.js, app.css, icon.svg. Says how large they are gzipped, and fails above the limit.
import { build } from "esbuild";
import { copyFileSync, mkdirSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const here = dirname(fileURLToPath(import.meta.url));
const dist = process.argv[2] ?? join(here, "dist");
const limit = 150_000;

mkdirSync(dist, { recursive: true });
await build({
  entryPoints: { app: join(here, "src/main.tsx") },
  outdir: dist, bundle: true, minify: true, format: "esm", target: "es2022", legalComments: "eof",
  jsx: "automatic", jsxImportSource: "preact", logLevel: "warning",
});
for (const file of ["index.html", "icon.svg"]) copyFileSync(join(here, "src", file), join(dist, file));
let total = 0;
for (const file of readdirSync(dist)) total += gzipSync(readFileSync(join(dist, file)), { level: 9 }).length;
console.log(`${dist}: ${total} bytes gzipped of ${limit}`);
if (total > limit) process.exit(1);
