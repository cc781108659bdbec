/* SPDX-License-Identifier: Apache-2.0
 *
 * LoRAs out of two models: a difference of low rank comes back to rounding, of another as much as
 * its singular values say; what cannot be compared is refused. */
#include "layout.h"

#include "model/extract.h"
#include "model/lora.h"
#include "model/low_rank.h"

#define QUERY "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
#define CONV "mid_block.resnets.0.conv1"
#define TEXT "text_model.encoder.layers.0.self_attn.q_proj"

static char toy_path[300], known_path[300], out_path[300];
static uint32_t seed;

static model *toy(void)
{
    model *m;
    error e = {0};
    check(model_open(&m, toy_path, NULL, NULL, &e), &e);
    return m;
}

static model *with(const model *base, const char *path)
{
    model *m;
    error e = {0};
    char *notes = NULL;
    const lora_choice one = {path, 1};
    check(model_derive(&m, base, &e), &e);
    check(model_add_loras(m, &one, 1, NULL, &notes, &e), &e);
    assert_null(notes);
    return m;
}

/* ---- matrices ---- */

/* a = left right of exactly this rank, or of full rank where singular values fall by a half. */
static void falling(float *a, int rows, int columns)
{
    for (int k = 0; k < (rows < columns ? rows : columns); k++) {
        float x[64], y[64], scale = powf(0.5f, (float)k);
        /* cosines of whole numbers of half turns: orthogonal to each other */
        for (int i = 0; i < rows; i++)
            x[i] = cosf((float)M_PI * ((float)i + 0.5f) * (float)k / (float)rows) *
                   sqrtf((k ? 2.0f : 1.0f) / (float)rows);
        for (int i = 0; i < columns; i++)
            y[i] = cosf((float)M_PI * ((float)i + 0.5f) * (float)k / (float)columns) *
                   sqrtf((k ? 2.0f : 1.0f) / (float)columns);
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++) a[i * columns + j] += scale * x[i] * y[j];
    }
}

static double distance(const float *a, const float *left, const float *right, int rows, int columns,
                       int rank)
{
    double sum = 0;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) {
            double is = 0;
            for (int r = 0; r < rank; r++)
                is += (double)left[i * rank + r] * (double)right[r * columns + j];
            sum += pow((double)a[i * columns + j] - is, 2);
        }
    return sqrt(sum);
}

static void matrices(void **state)
{
    (void)state;
    static const int sizes[][2] = {{24, 61}, {61, 24}, {40, 40}, {5, 3}, {1, 7}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int rows = sizes[s][0], columns = sizes[s][1];
        int least = rows < columns ? rows : columns;
        float *a = calloc((size_t)(rows * columns), sizeof *a), left[64 * 8], right[64 * 8];
        falling(a, rows, columns);
        for (int rank = 1; rank <= 8 && rank <= least; rank++) {
            error e = {0};
            check(low_rank(left, right, a, rows, columns, rank, NULL, &e), &e);
            double is = distance(a, left, right, rows, columns, rank), best = 0;
            for (int k = rank; k < least; k++) best += pow(0.25, k);
            assert_true(fabs(is - sqrt(best)) < 1e-6);
            for (int r = 0; r < rank; r++) { /* left's columns are as long as the values */
                double square = 0;
                for (int i = 0; i < rows; i++) square += pow((double)left[i * rank + r], 2);
                assert_true(fabs(sqrt(square) - pow(0.5, r)) < 1e-6);
            }
        }
        free(a);
    }
    /* a matrix of zeros is one */
    float zero[6] = {0}, left[2] = {1, 1}, right[3] = {1, 1, 1};
    error e = {0};
    check(low_rank(left, right, zero, 2, 3, 1, NULL, &e), &e);
    assert_true(distance(zero, left, right, 2, 3, 1) == 0);
}

static void with_threads(void **state)
{
    (void)state;
    enum { ROWS = 150, COLUMNS = 210, RANK = 5 };
    static float a[ROWS * COLUMNS], left[2][ROWS * RANK], right[2][RANK * COLUMNS];
    error e = {0};
    thread_pool *pool;
    fill_random(a, ROWS * COLUMNS, 3);
    check(thread_pool_open(&pool, 3, &e), &e);
    check(low_rank(left[0], right[0], a, ROWS, COLUMNS, RANK, NULL, &e), &e);
    check(low_rank(left[1], right[1], a, ROWS, COLUMNS, RANK, pool, &e), &e);
    assert_memory_equal(left[0], left[1], sizeof left[0]);
    assert_memory_equal(right[0], right[1], sizeof right[0]);
    thread_pool_close(&pool);
}

