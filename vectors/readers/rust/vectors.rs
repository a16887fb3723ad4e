//! Check a convolution with convspec's pack of test vectors: `rustc --edition 2021 -O vectors.rs`, then
//! `./vectors DIR`. Needs std only.
//! To test your own functions, include it as a module (see example.rs). All numbers are f64, which hold the integers of
//! the pack, and every sum of their products, exactly. Data are in the vector's layout, kernels in canonical order.
#![allow(dead_code)]
use std::{collections::HashMap, fs, path::Path, process::exit};

/// What a function under test may return instead of numbers.
pub enum No {
    Refused,     // the layer has no output for this input
    Unsupported, // the function has no such layer: neither a pass nor a failure
}
pub type Answer = Result<Vec<f64>, No>;

/// One line of the index; `size`, `kernel` and `out` are the sizes of the spatial axes.
pub struct Vector {
    pub id: String, pub kind: String, pub dtype: String, pub mode: String,
    pub nhwc: bool, pub transposed: bool, pub groups: usize, pub batch: usize,
    pub channels: [usize; 2], // in, out
    pub stride: Vec<i64>, pub dilation: Vec<i64>, pub output_padding: Vec<i64>,
    pub pads: Vec<i64>, // before, after; of each axis
    pub zeros: Vec<i64>, // of input and output
    pub size: Vec<i64>, pub kernel: Vec<i64>,
    pub arrays: HashMap<String, Vec<f64>>,
}

/// What is tested; a kind of vector without a function is unsupported.
#[derive(Default)]
pub struct Functions {
    pub conv: Option<fn(&Vector, &[f64]) -> Answer>, // the vector and x
    pub gradient: Option<fn(&Vector) -> Result<[Vec<f64>; 3], No>>, // dx, dkernel, dbias
    pub quantized: Option<fn(&Vector) -> Answer>,
}

fn product(sizes: &[i64]) -> usize { sizes.iter().product::<i64>() as usize }

impl Vector {
    fn read(folder: &Path, line: &str) -> Vector {
        let f: Vec<&str> = line.split('\t').collect();
        let list = |i: usize| f[i].split(',').filter_map(|n| n.parse().ok()).collect::<Vec<i64>>();
        let (x, kernel, y, nhwc, groups) = (list(11), list(12), list(13), f[2] == "NHWC", f[5].parse().unwrap());
        let (channel, transposed) = (if nhwc { x.len() - 1 } else { 1 }, f[4] == "1");
        let out = if transposed { kernel[1] as usize * groups } else { kernel[0] as usize };
        let data = fs::read(folder.join("vectors").join(f[0].to_owned() + ".bin")).expect("a file of vectors");
        let (mut rest, mut arrays) = (&data[..], HashMap::new());
        for name in f[15].split(',') {
            let count = match name {
                "x" | "dx" => product(&x),
                "kernel" | "dkernel" => product(&kernel),
                "bias" | "dbias" | "scale" => out,
                _ => product(&y),
            };
            let bytes = if f[1] == "random" || name == "bound" || name == "scale" { 8 } else { 4 };
            let (own, after) = rest.split_at(count * bytes);
            rest = after;
            let number = |b: &[u8]| match bytes {
                8 => f64::from_le_bytes(b.try_into().unwrap()),
                _ => f64::from(i32::from_le_bytes(b.try_into().unwrap())),
            };
            arrays.insert(name.to_owned(), own.chunks(bytes).map(number).collect());
        }
        Vector {
            id: f[0].into(), kind: f[1].into(), dtype: f[3].into(), mode: f[6].into(), nhwc, transposed, groups,
            stride: list(7), dilation: list(8), pads: list(9), output_padding: list(10), zeros: list(14),
            batch: x[0] as usize, channels: [x[channel] as usize, out], kernel: kernel[2..].to_vec(), arrays,
            size: if nhwc { x[1..channel].to_vec() } else { x[2..].to_vec() },
        }
    }

