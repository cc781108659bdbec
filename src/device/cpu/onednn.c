/* SPDX-License-Identifier: Apache-2.0
 *
 * onednn: plain products by oneDNN's matmul; the weight lies in whatever layout the primitive asks
 * for. What differs between versions 2 and 3 of its interface is gathered at the top.
 *
 * oneDNN's own threads (OpenMP's, as distributions build it) wait for each other by spinning, which
 * costs many times the work where another program wants the cores. So it is held to one thread, and
 * its products are dealt out to ours by rows: pieces of one size, by the shape alone, and a last
 * smaller one. Each is a primitive of its own over the same packed weight.
 *
 * The weight is reordered from where it lies, in strips of columns, by all threads. That of a
 * weight that is trained is packed in every run, into its scratch: it is used once or twice before
 * it changes, and all of them together would be larger than the weights. */
#include "device/cpu/onednn.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <dnnl.h>

#include "base/half.h"

#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t desc_ref;
static desc_ref ref(const dnnl_memory_desc_t *d) { return *d; }
static void desc_close(dnnl_memory_desc_t *d)
{
    if (*d) dnnl_memory_desc_destroy(*d);
}
static dnnl_status_t desc_open(dnnl_memory_desc_t *d, int rank, const dnnl_dims_t dims,
                               dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(d, rank, dims, type, tag);
}
static dnnl_status_t desc_copy(dnnl_memory_desc_t *d, desc_ref from)
{
    return dnnl_memory_desc_clone(d, from);
}
static dnnl_status_t desc_part(dnnl_memory_desc_t *d, desc_ref from, const dnnl_dims_t dims,
                               const dnnl_dims_t offsets)
{
    return dnnl_memory_desc_create_submemory(d, from, dims, offsets);
}
static dnnl_status_t post_sum(dnnl_post_ops_t ops)
{
    return dnnl_post_ops_append_sum(ops, 1, 0, dnnl_data_type_undef);
}
#else
typedef const dnnl_memory_desc_t *desc_ref;
static desc_ref ref(const dnnl_memory_desc_t *d) { return d; }
static void desc_close(dnnl_memory_desc_t *d) { (void)d; }
static dnnl_status_t desc_open(dnnl_memory_desc_t *d, int rank, const dnnl_dims_t dims,
                               dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(d, rank, dims, type, tag);
}
static dnnl_status_t desc_copy(dnnl_memory_desc_t *d, desc_ref from)
{
    *d = *from;
    return dnnl_success;
}
static dnnl_status_t desc_part(dnnl_memory_desc_t *d, desc_ref from, const dnnl_dims_t dims,
                               const dnnl_dims_t offsets)
{
    return dnnl_memory_desc_init_submemory(d, from, dims, offsets);
}
static dnnl_status_t post_sum(dnnl_post_ops_t ops) { return dnnl_post_ops_append_sum(ops, 1); }
#endif

/* ---- a product's primitives ---- */

/* The operands' layouts for `rows` rows. */
struct descs {
    dnnl_memory_desc_t x, w, bias, y;
};

enum { WHOLE, REST, PARTS };

/* The primitive of the pieces of one size. */
struct part {
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
};

/* How many threads the OpenMP that oneDNN was built with gives the calling thread. Found by name,
 * for we are built with none; NULL where oneDNN has other threads. */
struct openmp {
    int (*get)(void);
    void (*set)(int);
};

/* What runs one piece at a time. */
struct lane {
    dnnl_stream_t stream;
    dnnl_memory_t x[PARTS], y[PARTS], scratch[PARTS], bias;
};

/* What packs some columns of the weight: a multiple of every width that oneDNN blocks them by. */
enum { STRIP_STEP = 192 };
struct strip {
    dnnl_stream_t stream;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    dnnl_memory_t from, to;
};

struct onednn_product {
    struct openmp openmp;
    dnnl_engine_t engine;
    struct part part[PARTS]; /* REST: only where the rows are no multiple of a piece's */
    int64_t rows;            /* of a piece */
    int pieces;
    int lanes; /* one a piece, or, where these are fewer, one a thread */
    struct lane *lane;
    size_t scratch_size; /* of a lane */
    size_t pack_size;    /* of the packed weight */
    dnnl_memory_t pack;  /* made in a run, in its scratch */
    struct strip *strip; /* of a weight of strip_type; made by bind, kept for what is trained */
    int strips;
    dtype strip_type;
};

