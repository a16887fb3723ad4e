// Python of its own: loads the modules that the calculator needs, compiled, and answers one request after the other.
const home = new URL("../calculator/", import.meta.url);
const pyodide = new URL("pyodide/", home);
const plainFetch = globalThis.fetch.bind(globalThis);

/** A file of Pyodide, from its compressed copy where the site has one: a third of the bytes, used while they arrive. */
async function unpacked(name, type) {
  const packed = await plainFetch(new URL(`${name}.gz`, pyodide)).catch(() => null);
  if (!packed?.ok || !globalThis.DecompressionStream) return plainFetch(new URL(name, pyodide));
  return new Response(packed.body.pipeThrough(new DecompressionStream("gzip")), { headers: { "Content-Type": type } });
}

async function bytes(address) {
  const found = await plainFetch(address);
  if (!found.ok) throw new Error(`${address}: ${found.status}`);
  return found.arrayBuffer();
}

// asked for at once, so that nothing waits for anything else
const machine = unpacked("pyodide.asm.wasm", "application/wasm");
const program = unpacked("pyodide.asm.mjs", "text/javascript").then((found) => found.blob());
const [library, modules] = [plainFetch(new URL("python.zip", home)), bytes(new URL("convspec.zip", home))];
const early = { "pyodide.asm.wasm": machine, "python_stdlib.zip": library };
globalThis.fetch = (resource, ...options) => early[String(resource?.url ?? resource).split("/").at(-1)] ?? plainFetch(resource, ...options);

async function start() {
  const { loadPyodide } = await import(new URL("pyodide.mjs", pyodide));
  const { default: createPyodideModule } = await import(URL.createObjectURL(await program));
  const python = await loadPyodide({ indexURL: pyodide.href, createPyodideModule });
  const place = python.runPython("import site; site.getsitepackages()[0]");
  python.unpackArchive(await modules, "zip", { extractDir: place });
  return { python, answer: entry(python) };
}

const entry = (python) => python.runPython(`
import json
from convspec.layers import calculator

def answer(function, arguments):
    return json.dumps(getattr(calculator, function)(*json.loads(arguments)))

answer
`);

let whole;

/** Add the whole library and the whole wheel, for a request that needs a module which the page has not loaded. */
function complete(python) {
  whole ??= Promise.all([bytes(new URL("python_stdlib.zip", pyodide)), bytes(new URL("convspec.whl", home))]).then(([rest, wheel]) => {
    python.FS.writeFile("/tmp/rest.zip", new Uint8Array(rest));
    python.unpackArchive(wheel, "wheel");
    python.runPython("import importlib, sys; sys.path.append('/tmp/rest.zip'); importlib.invalidate_caches()");
  });
  return whole;
}

async function answered(call, args) {
  const { python, answer } = await ready;
  try {
    return answer(call, args);
  } catch (error) {
    if (whole || !/ModuleNotFoundError|LookupError/.test(error)) throw error;
    await complete(python);
    return answer(call, args);
  }
}

const ready = start();
ready.then(() => postMessage({ ready: true }), (error) => postMessage({ broken: String(error) }));

addEventListener("message", async ({ data: { id, call, args } }) => {
  try {
    postMessage({ id, result: JSON.parse(await answered(call, JSON.stringify(args))) });
  } catch (error) {
    postMessage({ id, failure: String(error) });
  }
});
