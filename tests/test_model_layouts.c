/* SPDX-License-Identifier: Apache-2.0
 *
 * Every layout of a checkpoint gives the same weights, bit by bit; whatever is wrong with one is
 * said in one line that names it. */
#include "layout.h"
#include "torch_file.h"

#include "base/half.h"
#include "base/platform.h"
#include "model/load.h"

/* A fresh folder; support.h's own buffers are used again and again. */
static const char *fresh(char out[200])
{
    snprintf(out, 200, "%s", scratch_dir());
    return out;
}

static char *joined(const char *folder, const char *name)
{
    static char path[4][700];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* The configurations of the toy, for single files. */
typedef struct toy {
    clip_config clip;
    unet_config unet;
    vae_config vae;
    single_sizes sizes;
} toy;

static toy *toy_sizes(void)
{
    static toy t;
    error e = {0};
    check(
        clip_config_read(&t.clip, fixture_path("model/layout/new/text_encoder/config.json"), &e) &&
            unet_config_read(&t.unet, fixture_path("model/layout/new/unet/config.json"), &e) &&
            vae_config_read(&t.vae, fixture_path("model/layout/new/vae/config.json"), &e),
        &e);
    t.sizes = (single_sizes){&t.clip, &t.unet, &t.vae};
    return &t;
}

static bool open_single(model **m, const char *path, const char *vae, error *e)
{
    return model_open_single(m, path, vae, fixture_path("model/layout/old/tokenizer"),
                             &toy_sizes()->sizes, false, e);
}

/* ---- equal weights ---- */

static void check_set(const weight_set *set, size_t count, dtype type)
{
    assert_int_equal(set->count, count);
    for (size_t i = 0; i < count; i++) {
        const weight *w = &set->item[i];
        size_t n = (size_t)product(w->rank, w->dim);
        float *values = malloc(n * sizeof *values);
        void *wanted = malloc(n * sizeof *values);
        fill_by_formula(values, w->name, w->rank, w->dim);
        convert_from_float(wanted, type, values, n);
        assert_int_equal(w->type, type);
        if (memcmp(wanted, w->data, n * dtype_size(type))) fail_msg("%s differs", w->name);
        free(values);
        free(wanted);
        assert_true(!i || strcmp(set->item[i - 1].name, w->name) < 0);
    }
}

static void check_model(model *m, dtype type)
{
    check_set(&m->unet_weights, 320, type);
    check_set(&m->vae_weights, 124, type);
    check_set(&m->clip_weights, 36, type);
    assert_int_equal(m->kind, MODEL_STABLE_DIFFUSION);
    assert_int_equal(m->scheduler.steps_offset, 1);
    int32_t ids[8];
    error e = {0};
    check(tokenizer_encode(m->tokens, "dog cat", 8, ids, NULL, &e), &e);
    assert_int_equal(ids[1], 513);
    assert_int_equal(ids[2], 515);
    model_close(&m);
    assert_null(m);
}

static void refused(const char *path, const char *vae, error_code code, const char *part)
{
    model *m;
    error e = {0};
    assert_false(model_open(&m, path, vae, NULL, &e));
    assert_null(m);
    if (!strstr(e.text, part) || strchr(e.text, '\n'))
        fail_msg("\"%s\" does not say \"%s\" in one line", e.text, part);
    if (e.code != code) fail_msg("\"%s\" has code %d, not %d", e.text, e.code, code);
}

static model *opened(const char *path, const char *vae)
{
    model *m;
    error e = {0};
    if (!model_open(&m, path, vae, NULL, &e)) fail_msg("%s", e.text);
    return m;
}

static void folders(void **state)
{
    (void)state;
    char base[200];
    fresh(base);
    layout_write(joined(base, "new"), "new", false, NULL);
    check_model(opened(joined(base, "new"), NULL), DTYPE_F32);
    layout_write(joined(base, "old"), "old", false, NULL);
    check_model(opened(joined(base, "old"), NULL), DTYPE_F32);
    layout_write(joined(base, "fp16"), "new", true, NULL);
    check_model(opened(joined(base, "fp16"), NULL), DTYPE_F16);
    /* the plain form goes before a variant */
    layout_write(joined(base, "fp16"), "new", false, NULL);
    check_model(opened(joined(base, "fp16"), NULL), DTYPE_F32);
}

/* A file's tensors again, F32 as F64. */
static void widen(const char *path)
{
    error e = {0};
    safetensors s;
    check(safetensors_open(&s, path, &e), &e);
    safetensors_entry *entry = calloc(s.count, sizeof *entry);
    for (size_t i = 0; i < s.count; i++) {
        entry[i] = s.entry[i];
        if (entry[i].type != DTYPE_F32) continue;
        size_t n = (size_t)entry[i].bytes / 4;
        double *wide = malloc(8 * n);
        for (size_t k = 0; k < n; k++) {
            float value;
            memcpy(&value, (const uint8_t *)s.entry[i].data + 4 * k, 4);
            wide[k] = (double)value;
        }
        entry[i].type = DTYPE_F64;
        entry[i].bytes = 8 * n;
        entry[i].data = (void *)wide;
    }
    check(safetensors_write(path, entry, s.count, NULL, 0, &e), &e);
    for (size_t i = 0; i < s.count; i++)
        if (entry[i].type == DTYPE_F64) free((void *)(uintptr_t)entry[i].data);
    free(entry);
    safetensors_close(&s);
}

/* One more space behind its header: no number lies at a multiple of its size. */
static void lean(const char *path)
{
    error e = {0};
    char *text;
    size_t size;
    uint64_t length;
    check(file_read(path, 1 << 24, &text, &size, &e), &e);
    memcpy(&length, text, 8); /* little-endian, as the machine */
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    uint64_t longer = length + 1;
    fwrite(&longer, 8, 1, f);
    fwrite(text + 8, length, 1, f);
    fputc(' ', f);
    fwrite(text + 8 + length, size - 8 - length, 1, f);
    assert_int_equal(fclose(f), 0);
    free(text);
}

static void doubles_and_odd_places(void **state)
{
    (void)state;
    static const char *const names[] = {"unet/diffusion_pytorch_model.safetensors",
                                        "text_encoder/model.safetensors",
                                        "vae/diffusion_pytorch_model.safetensors"};
    void (*const changes[])(const char *) = {widen, lean};
    for (int k = 0; k < 2; k++) {
        char base[200], path[300];
        fresh(base);
        layout_write(base, "new", false, NULL);
        for (int i = 0; i < 3; i++) {
            snprintf(path, sizeof path, "%s/%s", base, names[i]);
            changes[k](path);
        }
        model *m = opened(base, NULL);
        assert_int_equal((uintptr_t)m->unet_weights.item[0].data % sizeof(float), 0);
        check_model(m, DTYPE_F32);
    }
}

static void shards(void **state)
{
    (void)state;
    char base[200];
    fresh(base);
    char folder[300];
    snprintf(folder, sizeof folder, "%s/sharded", base);
    layout_write(folder, "new", false, NULL);
    layout_shell("rm '%s'/vae/*", folder);
    layout_write(folder, "sharded", false, NULL);
    check_model(opened(folder, NULL), DTYPE_F32);
}

static void unconditional(void **state)
{
    (void)state;
    char base[200];
    fresh(base);
    layout_write(base, "flat", false, NULL);
    model *m = opened(base, NULL);
    check_set(&m->unet_weights, 144, DTYPE_F32);
    assert_int_equal(m->kind, MODEL_UNCONDITIONAL);
    assert_int_equal(m->scheduler.variance, VARIANCE_FIXED_LARGE);
    assert_true(m->scheduler.has_variance);
    assert_null(m->tokens);
    model_close(&m);
}

static bool to_bf16(safetensors_entry *entry, void *data)
{
    if (entry->type == DTYPE_F32) {
        size_t n = (size_t)product(entry->rank, entry->dim);
        float *copy = malloc(n * sizeof *copy);
        memcpy(copy, data, n * sizeof *copy);
        convert_from_float(data, DTYPE_BF16, copy, n);
        free(copy);
        entry->type = DTYPE_BF16;
    }
    return true;
}

/* As some merging tools leave a file: matrices squeezed, no text_model level, v-prediction marked.
 */
static bool squeeze(safetensors_entry *entry, void *data)
{
    (void)data;
    char *level = strstr((char *)(uintptr_t)entry->name, "text_model.");
    if (level) memmove(level, level + 11, strlen(level + 11) + 1);
    if (entry->rank == 4 && entry->dim[2] == 1 && strstr(entry->name, "attn_1")) entry->rank = 2;
    if (!strcmp(entry->name, "betas")) {
        entry->name = "v_pred";
        entry->dim[0] = 0;
    }
    return true;
}

static void single_files(void **state)
{
    (void)state;
    char base[200];
    fresh(base);
    model *m;
    error e = {0};
    layout_write(base, "single", false, NULL);
    check(open_single(&m, joined(base, "model.safetensors"), NULL, &e), &e);
    assert_int_equal(m->scheduler.predicts, PREDICT_EPSILON);
    assert_string_equal(m->format, "single file (original names)");
    check_model(m, DTYPE_F32);
    layout_write(base, "single", false, squeeze);
    check(open_single(&m, joined(base, "model.safetensors"), NULL, &e), &e);
    assert_int_equal(m->scheduler.predicts, PREDICT_V);
    check_model(m, DTYPE_F32);
    layout_write(base, "single", false, to_bf16);
    check(open_single(&m, joined(base, "model.safetensors"), NULL, &e), &e);
    check_model(m, DTYPE_BF16);
}

static bool without_vae(safetensors_entry *entry, void *data)
{
    (void)data;
    return strncmp(entry->name, "first_stage_model.", 18) != 0;
}

static bool only_vae(safetensors_entry *entry, void *data) { return !without_vae(entry, data); }

static bool only_vae_bare(safetensors_entry *entry, void *data)
{
    if (without_vae(entry, data)) return false;
    entry->name += 18;
    return true;
}

static void other_vaes(void **state)
{
    (void)state;
    char base[200];
    fresh(base);
    model *m;
    error e = {0};
    layout_write(joined(base, "new"), "new", false, NULL);
    layout_write(joined(base, "bare"), "single", false, only_vae_bare);
    layout_write(joined(base, "prefixed"), "single", false, only_vae);
    layout_write(base, "single", false, without_vae);
    assert_false(open_single(&m, joined(base, "model.safetensors"), NULL, &e));
    assert_non_null(strstr(e.text, "has no VAE; give one with --vae (a folder, or a "
                                   ".safetensors or .ckpt file)"));
    static const char *const vaes[] = {"new", "new/vae", "bare/model.safetensors",
                                       "prefixed/model.safetensors",
                                       "new/vae/diffusion_pytorch_model.safetensors"};
    for (size_t i = 0; i < sizeof vaes / sizeof *vaes; i++) {
        e = (error){0};
        check(open_single(&m, joined(base, "model.safetensors"), joined(base, vaes[i]), &e), &e);
        check_model(m, DTYPE_F32);
    }
    check_model(opened(joined(base, "new"), joined(base, "new/vae")), DTYPE_F32);
}

/* PyTorch's files in the place of safetensors, by their content. */
static void torch_files(void **state)
{
    (void)state;
    static const char *const files[][2] = {
        {"unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.bin"},
        {"vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.bin"},
        {"text_encoder/model.safetensors", "text_encoder/pytorch_model.bin"}};
    char base[200];
    fresh(base);
    layout_write(joined(base, "f"), "new", false, NULL);
    layout_write(base, "single", false, NULL);
    for (size_t i = 0; i < 3; i++) {
        char from[400], to[400];
        snprintf(from, sizeof from, "%s/f/%s", base, files[i][0]);
        snprintf(to, sizeof to, "%s/f/%s", base, files[i][1]);
        torch_rewrite(from, to);
        assert_int_equal(remove(from), 0);
    }
    check_model(opened(joined(base, "f"), NULL), DTYPE_F32);
    torch_rewrite(joined(base, "model.safetensors"), joined(base, "model.ckpt"));
    model *m;
    error e = {0};
    check(open_single(&m, joined(base, "model.ckpt"), NULL, &e), &e);
    check_model(m, DTYPE_F32);
    check(open_single(&m, joined(base, "model.safetensors"), joined(base, "model.ckpt"), &e), &e);
    check_model(m, DTYPE_F32);
    refused(fixture_path("torch/runs.pt"), NULL, ERROR_FORMAT, "wants to run posix.system");
    refused(fixture_path("torch/zip.pt"), NULL, ERROR_MODEL, "holds no model that is known");
}

static void the_pocket_model_opens(void **state)
{
    (void)state;
    double before = clock_seconds();
    model *m = opened(SOURCE_DIR "/models/pocket", NULL);
    print_message("pocket model opened in %.0f ms\n", 1e3 * (clock_seconds() - before));
    assert_int_equal(m->unet_weights.item[0].type, DTYPE_F16);
    assert_int_equal(m->unet.blocks, 3);
    assert_int_equal(m->clip.positions, 32);
    m->unet_weights.storage_drop(m->unet_weights.storage);
    model_close(&m);
}

/* ---- what is refused, and how ---- */

static bool three_faults(safetensors_entry *entry, void *data)
{
    (void)data;
    if (!strcmp(entry->name, "conv_in.bias") && entry->dim[0] == 8) return false;
    if (!strcmp(entry->name, "conv_out.bias")) entry->name = "conv_out.offset";
    if (!strcmp(entry->name, "conv_norm_out.weight")) entry->dim[0] = 4;
    if (!strcmp(entry->name, "conv_norm_out.bias")) entry->type = DTYPE_I32;
    return true;
}

static bool all_missing(safetensors_entry *entry, void *data)
{
    (void)data;
    return !strcmp(entry->name, "conv_in.bias");
}

static bool with_nan(safetensors_entry *entry, void *data)
{
    if (!strcmp(entry->name, "mid_block.resnets.0.conv1.weight"))
        ((float *)data)[product(4, entry->dim) - 1] = NAN;
    if (!strcmp(entry->name, "mid_block.resnets.0.norm2.weight")) ((float *)data)[5] = INFINITY;
    return true;
}

static bool with_half_infinity(safetensors_entry *entry, void *data)
{
    if (!strcmp(entry->name, "decoder.conv_in.weight"))
        ((uint16_t *)data)[1201 % product(4, entry->dim)] = 0xfc00;
    return true;
}

static void bad_tensors(void **state)
{
    (void)state;
    char base[200];
    fresh(base);
    layout_write(joined(base, "a"), "new", false, three_faults);
    refused(joined(base, "a"), NULL, ERROR_MODEL,
            "a/unet: its tensors do not fit the network: 2 missing "
            "(conv_in.bias, conv_out.bias); 1 of another shape (conv_norm_out.weight is 4, should "
            "be 8); 1 of "
            "another type (conv_norm_out.bias is I32, only F32, F16, BF16 and F64 are supported); "
            "1 not expected "
            "(conv_out.offset)");
    layout_write(joined(base, "b"), "new", false, all_missing);
    refused(joined(base, "b"), NULL, ERROR_MODEL, "319 missing (");
    refused(joined(base, "b"), NULL, ERROR_MODEL, ", ...)");
    error e = {0};
    model *m;
    assert_false(model_open(&m, joined(base, "b"), NULL, NULL, &e));
    assert_true(strlen(e.text) < 400); /* of 319 some are enough */
    layout_write(joined(base, "c"), "new", false, with_nan);
    refused(joined(base, "c"), NULL, ERROR_NUMERIC,
            "c/unet: tensor mid_block.resnets.0.conv1.weight holds a NaN or an infinity");
    layout_write(joined(base, "d"), "new", true, with_half_infinity);
    refused(joined(base, "d"), NULL, ERROR_NUMERIC, "d/vae: tensor decoder.conv_in.weight holds");
}

static void bad_folders(void **state)
{
    (void)state;
    char base[200];
    fresh(base);
    char good[700], index[700];
    refused(joined(base, "nothing"), NULL, ERROR_FILE,
            "no such model (a diffusers folder, or a .safetensors, .ckpt or .gguf file)");
    refused(base, NULL, ERROR_FILE, "not a model: no config.json");
    snprintf(good, sizeof good, "%s/good", base);
    layout_write(good, "new", false, NULL);
    static const struct {
        const char *remove, *part;
    } missing[] = {
        {"unet/config.json", "not a model"},
        {"scheduler/scheduler_config.json", "scheduler_config.json"},
        {"unet/diffusion_pytorch_model.safetensors", "unet: no weights there"},
        {"vae/config.json", "vae/config.json"},
        {"vae/diffusion_pytorch_model.safetensors", "vae: no weights there"},
        {"text_encoder/model.safetensors", "text_encoder: no weights there"},
        {"text_encoder/config.json", "text_encoder/config.json"},
        {"tokenizer/tokenizer.json", "no tokenizer there"},
    };
    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++) {
        layout_shell("cd '%s' && rm -rf x && cp -r good x && rm 'x/%s'", base, missing[i].remove);
        refused(joined(base, "x"), NULL, ERROR_FILE, missing[i].part);
    }
    layout_shell("cd '%s' && rm -rf x && cp -r good x && mv x/unet/*.safetensors x/unet/model.bin",
                 base);
    refused(joined(base, "x"), NULL, ERROR_MODEL, "only as model.bin");
    layout_shell("cd '%s' && rm -rf x && cp -r good x && truncate -s -100 x/unet/*.safetensors",
                 base);
    refused(joined(base, "x"), NULL, ERROR_FORMAT, "unet/diffusion_pytorch_model.safetensors");
    layout_shell("cd '%s' && rm -rf x && cp -r good x && mkdir x/transformer", base);
    refused(joined(base, "x"), NULL, ERROR_MODEL, "a transformer, not a UNet");
    snprintf(index, sizeof index, "%s/x/model_index.json", base);
    write_text(index, "{\"_class_name\":\"StableDiffusionXLPipeline\"}");
    refused(joined(base, "x"), NULL, ERROR_MODEL, "this is Stable Diffusion XL");
    write_text(index, "{\"_class_name\":7}");
    refused(joined(base, "x"), NULL, ERROR_FORMAT, "\"_class_name\" should be a string");
    write_text(index, "{");
    refused(joined(base, "x"), NULL, ERROR_FORMAT, "model_index.json: not valid JSON");
}