static int alone_begin(const struct onednn_product *o)
{
    int before = o->openmp.get ? o->openmp.get() : 1;
    if (o->openmp.set) o->openmp.set(1);
    return before;
}

static void alone_end(const struct onednn_product *o, int before)
{
    if (o->openmp.set) o->openmp.set(before);
}

static bool failed(dnnl_status_t status, const char *what, size_t bytes, error *e)
{
    if (status == dnnl_out_of_memory) return error_memory(e, what, bytes);
    return error_set(e, ERROR_USAGE, "oneDNN fails at %s (status %d); use precision f32", what,
                     (int)status);
}

static dnnl_data_type_t type_of(dtype t)
{
    return t == DTYPE_BF16 ? dnnl_bf16 : t == DTYPE_F16 ? dnnl_f16 : dnnl_f32;
}

static dnnl_status_t matmul_open(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                                 const struct descs *s, bool bias, dnnl_primitive_attr_t attr)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_matmul_primitive_desc_create(out, engine, s->x, s->w, bias ? s->bias : NULL, s->y,
                                             attr);
#else
    dnnl_matmul_desc_t d;
    dnnl_status_t status = dnnl_matmul_desc_init(&d, &s->x, &s->w, bias ? &s->bias : NULL, &s->y);
    if (!status) status = dnnl_primitive_desc_create(out, &d, attr, engine, NULL);
    return status;
#endif
}

static void descs_close(struct descs *s)
{
    desc_close(&s->x);
    desc_close(&s->w);
    desc_close(&s->bias);
    desc_close(&s->y);
}

/* w: the weight's layout, NULL where the primitive may choose it. */
static dnnl_status_t descs_open(struct descs *s, const product *p, int64_t rows, desc_ref w)
{
    dnnl_dims_t xd = {rows, p->c}, wd = {p->c, p->o}, bd = {1, p->o}, yd = {rows, p->o};
    memset(s, 0, sizeof *s);
    dnnl_status_t status = desc_open(&s->x, 2, xd, type_of(p->x_type), dnnl_ab);
    if (!status && w) status = desc_copy(&s->w, w);
    if (!status && !w) status = desc_open(&s->w, 2, wd, type_of(p->pack_type), dnnl_format_tag_any);
    if (!status) status = desc_open(&s->bias, 2, bd, dnnl_f32, dnnl_ab);
    if (!status) status = desc_open(&s->y, 2, yd, type_of(p->y_type), dnnl_ab);
    return status;
}

/* Own scratch, and y added to where there is an `add` (which is copied into y first, unless it
 * lies there). */
static dnnl_status_t attributes_open(dnnl_primitive_attr_t *attr, bool add)
{
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t status = dnnl_primitive_attr_create(attr);
    if (!status) status = dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
    if (status || !add) return status;
    status = dnnl_post_ops_create(&ops);
    if (!status) status = post_sum(ops);
    if (!status) status = dnnl_primitive_attr_set_post_ops(*attr, ops);
    if (ops) dnnl_post_ops_destroy(ops);
    return status;
}

static dnnl_status_t part_open(struct part *part, const struct onednn_product *o, const product *p,
                               int64_t rows, desc_ref w)
{
    struct descs s;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t status = descs_open(&s, p, rows, w);
    if (!status) status = attributes_open(&attr, p->has_add);
    if (!status) status = matmul_open(&part->desc, o->engine, &s, p->has_bias, attr);
    if (attr) dnnl_primitive_attr_destroy(attr);
    descs_close(&s);
    return status ? status : dnnl_primitive_create(&part->primitive, part->desc);
}

static desc_ref part_desc(const struct part *part, dnnl_query_t what, int index)
{
    return dnnl_primitive_desc_query_md(part->desc, what, index);
}

/* The layout of the packed weight. */
static desc_ref weight_desc(const struct onednn_product *o)
{
    return part_desc(&o->part[WHOLE], dnnl_query_weights_md, 0);
}

static dnnl_status_t memory_open(dnnl_memory_t *out, const struct onednn_product *o, desc_ref desc)
{
    return dnnl_memory_create(out, desc, o->engine, DNNL_MEMORY_NONE);
}

