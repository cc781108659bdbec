/* SPDX-License-Identifier: Apache-2.0
 *
 * alloc_fail: every everyday use of the library, on toys, with one of its allocations failing. Each
 * run must end in an error, or do without and leave the same; it must neither crash nor (as the
 * sanitized build sees) leak, nor leave a file that is not whole. Which allocations fail is fixed:
 * each chain of calls that comes to one, the first time that it does so in the whole program, and
 * some more at even distances. Linked with --wrap for every function that gives memory; what shared
 * libraries allocate inside is theirs and does not fail. */
#include <errno.h>
#include <execinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/platform.h"
#include "file/torch.h"
#include "likeness.h"
#include "toy.h"

#define FIXTURES SOURCE_DIR "/tests/fixtures"

enum { DEPTH = 4, SKIPPED = 2, EVENLY = 20, MOST = 100000, CHAINS = 1 << 16 };

static long allocations, failing; /* failing: which one; 0: none */
static bool noting;
static unsigned char fails_at[MOST]; /* of the use at hand */
static uintptr_t chain[CHAINS];      /* hashes of those that were met; 0: free */

/* Whether no allocation came by these calls before. */
static bool chain_new(void)
{
    void *at[DEPTH + SKIPPED] = {NULL};
    uintptr_t hash = 14695981039346656037u;
    int n = backtrace(at, DEPTH + SKIPPED);
    for (int i = SKIPPED; i < n; i++) hash = (hash ^ (uintptr_t)at[i]) * 1099511628211u;
    size_t slot = hash % CHAINS;
    for (int tries = 0; chain[slot] && tries < CHAINS; tries++, slot = (slot + 1) % CHAINS)
        if (chain[slot] == hash) return false;
    chain[slot] = hash;
    return true;
}

static bool fails(void)
{
    long n = __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
    if (noting && n < MOST) fails_at[n] = chain_new();
    if (n != failing) return false;
    errno = ENOMEM;
    return true;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
int __real_posix_memalign(void **out, size_t align, size_t n);
void *__real_mmap(void *at, size_t n, int protection, int flags, int file, off_t offset);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
int __wrap_posix_memalign(void **out, size_t align, size_t n);
void *__wrap_mmap(void *at, size_t n, int protection, int flags, int file, off_t offset);
char *__wrap_strdup(const char *text);

void *__wrap_malloc(size_t n) { return fails() ? NULL : __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t size) { return fails() ? NULL : __real_calloc(n, size); }
void *__wrap_realloc(void *p, size_t n) { return fails() ? NULL : __real_realloc(p, n); }
void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return fails() ? NULL : __real_aligned_alloc(align, n);
}
int __wrap_posix_memalign(void **out, size_t align, size_t n)
{
    return fails() ? ENOMEM : __real_posix_memalign(out, align, n);
}
void *__wrap_mmap(void *at, size_t n, int protection, int flags, int file, off_t offset)
{
    return fails() ? MAP_FAILED : __real_mmap(at, n, protection, flags, file, offset);
}
char *__wrap_strdup(const char *text) { return fails() ? NULL : __real_strdup(text); }

/* ---- what uses share ----------------------------------------------------------------------- */

/* Files in the scratch folder: what there is from the start, and what uses leave. */
enum {
    MODEL,
    DDPM,
    INPAINTING,
    CONTROL,
    SINGLE,
    PICTURE,
    TAUGHT,
    TAUGHT_LORA,
    TAUGHT_WORD,
    CONVERTED,
    EXTRACTED,
    PLACES
};
static const char *const place[PLACES] = {
    "model",
    "ddpm",
    "inpainting",
    "control",
    "single.safetensors",
    "picture.png",
    "taught/model_index.json",
    "lora/pytorch_lora_weights.safetensors",
    "word/learned_embeds.safetensors",
    "converted.safetensors",
    "extracted.safetensors",
};
static char at[PLACES][96], folder[] = "/tmp/likeness-alloc-XXXXXX";

/* What a use has open; closed whatever became of it. */
typedef struct work {
    lk_context *context;
    lk_session *session;
    lk_model *model[3];
    lk_image *picture[3];
    lk_controlnet *control;
    unsigned sum; /* of what came out */
    lk_error *why;
} work;