    /// Return an array; empty where the vector has none.
    pub fn array(&self, name: &str) -> &[f64] { self.arrays.get(name).map_or(&[], |a| a) }

    /// Return the sizes of the output.
    pub fn out(&self) -> Result<Vec<i64>, No> {
        let sizes = (0..self.size.len()).map(|a| {
            let (n, lo, hi) = (self.size[a], self.pads[2 * a], self.pads[2 * a + 1]);
            let (span, most) = ((self.kernel[a] - 1) * self.dilation[a] + 1, lo.max(hi));
            if self.transposed {
                let size = (n - 1) * self.stride[a] + span - lo - hi + self.output_padding[a];
                return if size < 0 { Err(No::Refused) } else { Ok(size) };
            }
            let room = match &self.mode[..] { "reflect" => n - 1, "circular" => n, _ => most };
            let room = if self.mode == "replicate" && n == 0 { 0 } else { room };
            let refused = n + lo + hi < span || (most > 0 && most > room);
            if refused { Err(No::Refused) } else { Ok((n + lo + hi - span) / self.stride[a] + 1) }
        });
        sizes.collect()
    }

    /// Return the input cell that an output reads with a tap, on one axis.
    fn source(&self, a: usize, out: i64, tap: i64) -> Option<i64> {
        let (n, s, step, lo) = (self.size[a], self.stride[a], tap * self.dilation[a], self.pads[2 * a]);
        let q = if self.transposed { out + lo - step } else { out * s + step - lo };
        match &self.mode[..] {
            _ if self.transposed => (q >= 0 && q < n * s && q % s == 0).then(|| q / s),
            "zeros" => (0..n).contains(&q).then_some(q),
            "circular" => Some(q.rem_euclid(n)),
            "reflect" => Some((n - 1 - (n - 1 - q.abs()).abs()).clamp(0, n - 1)),
            _ => Some(q.clamp(0, n - 1)),
        }
    }

    /// Call `each` with the places of output, input and weight of every product, and the output channel.
    fn walk(&self, out: &[i64], mut each: impl FnMut(usize, usize, usize)) {
        let [ci, co] = [self.channels[0] / self.groups, self.channels[1] / self.groups];
        let (taps, cells, all) = (product(&self.kernel), product(out), product(&self.size));
        let place = |n: usize, c: usize, cell: usize, channels: usize, cells: usize| {
            if self.nhwc { (n * cells + cell) * channels + c } else { (n * channels + c) * cells + cell }
        };
        for (cell, tap) in (0..cells * taps).map(|i| (i / taps, i % taps)) {
            let (mut p, mut t, mut from, mut step) = (cell as i64, tap as i64, Some(0), 1);
            for a in (0..out.len()).rev() {
                let q = self.source(a, p % out[a], t % self.kernel[a]);
                from = from.zip(q).map(|(f, q)| f + q * step);
                (p, t, step) = (p / out[a], t / self.kernel[a], step * self.size[a]);
            }
            let Some(from) = from else { continue };
            for k in 0..self.batch * self.channels[1] * ci {
                let (n, o, i) = (k / ci / self.channels[1], k / ci % self.channels[1], k % ci);
                let c = o / co * ci + i;
                let k = (if self.transposed { c * co + o % co } else { o * ci + i }) * taps + tap;
                each(place(n, o, cell, self.channels[1], cells), place(n, c, from as usize, self.channels[0], all), k);
            }
        }
    }

    /// Return the output channel of the i-th output.
    fn channel(&self, i: usize, o: &[i64]) -> usize { i / if self.nhwc { 1 } else { product(o) } % self.channels[1] }
}

pub fn conv(v: &Vector, x: &[f64]) -> Answer {
    let (out, kernel, bias) = (v.out()?, v.array("kernel"), v.array("bias"));
    let mut y: Vec<f64> = (0..v.batch * v.channels[1] * product(&out))
        .map(|i| bias.get(v.channel(i, &out)).copied().unwrap_or(0.0)).collect();
    v.walk(&out, |to, from, k| y[to] += x[from] * kernel[k]);
    Ok(y)
}

