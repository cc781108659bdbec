/* SPDX-License-Identifier: Apache-2.0
 *
 * loss: the mean squared error of each sample, their weighted mean, and its gradient. */
#include "device/cpu/operand.h"
#include "device/cpu/pointwise.h"

enum { PIECE = 4096 }; /* elements summed in float32; the pieces' sums are added in double */

static int64_t pieces_of(const array *pred)
{
    return (array_count(pred) / pred->dim[0] + PIECE - 1) / PIECE;
}

static bool mse_prepare(device *d, const op_call *call, void **state, size_t *scratch, error *e)
{
    if (!operands_prepare(d, call, state, scratch, e)) return false;
    *scratch = (size_t)(call->in[0].dim[0] * pieces_of(&call->in[0])) * sizeof(float);
    return true;
}

static const float *sample_weights(const op_call *call, int i)
{
    return i < call->in_count && array_present(&call->in[i]) ? call->in[i].data : NULL;
}

static void mse_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    const struct pointwise_kernels *k = cpu_kernels_of(d)->pointwise;
    const array *pred = &call->in[0];
    int64_t batch = pred->dim[0], n = array_count(pred) / batch, pieces = pieces_of(pred);
    view a = view_of(pred, 0), b = view_of(&call->in[1], 0);
    const float *weights = sample_weights(call, 2);
    float *sums = scratch, *mse = output_wanted(call, 1) ? call->out[1].data : NULL;
#pragma omp parallel for schedule(static) num_threads(threads_for(d, batch * n))
    for (int64_t i = 0; i < batch * pieces; i++) {
        int64_t from = i % pieces * PIECE, count = n - from < PIECE ? n - from : PIECE;
        sums[i] = k->square_error(a, b, i / pieces * n + from, count);
    }
    double loss = 0;
    for (int64_t s = 0; s < batch; s++) {
        double sum = 0;
        for (int64_t i = 0; i < pieces; i++) sum += (double)sums[s * pieces + i];
        if (mse) mse[s] = (float)(sum / (double)n);
        loss += sum / (double)n * (weights ? (double)weights[s] : 1);
    }
    *(float *)call->out[0].data = (float)(loss / (double)batch);
}

static void mse_grad_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    (void)scratch;
    const struct pointwise_kernels *k = cpu_kernels_of(d)->pointwise;
    const array *pred = &call->in[1];
    int64_t batch = pred->dim[0], n = array_count(pred) / batch, pieces = pieces_of(pred);
    view a = view_of(pred, 0), b = view_of(&call->in[2], 0), out = view_of(&call->out[0], 0);
    const float *weights = sample_weights(call, 3);
    double each = 2.0 * (double)*(const float *)call->in[0].data / (double)(batch * n);
#pragma omp parallel for schedule(static) num_threads(threads_for(d, batch * n))
    for (int64_t i = 0; i < batch * pieces; i++) {
        int64_t s = i / pieces, from = i % pieces * PIECE;
        int64_t count = n - from < PIECE ? n - from : PIECE;
        double factor = each * (weights ? (double)weights[s] : 1);
        k->difference(a, b, out, (float)factor, s * n + from, count);
    }
}

const struct cpu_op cpu_mse = {.prepare = mse_prepare, .run = mse_run};
const struct cpu_op cpu_mse_grad = {.prepare = operands_prepare, .run = mse_grad_run};
