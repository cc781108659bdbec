/* SPDX-License-Identifier: Apache-2.0
 *
 * norm: group norm (with SiLU), layer norm, and their gradients.
 *
 * A small group lies in a block's registers, and is one launch. Else group norm sums x - pivot and its square for each channel, in parts over space; a block a group adds
 * the parts in double and gives each channel its mean, its factor and its beta; a third pass applies them. A
 * channel's pivot is the mean of a few of its numbers, so that a large mean costs no accuracy. Layer norm has a
 * warp a row, in its registers where it is not too long. */
#include "device/cuda/columns.h"

/* ---- group norm ---- */

template <int N> DEVICE values<N> pivot_of(gpu_view x, int64_t b, int64_t space, int64_t channels, int64_t channel)
{
    values<N> pivot = {};
    UNROLL
    for (int i = 0; i < 4; i++) {
        values<N> v = load<N>(x, (b * space + space * i / 4) * channels + channel);
        UNROLL
        for (int k = 0; k < N; k++) pivot.v[k] += 0.25f * v.v[k];
    }
    return pivot;
}

struct group_sum {
    enum { SUMS = 2 };
    gpu_view x;
    int64_t space, channels;
    template <int N> struct state {
        values<N> pivot;
        MEMBER void begin(const group_sum &j, int64_t b, int64_t channel)
        {
            pivot = pivot_of<N>(j.x, b, j.space, j.channels, channel);
        }
    };
    template <int N, int M>
    MEMBER void add(const state<N> &s, const columns &c, int64_t row, int64_t channel, values<N> *sum) const
    {
        values<N> v[M];
        load_several<N, M>(x, row * channels + channel, c.row_lanes * channels, v);
        UNROLL
        for (int m = 0; m < M; m++) {
            UNROLL
            for (int k = 0; k < N; k++) {
                float d = v[m].v[k] - s.pivot.v[k];
                sum[0].v[k] += d;
                sum[1].v[k] += d * d;
            }
        }
    }
};

/* A block's threads over a group's channels (side by side) and its parts */
struct group_place {
    int across, columns, down, rows;
    bool live;
};

DEVICE group_place group_place_of(int64_t width)
{
    group_place t;
    t.columns = width < BLOCK ? (int)width : BLOCK;
    t.rows = BLOCK / t.columns;
    t.across = THREAD % t.columns;
    t.down = THREAD / t.columns;
    t.live = t.down < t.rows;
    return t;
}

/* Adds a channel's two sums over the thread's parts; sums [parts, 2, channels], at the channel. */
DEVICE void parts_sum(const float *sums, int64_t parts, int64_t channels, const group_place &t, double &first,
                      double &second)
{
    for (int64_t p = t.down; p < parts; p += AT_ONCE * t.rows) {
        float x[AT_ONCE], y[AT_ONCE];
        UNROLL
        for (int k = 0; k < AT_ONCE; k++) {
            int64_t at = p + k * t.rows;
            const float *from = sums + at * 2 * channels;
            x[k] = at < parts ? from[0] : 0;
            y[k] = at < parts ? from[channels] : 0;
        }
        UNROLL
        for (int k = 0; k < AT_ONCE; k++) {
            first += (double)x[k];
            second += (double)y[k];
        }
    }
}

/* table [batch, 3, channels]: mean, factor, beta */
KERNEL group_merge_kernel(group_norm_args a, int64_t parts, const float *sums, float *table)
{
    SHARED(double, part, BLOCK / WARP);
    int64_t g = BLOCK_X, b = BLOCK_Z, width = a.channels / a.groups, from = g * width;
    double sum = 0, square = 0, n = (double)a.space;
    double first = (double)pivot_of<1>(a.x, b, a.space, a.channels, from).v[0];
    group_place t = group_place_of(width);
    for (int64_t c = from + t.across; t.live && c < from + width; c += t.columns) {
        double s = 0, q = 0;
        parts_sum(sums + b * parts * 2 * a.channels + c, parts, a.channels, t, s, q);
        double apart = (double)pivot_of<1>(a.x, b, a.space, a.channels, c).v[0] - first;
        double count = t.down ? 0 : n;
        sum += s + count * apart;
        square += q + 2 * apart * s + count * apart * apart;
    }
    sum = block_sum(sum, part) / (n * (double)width);
    square = block_sum(square, part) / (n * (double)width);
    double variance = square - sum * sum, inverse = 1 / sqrt((variance < 0 ? 0 : variance) + (double)a.eps);
    float mean = (float)(first + sum);
    if (a.stats && THREAD == 0) {
        a.stats[(b * a.groups + g) * 2] = mean;
        a.stats[(b * a.groups + g) * 2 + 1] = (float)inverse;
    }
    for (int64_t c = from + THREAD; c < from + width; c += BLOCK) {
        float *to = table + b * 3 * a.channels + c;
        to[0] = mean;
        to[a.channels] = (float)(inverse * (double)load_one(a.gamma, c));
        to[2 * a.channels] = load_one(a.beta, c);
    }
}

