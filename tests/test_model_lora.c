/* SPDX-License-Identifier: Apache-2.0
 *
 * LoRAs merged into a toy: every spelling changes the weight that it names, by what plain loops in
 * double say; what fits nothing, or is for other models, is said in one line.
 * (tools/equality/lora.py holds the pocket model's against diffusers.) */
#include "layout.h"

#include "model/lora.h"

#define QUERY "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
#define CONV "mid_block.resnets.0.conv1"
#define TEXT "text_model.encoder.layers.0.self_attn.q_proj"
#define FLAT_QUERY "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
#define FLAT_CONV "lora_unet_mid_block_resnets_0_conv1"

static char base[200], path[400];
static uint32_t seed;

static int set_up(void **state)
{
    (void)state;
    snprintf(base, sizeof base, "%s", scratch_dir());
    snprintf(path, sizeof path, "%s/dog.v1.safetensors", base);
    char folder[300];
    snprintf(folder, sizeof folder, "%s/toy", base);
    layout_write(folder, "new", false, NULL);
    return 0;
}

static model *toy(void)
{
    model *m;
    error e = {0};
    char folder[300];
    snprintf(folder, sizeof folder, "%s/toy", base);
    check(model_open(&m, folder, NULL, NULL, &e), &e);
    return m;
}

/* ---- a file of tensors ---- */

typedef struct parts {
    safetensors_entry entry[240];
    size_t count;
    arena memory;
} parts;

static float *put(parts *f, const char *name, int rank, const int64_t *dim)
{
    safetensors_entry *t = &f->entry[f->count++];
    size_t n = (size_t)product(rank, dim);
    float *data = arena_alloc(&f->memory, n * sizeof *data);
    assert_non_null(data);
    fill_random(data, n, ++seed);
    *t = (safetensors_entry){.name = arena_strdup(&f->memory, name),
                             .type = DTYPE_F32,
                             .rank = rank,
                             .data = data,
                             .bytes = n * sizeof *data};
    for (int i = 0; i < rank; i++) t->dim[i] = dim[i];
    return data;
}

#define PUT(f, name, ...)                                                                          \
    put(f, name, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                        \
        (int64_t[]){__VA_ARGS__})

static void write_parts(parts *f, const safetensors_pair *metadata, size_t count)
{
    error e = {0};
    check(safetensors_write(path, f->entry, f->count, metadata, count, &e), &e);
}

static void free_parts(parts *f)
{
    arena_free(&f->memory);
    f->count = 0;
}

static model *merged(float strength, char **notes)
{
    model *m = toy();
    error e = {0};
    char *own = NULL;
    const lora_choice one = {path, strength};
    check(model_add_loras(m, &one, 1, NULL, notes ? notes : &own, &e), &e);
    if (!notes) assert_null(own);
    return m;
}

/* ---- what it should be ---- */

static const weight *find_in(const model *m, const char *name)
{
    char full[300];
    snprintf(full, sizeof full, "%s.weight", name);
    const weight *w = weight_find(&m->unet_weights, full);
    if (!w) w = weight_find(&m->clip_weights, full);
    if (!w) fail_msg("%s", full);
    return w;
}

/* m's weight is the toy's plus scale * by; by [n] */
static void expect_change(const model *m, const char *name, const double *by, double scale)
{
    model *plain = toy();
    const weight *was = find_in(plain, name), *is = find_in(m, name);
    double worst = 0, largest = 0;
    assert_int_equal(is->type, DTYPE_F32);
    for (int64_t i = 0; i < weight_elements(is); i++) {
        double want = (double)((const float *)was->data)[i] + scale * by[i];
        worst = fmax(worst, fabs(want - (double)((const float *)is->data)[i]));
        largest = fmax(largest, fabs(want));
    }
    if (worst > 1e-6 * largest) fail_msg("%s is %g off, of %g", name, worst, largest);
    model_close(&plain);
}

static size_t count_changed(const model *m)
{
    model *plain = toy();
    const weight_set *was[] = {&plain->unet_weights, &plain->clip_weights},
                     *is[] = {&m->unet_weights, &m->clip_weights};
    size_t n = 0;
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < was[k]->count; i++)
            n += memcmp(was[k]->item[i].data, is[k]->item[i].data,
                        (size_t)weight_elements(&was[k]->item[i]) * 4) != 0;
    model_close(&plain);
    return n;
}