static dnnl_status_t lane_open(struct lane *l, const struct onednn_product *o, bool bias)
{
    dnnl_status_t status = dnnl_stream_create(&l->stream, o->engine, dnnl_stream_default_flags);
    const struct part *whole = &o->part[WHOLE];
    if (!status && bias)
        status = memory_open(&l->bias, o, part_desc(whole, dnnl_query_weights_md, 1));
    for (int i = 0; !status && i < PARTS && o->part[i].primitive; i++) {
        const struct part *part = &o->part[i];
        status = memory_open(&l->x[i], o, part_desc(part, dnnl_query_src_md, 0));
        if (!status) status = memory_open(&l->y[i], o, part_desc(part, dnnl_query_dst_md, 0));
        if (!status)
            status = memory_open(&l->scratch[i], o, part_desc(part, dnnl_query_scratchpad_md, 0));
    }
    return status;
}

static void lane_close(struct lane *l)
{
    for (int i = 0; i < PARTS; i++) {
        if (l->x[i]) dnnl_memory_destroy(l->x[i]);
        if (l->y[i]) dnnl_memory_destroy(l->y[i]);
        if (l->scratch[i]) dnnl_memory_destroy(l->scratch[i]);
    }
    if (l->bias) dnnl_memory_destroy(l->bias);
    if (l->stream) dnnl_stream_destroy(l->stream);
}

/* Rows of a piece: enough for the weight to be read seldom, few enough for every thread to have
 * several; by the shape alone. */
static int64_t piece_rows(const product *p)
{
    enum { ROWS_LEAST = 64, ROW_STEP = 16, PIECES_MOST = 32 };
    int64_t rows = (product_rows(p) + PIECES_MOST - 1) / PIECES_MOST;
    rows = (rows + ROW_STEP - 1) / ROW_STEP * ROW_STEP;
    if (rows < ROWS_LEAST) rows = ROWS_LEAST;
    return rows < product_rows(p) ? rows : product_rows(p);
}

static dnnl_status_t product_open(struct onednn_product *o, const product *p)
{
    int64_t rest = product_rows(p) % o->rows;
    dnnl_status_t status = dnnl_engine_create(&o->engine, dnnl_cpu, 0);
    if (!status) status = part_open(&o->part[WHOLE], o, p, o->rows, NULL);
    if (!status && rest) status = part_open(&o->part[REST], o, p, rest, weight_desc(o));
    for (int i = 0; !status && i < PARTS && o->part[i].primitive; i++) {
        size_t size = dnnl_memory_desc_get_size(
            part_desc(&o->part[i], dnnl_query_scratchpad_md, 0));
        if (size > o->scratch_size) o->scratch_size = size;
    }
    o->scratch_size = round_line(o->scratch_size + 1);
    o->pack_size = status ? 0 : dnnl_memory_desc_get_size(weight_desc(o));
    if (!status) status = memory_open(&o->pack, o, weight_desc(o));
    for (int i = 0; !status && i < o->lanes; i++) status = lane_open(&o->lane[i], o, p->has_bias);
    return status;
}

static void strips_close(struct onednn_product *o)
{
    for (int i = 0; o->strip && i < o->strips; i++) {
        struct strip *s = &o->strip[i];
        if (s->from) dnnl_memory_destroy(s->from);
        if (s->to) dnnl_memory_destroy(s->to);
        if (s->primitive) dnnl_primitive_destroy(s->primitive);
        if (s->desc) dnnl_primitive_desc_destroy(s->desc);
        if (s->stream) dnnl_stream_destroy(s->stream);
    }
    free(o->strip);
    o->strip = NULL;
}

void onednn_close(struct onednn_product *o)
{
    if (!o) return;
    strips_close(o);
    if (o->pack) dnnl_memory_destroy(o->pack);
    for (int i = 0; o->lane && i < o->lanes; i++) lane_close(&o->lane[i]);
    free(o->lane);
    for (int i = 0; i < PARTS; i++) {
        if (o->part[i].primitive) dnnl_primitive_destroy(o->part[i].primitive);
        if (o->part[i].desc) dnnl_primitive_desc_destroy(o->part[i].desc);
    }
    if (o->engine) dnnl_engine_destroy(o->engine);
    free(o);
}