template <int N> DEVICE values<N> load_table(const float *table, int64_t i)
{
    values<N> v;
    UNROLL
    for (int k = 0; k < N; k++) v.v[k] = table[i + k];
    return v;
}

template <int N, int M>
DEVICE void group_apply_rows(const group_norm_args &a, int64_t i, int64_t step, const values<N> &mean,
                             const values<N> &factor, const values<N> &beta)
{
    values<N> x[M];
    load_several<N, M>(a.x, i, step, x);
    UNROLL
    for (int m = 0; m < M; m++) {
        UNROLL
        for (int k = 0; k < N; k++) {
            float y = (x[m].v[k] - mean.v[k]) * factor.v[k] + beta.v[k];
            x[m].v[k] = a.silu ? silu_of(y) : y;
        }
        store<N>(a.y, i + m * step, x[m]);
    }
}

template <int N> KERNEL group_apply_kernel(group_norm_args a, columns c, const float *table)
{
    column_place p = column_place_of<N>(c);
    if (!p.live) return;
    table += p.b * 3 * c.channels + p.channel;
    values<N> mean = load_table<N>(table, 0), factor = load_table<N>(table, c.channels);
    values<N> beta = load_table<N>(table, 2 * c.channels);
    int64_t r = p.begin, step = c.row_lanes * c.channels, from = p.b * c.rows * c.channels + p.channel;
    for (; r + (ROWS_AHEAD - 1) * c.row_lanes < p.end; r += ROWS_AHEAD * c.row_lanes)
        group_apply_rows<N, ROWS_AHEAD>(a, from + r * c.channels, step, mean, factor, beta);
    for (; r < p.end; r += c.row_lanes)
        group_apply_rows<N, 1>(a, from + r * c.channels, step, mean, factor, beta);
}

/* ---- a group in one block, P vectors of four a thread ---- */

enum { WHOLE = 512 }; /* threads */

template <int P> KERNEL THREADS_AT_MOST(WHOLE) group_whole_kernel(group_norm_args a)
{
    SHARED(double, part, WHOLE / WARP);
    int64_t g = BLOCK_X, b = BLOCK_Z, width = a.channels / a.groups, from = b * a.space * a.channels + g * width;
    uint32_t across = (uint32_t)(width / 4), all = (uint32_t)a.space * across;
    double n = (double)(a.space * width);
    int live = THREAD < (int)all ? ((int)all - 1 - THREAD) / WHOLE + 1 : 0;
    int64_t at[P];
    values<4> x[P];
    float sum = 0, square = 0;
    UNROLL
    for (int m = 0; m < P; m++) {
        uint32_t i = (uint32_t)(m * WHOLE + THREAD), row = i / across;
        at[m] = from + row * a.channels + (i - row * across) * 4;
    }
    load_at<4, P>(a.x, at, live, x);
    UNROLL
    for (int m = 0; m < P; m++) {
        UNROLL
        for (int k = 0; k < 4; k++) sum += x[m].v[k];
    }
    double exact = block_sum<double, WHOLE>((double)sum, part) / n;
    float mean = (float)exact;
    UNROLL
    for (int m = 0; m < P; m++) {
        UNROLL
        for (int k = 0; k < 4; k++) {
            x[m].v[k] -= mean;
            if (m < live) square += x[m].v[k] * x[m].v[k];
        }
    }
    double apart = exact - (double)mean;
    double variance = block_sum<double, WHOLE>((double)square, part) / n - apart * apart;
    double inverse = 1 / sqrt((variance < 0 ? 0 : variance) + (double)a.eps);
    if (a.stats && THREAD == 0) {
        a.stats[(b * a.groups + g) * 2] = mean;
        a.stats[(b * a.groups + g) * 2 + 1] = (float)inverse;
    }
    UNROLL
    for (int m = 0; m < P; m++) {
        if (m >= live) continue;
        int64_t c = g * width + (uint32_t)(m * WHOLE + THREAD) % across * 4;
        values<4> gamma = load<4>(a.gamma, c), beta = load<4>(a.beta, c);
        UNROLL
        for (int k = 0; k < 4; k++) {
            float y = x[m].v[k] * (float)(inverse * (double)gamma.v[k]) + beta.v[k];
            x[m].v[k] = a.silu ? silu_of(y) : y;
        }
        store<4>(a.y, at[m], x[m]);
    }
}

