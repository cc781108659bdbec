/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as what a PNG says of how it was made, read by likeness generate --like: its settings
 * become flags or are refused, and are compared with those of a picture made here. The command's
 * own files are linked; what it would print is looked at, and what it would make is a text. */
#include "fuzz.h"

#include <stdarg.h>
#include <string.h>

#include "cli/generate.h"

/* ---- what the command's other files would do ---- */

static bool said;

int fail(int status, const char *format, ...)
{
    char line[4096];
    va_list list;
    va_start(list, format);
    if (vsnprintf(line, sizeof line, format, list) < 1) abort();
    va_end(list);
    said = true;
    return status;
}

int fail_error(const lk_error *e)
{
    if (e->code == LK_OK || !*e->text) abort();
    return fail(STATUS_FAILED, "%s", e->text);
}

int no_memory(void) { return fail(STATUS_FAILED, "not enough memory"); }

char *text_format(const char *format, ...)
{
    char *text;
    va_list list;
    va_start(list, format);
    if (vasprintf(&text, format, list) < 0) abort();
    va_end(list);
    return text;
}

char *cell_settings(task *t, const cell *c)
{
    (void)t, (void)c;
    return strdup("a\nSteps: 2, Sampler: DDIM, Model hash: 0123456789, Model: pocket, Lora hashes: "
                  "\"dog: 0123456789ab, a, b: ba9876543210\", Lora weights: \"dog: 0.8, a, b: 1\", "
                  "ControlNet 0: \"Model: c, Weight: 1\", Version: likeness 0.1.0");
}

/* ---- the picture ---- */

static uint32_t check_sum(const uint8_t *data, size_t size)
{
    uint32_t sum = 0xffffffff;
    for (size_t i = 0; i < size; i++) {
        sum ^= data[i];
        for (int k = 0; k < 8; k++) sum = sum >> 1 ^ (sum & 1 ? 0xedb88320 : 0);
    }
    return ~sum;
}

static void put_number(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++) to[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* One grey pixel, and the bytes in an iTXt chunk. */
static fuzz_file as_png(const uint8_t *data, size_t size)
{
    static const uint8_t head[] = "\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\1\0\0\0\1\x08\0\0\0\0"
                                  "\x3a\x7e\x9b\x55",
                         text[] = "iTXtparameters\0\0\0\0",
                         tail[] = "\0\0\0\x0aIDAT\x78\x9c\x63\x60\0\0\0\2\0\1\x48\xaf\xa4\x71"
                                  "\0\0\0\0IEND\xae\x42\x60\x82";
    size_t before = sizeof head - 1, chunk = sizeof text + size,
           all = before + 8 + chunk + sizeof tail - 1;
    uint8_t *png = malloc(all), *at = png;
    if (!png) abort();
    memcpy(at, head, before);
    at += before;
    put_number(at, (uint32_t)(chunk - 4));
    memcpy(at += 4, text, sizeof text);
    memcpy(at + sizeof text, data, size);
    put_number(at + chunk, check_sum(at, chunk));
    memcpy(at + chunk + 4, tail, sizeof tail - 1);
    fuzz_file f = fuzz_open(png, all);
    free(png);
    return f;
}

/* ---- the command ---- */

enum { WORDS = 6 };

static int use(task *t, char *path)
{
    char *words[] = {"--like", path, "--lora", "dog=d.safetensors:0.5", "-m", "base=b"};
    int status = like_read(t, WORDS, words);
    if (status == STATUS_DONE) status = generate_flags_read(t, WORDS, words);
    if (status == STATUS_DONE) status = like_settle(t);
    if (status == STATUS_DONE) status = generate_flags_check(t);
    if (status == STATUS_DONE && t->seed_text) {
        lk_error why = {0};
        if (!lk_seeds_parse(&t->seeds, &t->seed_count, t->seed_text, &why))
            status = fail_error(&why);
    }
    if (status == STATUS_DONE) status = models_read(&t->models, t->schedule ? "--schedule" : NULL);
    if (status == STATUS_DONE && t->schedule)
        status = models_read_schedule(&t->models, t->schedule, &t->schedule_read);
    return status == STATUS_DONE ? like_check(t) : status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cell one = {0};
    task t = {.precision = "f32", .seed_text = NULL, .batch = 1, .cells = &one};
    lk_generate_defaults(&t.base);
    lk_context_defaults(&t.context_options);
    fuzz_file f = as_png(data, size < 1 << 16 ? size : 1 << 16);
    said = false;
    int status = use(&t, f.path);
    if (status != STATUS_DONE && !said) abort();
    fuzz_close(&f);
    lk_settings_close(&t.told);
    lk_free(t.seeds);
    lk_free(t.schedule_read);
    free(t.prompts.item);
    free(t.rest.item);
    models_close(&t.models);
    return 0;
}
