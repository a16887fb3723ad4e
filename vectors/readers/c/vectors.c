/* Check a convolution with convspec's pack of test vectors. C99: cc -O2 vectors.c -lm -o vectors && ./vectors DIR
 * To test your own functions, include this file (see example.c). All numbers are doubles, which hold the integers of
 * the pack, and every sum of their products, exactly. Data are in the vector's layout, kernels in canonical order. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
enum { REFUSED = 1, UNSUPPORTED }; /* what a function under test may return; 0: done */
enum { X, KERNEL, BIAS, Y, BOUND, DY, DX, DKERNEL, DBIAS, SCALE, LOWER, UPPER, ARRAYS };
static const char names[][8] = {"x",  "kernel",  "bias",  "y",     "bound", "dy",
                               "dx", "dkernel", "dbias", "scale", "lower", "upper"};
typedef struct {
    const char *id, *kind, *dtype, *mode; /* valid during a test */
    int nhwc, transposed, groups, axes;                               /* axes: 1 to 3 */
    int stride[3], dilation[3], pads[6], output_padding[3], zeros[2]; /* pads: before, after; of each axis */
    int batch, in_channels, out_channels, in[3], kernel[3], out[3];   /* sizes, with axes of 1 in front up to three */
    double *a[ARRAYS]; /* NULL where the vector has none */
    long n[ARRAYS];    /* how many numbers each has */
} vector;

typedef struct { /* NULL for what you do not test. The results are zero at first, and as large as the vector says */
    int (*conv)(const vector *v, double *y); /* y is NULL where the layer must be refused */
    int (*gradient)(const vector *v, double *dx, double *dkernel, double *dbias);
    int (*quantized)(const vector *v, double *y);
} functions;

static long at(const vector *v, int channels, const int *size, int n, int c, const int *p) { /* index of a number */
    long cells = (long)size[0] * size[1] * size[2], cell = ((long)p[0] * size[1] + p[1]) * size[2] + p[2];
    return v->nhwc ? (n * cells + cell) * channels + c : ((long)n * channels + c) * cells + cell;
}

static int channel_of(const vector *v, long i) { /* of the i-th output */
    return (int)((v->nhwc ? i : i / ((long)v->out[0] * v->out[1] * v->out[2])) % v->out_channels);
}

static int source(const vector *v, int axis, int out, int tap) { /* the input cell on an axis, -1: none */
    int a = axis - (3 - v->axes), n = v->in[axis], q;
    if (a < 0) return 0;
    q = out + v->pads[2 * a] - tap * v->dilation[a];
    if (v->transposed) return q < 0 || q >= n * v->stride[a] || q % v->stride[a] ? -1 : q / v->stride[a];
    q = out * v->stride[a] + tap * v->dilation[a] - v->pads[2 * a];
    if (q >= 0 && q < n) return q;
    if (!strcmp(v->mode, "zeros")) return -1;
    if (!strcmp(v->mode, "circular")) return (q % n + n) % n;
    if (!strcmp(v->mode, "reflect")) q = n - 1 - abs(n - 1 - abs(q));
    return q < 0 ? 0 : q >= n ? n - 1 : q;
}

static int has_output(const vector *v) {
    for (int a = 0; a < v->axes; a++) {
        int n = v->in[a + 3 - v->axes], span = (v->kernel[a + 3 - v->axes] - 1) * v->dilation[a] + 1;
        int lo = v->pads[2 * a], hi = v->pads[2 * a + 1], most = lo > hi ? lo : hi;
        int spare = v->transposed ? (n - 1) * v->stride[a] + span - lo - hi + v->output_padding[a] : n + lo + hi - span;
        int room = !strcmp(v->mode, "reflect") ? n - 1 : !strcmp(v->mode, "circular") ? n : most;
        if (spare < 0 || (most && (most > room || (!n && !strcmp(v->mode, "replicate"))))) return 0;
    }
    return 1;
}

