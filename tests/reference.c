/* SPDX-License-Identifier: Apache-2.0
 *
 * reference: every forward operation of device.h in plain double-precision loops, written to be
 * read against the definition, not to be fast. */
#include "reference.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

size_t array_count(const array *a)
{
    if (a->rank < 0) return 0;
    size_t n = 1;
    for (int i = 0; i < a->rank; i++) n *= (size_t)a->dim[i];
    return n;
}

static int64_t last_dim(const array *a) { return a->dim[a->rank - 1]; }

static int64_t row_count(const array *a)
{
    int64_t c = last_dim(a);
    return c ? (int64_t)array_count(a) / c : 0;
}

static bool present(const op_call *call, int i)
{
    return i < call->in_count && call->in[i].rank >= 0;
}

/* x [B,H,W,C], w [O,C,kh,kw] -> y [B,H',W',O] */
static void conv2d(const op_call *call, double *const in[], double *y)
{
    const int64_t *xd = call->in[0].dim, *wd = call->in[1].dim, *yd = call->out[0].dim;
    int64_t height = xd[1], width = xd[2], channels = xd[3];
    int64_t kh = wd[2], kw = wd[3], o_count = wd[0];
    const op_params *p = &call->params;
    int64_t stride = p->stride > 0 ? p->stride : 1, at = 0;
    for (int64_t b = 0; b < yd[0]; b++)
        for (int64_t oy = 0; oy < yd[1]; oy++)
            for (int64_t ox = 0; ox < yd[2]; ox++)
                for (int64_t o = 0; o < o_count; o++, at++) {
                    double sum = present(call, 2) ? in[2][o] : 0;
                    for (int64_t ky = 0; ky < kh; ky++)
                        for (int64_t kx = 0; kx < kw; kx++) {
                            int64_t iy = oy * stride + ky - p->pad_top;
                            int64_t ix = ox * stride + kx - p->pad_left;
                            if (iy < 0 || iy >= height || ix < 0 || ix >= width) continue;
                            const double *x = in[0] + ((b * height + iy) * width + ix) * channels;
                            const double *w = in[1] + o * channels * kh * kw + ky * kw + kx;
                            for (int64_t c = 0; c < channels; c++) sum += x[c] * w[c * kh * kw];
                        }
                    y[at] = sum + (present(call, 3) ? in[3][at] : 0);
                }
}

/* x [..,C], w [O,C] -> y [..,O] */
static void linear(const op_call *call, double *const in[], double *y)
{
    int64_t channels = last_dim(&call->in[0]), rows = row_count(&call->in[0]);
    int64_t o_count = call->in[1].dim[0];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < o_count; o++) {
            double sum = present(call, 2) ? in[2][o] : 0;
            for (int64_t c = 0; c < channels; c++)
                sum += in[0][r * channels + c] * in[1][o * channels + c];
            y[r * o_count + o] = sum + (present(call, 3) ? in[3][r * o_count + o] : 0);
        }
}

/* One query row: q [D], keys k [m_count, stride], -> o [D], the log of the sum. */
static double attend(const double *q, const double *k, const double *v, int64_t stride, int64_t d,
                     int64_t m_count, double scale, double *logit, double *o)
{
    double top = -INFINITY, sum = 0;
    for (int64_t m = 0; m < m_count; m++) {
        double dot = 0;
        for (int64_t i = 0; i < d; i++) dot += q[i] * k[m * stride + i];
        logit[m] = dot * scale;
        top = fmax(top, logit[m]);
    }
    for (int64_t m = 0; m < m_count; m++) sum += logit[m] = exp(logit[m] - top);
    for (int64_t i = 0; o && i < d; i++) o[i] = 0;
    for (int64_t m = 0; o && m < m_count; m++) {
        double share = logit[m] / sum;
        for (int64_t i = 0; i < d; i++) o[i] += share * v[m * stride + i];
    }
    return top + log(sum);
}

static void attention(const op_call *call, double *const in[], double *o, double *lse)
{
    const int64_t *qd = call->in[0].dim, *kd = call->in[1].dim;
    int64_t batch = qd[0], n_count = qd[1], m_count = kd[1], width = qd[2];
    int64_t heads = call->params.heads, d = width / heads;
    double *logit = malloc((size_t)m_count * sizeof *logit);
    assert(logit);
    for (int64_t b = 0; b < batch; b++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t n = 0; n < n_count; n++) {
                int64_t at = (b * n_count + n) * width + h * d, kv = b * m_count * width + h * d;
                int64_t seen = call->params.causal && n + 1 < m_count ? n + 1 : m_count;
                double l = attend(in[0] + at, in[1] + kv, in[2] + kv, width, d, seen,
                                  (double)call->params.alpha, logit, o ? o + at : NULL);
                if (lse) lse[(b * heads + h) * n_count + n] = l;
            }
    free(logit);
}

