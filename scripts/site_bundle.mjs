// node site_bundle.mjs FOLDER < REQUESTS: FOLDER has convspec.whl and the folder pyodide; writes convspec.zip and python.zip.
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const folder = resolve(process.argv[2]);
const { loadPyodide } = await import(pathToFileURL(join(folder, "pyodide", "pyodide.mjs")));
const python = await loadPyodide({ indexURL: join(folder, "pyodide") });
python.unpackArchive(new Uint8Array(readFileSync(join(folder, "convspec.whl"))), "wheel");
python.FS.writeFile("/tmp/site_bundle.py", readFileSync(new URL("site_bundle.py", import.meta.url)));
python.globals.set("requests", readFileSync(0, "utf8"));
python.runPython("import json, sys; sys.path.append('/tmp'); import site_bundle; site_bundle.main(json.loads(requests))");
for (const name of ["convspec.zip", "python.zip"]) writeFileSync(join(folder, name), python.FS.readFile(`/tmp/${name}`));
