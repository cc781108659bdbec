/* SPDX-License-Identifier: Apache-2.0
 *
 * lookup: rows of an embedding table, their gradient, and the sinusoidal embedding of timesteps. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "device/cpu/operand.h"
#include "device/cpu/pointwise.h"

enum { PIECE = 512 };

static bool embedding_prepare(device *d, const op_call *call, void **state, size_t *scratch,
                              error *e)
{
    (void)d;
    (void)state;
    (void)scratch;
    bool grad = call->kind == OP_EMBEDDING_GRAD;
    const array *ids = &call->in[grad ? 1 : 0], *y = grad ? &call->in[0] : &call->out[0];
    if (ids->type != DTYPE_I32 || !is_activation(y) || (grad && call->out[0].type != DTYPE_F32)) {
        return error_set(e, ERROR_USAGE,
                         "embedding: ids must be I32, its output F32 or BF16, the "
                         "gradient of its table F32");
    }
    return true;
}

/* The table stays as the checkpoint has it: only the rows that are asked for are converted. */
static void embedding_piece(void *context, int piece, int worker)
{
    (void)worker;
    const op_run *r = context;
    const struct pointwise_kernels *k = cpu_kernels_of(r->d)->pointwise;
    const array *ids = &r->call->in[0], *table = &r->call->in[1], *y = &r->call->out[0];
    int64_t channels = array_channels(y), i, end;
    dtype type = table->w ? table->w->type : table->type;
    const char *rows = table->w ? weight_data(table) : array_data(table);
    size_t size = dtype_size(type);
    piece_range(array_count(ids), 1, piece, r->pieces, &i, &end);
    for (; i < end; i++) {
        int64_t id = ((const int32_t *)array_data(ids))[i];
        assert(id >= 0 && id < table->dim[0]);
        for (int64_t c = 0; c < channels; c += PIECE) {
            float part[PIECE];
            int64_t count = channels - c < PIECE ? channels - c : PIECE;
            convert_to_float(part, rows + (size_t)(id * channels + c) * size, type, (size_t)count);
            k->copy((view){part, DTYPE_F32}, 0, view_of(y, 0), i * channels + c, count);
        }
    }
}

static void embedding_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    op_deal(d, call, scratch, array_count(&call->out[0]), embedding_piece);
}

static void embedding_grad_zero(void *context, int piece, int worker)
{
    (void)worker;
    const op_run *r = context;
    const array *table = &r->call->out[0];
    int64_t channels = array_channels(table), begin, end;
    piece_range(array_rows(table), 1, piece, r->pieces, &begin, &end);
    memset((float *)array_data(table) + begin * channels, 0,
           (size_t)((end - begin) * channels) * sizeof(float));
}

/* A piece has its own channels, so that ids that repeat are added in their order. */
static void embedding_grad_piece(void *context, int piece, int worker)
{
    (void)worker;
    const op_run *r = context;
    const struct pointwise_kernels *k = cpu_kernels_of(r->d)->pointwise;
    const array *dy = &r->call->in[0], *ids = &r->call->in[1], *table = &r->call->out[0];
    int64_t n = array_count(ids), channels = array_channels(table), begin, end;
    piece_range(channels, 16, piece, r->pieces, &begin, &end);
    for (int64_t i = 0; i < n && begin < end; i++) {
        int64_t id = ((const int32_t *)array_data(ids))[i];
        assert(id >= 0 && id < table->dim[0]);
        k->add_to(view_of(dy, 0), i * channels + begin,
                  (float *)array_data(table) + id * channels + begin, end - begin);
    }
}

static void embedding_grad_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    op_deal(d, call, scratch, array_count(&call->out[0]), embedding_grad_zero);
    op_deal(d, call, scratch, array_count(&call->in[0]), embedding_grad_piece);
}

/* diffusers get_timestep_embedding: the exponents are rounded to float32 at the same places. */
static void time_embedding_run(device *d, const op_call *call, void *state, void *scratch)
{
    (void)state;
    (void)scratch;
    const struct pointwise_kernels *k = cpu_kernels_of(d)->pointwise;
    const array *y = &call->out[0];
    const op_params *p = &call->params;
    int64_t batch = y->dim[0], dim = array_channels(y), half = dim / 2;
    for (int64_t b = 0; b < batch; b++) {
        float t = ((const float *)array_data(&call->in[0]))[b];
        for (int64_t i = 0; i < dim; i++) {
            float value = 0; /* an odd dimension ends with zero */
            if (i < 2 * half) {
                float exponent = (float)-log(10000.0) * (float)(i % half);
                exponent /= (float)half - p->freq_shift;
                double angle = (double)(t * (float)exp((double)exponent));
                bool sine = (i < half) != p->flip_sin_to_cos;
                value = (float)(sine ? sin(angle) : cos(angle));
            }
            k->copy((view){&value, DTYPE_F32}, 0, view_of(y, 0), b * dim + i, 1);
        }
    }
}

const struct cpu_op cpu_embedding = {.prepare = embedding_prepare, .run = embedding_run};
const struct cpu_op cpu_embedding_grad = {.prepare = embedding_prepare, .run = embedding_grad_run};
const struct cpu_op cpu_time_embedding = {.prepare = operands_prepare, .run = time_embedding_run};