static double silu(double x) { return x / (1 + exp(-x)); }
static double gelu(double x) { return 0.5 * x * (1 + erf(x * M_SQRT1_2)); }
static double quick_gelu(double x) { return x / (1 + exp(-1.702 * x)); }

/* x [B,S,C] with groups of C/G channels; layer norm is B = rows, S = 1, G = 1. */
static void normalise(double *const in[], double *y, double *stats, int64_t batch, int64_t space,
                      int64_t channels, int64_t groups, double eps, bool with_silu)
{
    int64_t width = channels / groups;
    for (int64_t b = 0; b < batch; b++)
        for (int64_t g = 0; g < groups; g++) {
            const double *x = in[0] + b * space * channels + g * width;
            double mean = 0, variance = 0, n = (double)(space * width);
            for (int64_t s = 0; s < space; s++)
                for (int64_t c = 0; c < width; c++) mean += x[s * channels + c];
            mean /= n;
            for (int64_t s = 0; s < space; s++)
                for (int64_t c = 0; c < width; c++)
                    variance += (x[s * channels + c] - mean) * (x[s * channels + c] - mean);
            double inverse = 1 / sqrt(variance / n + eps);
            if (stats) {
                stats[(b * groups + g) * 2] = mean;
                stats[(b * groups + g) * 2 + 1] = inverse;
            }
            for (int64_t s = 0; y && s < space; s++)
                for (int64_t c = 0; c < width; c++) {
                    double v = (x[s * channels + c] - mean) * inverse * in[1][g * width + c] +
                               in[2][g * width + c];
                    y[(b * space + s) * channels + g * width + c] = with_silu ? silu(v) : v;
                }
        }
}

static void pointwise(const op_call *call, double *const in[], double *y)
{
    const array *x = &call->in[0];
    int64_t n = (int64_t)array_count(&call->out[0]), channels = last_dim(&call->out[0]);
    for (int64_t i = 0; i < n; i++) switch (call->kind) {
        case OP_UNARY:
            y[i] = call->params.unary == UNARY_SILU   ? silu(in[0][i])
                   : call->params.unary == UNARY_GELU ? gelu(in[0][i])
                   : call->params.unary == UNARY_RELU ? fmax(in[0][i], 0)
                                                      : quick_gelu(in[0][i]);
            break;
        case OP_GEGLU: {
            const double *row = in[0] + i / channels * 2 * channels;
            y[i] = row[i % channels] * gelu(row[channels + i % channels]);
            break;
        }
        case OP_ADD: y[i] = in[0][i] + in[1][i % (int64_t)array_count(&call->in[1])]; break;
        case OP_ADD_CHANNEL:
            y[i] = in[0][i] + in[1][i / (n / x->dim[0]) * channels + i % channels];
            break;
        case OP_SCALE: y[i] = (double)call->params.alpha * in[0][i]; break;
        default: y[i] = in[0][i]; break;
        }
}

static void concat(const op_call *call, double *const in[], double *y)
{
    int64_t a = last_dim(&call->in[0]), b = last_dim(&call->in[1]), rows = row_count(&call->in[0]);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < a + b; c++)
            y[r * (a + b) + c] = c < a ? in[0][r * a + c] : in[1][r * b + c - a];
}

/* OP_SLICE, and OP_UNSLICE the other way round */
static void slice(const op_call *call, const double *x, double *y)
{
    int64_t from = last_dim(&call->in[0]), to = last_dim(&call->out[0]), start = call->params.start;
    int64_t rows = row_count(&call->in[0]);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < to; c++) {
            int64_t source = call->kind == OP_SLICE ? c + start : c - start;
            y[r * to + c] = source >= 0 && source < from ? x[r * from + source] : 0;
        }
}

