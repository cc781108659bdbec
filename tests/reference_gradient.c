/* SPDX-License-Identifier: Apache-2.0
 *
 * reference_gradient: what the kernels of training are compared with: of each forward operation of
 * reference.c, but the products, the gradient of sum(y * dy) by every input, from the derivatives'
 * formulas in plain double-precision loops. That the formulas are right is what central differences
 * of reference.c say. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "reference.h"

static int64_t last_dim(const array *a) { return a->dim[a->rank - 1]; }

/* One query row n, as in softmax(q k^T scale) v: ds = p * (dp - sum(p dp)), dp = dy v^T. */
static void attend(const double *q, const double *k, const double *v, const double *dy,
                   int64_t stride, int64_t d, int64_t m_count, double scale, double *p, double *dp,
                   double *const slope[3])
{
    double top = -INFINITY, sum = 0, mean = 0;
    for (int64_t m = 0; m < m_count; m++) {
        p[m] = dp[m] = 0;
        for (int64_t i = 0; i < d; i++) {
            p[m] += q[i] * k[m * stride + i] * scale;
            dp[m] += dy[i] * v[m * stride + i];
        }
        top = fmax(top, p[m]);
    }
    for (int64_t m = 0; m < m_count; m++) sum += p[m] = exp(p[m] - top);
    for (int64_t m = 0; m < m_count; m++) mean += (p[m] /= sum) * dp[m];
    for (int64_t m = 0; m < m_count; m++)
        for (int64_t i = 0; i < d; i++) {
            double ds = p[m] * (dp[m] - mean) * scale;
            slope[0][i] += ds * k[m * stride + i];
            slope[1][m * stride + i] += ds * q[i];
            slope[2][m * stride + i] += p[m] * dy[i];
        }
}

static void attention(const op_call *call, double *const in[], const double *dy,
                      double *const slope[])
{
    const int64_t *qd = call->in[0].dim;
    int64_t n_count = qd[1], m_count = call->in[1].dim[1], width = qd[2];
    int64_t heads = call->params.heads, d = width / heads;
    double *p = malloc((size_t)m_count * 2 * sizeof *p);
    assert(p);
    for (int64_t b = 0; b < qd[0]; b++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t n = 0; n < n_count; n++) {
                int64_t at = (b * n_count + n) * width + h * d, kv = b * m_count * width + h * d;
                int64_t seen = call->params.causal && n + 1 < m_count ? n + 1 : m_count;
                double *const to[3] = {slope[0] + at, slope[1] + kv, slope[2] + kv};
                attend(in[0] + at, in[1] + kv, in[2] + kv, dy + at, width, d, seen,
                       (double)call->params.alpha, p, p + m_count, to);
            }
    free(p);
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double silu_slope(double x) { return sigmoid(x) * (1 + x * (1 - sigmoid(x))); }
static double gelu(double x) { return 0.5 * x * (1 + erf(x * M_SQRT1_2)); }
static double gelu_slope(double x)
{
    return 0.5 * (1 + erf(x * M_SQRT1_2)) + x * exp(-0.5 * x * x) * 0.5 * M_2_SQRTPI * M_SQRT1_2;
}
static double quick_gelu_slope(double x)
{
    double s = sigmoid(1.702 * x);
    return s + 1.702 * x * s * (1 - s);
}

/* One group of x [S,C]: `width` channels from the one that x, gamma and the slopes point to.
 * z = norm gamma + beta, y = z or silu(z). */
static void normalise_group(const double *x, const double *gamma, const double *beta,
                            const double *dy, int64_t space, int64_t channels, int64_t width,
                            double eps, bool with_silu, double *const slope[3])
{
    double mean = 0, variance = 0, n = (double)(space * width), sum = 0, dot = 0;
    for (int64_t i = 0; i < space * width; i++) mean += x[i / width * channels + i % width] / n;
    for (int64_t i = 0; i < space * width; i++)
        variance += pow(x[i / width * channels + i % width] - mean, 2) / n;
    double inverse = 1 / sqrt(variance + eps);
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < space * width; i++) {
            int64_t at = i / width * channels + i % width, c = i % width;
            double norm = (x[at] - mean) * inverse;
            double dz = dy[at] * (with_silu ? silu_slope(norm * gamma[c] + beta[c]) : 1);
            double dnorm = dz * gamma[c];
            if (pass == 0) {
                sum += dnorm / n;
                dot += dnorm * norm / n;
                slope[1][c] += dz * norm;
                slope[2][c] += dz;
            } else {
                slope[0][at] += inverse * (dnorm - sum - norm * dot);
            }
        }
}