bool onednn_open(const device *d, product *p, error *e)
{
    bool plain = product_taps(p) == 1 && p->stride == 1 && p->spread == 1 && p->pad_top == 0 &&
                 p->pad_left == 0 && p->oh == p->h && p->ow == p->w;
    p->onednn = NULL;
    if (!plain || (p->has_add && p->add_type != p->y_type)) return true;
    struct onednn_product *o = calloc(1, sizeof *o);
    if (!o) return error_memory(e, "a oneDNN product", sizeof *o);
    /* as POSIX has a function's address out of dlsym; C has no cast for it */
    *(void **)&o->openmp.get = dlsym(RTLD_DEFAULT, "omp_get_max_threads");
    *(void **)&o->openmp.set = dlsym(RTLD_DEFAULT, "omp_set_num_threads");
    o->rows = piece_rows(p);
    o->pieces = (int)((product_rows(p) + o->rows - 1) / o->rows);
    o->lanes = o->pieces < d->threads ? o->pieces : d->threads;
    o->lane = calloc((size_t)o->lanes, sizeof *o->lane);
    int before = alone_begin(o);
    dnnl_status_t status = o->lane ? product_open(o, p) : dnnl_out_of_memory;
    alone_end(o, before);
    if (status == dnnl_success) {
        p->onednn = o;
        return true;
    }
    onednn_close(o);
    return status != dnnl_out_of_memory || error_memory(e, "a oneDNN product", 0);
}

size_t onednn_scratch(const product *p)
{
    return (size_t)p->onednn->lanes * p->onednn->scratch_size + p->onednn->pack_size;
}

/* ---- the packed weight ---- */

static void pack_close(weight_pack *p) { dnnl_memory_destroy(p->owned); }

/* The pack in the layout that this product wants. */
static weight_pack *pack_find(const array *w, const product *p)
{
    for (weight_pack *pack = weight_packs(w); pack; pack = pack->next) {
        if (pack->form != p->form) continue;
        const_dnnl_memory_t memory = pack->owned;
#if DNNL_VERSION_MAJOR >= 3
        const_dnnl_memory_desc_t desc = NULL;
#else
        const dnnl_memory_desc_t *desc = NULL;
#endif
        if (dnnl_memory_get_memory_desc(memory, &desc) == dnnl_success &&
            dnnl_memory_desc_equal(desc, weight_desc(p->onednn)))
            return pack;
    }
    return NULL;
}

static weight_pack *pack_new(const array *w, const product *p, error *e)
{
    const struct onednn_product *o = p->onednn;
    size_t size = dnnl_memory_desc_get_size(weight_desc(o));
    weight_pack *pack = weight_pack_new(w, p->form, size, e);
    if (!pack) return NULL;
    dnnl_memory_t memory = NULL;
    dnnl_status_t status = dnnl_memory_create(&memory, weight_desc(o), o->engine, pack->data);
    if (status) {
        weight_pack_free(pack);
        failed(status, w->w->name, size, e);
        return NULL;
    }
    pack->owned = memory;
    pack->close = pack_close;
    return pack;
}

/* A weight that is trained lies in the device's memory. */
static bool made_in_run(const array *w) { return w->weights->memory != NULL; }

/* Columns [n, n + columns) of a weight of `type`, as it lies, to those of the pack. */
static dnnl_status_t strip_open(struct strip *s, const product *p, dtype type, int64_t n,
                                int64_t columns)
{
    const struct onednn_product *o = p->onednn;
    dnnl_memory_desc_t plain, from, to;
    memset(&plain, 0, sizeof plain), memset(&from, 0, sizeof from), memset(&to, 0, sizeof to);
    dnnl_dims_t all = {p->c, p->o}, dims = {p->c, columns}, at = {0, n};
    dnnl_status_t status = dnnl_stream_create(&s->stream, o->engine, dnnl_stream_default_flags);
    if (!status)
        status = desc_open(&plain, 2, all, type_of(type), p->transposed ? dnnl_ab : dnnl_ba);
    if (!status) status = desc_part(&from, ref(&plain), dims, at);
    if (!status) status = desc_part(&to, weight_desc(o), dims, at);
    if (!status)
        status = dnnl_reorder_primitive_desc_create(&s->desc, ref(&from), o->engine, ref(&to),
                                                    o->engine, NULL);
    if (!status) status = dnnl_primitive_create(&s->primitive, s->desc);
    if (!status) status = memory_open(&s->from, o, ref(&from));
    if (!status) status = memory_open(&s->to, o, ref(&to));
    desc_close(&plain), desc_close(&from), desc_close(&to);
    return status;
}

