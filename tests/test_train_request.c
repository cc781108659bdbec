/* SPDX-License-Identifier: Apache-2.0
 *
 * The text of a training's request: it changes with what changes the trained weights, with nothing
 * else, and not by the training. */
#include "support.h"

#include "base/platform.h"
#include "train/class_images.h"
#include "train/describe.h"
#include "train/request.h"

static char photos[600], class_folder[600];

static void put_file(const char *folder, const char *name, const char *content)
{
    error e = {0};
    char *path = path_join(folder, name);
    assert_non_null(path);
    if (!path_make_dir(folder, &e) || !file_write(path, content, strlen(content), &e))
        fail_msg("%s", e.text);
    free(path);
}

static int setup(void **state)
{
    (void)state;
    snprintf(photos, sizeof photos, "%s/photos", scratch_dir());
    snprintf(class_folder, sizeof class_folder, "%s/class", scratch_dir());
    put_file(photos, "a.png", "the first");
    put_file(photos, "b.png", "the second");
    put_file(photos, "notes.txt", "no picture");
    return 0;
}

static train_settings settings(void)
{
    train_settings s;
    train_settings_defaults(&s);
    s.instance_data_dir = photos;
    s.instance_prompt = "a photo of sks dog";
    s.class_data_dir = class_folder;
    s.class_prompt = "a photo of dog";
    s.num_class_images = 4;
    s.output_dir = "out";
    s.max_train_steps = 100;
    return s;
}

/* malloc'ed */
static char *text_with(const train_settings *s, const char *base, const char *precision)
{
    char *text = NULL;
    error e = {0};
    train_request r = {.settings = s,
                       .model = base,
                       .precision = precision,
                       .resolution = 512,
                       .class_maker = "Steps: 25, Sampler: DDIM",
                       .class_model = "aaaa"};
    if (!train_request_text(&text, &r, &e)) fail_msg("%s", e.text);
    assert_null(strchr(text, '\n'));
    return text;
}

static bool same(const train_settings *a, const train_settings *b)
{
    char *x = text_with(a, "base", "no"), *y = text_with(b, "base", "no");
    bool equal = strcmp(x, y) == 0;
    free(x);
    free(y);
    return equal;
}

