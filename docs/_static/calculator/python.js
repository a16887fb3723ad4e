// Python, in a worker: the page stays alive whatever is asked.
const PATIENCE = 15_000; // ms for one answer, after Python has started

let worker, running, last = 0, tell = () => {}, broken = () => {};
const waiting = new Map();

/** The first answer is shown before anything is loaded; a page in the background is never painted. */
const painted = () => new Promise((resolve) => {
  requestAnimationFrame(() => setTimeout(resolve));
  setTimeout(resolve, 300);
});

/** Start Python; `told` is called with the state in words, `failed` with the error if it cannot be loaded. */
export function start(told, failed) {
  [tell, broken] = [told, failed];
  tell("Python is loading …");
  running = painted().then(() => new Promise((resolve, reject) => {
    worker = new Worker(new URL("../calculator-worker.js", import.meta.url), { type: "module" });
    worker.onerror = () => reject(new Error("the worker cannot be started"));
    worker.onmessage = ({ data }) => {
      if (data.ready) resolve();
      else if (data.broken) reject(new Error(data.broken));
      else settle(data);
    };
  }));
  running = running.then(() => tell("ready"), (error) => {
    tell("");
    throw new Error("Python could not be loaded: the page must be served over http, and the site must be built with " +
      `a network connection (make docs, then make docs-serve).\n${error.message}`);
  });
  running.catch((error) => broken(error));
}

function settle({ id, result, failure }) {
  const { resolve, reject, timer } = waiting.get(id) ?? {};
  waiting.delete(id);
  clearTimeout(timer);
  if (failure) reject?.(new Error(failure));
  else resolve?.(result);
}

/** Ask Python for the result of a function of convspec.layers.calculator. */
export async function ask(call, ...args) {
  await running;
  const id = ++last;
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      worker.terminate();
      waiting.clear();
      start(tell, broken);
      reject(new Error(`No answer within ${PATIENCE / 1000} seconds: the layer is too large for this page.`));
    }, PATIENCE);
    waiting.set(id, { resolve, reject, timer });
    worker.postMessage({ id, call, args });
  });
}