/* For every product of an input and a weight: y += x * w; with dy instead of y, dx += dy * w and dw += dy * x. */
static void walk(const vector *v, const double *x, double *y, const double *dy, double *dx, double *dw) {
    int in = v->in_channels / v->groups, out = v->out_channels / v->groups, p[3], q[3];
    const int *size = v->out, *taps = v->kernel, all = taps[0] * taps[1] * taps[2];
    for (int n = 0; n < v->batch; n++)
        for (int o = 0; o < v->out_channels; o++)
            for (p[0] = 0; p[0] < size[0]; p[0]++)
                for (p[1] = 0; p[1] < size[1]; p[1]++)
                    for (p[2] = 0; p[2] < size[2]; p[2]++) {
                        long to = at(v, v->out_channels, size, n, o, p);
                        if (y && v->a[BIAS]) y[to] += v->a[BIAS][o];
                        for (int t = 0; t < all; t++) {
                            int tap[] = {t / (taps[1] * taps[2]), t / taps[2] % taps[1], t % taps[2]};
                            for (int i = 0; i < 3; i++) q[i] = source(v, i, p[i], tap[i]);
                            if (q[0] < 0 || q[1] < 0 || q[2] < 0) continue;
                            for (int i = 0; i < in; i++) {
                                long c = o / out * in + i, from = at(v, v->in_channels, v->in, n, (int)c, q);
                                long k = (v->transposed ? c * out + o % out : (long)o * in + i) * all + t;
                                if (y) y[to] += x[from] * v->a[KERNEL][k];
                                else dx[from] += dy[to] * v->a[KERNEL][k], dw[k] += dy[to] * x[from];
                            }
                        }
                    }
}

static int naive_conv(const vector *v, double *y) {
    return has_output(v) ? y && (walk(v, v->a[X], y, NULL, NULL, NULL), 0) : REFUSED;
}

static int naive_gradient(const vector *v, double *dx, double *dkernel, double *dbias) {
    walk(v, v->a[X], NULL, v->a[DY], dx, dkernel);
    for (long i = 0; i < v->n[DY]; i++) dbias[channel_of(v, i)] += v->a[DY][i];
    return 0;
}

static int naive_quantized(const vector *v, double *y) { /* rounds half up, which is one of the legal roundings */
    double low = strcmp(v->dtype, "int8") ? 0 : -128, *x = malloc((size_t)(v->n[X] + 1) * sizeof *x);
    for (long i = 0; i < v->n[X]; i++) x[i] = v->a[X][i] - v->zeros[0];
    walk(v, x, y, NULL, NULL, NULL);
    for (long i = 0; i < v->n[LOWER]; i++)
        y[i] = fmin(fmax(floor(y[i] * v->a[SCALE][channel_of(v, i)] + 0.5) + v->zeros[1], low), low + 255);
    return free(x), 0;
}

static int outside(const vector *v, const double *got, int low, int high) { /* prints the first wrong number */
    for (long i = 0; i < v->n[low]; i++) {
        double bound = v->a[BOUND] ? v->a[BOUND][i] : 0, least = v->a[low][i] - bound, most = v->a[high][i] + bound;
        if (got[i] >= least && got[i] <= most) continue; /* false for NaN */
        return printf("FAILED %s: %s[%ld] is %g, expected %g to %g\n", v->id, names[low], i, got[i], least, most), 1;
    }
    return 0;
}

static int check(const vector *v, const functions *f) { /* 0: right, 1: failed, UNSUPPORTED */
    int gradient = !strcmp(v->kind, "gradient"), quantized = !strcmp(v->kind, "quantized"), done, wrong;
    if (gradient ? !f->gradient : quantized ? !f->quantized : !f->conv) return UNSUPPORTED;
    double *y = calloc((size_t)(v->n[Y] + v->n[X] + v->n[KERNEL] + v->out_channels + 1), sizeof *y);
    double *dx = y + v->n[Y], *dkernel = dx + v->n[X], *dbias = dkernel + v->n[KERNEL];
    done = quantized ? f->quantized(v, y) : gradient ? f->gradient(v, dx, dkernel, dbias) : f->conv(v, v->a[Y] ? y : 0);
    if (done == UNSUPPORTED) wrong = UNSUPPORTED;
    else if (done || !strcmp(v->kind, "refused")) {
        wrong = strcmp(v->kind, "refused") || done != REFUSED;
        if (wrong) printf("FAILED %s: %s\n", v->id, done ? "refused" : "not refused: the layer has no output");
    } else if (gradient)
        wrong = outside(v, dx, DX, DX) || outside(v, dkernel, DKERNEL, DKERNEL) || outside(v, dbias, DBIAS, DBIAS);
    else wrong = quantized ? outside(v, y, LOWER, UPPER) : outside(v, y, Y, Y);
    free(y);
    return wrong;
}