/* Whether the text differs when the one field does. */
#define CHANGES(base, field, value)                                                                \
    do {                                                                                           \
        train_settings other = base;                                                               \
        other.field = value;                                                                       \
        if (same(&base, &other)) fail_msg("%s changes the weights, and not the request", #field);  \
    } while (0)
#define KEEPS(base, field, value)                                                                  \
    do {                                                                                           \
        train_settings other = base;                                                               \
        other.field = value;                                                                       \
        if (!same(&base, &other))                                                                  \
            fail_msg("%s does not change the weights, but the request", #field);                   \
    } while (0)

static void test_settings(void **state)
{
    (void)state;
    train_settings s = settings();
    CHANGES(s, learning_rate, 5.0000001e-6);
    CHANGES(s, instance_prompt, "a photo of a sks dog");
    CHANGES(s, seed, 1);
    CHANGES(s, max_train_steps, 101);
    CHANGES(s, train_text_encoder, true);
    CHANGES(s, optimizer, OPTIMIZER_ADAMW_8BIT);
    CHANGES(s, lr_scheduler, RATE_COSINE);
    CHANGES(s, offset_noise, true);
    CHANGES(s, with_prior_preservation, true);
    CHANGES(s, resolution, 256);
    KEEPS(s, resolution, 512); /* the model's own */
    KEEPS(s, output_dir, "elsewhere");
    KEEPS(s, validation_prompt, "a dog");
    KEEPS(s, validation_steps, 7);
    KEEPS(s, checkpointing_steps, 7);
    KEEPS(s, checkpoints_total_limit, 7);
    KEEPS(s, resume_from_checkpoint, "latest");
    KEEPS(s, cache_latents, false);
    KEEPS(s, gradient_checkpointing, true);
    KEEPS(s, num_train_epochs, 7);
    KEEPS(s, lr_warmup_steps, 7);
    KEEPS(s, lr_power, 2);
    KEEPS(s, offset_noise_factor, .2);
    KEEPS(s, class_prompt, "a dog");
    KEEPS(s, num_class_images, 7);
    KEEPS(s, prior_loss_weight, .5);
    CHANGES(s, lora_rank, 4);
    KEEPS(s, lora_alpha, 2);
    KEEPS(s, learning_rate, 5e-6); /* the default */
    KEEPS(s, output_kohya_format, true);
    CHANGES(s, textual_inversion, true);
    KEEPS(s, placeholder_token, "<dog>");
    KEEPS(s, num_vectors, 2);
    KEEPS(s, repeats, 2);
    /* trainings of all weights keep the names that they had before there were LoRAs */
    char *text = text_with(&s, "base", "no");
    assert_null(strstr(text, "lora"));
    assert_null(strstr(text, "inversion"));
    free(text);
    s.lora_rank = 4;
    CHANGES(s, lora_rank, 8);
    CHANGES(s, lora_alpha, 2);
    CHANGES(s, learning_rate, 5e-6);
    KEEPS(s, learning_rate, 5e-4); /* the defaults */
    KEEPS(s, lora_alpha, 4);
    s.lora_rank = 0;
    s.textual_inversion = true;
    CHANGES(s, placeholder_token, "<dog>");
    CHANGES(s, initializer_token, "dog");
    CHANGES(s, learnable_property, "style");
    KEEPS(s, learnable_property, "object"); /* the default */
    CHANGES(s, num_vectors, 2);
    CHANGES(s, repeats, 2);
    s.textual_inversion = false;
    s.max_train_steps = 0;
    CHANGES(s, num_train_epochs, 7);
    s.lr_scheduler = RATE_POLYNOMIAL;
    CHANGES(s, lr_warmup_steps, 7);
    CHANGES(s, lr_power, 2);
    KEEPS(s, lr_num_cycles, 2);
    s.offset_noise = true;
    CHANGES(s, offset_noise_factor, .2);
    s.with_prior_preservation = true;
    CHANGES(s, class_prompt, "a dog");
    CHANGES(s, num_class_images, 7);
    CHANGES(s, prior_loss_weight, .5);
    CHANGES(s, prior_from_base, true);
    s.prior_from_base = true;
    KEEPS(s, num_class_images, 7);
    KEEPS(s, with_prior_preservation, false);
}

static void test_surroundings(void **state)
{
    (void)state;
    train_settings s = settings(), moved = s;
    char *plain = text_with(&s, "base", "no"), *other = text_with(&s, "another", "no");
    assert_string_not_equal(plain, other);
    free(other);
    other = text_with(&s, "base", "bf16");
    assert_string_not_equal(plain, other);
    free(other);
    free(plain);
    /* the same bytes in the same order elsewhere, and beside other files */
    char folder[620];
    snprintf(folder, sizeof folder, "%s-moved", photos);
    moved.instance_data_dir = folder;
    put_file(folder, "1.jpg", "the first");
    put_file(folder, "2.jpg", "the second");
    assert_true(same(&s, &moved));
    put_file(folder, "2.jpg", "the secone");
    assert_false(same(&s, &moved));
}

static bool fake_make(void *user, const image_order *order, image *out, char **text, error *e)
{
    uint64_t seed = order->seed;
    const char *precision = user;
    *text = string_format("a dog\nSteps: 25, Sampler: DDIM, Seed: 1%s", precision);
    if (!*text) return false;
    if (!image_new(out, 8, 8, e)) return false;
    memset(out->pixels, (int)(seed % 251), 8 * 8 * 3);
    return true;
}

/* What the training itself puts into the class folder, all of it or a part, changes nothing; what
 * somebody else puts there does. */
static void test_class_images(void **state)
{
    (void)state;
    train_settings s = settings();
    s.with_prior_preservation = true;
    char *before = text_with(&s, "base", "no");
    class_request r = {
        .folder = class_folder, .prompt = s.class_prompt, .seed = s.seed, .model_hash = "aaaa"};
    image_maker maker = {fake_make, (void *)""};
    for (r.wanted = 2; r.wanted <= 4; r.wanted += 2) {
        int made;
        char *warning = NULL;
        error e = {0};
        if (!class_images_make(&r, NULL, &maker, &made, &warning, &e)) fail_msg("%s", e.text);
        assert_int_equal(made, 2);
        assert_null(warning);
        char *now = text_with(&s, "base", "no");
        assert_string_equal(before, now);
        free(now);
    }
    put_file(class_folder, "class-0001.png", "another in its place");
    char *changed = text_with(&s, "base", "no");
    assert_string_not_equal(before, changed);
    free(changed);
    s.class_prompt = "a dog"; /* for which none of these was made */
    changed = text_with(&s, "base", "no");
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "class-%04d.png", i);
        assert_non_null(strstr(changed, name));
    }
    free(changed);
    free(before);
}

/* Class pictures are those of a training in the precision that they were made in alone. */
static void test_class_precision(void **state)
{
    (void)state;
    static const char *const told[] = {"", ", Precision: f16, X: y", ", Precision: bf16"},
                             *const precision[] = {"no", "fp16", "bf16"};
    train_settings s = settings();
    s.with_prior_preservation = true;
    for (int made = 0; made < 3; made++) {
        char folder[640];
        error e = {0};
        snprintf(folder, sizeof folder, "%s-%s", class_folder, precision[made]);
        class_request r = {.folder = folder,
                           .prompt = s.class_prompt,
                           .seed = s.seed,
                           .model_hash = "aaaa",
                           .wanted = 1};
        image_maker maker = {fake_make, (void *)(uintptr_t)told[made]};
        char *warning = NULL;
        int count;
        if (!class_images_make(&r, NULL, &maker, &count, &warning, &e)) fail_msg("%s", e.text);
        s.class_data_dir = folder;
        for (int asked = 0; asked < 3; asked++) {
            char *text = text_with(&s, "base", precision[asked]);
            if (!strstr(text, "class-0000.png") != (made == asked))
                fail_msg("made in %s, asked for in %s: %s", precision[made], precision[asked],
                         text);
            free(text);
        }
    }
}

/* Two names that are not UTF-8 stay two. */
static void test_names(void **state)
{
    (void)state;
    static const char *const pair[][2] = {
        {"hund.png", "hund.png"},        {"\xe7\x8c\xab.png", "\xe7\x8c\xab.png"},
        {"caf\xe9.png", "caf\\xe9.png"}, {"caf\\xe9.png", "caf\\\\xe9.png"},
        {"\xe7\x8c", "\\xe7\\x8c"},      {"\xed\xa0\x80", "\\xed\\xa0\\x80"}};
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
        char *name = describe_name(pair[i][0]);
        assert_string_equal(name, pair[i][1]);
        free(name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings),     cmocka_unit_test(test_surroundings),
        cmocka_unit_test(test_class_images), cmocka_unit_test(test_class_precision),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
