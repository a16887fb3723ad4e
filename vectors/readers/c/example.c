/* Test your own function with the pack: cc -O2 example.c -lm -o example && ./example DIR
 * This one convolves images (N, C, H, W) with zero padding, without groups; other layers are unsupported. */
#define VECTORS_LIBRARY
#include "vectors.c"

static void my_conv2d(const double *x, const double *w, const double *bias, double *y, int batch, int channels,
                      const int *in, int filters, const int *kernel, const int *out, const int *stride,
                      const int *dilation, int top, int left) {
    for (int n = 0; n < batch; n++)
        for (int o = 0; o < filters; o++)
            for (int i = 0; i < out[0]; i++)
                for (int j = 0; j < out[1]; j++) {
                    double sum = bias ? bias[o] : 0;
                    for (int c = 0; c < channels; c++)
                        for (int a = 0; a < kernel[0]; a++)
                            for (int b = 0; b < kernel[1]; b++) {
                                int h = i * stride[0] + a * dilation[0] - top;
                                int k = j * stride[1] + b * dilation[1] - left;
                                if (h < 0 || h >= in[0] || k < 0 || k >= in[1]) continue;
                                sum += x[((n * channels + c) * in[0] + h) * in[1] + k] *
                                       w[((o * channels + c) * kernel[0] + a) * kernel[1] + b];
                            }
                    y[((n * filters + o) * out[0] + i) * out[1] + j] = sum;
                }
}

static int conv(const vector *v, double *y) {
    if (v->axes != 2 || v->nhwc || v->transposed || v->groups > 1 || strcmp(v->mode, "zeros")) return UNSUPPORTED;
    if (!has_output(v)) return REFUSED;
    my_conv2d(v->a[X], v->a[KERNEL], v->a[BIAS], y, v->batch, v->in_channels, v->in + 1, v->out_channels, v->kernel + 1,
              v->out + 1, v->stride, v->dilation, v->pads[0], v->pads[2]);
    return 0;
}

int main(int argc, char **argv) {
    functions mine = {conv, NULL, NULL};
    return argc == 2 ? run_pack(argv[1], &mine) : 1;
}
