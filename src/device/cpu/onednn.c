/* SPDX-License-Identifier: Apache-2.0
 *
 * onednn: products and convolutions by oneDNN. A plain product is its matmul, anything else its
 * convolution on channels-last maps; the weight lies in whatever layout the primitive asks for.
 * What differs between versions 2 and 3 of its interface is gathered at the top. */
#include "device/cpu/onednn.h"

#include <omp.h>
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
static dnnl_status_t post_sum(dnnl_post_ops_t ops) { return dnnl_post_ops_append_sum(ops, 1); }
#endif

/* The operands' layouts; the weight's is left to the primitive. */
struct descs {
    dnnl_memory_desc_t x, w, bias, y;
};

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

static dnnl_status_t convolution_open(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                                      const struct descs *s, bool bias, const product *p,
                                      dnnl_primitive_attr_t attr)
{
    dnnl_dims_t strides = {p->stride, p->stride}, before = {p->pad_top, p->pad_left};
    dnnl_dims_t after = {(p->oh - 1) * p->stride + p->kh - p->h - p->pad_top,
                         (p->ow - 1) * p->stride + p->kw - p->w - p->pad_left};
#if DNNL_VERSION_MAJOR >= 3
    dnnl_dims_t dilates = {0, 0};
    return dnnl_convolution_forward_primitive_desc_create(
        out, engine, dnnl_forward_inference, dnnl_convolution_direct, s->x, s->w,
        bias ? s->bias : NULL, s->y, strides, dilates, before, after, attr);
#else
    dnnl_convolution_desc_t d;
    dnnl_status_t status = dnnl_convolution_forward_desc_init(
        &d, dnnl_forward_inference, dnnl_convolution_direct, &s->x, &s->w,
        bias ? &s->bias : NULL, &s->y, strides, before, after);
    if (!status) status = dnnl_primitive_desc_create(out, &d, attr, engine, NULL);
    return status;
#endif
}

/* A status that is none of success; false. */
static bool failed(dnnl_status_t status, const char *what, size_t bytes, error *e)
{
    if (status == dnnl_out_of_memory) return error_memory(e, what, bytes);
    return error_set(e, ERROR_USAGE, "oneDNN fails at %s (status %d); use precision f32", what,
                     (int)status);
}

struct onednn_product {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    dnnl_memory_t x, bias, y, scratch;
    size_t scratch_size;
};

static dnnl_data_type_t type_of(dtype t) { return t == DTYPE_BF16 ? dnnl_bf16 : dnnl_f32; }

static bool is_matmul(const product *p)
{
    return product_taps(p) == 1 && p->stride == 1 && p->pad_top == 0 && p->pad_left == 0 &&
           p->oh == p->h && p->ow == p->w;
}

static void descs_close(struct descs *s)
{
    desc_close(&s->x);
    desc_close(&s->w);
    desc_close(&s->bias);
    desc_close(&s->y);
}