static double *times(const float *a, const float *b, int rows, int inner, int columns)
{
    double *out = calloc((size_t)(rows * columns), sizeof *out);
    for (int i = 0; i < rows; i++)
        for (int m = 0; m < inner; m++)
            for (int k = 0; k < columns; k++)
                out[i * columns + k] += (double)a[i * inner + m] * (double)b[m * columns + k];
    return out;
}

/* ---- spellings ---- */

static void spellings(void **state)
{
    (void)state;
    static const struct {
        const char *down, *up, *weight;
    } names[] = {
        {FLAT_QUERY ".lora_down.weight", FLAT_QUERY ".lora_up.weight", QUERY},
        {"lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q.lora_down.weight",
         "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q.lora_up.weight", QUERY},
        {"unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight",
         "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.up.weight",
         QUERY},
        {"mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.down.weight",
         "mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.up.weight",
         "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0"},
        {"unet." QUERY ".lora.down.weight", "unet." QUERY ".lora.up.weight", QUERY},
        {"unet." QUERY ".lora_A.weight", "unet." QUERY ".lora_B.weight", QUERY},
        {"base_model.model." QUERY ".lora_A.default.weight",
         "base_model.model." QUERY ".lora_B.default.weight", QUERY},
        {"lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
         "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight", TEXT},
        {"text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.down.weight",
         "text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.up.weight", TEXT},
        {"text_encoder." TEXT ".lora_linear_layer.down.weight",
         "text_encoder." TEXT ".lora_linear_layer.up.weight", TEXT},
        {"text_encoder." TEXT ".lora_A.weight", "text_encoder." TEXT ".lora_B.weight", TEXT},
        {"text_encoder.encoder.layers.0.self_attn.q_proj.lora_A.weight",
         "text_encoder.encoder.layers.0.self_attn.q_proj.lora_B.weight", TEXT},
        {"base_model.model." TEXT ".lora_A.weight", "base_model.model." TEXT ".lora_B.weight",
         TEXT},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        parts f = {.count = 0};
        int n = !strcmp(names[i].weight, TEXT) ? 12 : 16;
        const float *down = PUT(&f, names[i].down, 3, n), *up = PUT(&f, names[i].up, n, 3);
        write_parts(&f, NULL, 0);
        model *m = merged(0.8f, NULL);
        double *by = times(up, down, n, 3, n);
        expect_change(m, names[i].weight, by, (double)0.8f);
        assert_int_equal(count_changed(m), 1);
        free(by);
        model_close(&m);
        free_parts(&f);
    }
}

/* Alphas, convolutions, several files; what a picture will say of them. */
static void kohya(void **state)
{
    (void)state;
    parts f = {.count = 0};
    const float *down = PUT(&f, FLAT_QUERY ".lora_down.weight", 4, 16),
                *up = PUT(&f, FLAT_QUERY ".lora_up.weight", 16, 4),
                *wide = PUT(&f, FLAT_CONV ".lora_down.weight", 2, 16, 3, 3),
                *narrow = PUT(&f, FLAT_CONV ".lora_up.weight", 16, 2, 1, 1);
    put(&f, FLAT_QUERY ".alpha", 0, NULL)[0] = 1;
    PUT(&f, FLAT_CONV ".alpha", 1)[0] = 3;
    write_parts(&f, NULL, 0);
    model *m = merged(-0.5f, NULL);
    double *query = times(up, down, 16, 4, 16), *conv = times(narrow, wide, 16, 2, 16 * 9);
    expect_change(m, QUERY, query, -0.5 / 4);
    expect_change(m, CONV, conv, -0.5 * 3 / 2);
    assert_int_equal(count_changed(m), 2);
    assert_string_equal(m->lora_weights, "dog.v1: -0.5");
    assert_int_equal(strlen(m->lora_hashes), strlen("dog.v1: 0123456789ab"));
    model_close(&m);
    const lora_choice twice[] = {{path, 1}, {path, 0.25f}};
    char *notes;
    error e = {0};
    m = toy();
    check(model_add_loras(m, twice, 2, NULL, &notes, &e), &e);
    expect_change(m, QUERY, query, 1.25 / 4);
    assert_string_equal(m->lora_weights, "dog.v1: 1, dog.v1: 0.25");
    model_close(&m);
    free(query);
    free(conv);
    free_parts(&f);
}