pub fn gradient(v: &Vector) -> Result<[Vec<f64>; 3], No> {
    let (out, kernel, x, dy) = (v.out()?, v.array("kernel"), v.array("x"), v.array("dy"));
    let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; kernel.len()], vec![0.0; v.channels[1]]);
    v.walk(&out, |to, from, k| { dx[from] += dy[to] * kernel[k]; dw[k] += dy[to] * x[from]; });
    dy.iter().enumerate().for_each(|(i, d)| db[v.channel(i, &out)] += d);
    Ok([dx, dw, db])
}

/// Rounds half up, which is one of the legal roundings.
pub fn quantized(v: &Vector) -> Answer {
    let (low, out, scale) = (if v.dtype == "int8" { -128.0 } else { 0.0 }, v.out()?, v.array("scale"));
    let x: Vec<f64> = v.array("x").iter().map(|n| n - v.zeros[0] as f64).collect();
    let step = |(i, sum): (usize, &f64)| (sum * scale[v.channel(i, &out)] + 0.5).floor() + v.zeros[1] as f64;
    Ok(conv(v, &x)?.iter().enumerate().map(step).map(|q| q.clamp(low, low + 255.0)).collect())
}

fn outside(name: &str, got: &[f64], low: &[f64], high: &[f64], bound: &[f64]) -> Option<String> {
    if got.len() != low.len() { return Some(format!("{name} has {} numbers, expected {}", got.len(), low.len())) }
    let b = |i: usize| bound.get(i).copied().unwrap_or(0.0);
    let i = (0..got.len()).find(|&i| !(got[i] >= low[i] - b(i) && got[i] <= high[i] + b(i)))?; // NaN is outside
    Some(format!("{name}[{i}] is {}, expected {} to {}", got[i], low[i] - b(i), high[i] + b(i)))
}

fn check(v: &Vector, f: &Functions) -> Result<Option<String>, No> {
    let (array, no) = (|name: &str| v.array(name), No::Unsupported);
    let found = match &v.kind[..] {
        "gradient" => f.gradient.ok_or(no)?(v).map(|got| {
            let mut own = ["dx", "dkernel", "dbias"].into_iter().zip(got).filter(|(n, _)| v.arrays.contains_key(*n));
            own.find_map(|(name, got)| outside(name, &got, array(name), array(name), &[]))
        }),
        "quantized" => f.quantized.ok_or(no)?(v).map(|y| outside("y", &y, array("lower"), array("upper"), &[])),
        _ => f.conv.ok_or(no)?(v, array("x")).map(|y| outside("y", &y, array("y"), array("y"), array("bound"))),
    };
    match found {
        Err(No::Unsupported) => Err(No::Unsupported),
        Err(No::Refused) => Ok(if v.kind == "refused" { None } else { Some("refused".into()) }),
        Ok(_) if v.kind == "refused" => Ok(Some("not refused: the layer has no output".into())),
        Ok(reason) => Ok(reason),
    }
}

/// Check every vector, print the failures and the numbers; return the exit status.
pub fn run(folder: &str, f: &Functions) -> i32 {
    let index = fs::read_to_string(Path::new(folder).join("index.tsv")).expect("index.tsv");
    let (mut total, mut failed, mut unsupported) = (0, 0, 0);
    for v in index.lines().skip(1).map(|line| Vector::read(Path::new(folder), line)) {
        total += 1;
        match check(&v, f) {
            Err(_) => unsupported += 1,
            Ok(Some(reason)) => { failed += 1; println!("FAILED {}: {reason}", v.id) }
            Ok(None) => {}
        }
    }
    let rest = if unsupported > 0 { format!(", {unsupported} unsupported") } else { String::new() };
    println!("{total} vectors, {failed} failed{rest}");
    (failed > 0 || unsupported == total) as i32
}

fn main() {
    let functions = Functions { conv: Some(conv), gradient: Some(gradient), quantized: Some(quantized) };
    exit(run(&std::env::args().nth(1).expect("usage: vectors DIR"), &functions));
}