/* ---- models ---- */

static void add_pair(safetensors_entry *entry, size_t *count, arena *memory, const char *key,
                     int rows, int columns, int places)
{
    enum { RANK = 4 };
    for (int half = 0; half < 2; half++) {
        char name[200];
        size_t n = (size_t)RANK * (size_t)(half ? rows : columns * places * places);
        float *data = arena_alloc(memory, n * sizeof *data);
        snprintf(name, sizeof name, "%s.lora_%s.weight", key, half ? "up" : "down");
        fill_random(data, n, ++seed);
        safetensors_entry *t = &entry[(*count)++];
        *t = (safetensors_entry){.name = arena_strdup(memory, name),
                                 .type = DTYPE_F32,
                                 .rank = places > 1 ? 4 : 2,
                                 .dim = {half ? rows : RANK, half ? RANK : columns, 1, 1},
                                 .data = data,
                                 .bytes = n * sizeof *data};
        if (!half) t->dim[2] = t->dim[3] = places;
    }
}

static void write_known(void)
{
    safetensors_entry entry[6];
    size_t count = 0;
    arena memory = {0};
    error e = {0};
    add_pair(entry, &count, &memory,
             "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q", 16, 16, 1);
    add_pair(entry, &count, &memory, "lora_unet_mid_block_resnets_0_conv1", 16, 16, 3);
    add_pair(entry, &count, &memory, "lora_te_text_model_encoder_layers_0_self_attn_q_proj", 12, 12,
             1);
    check(safetensors_write(known_path, entry, count, NULL, 0, &e), &e);
    arena_free(&memory);
}

/* The largest difference of any weight, as a share of the largest change. */
static double apart(const model *a, const model *b, const model *base)
{
    double worst = 0, most = 0;
    for (int k = 0; k < 2; k++) {
        const weight_set *x = k ? &a->clip_weights : &a->unet_weights,
                         *y = k ? &b->clip_weights : &b->unet_weights,
                         *z = k ? &base->clip_weights : &base->unet_weights;
        for (size_t i = 0; i < x->count; i++)
            for (int64_t n = 0; n < weight_elements(&x->item[i]); n++) {
                double one = (double)((const float *)x->item[i].data)[n];
                worst = fmax(worst, fabs(one - (double)((const float *)y->item[i].data)[n]));
                most = fmax(most, fabs(one - (double)((const float *)z->item[i].data)[n]));
            }
    }
    return worst / most;
}

static void comes_back(void **state)
{
    (void)state;
    error e = {0};
    extract_result r;
    model *base = toy(), *trained = with(base, known_path);
    const extract_options o = {.rank = 4, .quantile = 1, .type = DTYPE_F32};
    check(lora_extract(base, trained, &o, out_path, NULL, NULL, &r, &e), &e);
    assert_int_equal(r.layers, 3);
    assert_true(r.kept > 1 - 1e-10 && r.beyond == 0);
    safetensors f;
    check(safetensors_open(&f, out_path, &e), &e);
    assert_int_equal(f.count, 9);
    const safetensors_entry *down = safetensors_find(
                                &f, "lora_unet_mid_block_resnets_0_conv1.lora_down.weight"),
                            *up = safetensors_find(
                                &f, "lora_unet_mid_block_resnets_0_conv1.lora_up.weight"),
                            *alpha = safetensors_find(&f,
                                                      "lora_unet_mid_block_resnets_0_conv1.alpha");
    assert_true(down && down->rank == 4 && down->dim[0] == 4 && down->dim[1] == 16 &&
                down->dim[2] == 3 && down->dim[3] == 3);
    assert_true(up && up->rank == 4 && up->dim[0] == 16 && up->dim[1] == 4 && up->dim[3] == 1);
    assert_true(alpha && alpha->rank == 0 && *(const float *)alpha->data == 4);
    safetensors_close(&f);
    model *again = with(base, out_path);
    assert_true(apart(trained, again, base) < 2e-6);
    model_close(&again);
    /* in float16, to its rounding; cut off, less of it */
    const extract_options half = {.rank = 4, .quantile = 1, .type = DTYPE_F16};
    check(lora_extract(base, trained, &half, out_path, NULL, NULL, &r, &e), &e);
    assert_true(r.kept > 1 - 1e-5 && r.kept < 1 - 1e-9);
    again = with(base, out_path);
    assert_true(apart(trained, again, base) < 3e-3);
    model_close(&again);
    const extract_options cut = {.rank = 4, .quantile = 0.99, .type = DTYPE_F32};
    check(lora_extract(base, trained, &cut, out_path, NULL, NULL, &r, &e), &e);
    assert_true(r.kept > 0.5 && r.kept < 0.9999);
    const extract_options two = {.rank = 2, .quantile = 1, .type = DTYPE_F32};
    check(lora_extract(base, trained, &two, out_path, NULL, NULL, &r, &e), &e);
    assert_true(r.kept > 0.4 && r.kept < 0.99);
    model_close(&trained);
    model_close(&base);
}