static dnnl_status_t descs_open(struct descs *s, const product *p)
{
    dnnl_data_type_t x = type_of(p->x_type), w = type_of(p->pack_type), y = type_of(p->y_type);
    memset(s, 0, sizeof *s);
    dnnl_status_t status = dnnl_success;
    if (is_matmul(p)) {
        int64_t rows = product_rows(p);
        dnnl_dims_t xd = {rows, p->c}, wd = {p->c, p->o}, bd = {1, p->o}, yd = {rows, p->o};
        if (!status) status = desc_open(&s->x, 2, xd, x, dnnl_ab);
        if (!status) status = desc_open(&s->w, 2, wd, w, dnnl_format_tag_any);
        if (!status) status = desc_open(&s->bias, 2, bd, dnnl_f32, dnnl_ab);
        if (!status) status = desc_open(&s->y, 2, yd, y, dnnl_ab);
        return status;
    }
    dnnl_dims_t xd = {p->batch, p->c, p->h, p->w}, wd = {p->o, p->c, p->kh, p->kw}, bd = {p->o};
    dnnl_dims_t yd = {p->batch, p->o, p->oh, p->ow};
    if (!status) status = desc_open(&s->x, 4, xd, x, dnnl_nhwc);
    if (!status) status = desc_open(&s->w, 4, wd, w, dnnl_format_tag_any);
    if (!status) status = desc_open(&s->bias, 1, bd, dnnl_f32, dnnl_a);
    if (!status) status = desc_open(&s->y, 4, yd, y, dnnl_nhwc);
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

static dnnl_status_t memory_open(dnnl_memory_t *out, const struct onednn_product *o,
                                 dnnl_query_t what, int index)
{
    return dnnl_memory_create(out, dnnl_primitive_desc_query_md(o->desc, what, index), o->engine,
                              DNNL_MEMORY_NONE);
}

static dnnl_status_t product_open(struct onednn_product *o, const product *p)
{
    struct descs s;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t status = descs_open(&s, p);
    if (!status) status = dnnl_engine_create(&o->engine, dnnl_cpu, 0);
    if (!status) status = dnnl_stream_create(&o->stream, o->engine, dnnl_stream_default_flags);
    if (!status) status = attributes_open(&attr, p->has_add);
    if (!status) {
        status = is_matmul(p) ? matmul_open(&o->desc, o->engine, &s, p->has_bias, attr)
                              : convolution_open(&o->desc, o->engine, &s, p->has_bias, p, attr);
    }
    if (attr) dnnl_primitive_attr_destroy(attr);
    descs_close(&s);
    if (!status) status = dnnl_primitive_create(&o->primitive, o->desc);
    if (!status) status = memory_open(&o->x, o, dnnl_query_src_md, 0);
    if (!status && p->has_bias) status = memory_open(&o->bias, o, dnnl_query_weights_md, 1);
    if (!status) status = memory_open(&o->y, o, dnnl_query_dst_md, 0);
    if (!status) status = memory_open(&o->scratch, o, dnnl_query_scratchpad_md, 0);
    if (!status)
        o->scratch_size = dnnl_memory_desc_get_size(
            dnnl_primitive_desc_query_md(o->desc, dnnl_query_scratchpad_md, 0));
    return status;
}

void onednn_close(struct onednn_product *o)
{
    if (!o) return;
    if (o->x) dnnl_memory_destroy(o->x);
    if (o->bias) dnnl_memory_destroy(o->bias);
    if (o->y) dnnl_memory_destroy(o->y);
    if (o->scratch) dnnl_memory_destroy(o->scratch);
    if (o->primitive) dnnl_primitive_destroy(o->primitive);
    if (o->desc) dnnl_primitive_desc_destroy(o->desc);
    if (o->stream) dnnl_stream_destroy(o->stream);
    if (o->engine) dnnl_engine_destroy(o->engine);
    free(o);
}

bool onednn_open(const device *d, product *p, error *e)
{
    p->onednn = NULL;
    if (p->spread != 1 || (p->has_add && p->add_type != p->y_type)) return true;
    struct onednn_product *o = calloc(1, sizeof *o);
    if (!o) return error_memory(e, "a oneDNN product", sizeof *o);
    int threads = omp_get_max_threads();
    omp_set_num_threads(d->threads);
    dnnl_status_t status = product_open(o, p);
    omp_set_num_threads(threads);
    if (status == dnnl_success) {
        p->onednn = o;
        return true;
    }
    onednn_close(o);
    return status != dnnl_out_of_memory || error_memory(e, "a oneDNN product", 0);
}

size_t onednn_scratch(const product *p) { return p->onednn->scratch_size + 64; }

static void pack_close(weight_pack *p) { dnnl_memory_destroy(p->owned); }

static desc_ref weight_desc(const product *p)
{
    return dnnl_primitive_desc_query_md(p->onednn->desc, dnnl_query_weights_md, 0);
}

/* The pack in the layout that this primitive wants. */
static weight_pack *pack_find(const weight *w, const product *p)
{
    for (weight_pack *pack = w->packs; pack; pack = pack->next) {
        if (pack->form != p->form) continue;
        const_dnnl_memory_t memory = pack->owned;
#if DNNL_VERSION_MAJOR >= 3
        const_dnnl_memory_desc_t desc = NULL;
#else
        const dnnl_memory_desc_t *desc = NULL;
#endif
        if (dnnl_memory_get_memory_desc(memory, &desc) == dnnl_success &&
            dnnl_memory_desc_equal(desc, weight_desc(p)))
            return pack;
    }
    return NULL;
}

/* The weight as float32 [o][c][taps] of this product. */
static float *weight_copy(const weight *w, const product *p)
{
    int64_t n = p->o * p->c * product_taps(p), taps = product_taps(p);
    float *straight = malloc((size_t)n * sizeof *straight);
    if (!straight) return NULL;
    convert_to_float(straight, w->data, w->type, (size_t)n);
    if (!p->transposed) return straight;
    float *turned = malloc((size_t)n * sizeof *turned);
    for (int64_t c = 0; turned && c < p->c; c++)
        for (int64_t o = 0; o < p->o; o++)
            for (int64_t t = 0; t < taps; t++)
                turned[(o * p->c + c) * taps + t] = straight[(c * p->o + o) * taps + taps - 1 - t];
    free(straight);
    return turned;
}

/* from is plain float32, to the pack. */
static dnnl_status_t reorder(const struct onednn_product *o, const product *p, float *from,
                             dnnl_memory_t to)
{
    dnnl_memory_desc_t plain;
    memset(&plain, 0, sizeof plain);
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_t primitive = NULL;
    dnnl_memory_t source = NULL;
    dnnl_dims_t matrix = {p->c, p->o}, kernel = {p->o, p->c, p->kh, p->kw};
    dnnl_status_t status = is_matmul(p) ? desc_open(&plain, 2, matrix, dnnl_f32, dnnl_ba)
                                        : desc_open(&plain, 4, kernel, dnnl_f32, dnnl_oihw);
    if (!status) status = dnnl_memory_create(&source, ref(&plain), o->engine, from);
    if (!status)
        status = dnnl_reorder_primitive_desc_create(&desc, ref(&plain), o->engine, weight_desc(p),
                                                    o->engine, NULL);
    if (!status) status = dnnl_primitive_create(&primitive, desc);
    if (!status) {
        dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, to}};
        status = dnnl_primitive_execute(primitive, o->stream, 2, args);
    }
    if (!status) status = dnnl_stream_wait(o->stream);
    if (primitive) dnnl_primitive_destroy(primitive);
    if (desc) dnnl_primitive_desc_destroy(desc);
    if (source) dnnl_memory_destroy(source);
    desc_close(&plain);
    return status;
}