static bool begin(work *w)
{
    lk_context_options c;
    lk_context_defaults(&c);
    c.threads = 1;
    c.device = "cpu";
    return lk_context_open(&w->context, &c, w->why) &&
           lk_session_open(&w->session, w->context, NULL, w->why);
}

static bool open_model(work *w, int which, int path)
{
    lk_model_options m;
    lk_model_defaults(&m);
    m.path = at[path];
    return lk_model_open(&w->model[which], w->context, &m, w->why);
}

static void end(work *w)
{
    for (int i = 0; i < 3; i++) lk_image_close(&w->picture[i]);
    for (int i = 3; i-- > 0;) lk_model_close(&w->model[i]);
    lk_controlnet_close(&w->control);
    lk_session_close(&w->session);
    lk_context_close(&w->context);
}

static void add_bytes(work *w, const void *data, size_t size)
{
    for (size_t i = 0; i < size; i++) w->sum = w->sum * 31 + ((const unsigned char *)data)[i];
}

static void add_picture(work *w, const lk_image *p)
{
    add_bytes(w, lk_image_pixels(p), (size_t)lk_image_width(p) * (size_t)lk_image_height(p) * 3);
}

/* The bytes of a file that was written. */
static void add_file(work *w, const char *path)
{
    unsigned char block[4096];
    FILE *f = fopen(path, "rb");
    for (size_t n; f && (n = fread(block, 1, sizeof block, f)) > 0;) add_bytes(w, block, n);
    if (f) fclose(f);
}

static lk_generate_options a_dog(int steps)
{
    lk_generate_options o;
    lk_generate_defaults(&o);
    o.prompt = "a dog";
    o.steps = steps;
    return o;
}

/* The picture by the first model, saved. */
static bool make(work *w, const lk_generate_options *o)
{
    char *notes = NULL;
    bool ok = lk_generate_check(w->session, w->model[0], o, &notes, w->why) &&
              lk_generate(&w->picture[0], w->session, w->model[0], o, w->why) &&
              lk_image_save(w->picture[0], at[PICTURE], w->why);
    lk_free(notes);
    if (ok) add_picture(w, w->picture[0]);
    return ok;
}

/* Grey steps: of a mask its left half. */
static bool draw(lk_image **out, work *w, bool mask)
{
    uint8_t pixels[32 * 32 * 3];
    for (int i = 0; i < 32 * 32 * 3; i++)
        pixels[i] = mask ? (i / 3 % 32 < 16 ? 255 : 0) : (uint8_t)(i % 251);
    return lk_image_from_pixels(out, pixels, 32, 32, 0, w->why);
}

/* ---- uses: pictures ------------------------------------------------------------------------ */

static bool use_plain(work *w)
{
    lk_generate_options o = a_dog(1);
    return open_model(w, 0, MODEL) && make(w, &o);
}

static bool use_unconditional(work *w)
{
    lk_generate_options o = a_dog(1);
    o.prompt = NULL;
    return open_model(w, 0, DDPM) && make(w, &o);
}

static int many_made(void *user, size_t i, lk_image *picture)
{
    lk_image **out = user;
    out[i] = picture;
    return 0;
}

/* Two pictures, together. */
static bool use_many(work *w)
{
    lk_generate_options o = a_dog(1);
    lk_many_options many;
    lk_job job;
    const lk_job *jobs[2] = {&job, &job};
    lk_job_defaults(&job);
    job.models = w->model;
    job.options = &o;
    lk_many_defaults(&many);
    many.made = many_made;
    many.user = w->picture;
    bool ok = open_model(w, 0, MODEL) && lk_generate_many(w->session, jobs, 2, &many, w->why) &&
              lk_image_save(w->picture[1], at[PICTURE], w->why);
    if (ok) add_picture(w, w->picture[1]);
    return ok;
}

/* From a picture, within a mask. */
static bool repaint(work *w, int path)
{
    lk_generate_options o = a_dog(2);
    o.strength = path == INPAINTING ? 1 : 0.5;
    bool ok = draw(&w->picture[1], w, false) && draw(&w->picture[2], w, true);
    o.init_image = w->picture[1];
    o.mask = w->picture[2];
    return ok && open_model(w, 0, path) && make(w, &o);
}

static bool use_mask(work *w) { return repaint(w, MODEL); }
static bool use_inpainting(work *w) { return repaint(w, INPAINTING); }

static void preview(void *user, lk_image *picture) { (void)user, (void)picture; }