static dnnl_status_t strips_open_in(const product *p, dtype type, int count)
{
    struct onednn_product *o = p->onednn;
    o->strip = calloc((size_t)count, sizeof *o->strip);
    if (!o->strip) return dnnl_out_of_memory;
    o->strips = count;
    o->strip_type = type;
    dnnl_status_t status = dnnl_success;
    for (int i = 0; !status && i < count; i++) {
        int64_t begin, end;
        piece_range(p->o, STRIP_STEP, i, count, &begin, &end);
        status = strip_open(&o->strip[i], p, type, begin, end - begin);
    }
    if (status) strips_close(o);
    return status;
}

/* One strip for all, where the layout cannot be cut. */
static dnnl_status_t strips_open(const device *d, const product *p, dtype type)
{
    struct onednn_product *o = p->onednn;
    if (o->strip && o->strip_type == type) return dnnl_success;
    strips_close(o);
    int64_t fit = p->o / STRIP_STEP, most = cpu_pieces(d, p->c * p->o);
    int count = (int)(fit < 1 ? 1 : fit < most ? fit : most), before = alone_begin(o);
    dnnl_status_t status = strips_open_in(p, type, count);
    if (status && status != dnnl_out_of_memory && count > 1) status = strips_open_in(p, type, 1);
    alone_end(o, before);
    return status;
}

typedef struct strips_job {
    const struct onednn_product *o;
    const void *from;
    void *to;
    atomic_int status; /* of the first strip that fails */
} strips_job;

static void strips_piece(void *context, int piece, int worker)
{
    (void)worker;
    strips_job *j = context;
    const struct strip *s = &j->o->strip[piece];
    int before = alone_begin(j->o), none = dnnl_success;
    dnnl_status_t status = dnnl_memory_set_data_handle(s->from, (void *)(uintptr_t)j->from);
    if (!status) status = dnnl_memory_set_data_handle(s->to, j->to);
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, s->from}, {DNNL_ARG_TO, s->to}};
    if (!status) status = dnnl_primitive_execute(s->primitive, s->stream, 2, args);
    if (!status) status = dnnl_stream_wait(s->stream);
    alone_end(j->o, before);
    if (status) atomic_compare_exchange_strong(&j->status, &none, (int)status);
}

static dnnl_status_t strips_run(const device *d, const product *p, const void *from, void *to)
{
    strips_job j = {.o = p->onednn, .from = from, .to = to};
    cpu_deal(d, p->c * p->o, j.o->strips, strips_piece, &j);
    return (dnnl_status_t)atomic_load(&j.status);
}

/* The weight is read as it lies, but for float16, which oneDNN's processor kernels do not all read,
 * and data at odd addresses. */
static dnnl_status_t pack_fill(const device *d, weight_pack *pack, const product *p, const array *a)
{
    const weight *w = a->w;
    const void *data = weight_data(a);
    size_t n = (size_t)weight_elements(w);
    bool plain = w->type != DTYPE_F16 && (uintptr_t)data % dtype_size(w->type) == 0;
    float *copy = plain ? NULL : malloc(n * sizeof *copy);
    if (!plain && !copy) return dnnl_out_of_memory;
    if (copy) convert_to_float(copy, data, w->type, n);
    dnnl_status_t status = strips_open(d, p, plain ? w->type : DTYPE_F32);
    if (!status) status = strips_run(d, p, plain ? data : copy, pack->data);
    strips_close(p->onednn);
    free(copy);
    return status;
}

static bool bind_locked(const device *d, const product *p, const array *w, error *e)
{
    weight_pack *pack = pack_find(w, p);
    if (pack && !pack->stale) return true;
    bool fresh = !pack;
    if (fresh) pack = pack_new(w, p, e);
    if (!pack) return false;
    dnnl_status_t status = pack_fill(d, pack, p, w);
    pack->stale = status != dnnl_success;
    if (!status) {
        if (fresh) weight_pack_list(w, pack);
        weight_was_copied(d, w);
        return true;
    }
    if (fresh) weight_pack_free(pack);
    return failed(status, w->w->name, (size_t)weight_elements(w->w) * sizeof(float), e);
}