static void bad_shards(void **state)
{
    (void)state;
    char base[200];
    fresh(base);
    char x[300], vae[300], index[800];
    snprintf(x, sizeof x, "%s/x", base);
    snprintf(vae, sizeof vae, "%s/x/vae", base);
    layout_write(x, "new", false, NULL);
    layout_shell("rm '%s'/*.safetensors", vae);
    snprintf(index, sizeof index, "%s/diffusion_pytorch_model.safetensors.index.json", vae);
    write_text(index, "{\"weight_map\":{\"a\":\"../../secret.safetensors\"}}");
    refused(x, NULL, ERROR_FORMAT, "names no valid file for a");
    write_text(index, "{\"weight_map\":{\"a\":\"gone.safetensors\"}}");
    refused(x, NULL, ERROR_FILE, "vae/gone.safetensors");
    write_text(index, "{}");
    refused(x, NULL, ERROR_FORMAT, "has no \"weight_map\"");
}

/* Networks that are fine by themselves and do not fit together. */
static void bad_company(void **state)
{
    (void)state;
    char base[200];
    fresh(base);
    char x[300];
    snprintf(x, sizeof x, "%s/x", base);
    layout_write(x, "new", false, NULL);
    write_text(joined(base, "x/tokenizer/tokenizer.json"),
               "{\"added_tokens\":[],\"model\":{\"type\":\"BPE\",\"end_of_word_suffix\":\"</"
               "w>\",\"vocab\":"
               "{\"<|startoftext|>\":0,\"<|endoftext|>\":600},\"merges\":[]}}");
    refused(x, NULL, ERROR_MODEL, "the tokenizer has 601 tokens, the text encoder only 518");
    write_text(joined(base, "x/tokenizer/tokenizer.json"),
               "{\"added_tokens\":[{\"id\":518,\"content\":\"<dog>\"}],\"model\":{\"type\":\"BPE\","
               "\"end_of_word_suffix\":"
               "\"</w>\",\"vocab\":{\"<|startoftext|>\":0,\"<|endoftext|>\":517},\"merges\":[]}}");
    refused(x, NULL, ERROR_FORMAT, "the added token \"<dog>\" has id 518, where its row");
    layout_shell("rm '%s/x/tokenizer/tokenizer.json' && cp '%s/'* '%s/x/tokenizer'", base,
                 fixture_path("model/tokenizer/encoder"), base);
    refused(x, NULL, ERROR_MODEL,
            "the tokenizer's added token \"<sks-dog>\" has id 524, and the text encoder "
            "has only 518 rows");
    layout_write(joined(base, "flat"), "flat", false, NULL);
    refused(joined(base, "flat"), joined(base, "x/vae"), ERROR_USAGE, "no use for --vae");
}