/* How many vectors a thread has, 0: the group is too large, or not of whole vectors. */
static int64_t whole_vectors(const group_norm_args *a)
{
    int64_t width = a->channels / a->groups, vectors = divided(a->space * (width / 4), WHOLE);
    bool wide = is_wide(a->x) && is_wide(a->y) && is_wide(a->gamma) && is_wide(a->beta);
    return wide && width % 4 == 0 && vectors <= 10 ? vectors : 0;
}

static bool group_whole_launch(const group_norm_args *a, gpu_stream stream)
{
    int64_t vectors = whole_vectors(a);
    if (!vectors) return false;
    if (vectors <= 2)
        LAUNCH(group_whole_kernel<2>, a->groups, 1, a->batch, WHOLE, stream, *a);
    else if (vectors <= 5)
        LAUNCH(group_whole_kernel<5>, a->groups, 1, a->batch, WHOLE, stream, *a);
    else
        LAUNCH(group_whole_kernel<10>, a->groups, 1, a->batch, WHOLE, stream, *a);
    return true;
}

size_t group_norm_scratch(const group_norm_args *a)
{
    columns c = columns_of(a->batch, a->space, a->channels, false);
    return columns_scratch(&c, group_sum::SUMS) + (size_t)(3 * a->batch * a->channels) * sizeof(float);
}

void group_norm_launch(const group_norm_args *a, void *scratch, gpu_stream stream)
{
    if (group_whole_launch(a, stream)) return;
    columns c = columns_of(a->batch, a->space, a->channels, is_wide(a->x) && is_wide(a->y));
    float *sums = (float *)scratch;
    float *table = sums + columns_scratch(&c, group_sum::SUMS) / sizeof(float);
    group_sum job = {a->x, a->space, a->channels};
    columns_launch(c, job, sums, stream);
    LAUNCH(group_merge_kernel, a->groups, 1, a->batch, BLOCK, stream, *a, c.parts, (const float *)sums, table);
    if (c.wide)
        LAUNCH(group_apply_kernel<4>, c.tiles, c.parts, c.batch, c.lanes * c.row_lanes, stream, *a, c,
               (const float *)table);
    else
        LAUNCH(group_apply_kernel<1>, c.tiles, c.parts, c.batch, c.lanes * c.row_lanes, stream, *a, c,
               (const float *)table);
}

/* What a channel's thread knows of it, forward and back */
template <int N> struct group_channel {
    values<N> mean, inverse, gamma, beta;
    MEMBER void begin(const group_norm_grad_args &a, int64_t b, int64_t channel)
    {
        int64_t width = a.channels / a.groups;
        UNROLL
        for (int k = 0; k < N; k++) {
            const float *stats = a.stats + (b * a.groups + (channel + k) / width) * 2;
            mean.v[k] = stats[0];
            inverse.v[k] = stats[1];
            gamma.v[k] = load_one(a.gamma, channel + k);
            beta.v[k] = load_one(a.beta, channel + k);
        }
    }
    /* x becomes what was normalised, dy the gradient of what gamma and beta made */
    MEMBER void back(bool silu, values<N> &x, values<N> &dy) const
    {
        UNROLL
        for (int k = 0; k < N; k++) {
            x.v[k] = (x.v[k] - mean.v[k]) * inverse.v[k];
            if (silu) dy.v[k] *= silu_slope(x.v[k] * gamma.v[k] + beta.v[k]);
        }
    }
};

