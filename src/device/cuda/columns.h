/* SPDX-License-Identifier: Apache-2.0
 *
 * columns: sums over the rows of [batch, rows, channels], one or several for each channel, and work
 * that has the same constants down a column. Rows are cut into parts by the shape alone; a block
 * takes a part of some channels, its threads side by side along the channels (so that memory is
 * read in runs) and several rows deep. A part's sums are float32 over few rows; the parts are added
 * in double, in their order. */
#ifndef LIKENESS_DEVICE_CUDA_COLUMNS_H
#define LIKENESS_DEVICE_CUDA_COLUMNS_H

#include "device/cuda/values.h"

enum { AT_ONCE = 8 };    /* parts whose sums a thread waits for together */
enum { ROWS_AHEAD = 4 }; /* rows that a thread reads before it uses the first */

struct columns {
    int64_t batch, rows, channels;
    int64_t parts, part_rows;
    int64_t tiles;        /* blocks along the channels */
    int lanes, row_lanes; /* a block's threads: along the channels, and down */
    bool wide;            /* four channels a thread */
};

/* wide: all that is read and written there is aligned. The parts do not depend on it. */
static inline columns columns_of(int64_t batch, int64_t rows, int64_t channels, bool wide)
{
    const int64_t enough_parts = 128, most_blocks = 1024, most_parts = 512;
    const int64_t least_elements = 2048, most_elements = 8192; /* of a part, where few rows allow */
    columns c = {};
    c.batch = batch, c.rows = rows, c.channels = channels;
    c.wide = wide && channels % 4 == 0;
    int64_t vectors = c.wide ? channels / 4 : channels;
    c.tiles = divided(vectors, BLOCK);
    c.lanes = (int)divided(vectors, c.tiles);
    c.row_lanes = BLOCK / c.lanes;
    int64_t cut = divided(channels, BLOCK * 4), across = divided(channels, cut);
    int64_t least = divided(batch * rows * cut, most_blocks), few = divided(rows, most_parts);
    int64_t elements = rows * channels / enough_parts;
    elements = elements < least_elements  ? least_elements
               : elements > most_elements ? most_elements
                                          : elements;
    c.part_rows = divided(elements, across);
    if (c.part_rows < least) c.part_rows = least;
    if (c.part_rows < few) c.part_rows = few;
    c.part_rows = divided(c.part_rows, ROWS_AHEAD) * ROWS_AHEAD;
    c.parts = divided(rows, c.part_rows);
    return c;
}

static inline size_t columns_scratch(const columns *c, int sums)
{
    return (size_t)(c->batch * c->parts * c->channels) * (size_t)sums * sizeof(float);
}

/* A thread's place in a part */
struct column_place {
    int64_t b, channel, begin, end;
    bool live;
};

template <int N> DEVICE column_place column_place_of(const columns &c)
{
    column_place p;
    p.b = BLOCK_Z;
    p.channel = ((int64_t)BLOCK_X * c.lanes + THREAD % c.lanes) * N;
    p.live = p.channel < c.channels;
    p.begin = BLOCK_Y * c.part_rows;
    p.end = p.begin + c.part_rows < c.rows ? p.begin + c.part_rows : c.rows;
    p.begin += THREAD / c.lanes;
    return p;
}

/* out [batch, parts, SUMS, channels]. A job has a state that begins at a column, and adds M
 * rows', c.row_lanes apart. */
template <typename Job, int N> KERNEL columns_kernel(columns c, Job job, float *out)
{
    enum { SUMS = Job::SUMS };
    SHARED(float, part, BLOCK *N *SUMS);
    column_place p = column_place_of<N>(c);
    values<N> sum[SUMS] = {};
    if (p.live) {
        typename Job::template state<N> state;
        state.begin(job, p.b, p.channel);
        int64_t r = p.begin, several = (ROWS_AHEAD - 1) * c.row_lanes;
        for (; r + several < p.end; r += ROWS_AHEAD * c.row_lanes)
            job.template add<N, ROWS_AHEAD>(state, c, p.b * c.rows + r, p.channel, sum);
        for (; r < p.end; r += c.row_lanes)
            job.template add<N, 1>(state, c, p.b * c.rows + r, p.channel, sum);
    }
    UNROLL
    for (int s = 0; s < SUMS; s++) {
        UNROLL
        for (int k = 0; k < N; k++) part[(s * N + k) * BLOCK + THREAD] = sum[s].v[k];
    }
    BARRIER();
    if (THREAD >= c.lanes || !p.live) return;
    float *to = out + (p.b * c.parts + BLOCK_Y) * SUMS * c.channels + p.channel;
    UNROLL
    for (int s = 0; s < SUMS; s++) {
        UNROLL
        for (int k = 0; k < N; k++) {
            float total = 0;
            for (int r = 0; r < c.row_lanes; r++)
                total += part[(s * N + k) * BLOCK + r * c.lanes + THREAD];
            to[s * c.channels + k] = total;
        }
    }
}

template <typename Job>
static void columns_launch(const columns &c, const Job &job, float *out, gpu_stream stream)
{
    if (c.wide)
        LAUNCH((columns_kernel<Job, 4>), c.tiles, c.parts, c.batch, c.lanes * c.row_lanes, stream,
               c, job, out);
    else
        LAUNCH((columns_kernel<Job, 1>), c.tiles, c.parts, c.batch, c.lanes * c.row_lanes, stream,
               c, job, out);
}

/* The total of sum s of channel BLOCK_X * WARP + lane over `parts` parts, in all warps of a block
 * of BLOCK threads; part: shared, BLOCK numbers. */
DEVICE double column_total(const float *sums, int64_t parts, int sum_count, int s, int64_t channels,
                           double *part)
{
    int lane = THREAD % WARP;
    int64_t c = (int64_t)BLOCK_X * WARP + lane;
    double sum = 0;
    for (int64_t p = THREAD / WARP; c < channels && p < parts; p += AT_ONCE * (BLOCK / WARP)) {
        float x[AT_ONCE];
        UNROLL
        for (int k = 0; k < AT_ONCE; k++) {
            int64_t at = p + k * (BLOCK / WARP);
            x[k] = at < parts ? sums[(at * sum_count + s) * channels + c] : 0;
        }
        UNROLL
        for (int k = 0; k < AT_ONCE; k++) sum += (double)x[k];
    }
    BARRIER(); /* whoever still reads an earlier total */
    part[THREAD] = sum;
    BARRIER();
    double total = 0;
    for (int w = 0; w < BLOCK / WARP; w++) total += part[w * WARP + lane];
    return total;
}

#endif