/* What no LoRA has counts as lost. */
static void beyond(void **state)
{
    (void)state;
    error e = {0};
    extract_result r;
    model *base = toy(), *trained = with(base, known_path);
    weight *bias = weight_find(&trained->unet_weights, "conv_in.bias");
    assert_non_null(bias);
    float other[64] = {100};
    bias->data = other;
    const extract_options o = {.rank = 4, .quantile = 1, .type = DTYPE_F32};
    check(lora_extract(base, trained, &o, out_path, NULL, NULL, &r, &e), &e);
    assert_true(r.beyond > 0.1);
    assert_true(fabs(r.kept + r.beyond - 1) < 1e-9);
    model_close(&trained);
    model_close(&base);
}

static void refused(const model *base, const model *trained, extract_options o, error_code code,
                    const char *says)
{
    error e = {0};
    extract_result r;
    remove(out_path);
    assert_false(lora_extract(base, trained, &o, out_path, NULL, NULL, &r, &e));
    assert_int_equal(e.code, code);
    if (!strstr(e.text, says)) fail_msg("%s", e.text);
    assert_false(path_exists(out_path));
}

static void refusals(void **state)
{
    (void)state;
    model *base = toy(), *same = toy();
    const extract_options o = {.rank = 4, .quantile = 0.99, .type = DTYPE_F32};
    refused(base, same, o, ERROR_MODEL, "do not differ in any layer that a LoRA has");
    refused(base, same, (extract_options){.rank = 0, .quantile = 1}, ERROR_USAGE, "rank of 0");
    refused(base, same, (extract_options){.rank = 4, .quantile = 0.2}, ERROR_USAGE, "0.5 to 1");
    refused(base, same, (extract_options){.rank = 4, .quantile = NAN}, ERROR_USAGE, "0.5 to 1");
    same->kind = MODEL_UNCONDITIONAL;
    refused(base, same, o, ERROR_MODEL, "unconditional");
    same->kind = MODEL_STABLE_DIFFUSION;
    weight_find(&same->unet_weights, CONV ".weight")->dim[0] = 8;
    refused(base, same, o, ERROR_MODEL, "cannot be compared");
    model_close(&same);
    model_close(&base);
}

static void allocations(void **state)
{
    (void)state;
    if (!allocation_can_fail()) skip();
    model *base = toy(), *trained = with(base, known_path);
    const extract_options o = {.rank = 2, .quantile = 0.99, .type = DTYPE_F16};
    bool struck = true;
    for (int n = 0; struck; n++) {
        error e = {0};
        extract_result r;
        remove(out_path);
        allocation_fail_at(n);
        bool ok = lora_extract(base, trained, &o, out_path, NULL, NULL, &r, &e);
        struck = allocation_fail_end();
        assert_true(ok || (struck && e.code == ERROR_MEMORY));
        assert_int_equal(path_exists(out_path), ok);
    }
    model_close(&trained);
    model_close(&base);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(toy_path, sizeof toy_path, "%s/toy", scratch_dir());
    snprintf(known_path, sizeof known_path, "%s/known.safetensors", scratch_dir());
    snprintf(out_path, sizeof out_path, "%s/out.safetensors", scratch_dir());
    layout_write(toy_path, "new", false, NULL);
    write_known();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matrices), cmocka_unit_test(with_threads), cmocka_unit_test(comes_back),
        cmocka_unit_test(beyond),   cmocka_unit_test(refusals),     cmocka_unit_test(allocations),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