/* of dy, and of dy times what was normalised */
struct group_grad_sum {
    enum { SUMS = 2 };
    group_norm_grad_args a;
    template <int N> struct state {
        group_channel<N> channel_values;
        MEMBER void begin(const group_grad_sum &j, int64_t b, int64_t channel)
        {
            channel_values.begin(j.a, b, channel);
        }
    };
    template <int N, int M>
    MEMBER void add(const state<N> &s, const columns &c, int64_t row, int64_t channel, values<N> *sum) const
    {
        values<N> x[M], dy[M];
        load_several<N, M>(a.x, row * c.channels + channel, c.row_lanes * c.channels, x);
        load_several<N, M>(a.dy, row * c.channels + channel, c.row_lanes * c.channels, dy);
        UNROLL
        for (int m = 0; m < M; m++) {
            s.channel_values.back(a.silu, x[m], dy[m]);
            UNROLL
            for (int k = 0; k < N; k++) {
                sum[0].v[k] += dy[m].v[k];
                sum[1].v[k] += dy[m].v[k] * x[m].v[k];
            }
        }
    }
};

/* means [batch, groups, 2]: of gamma dy, and of that times what was normalised */
KERNEL group_grad_merge_kernel(group_norm_grad_args a, int64_t parts, const float *sums, float *means)
{
    SHARED(double, part, BLOCK / WARP);
    int64_t g = BLOCK_X, b = BLOCK_Z, width = a.channels / a.groups, from = g * width;
    double sum = 0, sum_x = 0, count = (double)(a.space * width);
    group_place t = group_place_of(width);
    for (int64_t c = from + t.across; t.live && c < from + width; c += t.columns) {
        double gamma = (double)load_one(a.gamma, c), s = 0, q = 0;
        parts_sum(sums + b * parts * 2 * a.channels + c, parts, a.channels, t, s, q);
        sum += s * gamma;
        sum_x += q * gamma;
    }
    sum = block_sum(sum, part);
    sum_x = block_sum(sum_x, part);
    if (THREAD) return;
    means[(b * a.groups + g) * 2] = (float)(sum / count);
    means[(b * a.groups + g) * 2 + 1] = (float)(sum_x / count);
}

/* sums [parts, 2, channels] of dy and of dy times what was normalised */
KERNEL norm_weights_grad_kernel(const float *sums, int64_t parts, int64_t channels, float *dgamma, float *dbeta)
{
    SHARED(double, part, BLOCK);
    int64_t c = (int64_t)BLOCK_X * WARP + THREAD;
    double sum = column_total(sums, parts, 2, 0, channels, part);
    double sum_x = column_total(sums, parts, 2, 1, channels, part);
    if (THREAD >= WARP || c >= channels) return;
    if (dgamma) dgamma[c] = (float)sum_x;
    if (dbeta) dbeta[c] = (float)sum;
}

template <int N, int M>
DEVICE void group_grad_rows(const group_norm_grad_args &a, int64_t i, int64_t step, const group_channel<N> &v,
                            const values<N> &m1, const values<N> &m2)
{
    values<N> x[M], dy[M];
    load_several<N, M>(a.x, i, step, x);
    load_several<N, M>(a.dy, i, step, dy);
    UNROLL
    for (int m = 0; m < M; m++) {
        v.back(a.silu, x[m], dy[m]);
        UNROLL
        for (int k = 0; k < N; k++)
            x[m].v[k] = v.inverse.v[k] * (dy[m].v[k] * v.gamma.v[k] - m1.v[k] - x[m].v[k] * m2.v[k]);
        store<N>(a.dx, i + m * step, x[m]);
    }
}

template <int N>
KERNEL group_grad_apply_kernel(group_norm_grad_args a, columns c, const float *means)
{
    column_place p = column_place_of<N>(c);
    if (!p.live) return;
    group_channel<N> v;
    v.begin(a, p.b, p.channel);
    values<N> m1, m2;
    UNROLL
    for (int k = 0; k < N; k++) {
        const float *mean = means + (p.b * a.groups + (p.channel + k) / (a.channels / a.groups)) * 2;
        m1.v[k] = mean[0];
        m2.v[k] = mean[1];
    }
    int64_t r = p.begin, step = c.row_lanes * c.channels, from = p.b * c.rows * c.channels + p.channel;
    for (; r + (ROWS_AHEAD - 1) * c.row_lanes < p.end; r += ROWS_AHEAD * c.row_lanes)
        group_grad_rows<N, ROWS_AHEAD>(a, from + r * c.channels, step, v, m1, m2);
    for (; r < p.end; r += c.row_lanes) group_grad_rows<N, 1>(a, from + r * c.channels, step, v, m1, m2);
}

