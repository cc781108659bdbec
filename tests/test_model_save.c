/* SPDX-License-Identifier: Apache-2.0
 *
 * A saved model opens again with the same weights and configurations, whatever layout it came from;
 * nothing is left half-written. */
#include "layout.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/platform.h"
#include "model/load.h"
#include "model/hash.h"
#include "model/merge.h"
#include "model/save.h"
#include "model/write.h"

typedef struct place {
    char text[900];
} place;

/* Folders that outlive support.h's buffers. */
static place fresh(void)
{
    place p;
    snprintf(p.text, sizeof p.text, "%s", scratch_dir());
    return p;
}

static place at(place base, const char *name)
{
    place p;
    snprintf(p.text, sizeof p.text, "%.700s/%s", base.text, name);
    return p;
}

static model *opened(place path, const char *vae)
{
    model *m;
    error e = {0};
    check(model_open(&m, path.text, vae, NULL, &e), &e);
    return m;
}

static place layout(const char *name, bool half)
{
    place p = fresh();
    layout_write(p.text, name, half, NULL);
    return p;
}

static void write_text(place path, const char *text)
{
    FILE *f = fopen(path.text, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static char *text_of(place path)
{
    char *text = NULL;
    error e = {0};
    check(file_read(path.text, 64 << 20, &text, NULL, &e), &e);
    return text;
}

static void expect_text(place path, const char *part, bool there)
{
    char *text = text_of(path);
    if (!strstr(text, part) == there)
        fail_msg("%s: %s: %s", path.text, there ? "lacks" : "has", part);
    free(text);
}

static void expect_same_file(place a, place b)
{
    char *x = text_of(a), *y = text_of(b);
    assert_string_equal(x, y);
    free(x);
    free(y);
}

static int count_files(place folder, const char *pattern)
{
    char command[1200];
    int n = -1;
    snprintf(command, sizeof command, "find '%s' -name '%s' | wc -l", folder.text, pattern);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%d", &n), 1);
    pclose(f);
    return n;
}

static void expect_same_set(const weight_set *a, const weight_set *b)
{
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        const weight *x = &a->item[i], *y = &b->item[i];
        assert_string_equal(x->name, y->name);
        assert_int_equal(x->type, y->type);
        assert_int_equal(x->rank, y->rank);
        assert_memory_equal(x->dim, y->dim, (size_t)x->rank * sizeof *x->dim);
        assert_memory_equal(x->data, y->data, (size_t)weight_elements(x) * dtype_size(x->type));
    }
}

static void expect_same_configs(const model *a, const model *b)
{
    assert_memory_equal(&a->clip, &b->clip, sizeof a->clip);
    assert_memory_equal(&a->unet, &b->unet, sizeof a->unet);
    assert_memory_equal(&a->vae, &b->vae, sizeof a->vae);
    const scheduler_config *x = &a->scheduler, *y = &b->scheduler;
    assert_string_equal(x->class_name, y->class_name);
    assert_int_equal(x->train_steps, y->train_steps);
    assert_true(x->beta_start == y->beta_start && x->beta_end == y->beta_end);
    assert_int_equal(x->betas, y->betas);
    assert_int_equal(x->predicts, y->predicts);
    assert_int_equal(x->zero_snr, y->zero_snr);
    assert_int_equal(x->has_spacing, y->has_spacing);
    assert_int_equal(x->spacing, y->spacing);
    assert_int_equal(x->steps_offset, y->steps_offset);
    assert_int_equal(x->clip_sample, y->clip_sample);
    assert_int_equal(x->set_alpha_to_one, y->set_alpha_to_one);
}

/* Saves m and opens what was saved; what it holds must be the same. Closes m. */
static place saved_same(model *m)
{
    place out = at(fresh(), "deep/saved");
    error e = {0};
    check(model_save(m, out.text, NULL, NULL, &e), &e);
    model *again = opened(out, NULL);
    assert_string_equal(again->format, "diffusers folder");
    expect_same_set(&m->unet_weights, &again->unet_weights);
    expect_same_set(&m->clip_weights, &again->clip_weights);
    expect_same_set(&m->vae_weights, &again->vae_weights);
    expect_same_configs(m, again);
    int32_t a[8], b[8];
    check(tokenizer_encode(m->tokens, "dog cat", 8, a, NULL, &e) &&
              tokenizer_encode(again->tokens, "dog cat", 8, b, NULL, &e),
          &e);
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(count_files(out, "*.tmp"), 0);
    assert_int_equal(count_files(out, "*.safetensors"), 3);
    model_close(&again);
    model_close(&m);
    return out;
}

/* ---- folders ---- */

static void pocket(void **state)
{
    (void)state;
    static const char *const copied[] = {"unet/config.json",
                                         "vae/config.json",
                                         "text_encoder/config.json",
                                         "scheduler/scheduler_config.json",
                                         "tokenizer/vocab.json",
                                         "tokenizer/merges.txt",
                                         "tokenizer/tokenizer_config.json",
                                         "tokenizer/special_tokens_map.json"};
    place source = {SOURCE_DIR "/models/pocket"};
    place out = saved_same(opened(source, NULL));
    for (size_t i = 0; i < sizeof copied / sizeof *copied; i++)
        expect_same_file(at(source, copied[i]), at(out, copied[i]));
    expect_text(at(out, "text_encoder/config.json"), "\"torch_dtype\": \"float16\"", true);
    expect_text(at(out, "model_index.json"), "\"DDIMScheduler\"", true);
}

static void layouts(void **state)
{
    (void)state;
    place out = saved_same(opened(layout("new", false), NULL));
    assert_int_equal(count_files(out, "tokenizer.json"), 1);
    out = saved_same(opened(layout("new", true), NULL)); /* .fp16 */
    assert_int_equal(count_files(out, "*.fp16.*"), 0);
    out = saved_same(opened(layout("old", false), NULL));
    safetensors s;
    error e = {0};
    check(safetensors_open(&s, at(out, "vae/diffusion_pytorch_model.safetensors").text, &e), &e);
    assert_non_null(safetensors_find(&s, "decoder.mid_block.attentions.0.to_q.weight"));
    assert_null(safetensors_find(&s, "decoder.mid_block.attentions.0.query.weight"));
    safetensors_close(&s);
    place sharded = layout("new", false);
    layout_shell("rm '%s'/vae/*", sharded.text);
    layout_write(sharded.text, "sharded", false, NULL);
    out = saved_same(opened(sharded, NULL));
    assert_int_equal(count_files(out, "*.index.json"), 0);
}

/* Float32 weights in place of a set's: 1, 2, 3, ... */
static weight_set trained(const weight_set *from)
{
    weight_set set = {.item = calloc(from->count, sizeof(weight)), .count = from->count};
    assert_non_null(set.item);
    for (size_t i = 0; i < set.count; i++) {
        int64_t n = weight_elements(&from->item[i]);
        float *data = malloc((size_t)n * sizeof *data);
        for (int64_t k = 0; k < n; k++) data[k] = (float)k;
        set.item[i] = from->item[i];
        set.item[i].type = DTYPE_F32;
        set.item[i].data = data;
    }
    return set;
}

static void trained_close(weight_set *set)
{
    for (size_t i = 0; i < set->count; i++) free((void *)(uintptr_t)set->item[i].data);
    weight_set_close(set);
}

static void replaced(void **state)
{
    (void)state;
    model *m = opened((place){SOURCE_DIR "/models/pocket"}, NULL), *again;
    weight_set unet = trained(&m->unet_weights), clip = trained(&m->clip_weights);
    place out = fresh();
    error e = {0};
    check(model_save(m, out.text, &unet, &clip, &e), &e);
    again = opened(out, NULL);
    expect_same_set(&again->unet_weights, &unet);
    expect_same_set(&again->clip_weights, &clip);
    expect_same_set(&again->vae_weights, &m->vae_weights);
    expect_same_configs(again, m);
    expect_text(at(out, "text_encoder/config.json"), "\"torch_dtype\": \"float32\"", true);
    expect_text(at(out, "text_encoder/config.json"), "\"layer_norm_eps\": 1e-05", true);
    model_close(&again);
    /* over what is there; the text encoder keeps its weights, but is loaded as the UNet is */
    check(model_save(m, out.text, &unet, NULL, &e), &e);
    again = opened(out, NULL);
    expect_same_set(&again->clip_weights, &m->clip_weights);
    assert_int_equal(again->clip_weights.item[0].type, DTYPE_F16);
    expect_text(at(out, "text_encoder/config.json"), "\"torch_dtype\": \"float32\"", true);
    model_close(&again);
    /* one network's folder alone */
    place one = at(fresh(), "a/unet"), two = at(fresh(), "a/text_encoder");
    check(model_save_unet(m, one.text, &unet, NULL, &e) &&
              model_save_clip(m, two.text, NULL, NULL, &e),
          &e);
    expect_same_file(at(one, "config.json"), (place){SOURCE_DIR "/models/pocket/unet/config.json"});
    expect_same_file(at(two, "config.json"),
                     (place){SOURCE_DIR "/models/pocket/text_encoder/config.json"});
    assert_int_equal(count_files(one, "*"), 3);
    assert_int_equal(count_files(two, "*"), 3);
    trained_close(&unet);
    trained_close(&clip);
    model_close(&m);
}

/* The safety checker goes, the feature extractor stays, keys of other releases too. */
static void index_file(void **state)
{
    (void)state;
    place source = layout("new", false);
    write_text(
        at(source, "model_index.json"),
        "{\"_class_name\": \"StableDiffusionPipeline\", \"custom\": 3, \"feature_extractor\":"
        " [\"transformers\", \"CLIPImageProcessor\"], \"image_encoder\": [\"transformers\","
        " \"CLIPVisionModelWithProjection\"], \"requires_safety_checker\": true,"
        " \"safety_checker\": [\"stable_diffusion\", \"StableDiffusionSafetyChecker\"],"
        " \"tokenizer\": [\"transformers\", \"CLIPTokenizerFast\"], \"vae\": [null, null]}");
    layout_shell("mkdir '%s/feature_extractor' '%s/safety_checker'", source.text, source.text);
    write_text(at(source, "safety_checker/config.json"), "{}");
    place out = saved_same(opened(source, NULL));
    expect_text(at(out, "model_index.json"), "CLIPImageProcessor", false); /* its folder is empty */
    write_text(at(source, "feature_extractor/preprocessor_config.json"), "{\"size\": 224}");
    out = saved_same(opened(source, NULL));
    place list = at(out, "model_index.json");
    expect_text(list, "CLIPImageProcessor", true);
    expect_text(list, "CLIPTokenizerFast", true);
    expect_text(list, "\"custom\": 3", true);
    expect_text(list, "AutoencoderKL", true);
    expect_text(list, "UNet2DConditionModel", true);
    expect_text(list, "SafetyChecker", false);
    expect_text(list, "CLIPVision", false);
    expect_text(list, "\"requires_safety_checker\": false", true);
    expect_same_file(at(source, "feature_extractor/preprocessor_config.json"),
                     at(out, "feature_extractor/preprocessor_config.json"));
    assert_int_equal(count_files(out, "safety_checker"), 0);
    unlink(at(source, "model_index.json").text);
    unlink(at(source, "tokenizer/tokenizer_config.json").text);
    out = saved_same(opened(source, NULL));
    expect_text(at(out, "model_index.json"), "\"StableDiffusionPipeline\"", true);
    expect_text(at(out, "tokenizer/tokenizer_config.json"), "\"model_max_length\": 8", true);
}

/* ---- single files, and VAEs from elsewhere ---- */

typedef struct toy {
    clip_config clip;
    unet_config unet;
    vae_config vae;
} toy;

static model *opened_single(place path, const char *vae)
{
    static toy t;
    single_sizes sizes = {&t.clip, &t.unet, &t.vae};
    model *m = NULL;
    error e = {0};
    check(
        clip_config_read(&t.clip, fixture_path("model/layout/new/text_encoder/config.json"), &e) &&
            unet_config_read(&t.unet, fixture_path("model/layout/new/unet/config.json"), &e) &&
            vae_config_read(&t.vae, fixture_path("model/layout/new/vae/config.json"), &e) &&
            model_open_single(&m, path.text, vae, fixture_path("model/layout/old/tokenizer"),
                              &sizes, false, &e),
        &e);
    return m;
}

static bool predicts_v(safetensors_entry *entry, void *data)
{
    (void)data;
    if (!strcmp(entry->name, "betas")) {
        entry->name = "v_pred";
        entry->dim[0] = 0;
    } else if (!strcmp(entry->name, "model_ema.decay")) {
        entry->name = "ztsnr";
    }
    return true;
}

static void single_files(void **state)
{
    (void)state;
    place source = layout("single", false), file = at(source, "model.safetensors");
    place out = saved_same(opened_single(file, NULL));
    expect_text(at(out, "scheduler/scheduler_config.json"), "PNDMScheduler", true);
    expect_text(at(out, "scheduler/scheduler_config.json"), "rescale_betas", false);
    expect_text(at(out, "vae/config.json"), "0.18215,", true);
    expect_text(at(out, "model_index.json"), "PNDMScheduler", true);
    layout_write(source.text, "single", false, predicts_v);
    model *m = opened_single(file, NULL);
    assert_true(m->scheduler.zero_snr);
    out = saved_same(m);
    expect_text(at(out, "scheduler/scheduler_config.json"), "v_prediction", true);
    layout_write(source.text, "single", true, NULL);
    saved_same(opened_single(at(source, "model.fp16.safetensors"), NULL));
}

/* Every tensor of the published layout is there, under its name and in its shape. */
static void expect_published(place published, place written)
{
    static const char *const parts[] = {"model.diffusion_model.", "first_stage_model.",
                                        "cond_stage_model.transformer."};
    safetensors want, have;
    error e = {0};
    check(safetensors_open(&want, published.text, &e) && safetensors_open(&have, written.text, &e),
          &e);
    size_t same = 0;
    for (size_t i = 0; i < want.count; i++) {
        const safetensors_entry *t = &want.entry[i], *found = safetensors_find(&have, t->name);
        bool ours = false;
        for (int k = 0; k < 3; k++) ours = ours || !strncmp(t->name, parts[k], strlen(parts[k]));
        if (!ours || strstr(t->name, "position_ids") || strstr(t->name, ".loss.")) continue;
        if (!found) fail_msg("%s is not there", t->name);
        assert_int_equal(found->rank, t->rank);
        assert_memory_equal(found->dim, t->dim, (size_t)t->rank * sizeof *t->dim);
        same++;
    }
    assert_int_equal(same, 320 + 124 + 36);
    assert_int_equal(have.count, same);
    safetensors_close(&want);
    safetensors_close(&have);
}

static void expect_set_as(const weight_set *from, const weight_set *set, dtype type)
{
    assert_int_equal(from->count, set->count);
    for (size_t i = 0; i < set->count; i++) {
        size_t n = (size_t)weight_elements(&set->item[i]);
        float *value = malloc(n * sizeof *value);
        void *want = malloc(n * sizeof *value);
        assert_true(value && want);
        convert_to_float(value, from->item[i].data, from->item[i].type, n);
        convert_from_float(want, type, value, n);
        assert_int_equal(set->item[i].type, type);
        assert_memory_equal(set->item[i].data, want, n * dtype_size(type));
        free(value);
        free(want);
    }
}

static void written_single(void **state)
{
    (void)state;
    place source = layout("single", false), file = at(source, "model.safetensors"),
          out = at(fresh(), "one.safetensors");
    model *m = opened_single(file, NULL), *again;
    error e = {0};
    check(model_write_single(m, NULL, out.text, NULL, &e), &e);
    expect_published(file, out);
    again = opened_single(out, NULL);
    expect_same_set(&m->unet_weights, &again->unet_weights);
    expect_same_set(&m->clip_weights, &again->clip_weights);
    expect_same_set(&m->vae_weights, &again->vae_weights);
    model_close(&again);
    static const dtype types[] = {DTYPE_F16, DTYPE_BF16, DTYPE_F32};
    for (int i = 0; i < 3; i++) {
        check(model_write_single(m, &types[i], out.text, NULL, &e), &e);
        again = opened_single(out, NULL);
        expect_set_as(&m->unet_weights, &again->unet_weights, types[i]);
        expect_set_as(&m->vae_weights, &again->vae_weights, types[i]);
        model_close(&again);
        place folder = fresh();
        check(model_save_folder(m, folder.text, &types[i], NULL, &e), &e);
        again = opened(folder, NULL);
        expect_set_as(&m->clip_weights, &again->clip_weights, types[i]);
        expect_set_as(&m->vae_weights, &again->vae_weights, types[i]);
        model_close(&again);
        expect_text(at(folder, "text_encoder/config.json"), "float32", true);
    }
    assert_string_equal(model_single_loses(m), "its sizes, which are not Stable Diffusion 1's");
    model_close(&m);
    layout_write(source.text, "single", false, predicts_v);
    m = opened_single(file, NULL);
    check(model_write_single(m, NULL, out.text, NULL, &e), &e);
    again = opened_single(out, NULL);
    assert_int_equal(again->scheduler.predicts, PREDICT_V);
    assert_true(again->scheduler.zero_snr);
    model_close(&again);
    model_close(&m);
}

/* float16 ends at 65504; what it cannot hold is named, and no file is left. */
static void too_large(void **state)
{
    (void)state;
    static const float value[] = {1, 65504, -70000};
    weight w = {.name = "a.weight", .type = DTYPE_F32, .rank = 1, .dim = {3}, .data = value};
    weight_set set = {.item = &w, .count = 1};
    place folder = fresh(), out = at(folder, "x.safetensors");
    dtype type = DTYPE_F16;
    error e = {0};
    assert_false(weights_write(&set, &type, out.text, NULL, &e));
    assert_int_equal(e.code, ERROR_NUMERIC);
    assert_non_null(strstr(e.text, "a.weight holds -70000, and float16 ends at 65504"));
    assert_int_equal(count_files(folder, "*x*"), 0);
    type = DTYPE_BF16;
    e = (error){0};
    check(weights_write(&set, &type, out.text, NULL, &e), &e);
    static const float larger[] = {1, 2, 3.4e38f};
    w.data = larger;
    type = DTYPE_BF16;
    error wide = {0};
    assert_false(weights_write(&set, &type, out.text, NULL, &wide));
    assert_int_equal(wide.code, ERROR_NUMERIC);
    assert_non_null(strstr(wide.text, "and bfloat16 ends at 3.39e38"));
}

static void other_vae(void **state)
{
    (void)state;
    place source = layout("new", false), file = layout("single", false), vae = layout("old", false);
    char *text = text_of(at(vae, "vae/config.json"));
    place config = at(vae, "vae/config.json");
    FILE *f = fopen(config.text, "w");
    fprintf(f, "{\"note\": 7, %s", strchr(text, '{') + 1);
    fclose(f);
    free(text);
    place out = saved_same(opened(source, vae.text));
    expect_same_file(at(out, "vae/config.json"), config);
    out = saved_same(opened_single(at(file, "model.safetensors"), at(vae, "vae").text));
    expect_same_file(at(out, "vae/config.json"), config);
    model *m = opened(source, NULL);
    free(m->vae_folder); /* as from a single file */
    m->vae_folder = NULL;
    out = saved_same(m);
    expect_text(at(out, "vae/config.json"), "\"note\"", false);
}

/* ---- what goes wrong ---- */

static void expect_failure(const model *m, place out, error_code code, const char *part)
{
    error e = {0};
    assert_false(model_save(m, out.text, NULL, NULL, &e));
    assert_int_equal(e.code, code);
    if (!strstr(e.text, part) || strchr(e.text, '\n'))
        fail_msg("'%s' should say '%s'", e.text, part);
    assert_int_equal(count_files(out, "*.tmp"), 0);
}

static void refusals(void **state)
{
    (void)state;
    place source = layout("new", false);
    model *m = opened(source, NULL);
    expect_failure(m, at(source, "unet/.."), ERROR_USAGE, "choose another folder");
    place file = at(fresh(), "file");
    write_text(file, "x");
    expect_failure(m, file, ERROR_FILE, "is a file, where a folder is needed");
    place full = fresh();
    layout_shell(
        "mkdir -p '%s/unet' && ln -s /dev/full '%s/unet/diffusion_pytorch_model.safetensors'",
        full.text, full.text);
    expect_failure(m, full, ERROR_FILE, "the disk is full");
    assert_int_equal(count_files(full, "model_index.json"), 0);
    unlink(at(source, "scheduler/scheduler_config.json").text);
    expect_failure(m, fresh(), ERROR_FILE, "scheduler/scheduler_config.json: cannot open");
    model_close(&m);
    place flat = fresh();
    layout_write(flat.text, "flat", false, NULL);
    m = opened(flat, NULL);
    expect_failure(m, fresh(), ERROR_MODEL, "unconditional");
    model_close(&m);
}

/* In place of libc's: hundreds of files that need not outlive a power cut. */
int fsync(int file)
{
    (void)file;
    return 0;
}

static void no_memory(model *m)
{
    place out = fresh();
    int failures = 0;
    for (bool struck = true; struck; failures += struck) {
        error e = {0};
        allocation_fail_at(failures);
        bool ok = model_save(m, out.text, NULL, NULL, &e);
        struck = allocation_fail_end();
        assert_true(ok || struck); /* what libraries do without is no failure */
        if (!ok) assert_int_equal(e.code, ERROR_MEMORY);
    }
    assert_true(failures > 20);
    assert_int_equal(count_files(out, "*.tmp"), 0);
    model *again = opened(out, NULL);
    expect_same_set(&m->unet_weights, &again->unet_weights);
    model_close(&again);
    model_close(&m);
}

static void memory(void **state)
{
    (void)state;
    if (!allocation_can_fail()) return;
    no_memory(opened(layout("new", false), NULL));
    no_memory(opened_single(at(layout("single", false), "model.safetensors"), NULL));
}

/* ---- hashes ---- */

static void hashes(void **state)
{
    (void)state;
    float a[2] = {1, -2};
    uint16_t b[3] = {0x3f80, 0x4000, 0x4040};
    weight item[2] = {{.name = "a.weight", .type = DTYPE_F32, .rank = 2, .dim = {2, 1}, .data = a},
                      {.name = "b", .type = DTYPE_BF16, .rank = 1, .dim = {3}, .data = b}};
    weight_set set = {.item = item, .count = 2};
    char hex[65], other[65];
    weight_set_hash(&set, NULL, hex);
    /* Python's hashlib over b"a.weight\0F32 2 1\0" + hex(a) + b"b\0BF16 3\0" + hex(b) */
    assert_string_equal(hex, "bf3476f735be0b69a6509ab5826a6f917f4f2dc020c79ffd61f18f6350457b78");
    item[0].rank = 1;
    weight_set_hash(&set, NULL, other);
    assert_string_not_equal(hex, other);
    item[0].rank = 2;
    a[1] = 2;
    weight_set_hash(&set, NULL, other);
    assert_string_not_equal(hex, other);
    /* the same model in another layout */
    model *m = opened(layout("new", false), NULL);
    model *single = opened_single(at(layout("single", false), "model.safetensors"), NULL);
    model_hash(m, hex);
    model_hash(single, other);
    assert_string_equal(hex, other);
    /* kept: once for a model that was opened; of any part of it */
    m->vae_weights.count--;
    model_hash(m, other);
    assert_string_equal(hex, other);
    model copy = *m;
    copy.hash = NULL;
    model_hash(&copy, other);
    assert_string_not_equal(hex, other);
    /* the same with threads */
    thread_pool *pool = NULL;
    copy = *single;
    copy.hash = NULL;
    assert_true(thread_pool_open(&pool, 3, NULL));
    model_hash_with(&copy, pool, other);
    assert_string_equal(hex, other);
    thread_pool_close(&pool);
    m->vae_weights.count++;
    model_close(&m);
    model_close(&single);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pocket),       cmocka_unit_test(layouts),
        cmocka_unit_test(replaced),     cmocka_unit_test(index_file),
        cmocka_unit_test(single_files), cmocka_unit_test(other_vae),
        cmocka_unit_test(refusals),     cmocka_unit_test(memory),
        cmocka_unit_test(hashes),       cmocka_unit_test(written_single),
        cmocka_unit_test(too_large)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