static int list(const char *text, int *numbers) { /* returns how many; - is an empty list */
    int n = 0;
    for (char *end; *text && strcmp(text, "-"); text = *end ? end + 1 : end) numbers[n++] = (int)strtol(text, &end, 10);
    return n;
}

static double *load(FILE *file, long n, int bytes) { /* little-endian float64 or int32 */
    double *values = malloc((size_t)(n + 1) * sizeof *values);
    for (long i = 0; i < n; i++) {
        unsigned char b[8];
        unsigned long long bits = 0;
        if (fread(b, (size_t)bytes, 1, file) != 1) exit((fprintf(stderr, "a file of vectors is too short\n"), 1));
        for (int k = bytes; k--;) bits = bits << 8 | b[k];
        if (bytes == 8) memcpy(&values[i], &bits, 8);
        else values[i] = (double)bits - (bits > 0x7fffffff ? 4294967296.0 : 0);
    }
    return values;
}

static void read_vector(vector *v, char *line, const char *folder) { /* one line of index.tsv */
    int x[5], y[5], k[5], axes;
    char *f[16], path[4096];
    for (int i = 0; i < 16; i++) f[i] = strtok(i ? NULL : line, "\t\n");
    memset(v, 0, sizeof *v), memset(y, 0, sizeof y), list(f[13], y);
    v->id = f[0], v->kind = f[1], v->dtype = f[3], v->mode = f[6];
    v->nhwc = !strcmp(f[2], "NHWC"), v->transposed = atoi(f[4]), v->groups = atoi(f[5]);
    v->axes = axes = list(f[7], v->stride), list(f[8], v->dilation), list(f[9], v->pads);
    list(f[10], v->output_padding), list(f[11], x), list(f[12], k), list(f[14], v->zeros);
    v->batch = x[0], v->in_channels = x[v->nhwc ? axes + 1 : 1];
    v->out_channels = v->transposed ? k[1] * v->groups : k[0];
    for (int i = 0, a = axes - 3; i < 3; i++, a++)
        v->in[i] = a < 0 ? 1 : x[a + 2 - v->nhwc], v->out[i] = a < 0 ? 1 : y[a + 2 - v->nhwc],
        v->kernel[i] = a < 0 ? 1 : k[a + 2];
    snprintf(path, sizeof path, "%s/vectors/%s.bin", folder, v->id);
    FILE *file = fopen(path, "rb");
    if (!file) perror(path), exit(1);
    for (char *name = strtok(f[15], ","); name; name = strtok(NULL, ","))
        for (int i = 0; i < ARRAYS; i++) {
            if (strcmp(name, names[i])) continue;
            const int *shape = i == X || i == DX ? x : i == KERNEL || i == DKERNEL ? k : y;
            int per_channel = i == BIAS || i == DBIAS || i == SCALE;
            v->n[i] = per_channel ? v->out_channels : 1;
            for (int d = 0; !per_channel && d < axes + 2; d++) v->n[i] *= shape[d];
            v->a[i] = load(file, v->n[i], !strcmp(v->kind, "random") || i == BOUND || i == SCALE ? 8 : 4);
        }
    fclose(file), v->n[Y] += v->n[LOWER]; /* a vector has one of the two */
}

static int run_pack(const char *folder, const functions *own) { /* NULL: the naive ones; returns the exit status */
    const functions naive = {naive_conv, naive_gradient, naive_quantized}, *f = own ? own : &naive;
    char path[4096], line[4096];
    int total = 0, failed = 0, unsupported = 0;
    snprintf(path, sizeof path, "%s/index.tsv", folder);
    FILE *index = fopen(path, "r");
    if (!index) return perror(path), 1;
    for (int head = fgets(line, sizeof line, index) != NULL; head && fgets(line, sizeof line, index);) {
        vector v;
        int result = (read_vector(&v, line, folder), check(&v, f));
        total++, failed += result == 1, unsupported += result == UNSUPPORTED;
        for (int i = 0; i < ARRAYS; i++) free(v.a[i]);
    }
    fclose(index), printf("%d vectors, %d failed", total, failed);
    if (unsupported) printf(", %d unsupported", unsupported);
    return printf("\n"), failed || unsupported == total;
}

#ifndef VECTORS_LIBRARY
int main(int argc, char **argv) {
    return argc == 2 ? run_pack(argv[1], NULL) : (fprintf(stderr, "usage: vectors DIR\n"), 1);
}
#endif