size_t group_norm_grad_scratch(const group_norm_grad_args *a)
{
    columns c = columns_of(a->batch, a->space, a->channels, false);
    return columns_scratch(&c, group_grad_sum::SUMS) + (size_t)(2 * a->batch * a->groups) * sizeof(float);
}

void group_norm_grad_launch(const group_norm_grad_args *a, void *scratch, gpu_stream stream)
{
    bool wide = is_wide(a->x) && is_wide(a->dy) && is_wide(a->dx);
    columns c = columns_of(a->batch, a->space, a->channels, wide);
    float *sums = (float *)scratch;
    float *means = sums + columns_scratch(&c, group_grad_sum::SUMS) / sizeof(float);
    group_grad_sum job = {*a};
    columns_launch(c, job, sums, stream);
    if (a->dgamma || a->dbeta)
        LAUNCH(norm_weights_grad_kernel, divided(a->channels, WARP), 1, 1, BLOCK, stream, (const float *)sums,
               a->batch * c.parts, a->channels, a->dgamma, a->dbeta);
    if (!a->dx.data) return;
    LAUNCH(group_grad_merge_kernel, a->groups, 1, a->batch, BLOCK, stream, *a, c.parts, (const float *)sums, means);
    if (c.wide)
        LAUNCH(group_grad_apply_kernel<4>, c.tiles, c.parts, c.batch, c.lanes * c.row_lanes, stream, *a, c,
               (const float *)means);
    else
        LAUNCH(group_grad_apply_kernel<1>, c.tiles, c.parts, c.batch, c.lanes * c.row_lanes, stream, *a, c,
               (const float *)means);
}

/* ---- layer norm ---- */

enum { ROWS = BLOCK / WARP, FEW_ROWS = 4 }; /* of a block; of one whose warps hold their rows */

/* A row in its warp: P vectors of four a lane */
template <int P> struct row_place {
    int64_t at[P], column[P];
    int live;
    MEMBER void begin(int64_t row, int64_t channels)
    {
        int lane = THREAD % WARP;
        live = lane * 4 < channels ? (int)((channels / 4 - 1 - lane) / WARP) + 1 : 0;
        UNROLL
        for (int m = 0; m < P; m++) {
            column[m] = (m * WARP + lane) * 4;
            at[m] = row * channels + column[m];
        }
    }
};

template <int P> KERNEL THREADS_AT_MOST(FEW_ROWS *WARP) layer_norm_row_kernel(layer_norm_args a)
{
    int64_t row = (int64_t)BLOCK_X * FEW_ROWS + THREAD / WARP;
    if (row >= a.rows) return;
    row_place<P> p;
    values<4> x[P], gamma[P], beta[P];
    p.begin(row, a.channels);
    load_at<4, P>(a.x, p.at, p.live, x);
    load_at<4, P>(a.gamma, p.column, p.live, gamma);
    load_at<4, P>(a.beta, p.column, p.live, beta);
    float sum = 0, square = 0;
    UNROLL
    for (int m = 0; m < P; m++) {
        UNROLL
        for (int k = 0; k < 4; k++) sum += x[m].v[k];
    }
    float mean = warp_sum(sum) / (float)a.channels;
    UNROLL
    for (int m = 0; m < P; m++) {
        UNROLL
        for (int k = 0; k < 4; k++)
            if (m < p.live) square += (x[m].v[k] - mean) * (x[m].v[k] - mean);
    }
    float inverse = 1.0f / sqrtf(warp_sum(square) / (float)a.channels + a.eps);
    if (a.stats && THREAD % WARP == 0) {
        a.stats[2 * row] = mean;
        a.stats[2 * row + 1] = inverse;
    }
    UNROLL
    for (int m = 0; m < P; m++) {
        UNROLL
        for (int k = 0; k < 4; k++) x[m].v[k] = (x[m].v[k] - mean) * inverse * gamma[m].v[k] + beta[m].v[k];
        if (m < p.live) store<4>(a.y, p.at[m], x[m]);
    }
}

/* Vectors of four that a lane holds of a row, more than HELD_MOST: it cannot. */
enum { HELD_MOST = 10 };

static int64_t held_of(int64_t channels, bool wide)
{
    return wide && channels % 4 == 0 ? divided(channels, WARP * 4) : HELD_MOST + 1;
}