bool onednn_bind(const device *d, const product *p, weight *w, error *e)
{
    weight_pack *old = pack_find(w, p);
    if (old && !old->stale) return true;
    if (old) weight_pack_drop(w, old);
    const struct onednn_product *o = p->onednn;
    size_t size = dnnl_memory_desc_get_size(weight_desc(p));
    float *plain = weight_copy(w, p);
    if (!plain) return error_memory(e, w->name, size);
    weight_pack *pack = weight_pack_new(w, p->form, size, e);
    if (!pack) {
        free(plain);
        return false;
    }
    dnnl_memory_t memory = NULL;
    int threads = omp_get_max_threads();
    omp_set_num_threads(d->threads);
    dnnl_status_t status = dnnl_memory_create(&memory, weight_desc(p), o->engine, pack->data);
    if (!status) status = reorder(o, p, plain, memory);
    omp_set_num_threads(threads);
    free(plain);
    if (status) {
        if (memory) dnnl_memory_destroy(memory);
        weight_pack_drop(w, pack);
        return failed(status, w->name, size, e);
    }
    pack->owned = memory;
    pack->close = pack_close;
    return true;
}

/* The status of the first of a run's calls that fails. */
static dnnl_status_t execute(const product *p, const struct product_data *data)
{
    const struct onednn_product *o = p->onednn;
    const weight_pack *pack = pack_find(data->w, p);
    dnnl_status_t status = dnnl_memory_set_data_handle(o->x, (void *)(uintptr_t)data->x);
    if (!status) status = dnnl_memory_set_data_handle(o->y, data->y);
    if (!status) status = dnnl_memory_set_data_handle(o->scratch, data->scratch);
    if (!status && o->bias)
        status = dnnl_memory_set_data_handle(o->bias, (void *)(uintptr_t)data->bias);
    dnnl_exec_arg_t args[5] = {{DNNL_ARG_SRC, o->x},
                               {DNNL_ARG_WEIGHTS, pack->owned},
                               {DNNL_ARG_DST, o->y},
                               {DNNL_ARG_SCRATCHPAD, o->scratch},
                               {DNNL_ARG_BIAS, o->bias}};
    if (!status) status = dnnl_primitive_execute(o->primitive, o->stream, o->bias ? 5 : 4, args);
    return status ? status : dnnl_stream_wait(o->stream);
}

bool onednn_run(const device *d, const product *p, const struct product_data *data, error *e)
{
    size_t y_size = (size_t)(product_rows(p) * p->o) * dtype_size(p->y_type);
    if (data->add && data->add != data->y) {
        int threads = d->threads;
#pragma omp parallel for schedule(static, 1) num_threads(threads)
        for (int t = 0; t < threads; t++) {
            int64_t begin, end;
            thread_range((int64_t)y_size, 4096, t, threads, &begin, &end);
            memcpy((char *)data->y + begin, (const char *)data->add + begin, (size_t)(end - begin));
        }
    }
    int threads = omp_get_max_threads();
    omp_set_num_threads(d->threads);
    dnnl_status_t status = execute(p, data);
    omp_set_num_threads(threads);
    return !status || failed(status, "a product", onednn_scratch(p), e);
}