static void peft_settings(void **state)
{
    (void)state;
    parts f = {.count = 0};
    const float *down = PUT(&f, "unet." QUERY ".lora_A.weight", 4, 16),
                *up = PUT(&f, "unet." QUERY ".lora_B.weight", 16, 4);
    const struct {
        safetensors_pair pair;
        double scale;
    } cases[] = {
        {{"lora_adapter_metadata", "{\"unet.r\": 4, \"unet.lora_alpha\": 10}"}, 2.5},
        {{"lora_adapter_metadata", "{\"unet.lora_alpha\": 10, \"unet.use_rslora\": true}"}, 5},
        {{"lora_adapter_metadata",
          "{\"unet.lora_alpha\": 10, \"unet.alpha_pattern\": {\"" QUERY "\": 2}}"},
         0.5},
        {{"lora_adapter_metadata", "{\"text_encoder.lora_alpha\": 10}"}, 1},
    };
    double *by = times(up, down, 16, 4, 16);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_parts(&f, &cases[i].pair, 1);
        model *m = merged(1, NULL);
        expect_change(m, QUERY, by, cases[i].scale);
        model_close(&m);
    }
    free(by);
    free_parts(&f);
}

/* Modules by their number: the feed-forward stands between the attentions, or behind them. */
static void cloneofsimo(void **state)
{
    (void)state;
    for (int late = 0; late < 2; late++) {
        parts f = {.count = 0};
        const float *down = NULL, *up = NULL;
        char name[64];
        for (int i = 0; i < 54; i++) {
            int layer = i % 9;
            bool wide = layer == (late ? 8 : 4),
                 text = late ? layer == 5 || layer == 6 : layer == 6 || layer == 7;
            snprintf(name, sizeof name, "unet:%d:up", i);
            const float *u = PUT(&f, name, wide ? 128 : 16, 2);
            snprintf(name, sizeof name, "unet:%d:down", i);
            const float *d = PUT(&f, name, 2, text ? 12 : 16);
            if (i == 45 + (late ? 8 : 4)) up = u, down = d;
        }
        const float *key_up = PUT(&f, "text_encoder:4:up", 12, 2),
                    *key_down = PUT(&f, "text_encoder:4:down", 2, 12);
        write_parts(&f, NULL, 0);
        model *m = merged(1, NULL);
        double *by = times(up, down, 128, 2, 16), *key = times(key_up, key_down, 12, 2, 12);
        expect_change(m, "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj", by, 1);
        expect_change(m, "text_model.encoder.layers.1.self_attn.k_proj", key, 1);
        assert_int_equal(count_changed(m), 55);
        free(by);
        free(key);
        model_close(&m);
        free_parts(&f);
    }
}

/* ---- LyCORIS ---- */

/* [p, i], [i, j, 9], [j, r] -> [p, r, 9]; turned: a is [i, p] */
static double *core(const float *a, const float *t, const float *b, int p, int i, int j, int r,
                    bool turned)
{
    double *out = calloc((size_t)(p * r * 9), sizeof *out);
    for (int x = 0; x < p; x++)
        for (int y = 0; y < r; y++)
            for (int k = 0; k < 9; k++)
                for (int m = 0; m < i; m++)
                    for (int n = 0; n < j; n++)
                        out[(x * r + y) * 9 + k] += (double)a[turned ? m * p + x : x * i + m] *
                                                    (double)t[(m * j + n) * 9 + k] *
                                                    (double)b[n * r + y];
    return out;
}

