// Python of its own: loads convspec's wheel and answers one request after the other.
const home = new URL("../calculator/", import.meta.url);

async function start() {
  const { loadPyodide } = await import(new URL("pyodide/pyodide.mjs", home));
  const wheel = await fetch(new URL("convspec.whl", home));
  if (!wheel.ok) throw new Error(`convspec.whl: ${wheel.status}`);
  const python = await loadPyodide({ indexURL: new URL("pyodide/", home).href });
  python.unpackArchive(await wheel.arrayBuffer(), "wheel");
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
