// Run the pack's ONNX folders on onnxruntime-web, in Node: npm install && node run.mjs DIR
// Each folder is one of ONNX's backend tests: model.onnx, and input and output as TensorProto messages. Integers must be
// equal; of "random" vectors the reader's bounds decide. known.json has what ONNX Runtime is known to fail: if one of
// these passes, that is a failure too. Prints each failure, then the numbers; exits with 0 or 1.
import { readdir, readFile } from "node:fs/promises";
import * as ort from "onnxruntime-web";
import { vectors } from "../readers/javascript/vectors.mjs";

ort.env.wasm.numThreads = 1;
const TYPES = { 1: ["float32", Float32Array], 2: ["uint8", Uint8Array], 3: ["int8", Int8Array] };

/** Return a TensorProto: its fields are 1 sizes, 2 type, 9 raw data. */
function tensor(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  const found = { dims: [], type: 0, data: bytes.slice(0, 0) };
  while (at < bytes.length) {
    const key = varint();
    const value = varint();
    if (key === 8) found.dims.push(value);
    if (key === 16) found.type = value;
    if (key % 8 !== 2) continue;
    if (key === 74) found.data = bytes.slice(at, at + value);
    at += value;
  }
  const [name, Numbers] = TYPES[found.type];
  const values = new Numbers(found.data.buffer, found.data.byteOffset, product(found.dims));
  return { name, values, dims: found.dims };
}

const product = (sizes) => sizes.reduce((a, b) => a * b, 1);
const read = async (path) => new Uint8Array(await readFile(path));

/** Return why a test fails, or "". */
async function test(folder, bound) {
  const [x, y] = [
    tensor(await read(`${folder}/test_data_set_0/input_0.pb`)),
    tensor(await read(`${folder}/test_data_set_0/output_0.pb`)),
  ];
  const session = await ort.InferenceSession.create(await read(`${folder}/model.onnx`), {
    executionProviders: ["wasm"],
    logSeverityLevel: 4, // fatal: what fails is printed here
  });
  const { y: got } = await session.run({ x: new ort.Tensor(x.name, x.values, x.dims) });
  await session.release();
  if (String(got.dims) !== String(y.dims)) return `shape ${got.dims}, expected ${y.dims}`;
  const wrong = y.values.findIndex((n, i) => !(Math.abs(got.data[i] - n) <= (bound?.[i] ?? 0)));
  return wrong < 0 ? "" : `y[${wrong}] is ${got.data[wrong]}, expected ${y.values[wrong]}`;
}

const folder = process.argv[2];
const bounds = {};
for await (const v of vectors(folder)) bounds[v.id] = v.arrays.bound;
const known = JSON.parse(await readFile(new URL("known.json", import.meta.url)));
let total = 0, failed = 0, expected = 0;
for (const name of (await readdir(`${folder}/onnx`)).sort()) {
  const reason = await test(`${folder}/onnx/${name}`, bounds[name]).catch((error) => String(error.message ?? error));
  total++;
  if (reason && known[name]) {
    expected++;
  } else if (reason || known[name]) {
    failed++;
    console.log(`FAILED ${name}: ${reason ? reason.split("\n")[0] : `passes, but is known to fail: ${known[name]}`}`);
  }
}
console.log(`${total} tests, ${failed} failed, ${expected} known`);
process.exitCode = failed ? 1 : 0;