static void with_cores(void **state)
{
    (void)state;
    parts f = {.count = 0};
    const float *down = PUT(&f, FLAT_CONV ".lora_down.weight", 2, 16, 1, 1),
                *mid = PUT(&f, FLAT_CONV ".lora_mid.weight", 2, 2, 3, 3),
                *up = PUT(&f, FLAT_CONV ".lora_up.weight", 16, 2, 1, 1);
    write_parts(&f, NULL, 0);
    model *m = merged(1, NULL);
    double *by = core(up, mid, down, 16, 2, 2, 16, false);
    expect_change(m, CONV, by, 1);
    free(by);
    model_close(&m);
    free_parts(&f);
    const float *a1 = PUT(&f, FLAT_CONV ".hada_w1_a", 3, 16),
                *b1 = PUT(&f, FLAT_CONV ".hada_w1_b", 2, 16),
                *t1 = PUT(&f, FLAT_CONV ".hada_t1", 3, 2, 3, 3),
                *a2 = PUT(&f, FLAT_CONV ".hada_w2_a", 3, 16),
                *b2 = PUT(&f, FLAT_CONV ".hada_w2_b", 2, 16),
                *t2 = PUT(&f, FLAT_CONV ".hada_t2", 3, 2, 3, 3);
    PUT(&f, FLAT_CONV ".alpha", 1)[0] = 3;
    write_parts(&f, NULL, 0);
    m = merged(1, NULL);
    double *one = core(a1, t1, b1, 16, 3, 2, 16, true), *two = core(a2, t2, b2, 16, 3, 2, 16, true);
    for (int i = 0; i < 16 * 16 * 9; i++) one[i] *= two[i];
    expect_change(m, CONV, one, 1.5);
    free(one);
    free(two);
    model_close(&m);
    free_parts(&f);
}

static void loha(void **state)
{
    (void)state;
    parts f = {.count = 0};
    const float *a1 = PUT(&f, FLAT_CONV ".hada_w1_a", 16, 2),
                *b1 = PUT(&f, FLAT_CONV ".hada_w1_b", 2, 16 * 9),
                *a2 = PUT(&f, FLAT_CONV ".hada_w2_a", 16, 2),
                *b2 = PUT(&f, FLAT_CONV ".hada_w2_b", 2, 16 * 9);
    PUT(&f, FLAT_CONV ".alpha", 1)[0] = 1;
    write_parts(&f, NULL, 0);
    model *m = merged(0.5f, NULL);
    double *one = times(a1, b1, 16, 2, 16 * 9), *two = times(a2, b2, 16, 2, 16 * 9);
    for (int i = 0; i < 16 * 16 * 9; i++) one[i] *= two[i];
    expect_change(m, CONV, one, 0.25);
    free(one);
    free(two);
    model_close(&m);
    free_parts(&f);
}

/* one [4, 4], two [4, 4 * places] */
static void expect_kronecker(const char *name, const float *one, const double *two, int places,
                             double scale)
{
    double *by = calloc((size_t)(16 * 16 * places), sizeof *by);
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            for (int x = 0; x < places; x++)
                by[(i * 16 + k) * places + x] = (double)one[i / 4 * 4 + k / 4] *
                                                two[(i % 4 * 4 + k % 4) * places + x];
    model *m = merged(1, NULL);
    expect_change(m, name, by, scale);
    assert_int_equal(count_changed(m), 1);
    model_close(&m);
    free(by);
}

static void lokr(void **state)
{
    (void)state;
    parts f = {.count = 0};
    const float *one = PUT(&f, FLAT_QUERY ".lokr_w1", 4, 4),
                *two = PUT(&f, FLAT_QUERY ".lokr_w2", 4, 4);
    PUT(&f, FLAT_QUERY ".alpha", 1)[0] = 7; /* means nothing where both are whole */
    write_parts(&f, NULL, 0);
    double whole[16];
    for (int i = 0; i < 16; i++) whole[i] = (double)two[i];
    expect_kronecker(QUERY, one, whole, 1, 1);
    free_parts(&f);
    one = PUT(&f, FLAT_CONV ".lokr_w1", 4, 4);
    const float *a = PUT(&f, FLAT_CONV ".lokr_w2_a", 4, 2),
                *b = PUT(&f, FLAT_CONV ".lokr_w2_b", 2, 4 * 9);
    PUT(&f, FLAT_CONV ".alpha", 1)[0] = 3;
    write_parts(&f, NULL, 0);
    double *product2 = times(a, b, 4, 2, 4 * 9);
    expect_kronecker(CONV, one, product2, 9, 1.5);
    free(product2);
    free_parts(&f);
    one = PUT(&f, FLAT_CONV ".lokr_w1", 4, 4);
    a = PUT(&f, FLAT_CONV ".lokr_w2_a", 2, 4);
    b = PUT(&f, FLAT_CONV ".lokr_w2_b", 3, 4);
    const float *t = PUT(&f, FLAT_CONV ".lokr_t2", 2, 3, 3, 3);
    write_parts(&f, NULL, 0);
    product2 = core(a, t, b, 4, 2, 3, 4, true);
    expect_kronecker(CONV, one, product2, 9, 1);
    free(product2);
    free_parts(&f);
}

