/* SPDX-License-Identifier: Apache-2.0
 *
 * reduce: over lists of tensors, each in one launch: the first number that is not finite, the sums of
 * gradients over batches, and the norm of all gradients together, which stays on the device. */
#include "device/cuda/lists.h"

int64_t tensor_list_place(tensor_item *list, int64_t count) { return place_blocks(list, count); }

/* A block's elements of its tensor */
struct span {
    int64_t which, from, end;
};

DEVICE span span_of(const tensor_list &list)
{
    span s;
    s.which = item_of(list.item, list.count, BLOCK_X);
    const tensor_item &t = list.item[s.which];
    s.from = (BLOCK_X - t.first_block) * SPAN;
    s.end = s.from + SPAN < t.count ? s.from + SPAN : t.count;
    return s;
}

DEVICE bool aligned(const void *a, const void *b)
{
    return ((uintptr_t)a | (uintptr_t)b) % 16 == 0;
}

/* use(i, values) for the thread's elements: by fours where memory allows, then the rest */
template <typename Use> DEVICE void each_value(const tensor_item &t, const span &s, Use use)
{
    int64_t fours = aligned(t.data.data, t.sum) ? s.from + (s.end - s.from) / 4 * 4 : s.from;
    for (int64_t i = s.from + THREAD * 4; i < fours; i += BLOCK * 4) use(i, load<4>(t.data, i));
    for (int64_t i = fours + THREAD; i < s.end; i += BLOCK) use(i, load<1>(t.data, i));
}

struct bad_search {
    uint64_t which, *found;
    template <int N> MEMBER void operator()(int64_t i, values<N> x)
    {
        UNROLL
        for (int k = N - 1; k >= 0; k--)
            if (!(fabsf(x.v[k]) <= 3.402823466e38f))
                minimum_into(found, which << BAD_INDEX_BITS | (uint64_t)(i + k));
    }
};

KERNEL bad_none_kernel(uint64_t *found) { *found = BAD_NONE; }

KERNEL find_bad_kernel(tensor_list list, uint64_t *found)
{
    span s = span_of(list);
    bad_search search = {(uint64_t)s.which, found};
    each_value(list.item[s.which], s, search);
}

void find_bad_launch(const tensor_list *list, uint64_t *found, gpu_stream stream)
{
    LAUNCH(bad_none_kernel, 1, 1, 1, 1, stream, found);
    if (list->blocks) LAUNCH(find_bad_kernel, list->blocks, 1, 1, BLOCK, stream, *list, found);
}

struct adding {
    gpu_view sum;
    template <int N> MEMBER void operator()(int64_t i, values<N> x)
    {
        values<N> before = load<N>(sum, i);
        UNROLL
        for (int k = 0; k < N; k++) x.v[k] += before.v[k];
        store<N>(sum, i, x);
    }
};

KERNEL accumulate_kernel(tensor_list list)
{
    span s = span_of(list);
    adding add = {{list.item[s.which].sum, DTYPE_F32}};
    each_value(list.item[s.which], s, add);
}

void accumulate_launch(const tensor_list *list, gpu_stream stream)
{
    if (list->blocks) LAUNCH(accumulate_kernel, list->blocks, 1, 1, BLOCK, stream, *list);
}

/* ---- the norm: in double, for squares pass float32's end ---- */

struct squaring {
    double *sum;
    template <int N> MEMBER void operator()(int64_t, values<N> x)
    {
        UNROLL
        for (int k = 0; k < N; k++) *sum += (double)x.v[k] * (double)x.v[k];
    }
};

KERNEL squares_kernel(tensor_list list, double *sums)
{
    SHARED(double, part, BLOCK / WARP);
    span s = span_of(list);
    double sum = 0;
    squaring square = {&sum};
    each_value(list.item[s.which], s, square);
    sum = block_sum(sum, part);
    if (THREAD == 0) sums[BLOCK_X] = sum;
}

/* One block: the sums of all, and the first that is not finite */
KERNEL norm_kernel(gradient_norm_args a, const double *sums)
{
    SHARED(double, part, BLOCK / WARP);
    SHARED(int64_t, first, BLOCK);
    double sum = 0;
    int64_t bad = a.list.blocks;
    for (int64_t i = THREAD; i < a.list.blocks; i += BLOCK) {
        if (!(sums[i] <= 1.7976931348623157e308) && i < bad) bad = i;
        sum += sums[i];
    }
    first[THREAD] = bad;
    sum = block_sum(sum, part);
    if (THREAD) return;
    for (int t = 1; t < BLOCK; t++) bad = first[t] < bad ? first[t] : bad;
    double unscale = a.unscale ? (double)*a.unscale : 1, norm = sqrt(sum) * unscale;
    double clip = a.max_norm / (norm + 1e-6);
    a.state->norm = norm;
    a.state->grad_scale = (float)(clip < 1 ? clip * unscale : unscale);
    a.state->bad = (uint32_t)(bad < a.list.blocks ? item_of(a.list.item, a.list.count, bad) : a.list.count);
}

size_t gradient_norm_scratch(const gradient_norm_args *a)
{
    return (size_t)a->list.blocks * sizeof(double);
}

void gradient_norm_launch(const gradient_norm_args *a, void *scratch, gpu_stream stream)
{
    double *sums = (double *)scratch;
    if (a->list.blocks) LAUNCH(squares_kernel, a->list.blocks, 1, 1, BLOCK, stream, a->list, sums);
    LAUNCH(norm_kernel, 1, 1, 1, BLOCK, stream, *a, (const double *)sums);
}
