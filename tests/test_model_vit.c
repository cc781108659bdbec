/* SPDX-License-Identifier: Apache-2.0
 *
 * The towers that look at pictures against transformers' (tests/fixtures/model/vit.txt): a wave of
 * pixels, a picture through its processor, prompts; and folders that are refused. */
#include "foreign.h"
#include "layout.h"

#include "model/vit.h"

static char room[64];

static int open_room(void **state)
{
    (void)state;
    strcpy(room, "/tmp/likeness-vit-XXXXXX");
    return mkdtemp(room) ? 0 : -1;
}

static int close_room(void **state)
{
    (void)state;
    layout_shell("rm -rf '%s'", room);
    return 0;
}

static bool scattered(safetensors_entry *entry, void *data)
{
    fill_scattered(data, entry->name, entry->rank, entry->dim);
    return true;
}

static bool in_half(safetensors_entry *entry, void *data)
{
    size_t n = (size_t)product(entry->rank, entry->dim);
    float *values = malloc(n * sizeof *values);
    fill_scattered(values, entry->name, entry->rank, entry->dim);
    convert_from_float(data, entry->type = DTYPE_F16, values, n);
    free(values);
    return true;
}

static const char *folder_of(const char *name, layout_edit *edit)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", room, name);
    layout_shell("rm -rf '%s'", path);
    layout_write(path, name, false, edit);
    return path;
}

static vit *open_tower(device *d, const char *folder)
{
    vit *v;
    error e = {0};
    check(vit_open(&v, d, folder, &e), &e);
    return v;
}

/* The values of the line that begins with these two words; their number. */
static int wanted(const char *name, const char *what, float *out)
{
    char line[4096], head[64];
    int n = 0;
    FILE *f = fopen(fixture_path("model/vit.txt"), "r");
    assert_non_null(f);
    snprintf(head, sizeof head, "%s %s ", name, what);
    while (!n && fgets(line, sizeof line, f)) {
        if (strncmp(line, head, strlen(head))) continue;
        for (char *p = strtok(line + strlen(head), " "); p; p = strtok(NULL, " "))
            out[n++] = strtof(p, NULL);
    }
    fclose(f);
    assert_true(n > 0);
    return n;
}

/* Relative to the largest. */
static double distance(const char *name, const char *what, const float *is, int width)
{
    float should[64];
    double worst = 0, largest = 0;
    assert_int_equal(wanted(name, what, should), width);
    for (int i = 0; i < width; i++) {
        worst = fmax(worst, fabs((double)is[i] - should[i]));
        largest = fmax(largest, fabs(should[i]));
    }
    return worst / largest;
}

static void close_to(const char *name, const char *what, const float *is, int width, double bound)
{
    double is_off = distance(name, what, is, width);
    if (!(is_off < bound)) fail_msg("%s of %s is off by %.2g", what, name, is_off);
}

/* A wave of pixels, in PyTorch's order. */
static float *wave_pixels(int size)
{
    int64_t area = (int64_t)size * size;
    float *x = malloc((size_t)area * 3 * sizeof *x);
    for (int64_t i = 0; i < area; i++)
        for (int64_t k = 0; k < 3; k++) x[i * 3 + k] = (float)cos(0.21 * (double)(k * area + i));
    return x;
}

static void tower(const char *name, vit_kind kind, int width, int size, layout_edit *edit,
                  double bound)
{
    error e = {0};
    device *d;
    image scene;
    float out[64];
    check(device_open(&d, test_device(), &(device_options){.threads = 2}, &e), &e);
    vit *v = open_tower(d, folder_of(name, edit));
    assert_int_equal(vit_kind_of(v), kind);
    assert_int_equal(vit_width(v), width);
    assert_int_equal(vit_input_size(v), size);
    float *pixels = wave_pixels(size);
    check(vit_embed_pixels(v, pixels, out, &e), &e);
    close_to(name, "pixels", out, width, bound);
    check(image_read(&scene, NULL, fixture_path("image/scene.png"), &e), &e);
    check(vit_embed(v, &scene, out, &e), &e);
    close_to(name, "picture", out, width, bound);
    assert_true(distance(name, "pixels", out, width) > 0.05); /* it does depend on the picture */
    check(vit_embed_pixels(v, pixels, out, &e), &e);
    close_to(name, "pixels", out, width, bound);
    image_free(&scene);
    free(pixels);
    vit_close(&v);
    device_close(&d);
}