/* Two passes, the second decoded in tiles, with sigmas and noise of other programs. */
static bool use_hires(work *w)
{
    lk_generate_options o = a_dog(2);
    o.hires = 2;
    o.hires_strength = 0.5;
    o.tile = true;
    o.rng = LK_RNG_CUDA;
    o.preview_steps = 1;
    o.preview = preview;
    return lk_sampler_choose(&o, "DPM++ SDE Karras", w->why) && open_model(w, 0, MODEL) &&
           make(w, &o);
}

/* What joins the networks: deep features kept, a ControlNet, a tiny autoencoder. */
static bool use_joined(work *w)
{
    lk_generate_options o = a_dog(2);
    lk_model_options m;
    lk_control c = {.scale = 0.5f};
    lk_model_defaults(&m);
    m.path = at[MODEL];
    m.taesd = FIXTURES "/model/taesd";
    o.deep_cache = 2;
    bool ok = draw(&w->picture[1], w, false) &&
              lk_controlnet_open(&w->control, w->context, at[CONTROL], w->why);
    c.net = w->control;
    c.picture = w->picture[1];
    o.controls = &c;
    o.control_count = 1;
    return ok && lk_model_open(&w->model[0], w->context, &m, w->why) && make(w, &o);
}

/* AUTOMATIC1111's signs, with a word of a textual inversion. */
static bool use_script(work *w)
{
    static const char prompt[] = "(a:1.3) word <lora:dog:0.8> BREAK [b:c:0.5] AND [d|e]:0.7";
    lk_generate_options o = a_dog(2);
    lk_model_options m;
    lk_embedding word = {at[TAUGHT_WORD], "word"};
    lk_prompt_lora *list = NULL;
    size_t count = 0;
    lk_model_defaults(&m);
    m.path = at[MODEL];
    m.embeddings = &word;
    m.embedding_count = 1;
    o.prompt = prompt;
    o.negative = "[f]";
    o.prompt_syntax = LK_PROMPT_A1111;
    bool ok = lk_prompt_loras(&list, &count, prompt, w->why) &&
              lk_model_open(&w->model[0], w->context, &m, w->why) && make(w, &o);
    lk_free(list);
    return ok;
}

/* A LoRA merged, and another beside the weights in mid-run. */
static bool use_loras(work *w)
{
    static const char *const models[] = {"base"}, *const loras[] = {"dog"};
    lk_generate_options o = a_dog(2);
    lk_model_options m;
    lk_lora merged = {at[EXTRACTED], 0.5f}, beside = {at[TAUGHT_LORA], 1};
    lk_schedule_variant *variant = NULL;
    char *schedule = NULL;
    int count = 0;
    lk_model_defaults(&m);
    m.path = at[MODEL];
    m.loras = &merged;
    m.lora_count = 1;
    bool ok = lk_schedule_variants(&schedule, &variant, &count, "base x1, base+0.8*dog rest",
                                   models, 1, loras, 1, w->why) &&
              lk_model_open(&w->model[0], w->context, &m, w->why);
    if (ok) {
        beside.weight = variant[0].weight[0];
        m.path = NULL;
        m.base = w->model[0];
        m.loras = &beside;
        ok = lk_model_open(&w->model[1], w->context, &m, w->why) &&
             lk_generate_mixed(&w->picture[0], w->session, w->model,
                               (const char *[]){"base", variant[0].name}, 2, schedule, &o,
                               w->why) &&
             lk_image_save(w->picture[0], at[PICTURE], w->why);
    }
    if (ok) add_picture(w, w->picture[0]);
    lk_free(variant);
    lk_free(schedule);
    return ok;
}

/* ---- uses: training ------------------------------------------------------------------------ */

/* An update on the pictures of the repository, with a checkpoint. */
static bool train(work *w, int output, lk_train_options *o)
{
    char path[96];
    snprintf(path, sizeof path, "%.*s", (int)(strrchr(at[output], '/') - at[output]), at[output]);
    o->instance_data_dir = SOURCE_DIR "/examples/subject";
    o->output_dir = path;
    o->train_batch_size = 1;
    o->resolution = 16; /* half the toy's own */
    o->max_train_steps = o->checkpointing_steps = 1;
    return open_model(w, 0, MODEL) && lk_train(w->session, w->model[0], o, w->why);
}

