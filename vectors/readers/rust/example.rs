//! Test your own function with the pack: `rustc --edition 2021 -O example.rs && ./example DIR`
//! This one convolves images (N, C, H, W) with zero padding, without groups; other layers are unsupported.
mod vectors;
use vectors::{Answer, Functions, No, Vector};

fn conv(v: &Vector, x: &[f64]) -> Answer {
    if v.size.len() != 2 || v.nhwc || v.transposed || v.groups > 1 || v.mode != "zeros" {
        return Err(No::Unsupported);
    }
    let (out, weights, bias) = (v.out()?, v.array("kernel"), v.array("bias"));
    let [h, w] = [v.size[0], v.size[1]];
    let mut y = vec![];
    for (n, o) in (0..v.batch * v.channels[1]).map(|i| (i / v.channels[1], i % v.channels[1])) {
        for (i, j) in (0..out[0] * out[1]).map(|p| (p / out[1], p % out[1])) {
            let mut sum = bias.get(o).copied().unwrap_or(0.0);
            for c in 0..v.channels[0] {
                for (a, b) in (0..v.kernel[0] * v.kernel[1]).map(|t| (t / v.kernel[1], t % v.kernel[1])) {
                    let row = i * v.stride[0] + a * v.dilation[0] - v.pads[0];
                    let column = j * v.stride[1] + b * v.dilation[1] - v.pads[2];
                    if (0..h).contains(&row) && (0..w).contains(&column) {
                        let from = ((n * v.channels[0] + c) as i64 * h + row) * w + column;
                        let k = ((o * v.channels[0] + c) as i64 * v.kernel[0] + a) * v.kernel[1] + b;
                        sum += x[from as usize] * weights[k as usize];
                    }
                }
            }
            y.push(sum);
        }
    }
    Ok(y)
}

fn main() {
    let mine = Functions { conv: Some(conv), ..Functions::default() };
    std::process::exit(vectors::run(&std::env::args().nth(1).expect("usage: example DIR"), &mine));
}