template <int N> KERNEL layer_norm_kernel(layer_norm_args a)
{
    int64_t row = (int64_t)BLOCK_X * ROWS + THREAD / WARP, at = row * a.channels;
    int lane = THREAD % WARP;
    if (row >= a.rows) return;
    float sum = 0, square = 0;
    for (int64_t c = lane * N; c < a.channels; c += WARP * N) {
        values<N> x = load<N>(a.x, at + c);
        UNROLL
        for (int k = 0; k < N; k++) sum += x.v[k];
    }
    float mean = warp_sum(sum) / (float)a.channels;
    for (int64_t c = lane * N; c < a.channels; c += WARP * N) {
        values<N> x = load<N>(a.x, at + c);
        UNROLL
        for (int k = 0; k < N; k++) square += (x.v[k] - mean) * (x.v[k] - mean);
    }
    float inverse = 1.0f / sqrtf(warp_sum(square) / (float)a.channels + a.eps);
    if (a.stats && lane == 0) {
        a.stats[2 * row] = mean;
        a.stats[2 * row + 1] = inverse;
    }
    for (int64_t c = lane * N; c < a.channels; c += WARP * N) {
        values<N> x = load<N>(a.x, at + c), gamma = load<N>(a.gamma, c), beta = load<N>(a.beta, c);
        UNROLL
        for (int k = 0; k < N; k++) x.v[k] = (x.v[k] - mean) * inverse * gamma.v[k] + beta.v[k];
        store<N>(a.y, at + c, x);
    }
}

void layer_norm_launch(const layer_norm_args *a, gpu_stream stream)
{
    bool wide = is_wide(a->x) && is_wide(a->y) && is_wide(a->gamma) && is_wide(a->beta);
    int64_t held = held_of(a->channels, wide);
    if (held <= 3)
        LAUNCH(layer_norm_row_kernel<3>, divided(a->rows, FEW_ROWS), 1, 1, FEW_ROWS * WARP, stream, *a);
    else if (held <= 6)
        LAUNCH(layer_norm_row_kernel<6>, divided(a->rows, FEW_ROWS), 1, 1, FEW_ROWS * WARP, stream, *a);
    else if (held <= HELD_MOST)
        LAUNCH(layer_norm_row_kernel<HELD_MOST>, divided(a->rows, FEW_ROWS), 1, 1, FEW_ROWS * WARP, stream, *a);
    else if (a->channels % 4 == 0 && wide)
        LAUNCH(layer_norm_kernel<4>, divided(a->rows, ROWS), 1, 1, BLOCK, stream, *a);
    else
        LAUNCH(layer_norm_kernel<1>, divided(a->rows, ROWS), 1, 1, BLOCK, stream, *a);
}

template <int N> KERNEL layer_norm_grad_kernel(layer_norm_grad_args a)
{
    int64_t row = (int64_t)BLOCK_X * ROWS + THREAD / WARP, at = row * a.channels;
    int lane = THREAD % WARP;
    if (row >= a.rows) return;
    float mean = a.stats[2 * row], inverse = a.stats[2 * row + 1], sum = 0, sum_x = 0;
    for (int64_t c = lane * N; c < a.channels; c += WARP * N) {
        values<N> x = load<N>(a.x, at + c), dy = load<N>(a.dy, at + c), gamma = load<N>(a.gamma, c);
        UNROLL
        for (int k = 0; k < N; k++) {
            float g = dy.v[k] * gamma.v[k];
            sum += g;
            sum_x += g * (x.v[k] - mean) * inverse;
        }
    }
    sum = warp_sum(sum) / (float)a.channels;
    sum_x = warp_sum(sum_x) / (float)a.channels;
    for (int64_t c = lane * N; c < a.channels; c += WARP * N) {
        values<N> x = load<N>(a.x, at + c), dy = load<N>(a.dy, at + c), gamma = load<N>(a.gamma, c);
        UNROLL
        for (int k = 0; k < N; k++)
            x.v[k] = inverse * (dy.v[k] * gamma.v[k] - sum - (x.v[k] - mean) * inverse * sum_x);
        store<N>(a.dx, at + c, x);
    }
}