static bool use_train(work *w)
{
    lk_train_options o;
    lk_train_defaults(&o);
    o.instance_prompt = "a dog";
    o.train_text_encoder = true;
    return train(w, TAUGHT, &o);
}

static bool use_train_lora(work *w)
{
    lk_train_options o;
    lk_train_defaults(&o);
    o.instance_prompt = "a dog";
    o.train_text_encoder = true;
    o.lora_rank = 2;
    o.output_kohya_format = true;
    return train(w, TAUGHT_LORA, &o);
}

static bool use_train_word(work *w)
{
    lk_train_options o;
    lk_train_defaults(&o);
    o.textual_inversion = true;
    o.placeholder_token = "<new>";
    o.initializer_token = "a";
    o.num_vectors = 2;
    return train(w, TAUGHT_WORD, &o);
}

/* ---- uses: files --------------------------------------------------------------------------- */

/* Tensors of PyTorch's and ggml's files. */
static bool use_tensors(work *w)
{
    static const char *const file[] = {FIXTURES "/torch/zip.pt", FIXTURES "/torch/old.pt",
                                       FIXTURES "/torch/lightning.ckpt",
                                       FIXTURES "/gguf/types.gguf"};
    bool ok = true;
    for (int i = 0; i < 4 && ok; i++) {
        error e = {0};
        safetensors s;
        ok = tensors_open(&s, file[i], &e);
        if (ok) {
            for (size_t k = 0; k < s.count; k++) add_bytes(w, s.entry[k].data, s.entry[k].bytes);
            safetensors_close(&s);
        }
        w->why->code = (lk_code)e.code;
        memcpy(w->why->text, e.text, sizeof e.text);
    }
    return ok;
}

static bool use_single(work *w)
{
    lk_generate_options o = a_dog(1);
    lk_model_options m;
    char tokens[112];
    lk_model_defaults(&m);
    m.path = at[SINGLE];
    m.tokenizer = tokens;
    snprintf(tokens, sizeof tokens, "%s/tokenizer", at[MODEL]);
    return lk_model_open(&w->model[0], w->context, &m, w->why) && make(w, &o);
}

static bool use_convert(work *w)
{
    lk_save_options s;
    lk_save_defaults(&s);
    s.dtype = "f16";
    bool ok = open_model(w, 0, MODEL) &&
              lk_model_save(w->session, w->model[0], at[CONVERTED], &s, w->why);
    if (ok) add_file(w, at[CONVERTED]);
    return ok;
}

static bool use_extract(work *w)
{
    lk_model_options m;
    lk_extract_options x;
    lk_lora lora = {at[TAUGHT_LORA], 100};
    char *told = NULL;
    lk_model_defaults(&m);
    m.path = at[MODEL];
    m.loras = &lora;
    m.lora_count = 1;
    lk_extract_defaults(&x);
    x.rank = 1;
    bool ok = open_model(w, 0, MODEL) && lk_model_open(&w->model[1], w->context, &m, w->why) &&
              lk_lora_extract(w->session, w->model[0], w->model[1], at[EXTRACTED], &x, &told,
                              w->why);
    lk_free(told);
    if (ok) add_file(w, at[EXTRACTED]);
    return ok;
}

/* What is in a file, and a picture's settings taken apart. */
static bool use_inspect(work *w)
{
    static const int paths[] = {MODEL, SINGLE, TAUGHT_LORA, TAUGHT_WORD};
    lk_inspect_options i;
    lk_settings *s = NULL;
    lk_inspect_defaults(&i);
    i.threads = 1;
    bool ok = true;
    for (int k = 0; k < 4 && ok; k++) {
        char *text = NULL;
        ok = lk_inspect(&text, at[paths[k]], &i, w->why);
        if (ok) add_bytes(w, text, strlen(text));
        lk_free(text);
    }
    ok = ok && lk_settings_open(
                   &s, "a \"dog\"\nNegative prompt: b\nSteps: 2, Seed: 1, Extra: \"c, d\"", w->why);
    if (ok) add_bytes(w, lk_settings_get(s, "Extra"), 4);
    lk_settings_close(&s);
    return ok;
}

/* ---- all of them --------------------------------------------------------------------------- */

/* In this order, as some read what others left. leaves: the file that is there if, and only if, it
 * went well; PLACES: none. */
