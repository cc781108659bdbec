/* SPDX-License-Identifier: Apache-2.0
 *
 * alloc_fail: a model is opened, a picture made and saved, or a subject trained, with the k-th
 * allocation failing, for k = 1, 2, ... Each run must end in an error, or do without and make the
 * same picture; it must neither crash nor (as the sanitized build sees) leak. Linked with --wrap
 * for every function that gives memory; what shared libraries allocate inside is theirs and does
 * not fail. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/platform.h"
#include "likeness.h"
#include "toy.h"

enum { EVERY_ONE = 400 };        /* so many allocations fail one by one; then a sample */
static const double budget = 30; /* seconds */

static long allocations, failing; /* failing: which one; 0: none */

static bool fails(void)
{
    long n = __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
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

/* One whole use of the library. *sum: of the picture's bytes. */
static bool use(const char *model_path, const char *image_path, const char *prompt, unsigned *sum,
                lk_error *why)
{
    lk_context_options c;
    lk_model_options m;
    lk_generate_options o;
    lk_context *context = NULL;
    lk_session *session = NULL;
    lk_model *opened = NULL;
    lk_image *picture = NULL;
    lk_context_defaults(&c);
    c.threads = 1;
    lk_model_defaults(&m);
    m.path = model_path;
    lk_generate_defaults(&o);
    o.prompt = prompt;
    o.steps = 1;
    bool ok = lk_context_open(&context, &c, why) && lk_session_open(&session, context, NULL, why) &&
              lk_model_open(&opened, context, &m, why) &&
              lk_generate(&picture, session, opened, &o, why) &&
              lk_image_save(picture, image_path, why);
    *sum = 1;
    for (int i = 0; ok && i < lk_image_width(picture) * lk_image_height(picture) * 3; i++)
        *sum = *sum * 31 + lk_image_pixels(picture)[i];
    lk_image_close(&picture);
    lk_model_close(&opened);
    lk_session_close(&session);
    lk_context_close(&context);
    return ok;
}

static int many_made(void *user, size_t i, lk_image *picture)
{
    lk_image **out = user;
    out[i] = picture;
    return 0;
}

/* Two pictures, together. */
static bool use_many(const char *model_path, const char *image_path, const char *prompt,
                     unsigned *sum, lk_error *why)
{
    lk_context_options c;
    lk_model_options m;
    lk_generate_options o;
    lk_many_options many;
    lk_job job;
    lk_context *context = NULL;
    lk_session *session = NULL;
    lk_model *opened = NULL;
    lk_image *picture[2] = {NULL, NULL};
    const lk_job *jobs[2] = {&job, &job};
    lk_context_defaults(&c);
    c.threads = 1;
    lk_model_defaults(&m);
    m.path = model_path;
    lk_generate_defaults(&o);
    o.prompt = prompt;
    o.steps = 1;
    lk_job_defaults(&job);
    job.models = &opened;
    job.options = &o;
    lk_many_defaults(&many);
    many.made = many_made;
    many.user = picture;
    bool ok = lk_context_open(&context, &c, why) && lk_session_open(&session, context, NULL, why) &&
              lk_model_open(&opened, context, &m, why) &&
              lk_generate_many(session, jobs, 2, &many, why) &&
              lk_image_save(picture[1], image_path, why);
    *sum = 1;
    for (int i = 0; ok && i < lk_image_width(picture[1]) * lk_image_height(picture[1]) * 3; i++)
        *sum = *sum * 31 + lk_image_pixels(picture[1])[i];
    lk_image_close(&picture[0]);
    lk_image_close(&picture[1]);
    lk_model_close(&opened);
    lk_session_close(&session);
    lk_context_close(&context);
    return ok;
}

/* One whole training: an update on the pictures of the repository, with a checkpoint. */
static bool use_train(const char *model_path, const char *output, const char *prompt, unsigned *sum,
                      lk_error *why)
{
    lk_context_options c;
    lk_model_options m;
    lk_train_options o;
    lk_context *context = NULL;
    lk_session *session = NULL;
    lk_model *opened = NULL;
    char folder[128];
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(output, '/') - output), output);
    lk_context_defaults(&c);
    c.threads = 1;
    lk_model_defaults(&m);
    m.path = model_path;
    lk_train_defaults(&o);
    o.instance_data_dir = SOURCE_DIR "/examples/subject";
    o.instance_prompt = prompt;
    o.output_dir = folder;
    o.train_batch_size = 1;
    o.max_train_steps = o.checkpointing_steps = 1;
    o.train_text_encoder = true;
    *sum = 1;
    bool ok = lk_context_open(&context, &c, why) && lk_session_open(&session, context, NULL, why) &&
              lk_model_open(&opened, context, &m, why) && lk_train(session, opened, &o, why);
    lk_model_close(&opened);
    lk_session_close(&session);
    lk_context_close(&context);
    return ok;
}

typedef bool use_function(const char *, const char *, const char *, unsigned *, lk_error *);

/* picture: the file that is there if, and only if, it went well. */
static int run_all(use_function *use_it, const char *folder, const char *picture,
                   const char *prompt)
{
    unsigned expected, sum;
    lk_error why = {LK_OK, ""};
    if (!use_it(folder, picture, prompt, &expected, &why)) { /* also warms the libraries' caches */
        fprintf(stderr, "alloc_fail: without any failure: %s\n", why.text);
        return 1;
    }
    allocations = 0;
    double start = clock_seconds();
    use_it(folder, picture, prompt, &sum, &why);
    double one = clock_seconds() - start;
    long total = allocations, step = 1, runs = 0, borne = 0, wrong = 0;
    if (one * (double)total > budget / 2) step = (long)(one * (double)total / (budget / 2)) + 1;
    for (long k = 1; k <= total; k += k < EVERY_ONE ? 1 : step, runs++) {
        why = (lk_error){LK_OK, ""};
        remove(picture);
        allocations = 0;
        failing = k;
        bool ok = use_it(folder, picture, prompt, &sum, &why);
        failing = 0;
        bool whole = access(picture, F_OK) == 0;
        borne += ok;
        if (ok ? sum != expected : why.code == LK_OK || !*why.text || whole) {
            fprintf(stderr, "alloc_fail: allocation %ld of %ld: %s\n", k, total,
                    ok      ? "another picture"
                    : whole ? "failed, but left a picture"
                            : "failed without a word");
            wrong++;
        }
    }
    printf("%s: %ld allocations, %ld failed in turn, %ld of them borne, %ld wrong; %.1f s\n",
           folder, total, runs, borne, wrong, clock_seconds() - start);
    return wrong != 0;
}

int main(void)
{
    char folder[] = "/tmp/likeness-alloc-XXXXXX", path[4][64], command[128];
    error e = {0};
    if (!mkdtemp(folder)) return 1;
    const char *const name[4] = {"model", "ddpm", "picture.png", "taught/model_index.json"};
    for (int i = 0; i < 4; i++) snprintf(path[i], sizeof path[i], "%s/%s", folder, name[i]);
    int status = 1;
    if (toy_stable_diffusion(path[0], &e) && toy_unconditional(path[1], &e))
        status = run_all(use, path[0], path[2], "a dog") | run_all(use, path[1], path[2], NULL) |
                 run_all(use_many, path[0], path[2], "a dog") |
                 run_all(use_train, path[0], path[3], "a dog");
    else
        fprintf(stderr, "alloc_fail: the toy models: %s\n", e.text);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) || status;
}