/* A file of one tensor. */
static void write_single(const char *path, const char *name, int64_t rows, int64_t columns)
{
    error e = {0};
    float *data = calloc((size_t)(rows * columns), sizeof *data);
    safetensors_entry entry = {.name = name,
                               .type = DTYPE_F32,
                               .rank = 2,
                               .dim = {rows, columns},
                               .data = data,
                               .bytes = (uint64_t)(4 * rows * columns)};
    check(safetensors_write(path, &entry, 1, NULL, 0, &e), &e);
    free(data);
}

static void other_single_files(void **state)
{
    (void)state;
    char base[200], path[300];
    snprintf(path, sizeof path, "%s/x.safetensors", fresh(base));
    static const struct {
        const char *name, *part;
        int64_t columns;
    } files[] = {
        {"conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight",
         "this is Stable Diffusion XL", 4},
        {"cond_stage_model.model.token_embedding.weight", "this is Stable Diffusion 2", 4},
        {"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
         "this is Stable Diffusion 2", 1024},
        {"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight",
         "this is Stable Diffusion 3", 4},
        {"double_blocks.0.img_attn.qkv.weight", "this is Flux", 4},
        {"model.diffusion_model.input_blocks.0.0.weight", "has no text encoder", 9},
        {"model.diffusion_model.input_blocks.0.0.weight", "an InstructPix2Pix model", 8},
        {"model.diffusion_model.input_blocks.0.0.weight", "has no text encoder", 4},
        {"control_model.input_blocks.0.0.weight", "this is a ControlNet", 4},
        {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
         "this is a LoRA (kohya), rank 2, 1 modules of the UNet", 4},
        {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
         "this is a LoRA (kohya), rank 2, 1 modules of the text encoder", 4},
        {"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
         "this is a LoRA (kohya) for Stable Diffusion XL, rank 2", 4},
        {"lora_unet_mid_block_attentions_0_proj_in.hada_w1_a", "this is a LoHa (LyCORIS), rank 4",
         4},
        {"lora_unet_mid_block_attentions_0_proj_in.lokr_w1", "this is a LoKr (LyCORIS), 1 modules",
         4},
        {"lora_unet_mid_block_attentions_0_proj_in.lokr_w1_a", "this is a LoKr (LyCORIS), rank 4",
         4},
        {"unet.down_blocks.0.attentions.0.proj_in.lora.down.weight",
         "this is a LoRA (diffusers), rank 2", 4},
        {"text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.down.weight",
         "this is a LoRA (diffusers), rank 2, 1 modules of the text encoder", 4},
        {"unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight",
         "this is a LoRA (diffusers before 0.22), rank 2", 4},
        {"down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_k_lora.down.weight",
         "this is a LoRA (diffusers before 0.22), rank 2", 4},
        {"text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.down.weight",
         "this is a LoRA (diffusers before 0.22), rank 2, 1 modules of the text encoder", 4},
        {"base_model.model.mid_block.attentions.0.proj_in.lora_A.weight",
         "this is a LoRA (PEFT), rank 2", 4},
        {"unet.mid_block.attentions.0.proj_in.lora_A.weight", "this is a LoRA (PEFT), rank 2", 4},
        {"unet:0:down", "this is a LoRA (cloneofsimo), rank 2, 1 modules of the UNet", 4},
        {"text_encoder:0:down",
         "this is a LoRA (cloneofsimo), rank 2, 1 modules of the text encoder", 4},
        {"decoder.mid.block_1.norm1.weight", "this is only a VAE", 4},
        {"down_blocks.0.resnets.0.conv1.weight", "one network of a diffusers folder", 4},
        {"something", "holds no model that is known", 4},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        write_single(path, files[i].name, 2, files[i].columns);
        refused(path, NULL, ERROR_MODEL, files[i].part);
    }
    write_text(path, "PK\3\4and so on");
    refused(path, NULL, ERROR_FORMAT, "is a zip archive (as PyTorch writes) without");
    write_text(path, "GGUF.......");
    refused(path, NULL, ERROR_FORMAT, "is GGUF of version");
    write_text(path, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    refused(path, NULL, ERROR_FORMAT, "git-lfs pointer");
    write_text(path, "");
    refused(path, NULL, ERROR_FORMAT, "x.safetensors");
}

/* Stable Diffusion's sizes are expected of a single file; that they differ is one short line. */
static void a_single_file_of_other_sizes(void **state)
{
    (void)state;
    char base[200];
    fresh(base);
    layout_write(base, "single", false, NULL);
    refused(joined(base, "model.safetensors"), NULL, ERROR_MODEL,
            "is not of Stable Diffusion 1's size (time_embed.0.weight is 32x8, should be "
            "1280x320), and no size is told in it: give the folder it was made from");
}

static void a_single_file_wants_a_tokenizer(void **state)
{
    (void)state;
    char base[200];
    fresh(base);
    model *m;
    error e = {0};
    layout_write(base, "single", false, NULL);
    unsetenv("LIKENESS_TOKENIZER");
    unsetenv("LIKENESS_MODELS");
    char path[300];
    snprintf(path, sizeof path, "%s/model.safetensors", base);
    /* CLIP's is found where make has fetched it, and is not the toy's */
    assert_false(model_open_single(&m, path, NULL, NULL, &toy_sizes()->sizes, false, &e));
    assert_true(strstr(e.text, "make clip-tokenizer") || strstr(e.text, "has 49408 tokens"));
    e = (error){0};
    check(model_open_single(&m, path, NULL, NULL, &toy_sizes()->sizes, true, &e), &e); /* inspect */
    assert_null(m->tokens);
    model_close(&m);
    layout_shell("cp -r '%s' '%s/tokenizer'", fixture_path("model/layout/old/tokenizer"), base);
    e = (error){0};
    check(model_open_single(&m, path, NULL, NULL, &toy_sizes()->sizes, false, &e), &e);
    check_model(m, DTYPE_F32);
    layout_shell("mv '%s/tokenizer' '%s/elsewhere'", base, base);
    setenv("LIKENESS_TOKENIZER", joined(base, "elsewhere"), 1);
    check(model_open_single(&m, path, NULL, NULL, &toy_sizes()->sizes, false, &e), &e);
    check_model(m, DTYPE_F32);
    unsetenv("LIKENESS_TOKENIZER");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders),
        cmocka_unit_test(doubles_and_odd_places),
        cmocka_unit_test(shards),
        cmocka_unit_test(unconditional),
        cmocka_unit_test(single_files),
        cmocka_unit_test(other_vaes),
        cmocka_unit_test(torch_files),
        cmocka_unit_test(the_pocket_model_opens),
        cmocka_unit_test(bad_tensors),
        cmocka_unit_test(bad_folders),
        cmocka_unit_test(bad_shards),
        cmocka_unit_test(bad_company),
        cmocka_unit_test(other_single_files),
        cmocka_unit_test(a_single_file_of_other_sizes),
        cmocka_unit_test(a_single_file_wants_a_tokenizer),
    };
    return cmocka_run_group_tests_name("layouts", tests, NULL, NULL);
}