static const struct use {
    const char *name;
    bool (*run)(work *w);
    int leaves;
} uses[] = {
    {"a picture", use_plain, PICTURE},
    {"of a model without text", use_unconditional, PICTURE},
    {"two together", use_many, PICTURE},
    {"within a mask", use_mask, PICTURE},
    {"of an inpainting model", use_inpainting, PICTURE},
    {"enlarged, in tiles", use_hires, PICTURE},
    {"deep cache, ControlNet, TAESD", use_joined, PICTURE},
    {"a training", use_train, TAUGHT},
    {"of a LoRA", use_train_lora, TAUGHT_LORA},
    {"of a word", use_train_word, TAUGHT_WORD},
    {"AUTOMATIC1111's signs", use_script, PICTURE},
    {"a LoRA extracted", use_extract, EXTRACTED},
    {"LoRAs merged and beside", use_loras, PICTURE},
    {"a single file written", use_convert, CONVERTED},
    {"a single file read", use_single, PICTURE},
    {"files of tensors", use_tensors, PLACES},
    {"inspected", use_inspect, PLACES},
};

/* allocation: the one that fails; 0: none. */
static bool run(const struct use *u, long allocation, unsigned *sum, lk_error *why)
{
    work w = {.sum = 1, .why = why};
    *why = (lk_error){LK_OK, ""};
    allocations = 0;
    failing = allocation;
    bool ok = begin(&w) && u->run(&w);
    end(&w);
    failing = 0;
    *sum = w.sum;
    return ok;
}

static long run_failing(const struct use *u, long k, unsigned expected, bool *borne)
{
    unsigned sum;
    lk_error why;
    const char *left = u->leaves < PLACES ? at[u->leaves] : "";
    remove(left);
    bool ok = *borne = run(u, k, &sum, &why);
    bool whole = access(left, F_OK) == 0;
    const char *wrong = ok && sum != expected                      ? "something else came out"
                        : ok && *left && !whole                    ? "nothing was left"
                        : !ok && (why.code == LK_OK || !*why.text) ? "failed without a word"
                        : !ok && whole                             ? "failed, but left a file"
                                                                   : NULL;
    if (wrong) fprintf(stderr, "alloc_fail: %s: allocation %ld: %s\n", u->name, k, wrong);
    return wrong != NULL;
}

static bool run_all(const struct use *u)
{
    unsigned expected, sum;
    lk_error why;
    if (!run(u, 0, &expected, &why)) { /* also warms the libraries' caches */
        fprintf(stderr, "alloc_fail: %s, without any failure: %s\n", u->name, why.text);
        return false;
    }
    memset(fails_at, 0, sizeof fails_at);
    noting = true;
    run(u, 0, &sum, &why);
    noting = false;
    long total = allocations < MOST ? allocations : MOST - 1, runs = 0, borne = 0, wrong = 0;
    for (int i = 0; i < EVENLY; i++) fails_at[1 + (total - 1) * i / EVENLY] = true;
    for (long k = 1; k <= total; k++) {
        bool without;
        if (!fails_at[k]) continue;
        wrong += run_failing(u, k, expected, &without);
        borne += without;
        runs++;
    }
    printf("%s: %ld allocations, %ld failed in turn, %ld of them borne, %ld wrong\n", u->name,
           total, runs, borne, wrong);
    if (!run(u, 0, &sum, &why)) { /* what others read is there again */
        fprintf(stderr, "alloc_fail: %s, after all failures: %s\n", u->name, why.text);
        return false;
    }
    return wrong == 0;
}

int main(void)
{
    char command[128];
    error e = {0};
    unsigned sum;
    lk_error why;
    if (!mkdtemp(folder)) return 1;
    for (int i = 0; i < PLACES; i++) snprintf(at[i], sizeof at[i], "%s/%s", folder, place[i]);
    int status = 0;
    if (!toy_stable_diffusion(at[MODEL], &e) || !toy_unconditional(at[DDPM], &e) ||
        !toy_inpainting(at[INPAINTING], &e) || !toy_controlnet(at[CONTROL], &e)) {
        fprintf(stderr, "alloc_fail: the toy models: %s\n", e.text);
        status = 1;
    }
    if (!status && run(&(struct use){"", use_convert, PLACES}, 0, &sum, &why))
        status = rename(at[CONVERTED], at[SINGLE]);
    for (size_t i = 0; i < sizeof uses / sizeof *uses && status < 2; i++)
        if (!run_all(&uses[i])) status = 1;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) || status;
}
