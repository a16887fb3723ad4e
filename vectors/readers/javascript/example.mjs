// Test your own function with the pack: node example.mjs DIR
// This one convolves images (N, H, W, C) with zero padding, without groups; other layers are unsupported.
import { outputSize, run, Unsupported } from "./vectors.mjs";

function conv(v) {
  if (v.size.length !== 2 || !v.nhwc || v.transposed || v.groups > 1 || v.mode !== "zeros") throw new Unsupported();
  const [rows, columns] = outputSize(v), [h, w] = v.size, [kh, kw] = v.taps;
  const { x, kernel, bias } = v.arrays, y = new Float64Array(v.batch * rows * columns * v.outChannels);
  let to = 0;
  for (let n = 0; n < v.batch; n++) {
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) {
        for (let o = 0; o < v.outChannels; o++, to++) {
          y[to] = bias ? bias[o] : 0;
          for (let a = 0; a < kh; a++) {
            for (let b = 0; b < kw; b++) {
              const r = i * v.stride[0] + a * v.dilation[0] - v.pads[0];
              const s = j * v.stride[1] + b * v.dilation[1] - v.pads[2];
              if (r < 0 || r >= h || s < 0 || s >= w) continue;
              for (let c = 0; c < v.inChannels; c++) {
                y[to] += x[((n * h + r) * w + s) * v.inChannels + c] * kernel[((o * v.inChannels + c) * kh + a) * kw + b];
              }
            }
          }
        }
      }
    }
  }
  return y;
}

process.exitCode = await run(process.argv[2], { conv });
