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
    return i < call->in_count && array_present(&call->in[i]) ? array_data(&call->in[i]) : NULL;
}

static void mse_piece(void *context, int piece, int worker)
{
    (void)worker;
    const op_run *r = context;
    const struct pointwise_kernels *k = cpu_kernels_of(r->d)->pointwise;
    const array *pred = &r->call->in[0];
    int64_t n = array_count(pred) / pred->dim[0], pieces = pieces_of(pred);
    int64_t from = piece % pieces * PIECE, count = n - from < PIECE ? n - from : PIECE;
    ((float *)r->scratch)[piece] = k->square_error(view_of(pred, 0), view_of(&r->call->in[1], 0),
                                                   piece / pieces * n + from, count);
}

static void mse_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    const array *pred = &call->in[0];
    int64_t batch = pred->dim[0], n = array_count(pred) / batch, pieces = pieces_of(pred);
    const float *weights = sample_weights(call, 2), *sums = scratch;
    float *mse = output_wanted(call, 1) ? array_data(&call->out[1]) : NULL;
    op_run r = {d, call, scratch, (int)(batch * pieces)};
    cpu_deal(d, batch * n, r.pieces, mse_piece, &r);
    double loss = 0;
    for (int64_t s = 0; s < batch; s++) {
        double sum = 0;
        for (int64_t i = 0; i < pieces; i++) sum += (double)sums[s * pieces + i];
        if (mse) mse[s] = (float)(sum / (double)n);
        loss += sum / (double)n * (weights ? (double)weights[s] : 1);
    }
    *(float *)array_data(&call->out[0]) = (float)(loss / (double)batch);
}

static void mse_grad_piece(void *context, int piece, int worker)
{
    (void)worker;
    const op_run *r = context;
    const op_call *call = r->call;
    const struct pointwise_kernels *k = cpu_kernels_of(r->d)->pointwise;
    const array *pred = &call->in[1];
    const float *weights = sample_weights(call, 3);
    int64_t batch = pred->dim[0], n = array_count(pred) / batch, pieces = pieces_of(pred);
    int64_t s = piece / pieces, from = piece % pieces * PIECE;
    double factor = 2.0 * (double)*(const float *)array_data(&call->in[0]) / (double)(batch * n);
    if (weights) factor *= (double)weights[s];
    k->difference(view_of(pred, 0), view_of(&call->in[2], 0), view_of(&call->out[0], 0),
                  (float)factor, s * n + from, n - from < PIECE ? n - from : PIECE);
}

static void mse_grad_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    const array *pred = &call->in[1];
    op_run r = {d, call, scratch, (int)(pred->dim[0] * pieces_of(pred))};
    cpu_deal(d, array_count(pred), r.pieces, mse_grad_piece, &r);
}

const struct cpu_op cpu_mse = {.prepare = mse_prepare, .run = mse_run};
const struct cpu_op cpu_mse_grad = {.prepare = operands_prepare, .run = mse_grad_run};