static void clip_image(void **state)
{
    (void)state;
    tower("clip", VIT_CLIP, 10, 32, scattered, 1e-4);
}

static void dino(void **state)
{
    (void)state;
    tower("dino", VIT_DINO, 24, 32, scattered, 1e-4);
}

static void dinov2(void **state)
{
    (void)state;
    tower("dinov2", VIT_DINOV2, 24, 36, scattered, 1e-4);
}

static void weights_in_half(void **state)
{
    (void)state;
    tower("dinov2", VIT_DINOV2, 24, 36, in_half, 1e-2);
}

static void clip_text(void **state)
{
    static const char *const prompts[] = {"a dog", "cat", "", "a dog and a cat and another dog"};
    error e = {0};
    device *d;
    float out[10];
    (void)state;
    check(device_open(&d, test_device(), &(device_options){.threads = 2}, &e), &e);
    vit *v = open_tower(d, folder_of("clip", scattered));
    for (int i = 0; i < 4; i++) {
        char what[16];
        snprintf(what, sizeof what, "prompt%d", i);
        check(vit_embed_text(v, prompts[i], out, &e), &e);
        close_to("clip", what, out, 10, 1e-4);
    }
    vit_close(&v);
    device_close(&d);
}

/* A weight as large as all others, and one that is missing. */
static bool without_norm(safetensors_entry *entry, void *data)
{
    (void)data;
    return strcmp(entry->name, "layernorm.bias") != 0;
}

static void refused(const char *folder, const char *const *words, int count)
{
    error e = {0};
    device *d;
    vit *v;
    check(device_open(&d, test_device(), &(device_options){.threads = 1}, &e), &e);
    assert_false(vit_open(&v, d, folder, &e));
    assert_null(v);
    for (int i = 0; i < count; i++)
        if (!strstr(e.text, words[i])) fail_msg("\"%s\" does not say \"%s\"", e.text, words[i]);
    device_close(&d);
}

static void what_is_refused(void **state)
{
    (void)state;
    refused(room, (const char *[]){"config.json"}, 1);
    refused(folder_of("dino", without_norm), (const char *[]){"layernorm.bias"}, 1);
    const char *folder = folder_of("dino", scattered);
    layout_shell("sed -i 's/\"model_type\":\"vit\"/\"model_type\":\"swin\"/' '%s'/config.json",
                 folder);
    refused(folder, (const char *[]){"swin", "dinov2"}, 2);
    folder = folder_of("dinov2", scattered);
    layout_shell("sed -i 's/\"use_swiglu_ffn\":false/\"use_swiglu_ffn\":true/' '%s'/config.json",
                 folder);
    refused(folder, (const char *[]){"use_swiglu_ffn"}, 1);
    folder = folder_of("clip", scattered);
    layout_shell("sed -i 's/\"height\":32,\"width\":32/\"height\":24,\"width\":24/' "
                 "'%s'/preprocessor_config.json",
                 folder);
    refused(folder, (const char *[]){"24", "32"}, 2);
    folder = folder_of("clip", scattered);
    layout_shell("sed -i 's/\"resample\":3/\"resample\":4/' '%s'/preprocessor_config.json", folder);
    refused(folder, (const char *[]){"resample"}, 1);
    folder = folder_of("clip", scattered);
    layout_shell("rm '%s'/tokenizer.json", folder);
    refused(folder, (const char *[]){"token"}, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(clip_image, open_room, close_room),
        cmocka_unit_test_setup_teardown(clip_text, open_room, close_room),
        cmocka_unit_test_setup_teardown(dino, open_room, close_room),
        cmocka_unit_test_setup_teardown(dinov2, open_room, close_room),
        cmocka_unit_test_setup_teardown(weights_in_half, open_room, close_room),
        cmocka_unit_test_setup_teardown(what_is_refused, open_room, close_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