bool onednn_bind(const device *d, const product *p, const array *w, error *e)
{
    if (made_in_run(w)) {
        dnnl_status_t status = strips_open(d, p, w->w->type);
        return !status || failed(status, w->w->name, 0, e);
    }
    weight_lock(w);
    bool ok = bind_locked(d, p, w, e);
    weight_unlock(w);
    return ok;
}

/* ---- running ---- */

typedef struct onednn_job {
    const product *p;
    const struct product_data *data;
    dnnl_memory_t weight;
    atomic_int status; /* of the first piece that fails */
} onednn_job;

static dnnl_status_t piece_run(const onednn_job *j, int piece, int lane)
{
    const product *p = j->p;
    const struct onednn_product *o = p->onednn;
    const struct product_data *data = j->data;
    int64_t row = piece * o->rows, left = product_rows(p) - row;
    int64_t rows = left < o->rows ? left : o->rows;
    int which = rows < o->rows ? REST : WHOLE;
    struct lane *l = &o->lane[lane];
    size_t y_row = (size_t)p->o * dtype_size(p->y_type);
    const char *x = (const char *)data->x + (size_t)(row * p->c) * dtype_size(p->x_type);
    char *y = (char *)data->y + (size_t)row * y_row;
    if (data->add && data->add != data->y)
        memcpy(y, (const char *)data->add + (size_t)row * y_row, (size_t)rows * y_row);
    char *scratch = data->scratch + (size_t)lane * o->scratch_size;
    dnnl_status_t status = dnnl_memory_set_data_handle(l->x[which], (void *)(uintptr_t)x);
    if (!status) status = dnnl_memory_set_data_handle(l->y[which], y);
    if (!status) status = dnnl_memory_set_data_handle(l->scratch[which], scratch);
    if (!status && l->bias)
        status = dnnl_memory_set_data_handle(l->bias, (void *)(uintptr_t)data->bias);
    dnnl_exec_arg_t args[5] = {{DNNL_ARG_SRC, l->x[which]},
                               {DNNL_ARG_WEIGHTS, j->weight},
                               {DNNL_ARG_DST, l->y[which]},
                               {DNNL_ARG_SCRATCHPAD, l->scratch[which]},
                               {DNNL_ARG_BIAS, l->bias}};
    if (!status)
        status = dnnl_primitive_execute(o->part[which].primitive, l->stream, l->bias ? 5 : 4, args);
    return status ? status : dnnl_stream_wait(l->stream);
}

static void product_piece(void *context, int piece, int worker)
{
    onednn_job *j = context;
    const struct onednn_product *o = j->p->onednn;
    int before = alone_begin(o), none = dnnl_success;
    dnnl_status_t status = piece_run(j, piece, o->lanes == o->pieces ? piece : worker);
    alone_end(o, before);
    if (status) atomic_compare_exchange_strong(&j->status, &none, (int)status);
}

/* The packed weight of a run. */
static dnnl_status_t weight_of(const device *d, const product *p, const struct product_data *data,
                               dnnl_memory_t *out)
{
    const struct onednn_product *o = p->onednn;
    if (!made_in_run(data->w)) {
        *out = pack_find(data->w, p)->owned;
        return dnnl_success;
    }
    char *at = data->scratch + (size_t)o->lanes * o->scratch_size;
    dnnl_status_t status = strips_run(d, p, weight_data(data->w), at);
    *out = o->pack;
    return status ? status : dnnl_memory_set_data_handle(o->pack, at);
}

bool onednn_run(const device *d, const product *p, const struct product_data *data, error *e)
{
    onednn_job j = {.p = p, .data = data};
    dnnl_status_t status = weight_of(d, p, data, &j.weight);
    if (!status) {
        cpu_deal(d, product_rows(p) * p->c * p->o, p->onednn->pieces, product_piece, &j);
        status = (dnnl_status_t)atomic_load(&j.status);
    }
    return !status || failed(status, "a product", onednn_scratch(p), e);
}