static void upsample(const op_call *call, const double *x, double *y)
{
    const int64_t *xd = call->in[0].dim, *yd = call->out[0].dim;
    for (int64_t b = 0, at = 0; b < yd[0]; b++)
        for (int64_t i = 0; i < yd[1]; i++)
            for (int64_t j = 0; j < yd[2]; j++)
                for (int64_t c = 0; c < yd[3]; c++, at++) {
                    int64_t row = b * xd[1] + i * xd[1] / yd[1];
                    y[at] = x[(row * xd[2] + j * xd[2] / yd[2]) * xd[3] + c];
                }
}

static void sums(const op_call *call, const double *x, double *y)
{
    int64_t n = (int64_t)array_count(&call->in[0]), m = (int64_t)array_count(&call->out[0]);
    int64_t channels = last_dim(&call->in[0]), per_sample = n / call->in[0].dim[0];
    for (int64_t j = 0; j < m; j++) y[j] = 0;
    for (int64_t i = 0; i < n; i++)
        y[call->kind == OP_SUM_LEADING ? i % m : i / per_sample * channels + i % channels] += x[i];
}

static void embedding(const op_call *call, double *const in[], double *y)
{
    int64_t n = (int64_t)array_count(&call->in[0]), channels = last_dim(&call->in[1]);
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < channels; c++)
            y[i * channels + c] = in[1][(int64_t)in[0][i] * channels + c];
}

/* numerics 2: freq_i = exp(-ln(10000) i / (half - freq_shift)), [sin, cos] or [cos, sin] */
static void time_embedding(const op_call *call, const double *t, double *y)
{
    int64_t dim = last_dim(&call->out[0]), half = dim / 2;
    bool flip = call->params.flip_sin_to_cos;
    for (int64_t b = 0; b < call->out[0].dim[0]; b++) {
        double *row = y + b * dim;
        if (dim % 2) row[dim - 1] = 0;
        for (int64_t i = 0; i < half; i++) {
            double freq = exp(-log(10000) * (double)i / ((double)half - call->params.freq_shift));
            row[i] = flip ? cos(t[b] * freq) : sin(t[b] * freq);
            row[half + i] = flip ? sin(t[b] * freq) : cos(t[b] * freq);
        }
    }
}

static void mean_squared_error(const op_call *call, double *const in[], double *loss, double *mse)
{
    int64_t batch = call->in[0].dim[0], n = (int64_t)array_count(&call->in[0]) / batch;
    double total = 0;
    for (int64_t b = 0; b < batch; b++) {
        double sum = 0;
        for (int64_t i = b * n; i < (b + 1) * n; i++)
            sum += (in[0][i] - in[1][i]) * (in[0][i] - in[1][i]);
        if (mse) mse[b] = sum / (double)n;
        total += sum / (double)n * (present(call, 2) ? in[2][b] : 1);
    }
    if (loss) loss[0] = total / (double)batch;
}

void reference_run(const op_call *call, double *const in[], double *const out[])
{
    const array *x = &call->in[0];
    double *y = out[0], *second = call->out_count > 1 ? out[1] : NULL;
    int64_t channels = x->rank > 0 ? last_dim(x) : 1, batch = x->rank > 0 ? x->dim[0] : 1;
    const op_params *p = &call->params;
    switch (call->kind) {
    case OP_CONV2D: conv2d(call, in, y); break;
    case OP_LINEAR: linear(call, in, y); break;
    case OP_ATTENTION: attention(call, in, y, second); break;
    case OP_GROUP_NORM:
        normalise(in, y, second, batch, row_count(x) / batch, channels, p->groups, (double)p->eps,
                  p->silu);
        break;
    case OP_LAYER_NORM:
        normalise(in, y, second, row_count(x), 1, channels, 1, (double)p->eps, false);
        break;
    case OP_UNARY:
    case OP_GEGLU:
    case OP_ADD:
    case OP_ADD_CHANNEL:
    case OP_SCALE:
    case OP_CAST:
    case OP_RESHAPE: pointwise(call, in, y); break;
    case OP_CONCAT: concat(call, in, y); break;
    case OP_SLICE:
    case OP_UNSLICE: slice(call, in[0], y); break;
    case OP_UPSAMPLE: upsample(call, in[0], y); break;
    case OP_SUM_LEADING:
    case OP_SUM_SPACE: sums(call, in[0], y); break;
    case OP_EMBEDDING: embedding(call, in, y); break;
    case OP_TIME_EMBEDDING: time_embedding(call, in[0], y); break;
    case OP_MSE: mean_squared_error(call, in, y, second); break;
    default: assert(!"reference_run: a gradient kind; reference_gradient has it");
    }
}
