// Python of its own: loads convspec's wheel and answers one request after the other.
const home = new URL("../calculator/", import.meta.url);
const pyodide = new URL("pyodide/", home);

/** A file of Pyodide, from its compressed copy where the site has one: a third of the bytes. */
async function unpacked(name, type) {
  try {
    const packed = await fetch(new URL(`${name}.gz`, pyodide));
    if (!packed.ok) throw new Error(packed.status);
    return new Response(await new Response(packed.body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer(), { headers: { "Content-Type": type } });
  } catch {
    return plainFetch(new URL(name, pyodide));
  }
}

const plainFetch = globalThis.fetch.bind(globalThis);
const early = { // asked for at once, so that nothing waits for anything else
  "pyodide.asm.wasm": unpacked("pyodide.asm.wasm", "application/wasm"),
  "python_stdlib.zip": plainFetch(new URL("python_stdlib.zip", pyodide)),
};
const [program, wheel] = [unpacked("pyodide.asm.mjs", "text/javascript"), plainFetch(new URL("convspec.whl", home))];

globalThis.fetch = (resource, ...options) => early[String(resource?.url ?? resource).split("/").at(-1)] ?? plainFetch(resource, ...options);

async function start() {
  const { loadPyodide } = await import(new URL("pyodide.mjs", pyodide));
  const code = URL.createObjectURL(await (await program).blob());
  const { default: createPyodideModule } = await import(code);
  const python = await loadPyodide({ indexURL: pyodide.href, createPyodideModule });
  const found = await wheel;
  if (!found.ok) throw new Error(`convspec.whl: ${found.status}`);
  python.unpackArchive(await found.arrayBuffer(), "wheel");
  return python.runPython(`
import json
from convspec.layers import calculator

def answer(function, arguments):
    return json.dumps(getattr(calculator, function)(*json.loads(arguments)))

answer
`);
}

const ready = start();
ready.then(() => postMessage({ ready: true }), (error) => postMessage({ broken: String(error) }));

addEventListener("message", async ({ data: { id, call, args } }) => {
  try {
    const answer = await ready;
    postMessage({ id, result: JSON.parse(answer(call, JSON.stringify(args))) });
  } catch (error) {
    postMessage({ id, failure: String(error) });
  }
});