template <int P> KERNEL THREADS_AT_MOST(FEW_ROWS *WARP) layer_norm_grad_row_kernel(layer_norm_grad_args a)
{
    int64_t row = (int64_t)BLOCK_X * FEW_ROWS + THREAD / WARP;
    if (row >= a.rows) return;
    row_place<P> p;
    values<4> x[P], dy[P], gamma[P];
    p.begin(row, a.channels);
    load_at<4, P>(a.x, p.at, p.live, x);
    load_at<4, P>(a.dy, p.at, p.live, dy);
    load_at<4, P>(a.gamma, p.column, p.live, gamma);
    float mean = a.stats[2 * row], inverse = a.stats[2 * row + 1], sum = 0, sum_x = 0;
    UNROLL
    for (int m = 0; m < P; m++) {
        UNROLL
        for (int k = 0; k < 4; k++) {
            dy[m].v[k] *= gamma[m].v[k]; /* zero beyond the row */
            x[m].v[k] = (x[m].v[k] - mean) * inverse;
            sum += dy[m].v[k];
            sum_x += dy[m].v[k] * x[m].v[k];
        }
    }
    sum = warp_sum(sum) / (float)a.channels;
    sum_x = warp_sum(sum_x) / (float)a.channels;
    UNROLL
    for (int m = 0; m < P; m++) {
        UNROLL
        for (int k = 0; k < 4; k++) x[m].v[k] = inverse * (dy[m].v[k] - sum - x[m].v[k] * sum_x);
        if (m < p.live) store<4>(a.dx, p.at[m], x[m]);
    }
}

struct layer_grad_sum {
    enum { SUMS = 2 };
    layer_norm_grad_args a;
    template <int N> struct state {
        MEMBER void begin(const layer_grad_sum &, int64_t, int64_t) {}
    };
    template <int N, int M>
    MEMBER void add(const state<N> &, const columns &c, int64_t row, int64_t channel, values<N> *sum) const
    {
        values<N> x[M], dy[M];
        load_several<N, M>(a.x, row * c.channels + channel, c.row_lanes * c.channels, x);
        load_several<N, M>(a.dy, row * c.channels + channel, c.row_lanes * c.channels, dy);
        UNROLL
        for (int m = 0; m < M; m++) {
            const float *stats = a.stats + 2 * (row + m * c.row_lanes);
            float mean = stats[0], inverse = stats[1];
            UNROLL
            for (int k = 0; k < N; k++) {
                sum[0].v[k] += dy[m].v[k];
                sum[1].v[k] += dy[m].v[k] * (x[m].v[k] - mean) * inverse;
            }
        }
    }
};

size_t layer_norm_grad_scratch(const layer_norm_grad_args *a)
{
    columns c = columns_of(1, a->rows, a->channels, false);
    return columns_scratch(&c, layer_grad_sum::SUMS);
}

void layer_norm_grad_launch(const layer_norm_grad_args *a, void *scratch, gpu_stream stream)
{
    if (a->dgamma || a->dbeta) {
        columns c = columns_of(1, a->rows, a->channels, is_wide(a->x) && is_wide(a->dy));
        layer_grad_sum job = {*a};
        columns_launch(c, job, (float *)scratch, stream);
        LAUNCH(norm_weights_grad_kernel, divided(a->channels, WARP), 1, 1, BLOCK, stream,
               (const float *)scratch, c.parts, a->channels, a->dgamma, a->dbeta);
    }
    if (!a->dx.data) return;
    bool wide = is_wide(a->x) && is_wide(a->dy) && is_wide(a->dx) && is_wide(a->gamma);
    int64_t held = held_of(a->channels, wide);
    if (held <= 3)
        LAUNCH(layer_norm_grad_row_kernel<3>, divided(a->rows, FEW_ROWS), 1, 1, FEW_ROWS * WARP, stream, *a);
    else if (held <= 6)
        LAUNCH(layer_norm_grad_row_kernel<6>, divided(a->rows, FEW_ROWS), 1, 1, FEW_ROWS * WARP, stream, *a);
    else if (held <= HELD_MOST)
        LAUNCH(layer_norm_grad_row_kernel<HELD_MOST>, divided(a->rows, FEW_ROWS), 1, 1, FEW_ROWS * WARP, stream, *a);
    else if (a->channels % 4 == 0 && wide)
        LAUNCH(layer_norm_grad_kernel<4>, divided(a->rows, ROWS), 1, 1, BLOCK, stream, *a);
    else
        LAUNCH(layer_norm_grad_kernel<1>, divided(a->rows, ROWS), 1, 1, BLOCK, stream, *a);
}