static void normalise(const op_call *call, double *const in[], const double *dy,
                      double *const slope[])
{
    bool layer = call->kind == OP_LAYER_NORM;
    int64_t channels = last_dim(&call->in[0]), rows = (int64_t)array_count(&call->in[0]) / channels;
    int64_t batch = layer ? rows : call->in[0].dim[0], groups = layer ? 1 : call->params.groups;
    int64_t space = rows / batch, width = channels / groups;
    for (int64_t b = 0; b < batch; b++)
        for (int64_t g = 0; g < groups; g++) {
            int64_t at = b * space * channels + g * width;
            double *const to[3] = {slope[0] + at, slope[1] + g * width, slope[2] + g * width};
            normalise_group(in[0] + at, in[1] + g * width, in[2] + g * width, dy + at, space,
                            channels, width, (double)call->params.eps, !layer && call->params.silu,
                            to);
        }
}

static void unary(const op_call *call, const double *x, const double *dy, double *dx)
{
    for (size_t i = 0; i < array_count(&call->in[0]); i++)
        dx[i] = dy[i] * (call->params.unary == UNARY_SILU   ? silu_slope(x[i])
                         : call->params.unary == UNARY_GELU ? gelu_slope(x[i])
                         : call->params.unary == UNARY_RELU ? x[i] > 0
                                                            : quick_gelu_slope(x[i]));
}

static void geglu(const op_call *call, const double *x, const double *dy, double *dx)
{
    int64_t channels = last_dim(&call->out[0]);
    for (int64_t i = 0; i < (int64_t)array_count(&call->out[0]); i++) {
        int64_t a = i / channels * 2 * channels + i % channels, b = a + channels;
        dx[a] = dy[i] * gelu(x[b]);
        dx[b] = dy[i] * x[a] * gelu_slope(x[b]);
    }
}

static void mean_squared_error(const op_call *call, double *const in[], double dloss, double *dx)
{
    int64_t n = (int64_t)array_count(&call->in[0]), of_sample = n / call->in[0].dim[0];
    bool weighted = call->in_count > 2 && call->in[2].rank >= 0;
    for (int64_t i = 0; i < n; i++)
        dx[i] = dloss * 2 * (in[0][i] - in[1][i]) / (double)n *
                (weighted ? in[2][i / of_sample] : 1);
}

/* Those that only move and add: every element of y is a sum of elements of x. Which element of
 * input `which` is in element i of y; -1: none. */
static int64_t source_of(const op_call *call, double *const in[], int which, int64_t i)
{
    const int64_t *xd = call->in[0].dim, *yd = call->out[0].dim;
    int64_t from = last_dim(&call->in[0]), to = last_dim(&call->out[0]), c = i % to, row = i / to;
    int64_t n = (int64_t)array_count(&call->out[0]), start = call->params.start;
    switch (call->kind) {
    case OP_ADD: return which == 0 ? i : i % (int64_t)array_count(&call->in[1]);
    case OP_ADD_CHANNEL: return which == 0 ? i : i / (n / yd[0]) * to + c;
    case OP_SLICE: return row * from + c + start;
    case OP_UNSLICE: return c >= start && c < start + from ? row * from + c - start : -1;
    case OP_UPSAMPLE: {
        int64_t x = row % yd[2] * xd[2] / yd[2], y = row / yd[2] % yd[1] * xd[1] / yd[1];
        return ((row / (yd[2] * yd[1]) * xd[1] + y) * xd[2] + x) * from + c;
    }
    case OP_EMBEDDING: return which == 1 ? (int64_t)in[0][row] * to + c : -1;
    default: assert(!"reference_gradient: no such gradient"); return -1;
    }
}

void reference_gradient(const op_call *call, double *const in[], const double *dy,
                        double *const slope[])
{
    for (int i = 0; i < call->in_count; i++)
        for (size_t k = 0; slope[i] && k < array_count(&call->in[i]); k++) slope[i][k] = 0;
    switch (call->kind) {
    case OP_ATTENTION: attention(call, in, dy, slope); return;
    case OP_GROUP_NORM:
    case OP_LAYER_NORM: normalise(call, in, dy, slope); return;
    case OP_UNARY: unary(call, in[0], dy, slope[0]); return;
    case OP_GEGLU: geglu(call, in[0], dy, slope[0]); return;
    case OP_MSE: mean_squared_error(call, in, dy[0], slope[0]); return;
    default: break;
    }
    for (int which = 0; which < call->in_count; which++)
        for (int64_t i = 0; slope[which] && i < (int64_t)array_count(&call->out[0]); i++) {
            int64_t at = source_of(call, in, which, i);
            if (at >= 0) slope[which][at] += dy[i];
        }
}