/* ---- DoRA ---- */

/* What m (W + scale * by) / |W + scale * by| adds to W; lengths of W's outputs, or of its inputs.
 */
static double *to_lengths(const char *name, const double *by, double scale, const float *length,
                          bool by_input)
{
    model *plain = toy();
    const weight *w = find_in(plain, name);
    int64_t rows = w->dim[0], columns = w->dim[1], places = weight_elements(w) / rows / columns;
    double *out = calloc((size_t)(rows * columns * places), sizeof *out), norm[64] = {0};
    const float *is = w->data;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t k = 0; k < columns; k++)
                for (int64_t p = 0; p < places; p++) {
                    int64_t at = (i * columns + k) * places + p, c = by_input ? k : i;
                    double x = (double)is[at] + scale * by[at];
                    if (pass)
                        out[at] = (double)length[c] / sqrt(norm[c]) * x - (double)is[at];
                    else
                        norm[c] += x * x;
                }
    model_close(&plain);
    return out;
}

/* Lengths of outputs and of inputs, as PEFT and LyCORIS write them; at half the weight half of the
 * way is gone. */
static void lengths(void **state)
{
    (void)state;
    static const struct {
        const char *up, *down, *length, *weight;
        int64_t shape[4];
        int rank, places;
        bool by_input;
    } rows[] = {
        {"unet." QUERY ".lora_B.weight",
         "unet." QUERY ".lora_A.weight",
         "unet." QUERY ".lora_magnitude_vector",
         QUERY,
         {16},
         1,
         1,
         false},
        {"base_model.model." QUERY ".lora_B.default.weight",
         "base_model.model." QUERY ".lora_A.default.weight",
         "base_model.model." QUERY ".lora_magnitude_vector.default.weight",
         QUERY,
         {16},
         1,
         1,
         false},
        {"unet." CONV ".lora_B.weight",
         "unet." CONV ".lora_A.weight",
         "unet." CONV ".lora_magnitude_vector",
         CONV,
         {1, 16, 1, 1},
         4,
         9,
         false},
        {FLAT_QUERY ".lora_up.weight",
         FLAT_QUERY ".lora_down.weight",
         FLAT_QUERY ".dora_scale",
         QUERY,
         {1, 16},
         2,
         1,
         true},
        {FLAT_CONV ".lora_up.weight",
         FLAT_CONV ".lora_down.weight",
         FLAT_CONV ".dora_scale",
         CONV,
         {1, 16, 1, 1},
         4,
         9,
         true},
        {FLAT_CONV ".lora_up.weight",
         FLAT_CONV ".lora_down.weight",
         FLAT_CONV ".dora_scale",
         CONV,
         {16, 1, 1, 1},
         4,
         9,
         false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        parts f = {.count = 0};
        const float *up = PUT(&f, rows[i].up, 16, 3),
                    *down = rows[i].places == 1 ? PUT(&f, rows[i].down, 3, 16)
                                                : PUT(&f, rows[i].down, 3, 16, 3, 3),
                    *length = put(&f, rows[i].length, rows[i].rank, rows[i].shape);
        write_parts(&f, NULL, 0);
        double *by = times(up, down, 16, 3, 16 * rows[i].places),
               *more = to_lengths(rows[i].weight, by, 1, length, rows[i].by_input);
        for (int half = 0; half < 2; half++) {
            model *m = merged(half ? 0.5f : 1, NULL);
            expect_change(m, rows[i].weight, more, half ? 0.5 : 1);
            assert_int_equal(count_changed(m), 1);
            model_close(&m);
        }
        free(by), free(more);
        free_parts(&f);
    }
}

/* ---- what is refused ---- */

static void refused(parts *f, const char *part)
{
    model *m = toy();
    error e = {0};
    char *notes;
    const lora_choice one = {path, 1};
    write_parts(f, NULL, 0);
    if (model_add_loras(m, &one, 1, NULL, &notes, &e)) fail_msg("merged, though: %s", part);
    if (!strstr(e.text, part) || strchr(e.text, '\n')) fail_msg("'%s': %s", e.text, part);
    assert_int_equal(count_changed(m), 0);
    assert_null(m->lora_hashes);
    model_close(&m);
    free_parts(f);
}

static void refusals(void **state)
{
    (void)state;
    parts f = {.count = 0};
    PUT(&f, FLAT_QUERY ".lora_down.weight", 4, 320);
    PUT(&f, FLAT_QUERY ".lora_up.weight", 320, 4);
    refused(&f, "is for a model of other sizes");
    PUT(&f, FLAT_CONV ".lora_down.weight", 4, 16);
    PUT(&f, FLAT_CONV ".lora_up.weight", 16, 4);
    refused(&f, "which is 16x16x3x3 here");
    PUT(&f, FLAT_QUERY ".lora_down.weight", 4, 16);
    PUT(&f, FLAT_QUERY ".lora_up.weight", 16, 2);
    refused(&f, "lora_down.weight is of rank 4 and ");
    float *huge = PUT(&f, FLAT_QUERY ".lora_down.weight", 1, 16);
    PUT(&f, FLAT_QUERY ".lora_up.weight", 16, 1);
    for (int i = 0; i < 16; i++) huge[i] = 1e30f;
    refused(&f, "with it, at weight 1, ");
    PUT(&f, FLAT_QUERY ".lora_down.weight", 4, 16);
    refused(&f, "the other parts of its change are missing");
    PUT(&f, "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight", 4, 16);
    refused(&f, "for Stable Diffusion XL");
    PUT(&f, "lora_unet_elsewhere.lora_down.weight", 4, 16);
    PUT(&f, "lora_unet_elsewhere.lora_up.weight", 16, 4);
    refused(&f, "none of its 2 tensors changes anything in this model (lora_unet_elsewhere.");
    PUT(&f, "<sks>", 2, 16);
    refused(&f, "this is a textual inversion, a word for a model, not a LoRA: give it with "
                "--embedding");
    PUT(&f, "model.diffusion_model.input_blocks.0.0.weight", 16, 4, 3, 3);
    PUT(&f, "first_stage_model.decoder.mid.block_1.norm1.weight", 16);
    refused(&f, "this is a whole model, not a LoRA: give it with -m");
    PUT(&f, "decoder.mid.block_1.norm1.weight", 16);
    PUT(&f, "decoder.mid.block_1.norm1.bias", 16);
    refused(&f, "this is a VAE, not a LoRA: give it with --vae");
    PUT(&f, "down_blocks.0.resnets.0.norm1.weight", 16);
    PUT(&f, "down_blocks.0.resnets.0.norm1.bias", 16);
    refused(&f, "this is one network of a diffusers folder, not a LoRA: give it with -m");
    PUT(&f, "control_model.input_blocks.0.0.weight", 16, 4, 3, 3);
    PUT(&f, "control_model.input_blocks.0.0.bias", 16);
    refused(&f, "this is a ControlNet, not a LoRA: give it with --control FILE:IMAGE");
    PUT(&f, "0.weight", 64, 4, 3, 3);
    PUT(&f, "2.conv.0.weight", 64, 64, 3, 3);
    refused(&f, "this is a tiny autoencoder, not a LoRA: give it with --taesd");
    PUT(&f, FLAT_QUERY ".dora_scale", 16, 1);
    refused(&f, "the other parts of its change are missing");
    PUT(&f, FLAT_QUERY ".lora_down.weight", 4, 16);
    PUT(&f, FLAT_QUERY ".lora_up.weight", 16, 4);
    PUT(&f, FLAT_QUERY ".dora_scale", 12, 1);
    refused(&f, "is for a model of other sizes");
    PUT(&f, FLAT_QUERY ".lora_down.weight", 4, 16);
    PUT(&f, FLAT_QUERY ".lora_up.weight", 16, 4);
    PUT(&f, FLAT_QUERY ".dora_scale", 1, 16)[3] = INFINITY;
    refused(&f, "holds a NaN or an infinity");
    PUT(&f, FLAT_QUERY ".lora_down.weight", 4, 16);
    PUT(&f, "unet." QUERY ".lora_A.weight", 4, 16);
    refused(&f, "change the same");
    PUT(&f, FLAT_QUERY ".lora_down.weight", 4, 16)[5] = NAN;
    PUT(&f, FLAT_QUERY ".lora_up.weight", 16, 4);
    refused(&f, "holds a NaN or an infinity");
    PUT(&f, FLAT_CONV ".hada_w1_a", 16, 2);
    PUT(&f, FLAT_CONV ".hada_w1_b", 2, 16);
    PUT(&f, FLAT_CONV ".hada_w2_a", 16, 2);
    PUT(&f, FLAT_CONV ".hada_w2_b", 2, 16);
    refused(&f, "is for a model of other sizes");
    PUT(&f, FLAT_CONV ".lokr_w1", 4, 4);
    PUT(&f, FLAT_CONV ".lokr_w2", 4, 5, 3, 3);
    refused(&f, "is for a model of other sizes");
    PUT(&f, FLAT_CONV ".lokr_w1", 4, 4);
    refused(&f, "lacks one of its factors");
}

/* An alpha that is a whole number is the number that it says. */
static void whole_alpha(void **state)
{
    (void)state;
    parts f = {.count = 0};
    int64_t two = 2;
    const float *down = PUT(&f, FLAT_QUERY ".lora_down.weight", 4, 16),
                *up = PUT(&f, FLAT_QUERY ".lora_up.weight", 16, 4);
    PUT(&f, FLAT_QUERY ".alpha", 1);
    f.entry[2] = (safetensors_entry){
        .name = FLAT_QUERY ".alpha", .type = DTYPE_I64, .data = &two, .bytes = sizeof two};
    write_parts(&f, NULL, 0);
    model *m = merged(1, NULL);
    double *by = times(up, down, 16, 4, 16);
    expect_change(m, QUERY, by, 0.5);
    free(by);
    model_close(&m);
    free_parts(&f);
}

static void unmatched(void **state)
{
    (void)state;
    parts f = {.count = 0};
    PUT(&f, FLAT_QUERY ".lora_down.weight", 4, 16);
    PUT(&f, FLAT_QUERY ".lora_up.weight", 16, 4);
    PUT(&f, "a.lora_up.weight", 16, 4);
    PUT(&f, "b", 1);
    PUT(&f, "c", 1);
    PUT(&f, "d", 1);
    write_parts(&f, NULL, 0);
    char *notes;
    model *m = merged(1, &notes);
    assert_non_null(notes);
    assert_non_null(
        strstr(notes, "4 of its tensors fit nothing in this model (a.lora_up.weight, b, c, ...)"));
    free(notes);
    model_close(&m);
    free_parts(&f);
}

/* Every allocation fails in turn: the model stays as it was. */
static void allocations(void **state)
{
    (void)state;
    if (!allocation_can_fail()) skip();
    parts f = {.count = 0};
    PUT(&f, FLAT_QUERY ".lora_down.weight", 4, 16);
    PUT(&f, FLAT_QUERY ".lora_up.weight", 16, 4);
    PUT(&f, FLAT_CONV ".hada_w1_a", 16, 2);
    PUT(&f, FLAT_CONV ".hada_w1_b", 2, 16 * 9);
    PUT(&f, FLAT_CONV ".hada_w2_a", 16, 2);
    PUT(&f, FLAT_CONV ".hada_w2_b", 2, 16 * 9);
    write_parts(&f, NULL, 0);
    model *m = toy();
    bool struck = true;
    for (int n = 0; struck; n++) {
        error e = {0};
        char *notes;
        const lora_choice one = {path, 1};
        allocation_fail_at(n);
        bool ok = model_add_loras(m, &one, 1, NULL, &notes, &e);
        struck = allocation_fail_end();
        assert_true(ok || struck); /* what libraries do without is no failure */
        if (!ok) assert_int_equal(e.code, ERROR_MEMORY);
        if (!ok) assert_null(m->lora_hashes);
        if (!ok || !struck) continue;
        model_close(&m);
        m = toy();
    }
    model_close(&m);
    free_parts(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spellings),   cmocka_unit_test(lengths),
        cmocka_unit_test(kohya),       cmocka_unit_test(peft_settings),
        cmocka_unit_test(cloneofsimo), cmocka_unit_test(with_cores),
        cmocka_unit_test(loha),        cmocka_unit_test(lokr),
        cmocka_unit_test(refusals),    cmocka_unit_test(whole_alpha),
        cmocka_unit_test(unmatched),   cmocka_unit_test(allocations),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
