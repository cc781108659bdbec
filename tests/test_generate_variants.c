/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of LoRAs in schedules: the models that a text asks for; that one beside the weights is, bit
 * for bit, one merged into them; and that a device has twice only what differs. */
#include "foreign.h"
#include "support.h"

#include <math.h>

#include "file/safetensors.h"
#include "generate/generate.h"
#include "generate/variants.h"
#include "model/lora.h"
#include "toy.h"

static const char *const models[] = {"base", "tuned"};
static const char *const loras[] = {"dog", "style"};
static const variant_names names = {models, 2, loras, 2};

/* ---- syntax -------------------------------------------------------------------------------- */

static void check(bool ok, const error *e)
{
    if (!ok) fail_msg("%s", e->text);
}

static int read_one(const char *text, const char *wanted, variant **list)
{
    char *schedule;
    int count;
    error e = {0};
    check(variants_read(&schedule, list, &count, text, &names, &e), &e);
    assert_string_equal(schedule, wanted);
    free(schedule);
    return count;
}

static void forms(void **state)
{
    (void)state;
    variant *v;
    assert_int_equal(read_one("base x15, tuned rest", "base x15, tuned rest", &v), 0);
    assert_null(v);
    /* what is no name stays as it is, for mix_parse to say so */
    assert_int_equal(
        read_one("base+0.8*dogs x3, base|cat rest", "base+0.8*dogs x3, base|cat rest", &v), 0);
    assert_int_equal(read_one("base x15,base+.8*dog rest", "base x15, base+0.8*dog rest", &v), 1);
    assert_string_equal(v[0].name, "base+0.8*dog");
    assert_int_equal(v[0].model, 0);
    assert_int_equal(v[0].loras, 1);
    assert_int_equal(v[0].lora[0], 0);
    assert_true(v[0].weight[0] == 0.8f);
    free(v);
    /* a LoRA is the model's before it; models add up by their own weights */
    assert_int_equal(read_one("0.5*base + 0.5 * tuned + style+-1*dog x2, base+dog|base",
                              "0.5*base+0.5*tuned+style+-1*dog x2, base+dog|base", &v),
                     2);
    assert_string_equal(v[0].name, "tuned+style+-1*dog");
    assert_int_equal(v[0].model, 1);
    assert_int_equal(v[0].loras, 2);
    assert_int_equal(v[0].lora[0], 1);
    assert_true(v[0].weight[0] == 1 && v[0].weight[1] == -1);
    assert_string_equal(v[1].name, "base+dog");
    free(v);
    assert_int_equal(
        read_one("base+0.8*dog x2, base+0.80*dog rest", "base+0.8*dog x2, base+0.8*dog rest", &v),
        1);
    free(v);
    /* what else is wrong stays for who reads the schedule */
    assert_int_equal(read_one("nobody x2, base", "nobody x2, base", &v), 0);
    assert_int_equal(read_one("", "", &v), 0);
}

/* The schedule's reader takes the longest name. */
static void in_a_mix(void **state)
{
    (void)state;
    static const char *const all[] = {"base", "base+0.8*dog", "base+0.8*dog+0.5*style"};
    mix m;
    error e = {0};
    check(mix_parse(&m, "base x1, 0.5*base+0.8*dog+0.5*base x1, base+0.8*dog+0.5*style rest", all,
                    3, 4, &e),
          &e);
    assert_int_equal(m.step[0].model[0], 0);
    assert_int_equal(m.step[1].terms, 2);
    assert_int_equal(m.step[1].model[0], 1);
    assert_true(m.step[1].share[0] == 0.5f);
    assert_int_equal(m.step[1].model[1], 0);
    assert_int_equal(m.step[2].model[0], 2);
    char *text = mix_text(&m, all);
    assert_string_equal(text, "base x1, 0.5*base+0.8*dog+0.5*base x1, base+0.8*dog+0.5*style x2");
    free(text);
    mix_close(&m);
    assert_false(mix_parse(&m, "base+0.8*dogs", all, 3, 4, &e)); /* no LoRA of that name */
}

static void wrong(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"0.8*dog", "has where a model should be the LoRA dog"},
        {"base|dog", "has where a model should be the LoRA dog"},
        {"base+dog+0.5*dog", "adds to one model twice the LoRA dog"},
        {"base+1e60*dog", "has a weight that is no number for dog"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *schedule;
        variant *list;
        int count;
        error e = {0};
        assert_false(variants_read(&schedule, &list, &count, cases[i].text, &names, &e));
        assert_int_equal(e.code, ERROR_USAGE);
        if (!strstr(e.text, cases[i].says)) fail_msg("%s: %s", cases[i].text, e.text);
        assert_null(schedule);
        assert_null(list);
    }
}

static void allocations(void **state)
{
    (void)state;
    if (!allocation_can_fail()) skip();
    bool struck = true;
    for (int n = 0; struck; n++) {
        char *schedule;
        variant *list;
        int count;
        error e = {0};
        allocation_fail_at(n);
        bool ok = variants_read(&schedule, &list, &count, "base+dog x1, tuned+0.5*style", &names,
                                &e);
        struck = allocation_fail_end();
        assert_true(ok || (struck && e.code == ERROR_MEMORY && !schedule && !list));
        free(schedule);
        free(list);
    }
}

/* ---- weights ------------------------------------------------------------------------------- */

#define QUERY "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"

static char toy_path[300], lora_path[300];
static device *d;

static void write_lora(void)
{
    static float down[4 * 32], up[32 * 4];
    fill_random(down, 4 * 32, 1);
    fill_random(up, 32 * 4, 2);
    const char *key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q";
    char name[2][160];
    snprintf(name[0], sizeof name[0], "%s.lora_down.weight", key);
    snprintf(name[1], sizeof name[1], "%s.lora_up.weight", key);
    const safetensors_entry parts[] = {
        {.name = name[0], .rank = 2, .dim = {4, 32}, .data = down, .bytes = sizeof down},
        {.name = name[1], .rank = 2, .dim = {32, 4}, .data = up, .bytes = sizeof up},
    };
    error e = {0};
    check(safetensors_write(lora_path, parts, 2, NULL, 0, &e), &e);
}

static void change(model *m)
{
    error e = {0};
    char *notes = NULL;
    const lora_choice dog = {lora_path, 0.8f};
    check(model_add_loras(m, &dog, 1, NULL, &notes, &e), &e);
    assert_null(notes);
}

static image picture_of(generator *const *g, const mix *m)
{
    generate_result r;
    error e = {0};
    generate_options o = {.prompt = "a dog", .seed = 5, .guidance = 3};
    o.sampler = (sampler_options){.kind = SAMPLER_DDIM, .steps = 4};
    check(generator_run_mixed(g, 2, m, &o, &r, &e), &e);
    image out = r.picture;
    r.picture = (image){0};
    generate_result_free(&r);
    return out;
}

static void beside(void **state)
{
    (void)state;
    error e = {0};
    model *base, *merged, *derived, *again;
    check(model_open(&base, toy_path, NULL, NULL, &e), &e);
    check(model_open(&merged, toy_path, NULL, NULL, &e), &e);
    change(merged);
    check(model_derive(&derived, base, &e), &e);
    change(derived);
    assert_int_equal(derived->copied, 32 * 32 * 4);
    size_t differ = 0;
    for (size_t i = 0; i < base->unet_weights.count; i++)
        differ += derived->unet_weights.item[i].data != base->unet_weights.item[i].data;
    assert_int_equal(differ, 1);
    assert_true(weight_find(&derived->unet_weights, QUERY)->data !=
                weight_find(&base->unet_weights, QUERY)->data);
    /* LoRAs add up from model to model, and in what a picture says */
    check(model_derive(&again, derived, &e), &e);
    change(again);
    assert_non_null(strstr(again->lora_weights, "dog: 0.8, dog: 0.8"));
    model_close(&again);

    const mix_step one = {.terms = 1, .model = {0}, .share = {1}},
                   other = {.terms = 1, .model = {1}, .share = {1}};
    mix m = {(mix_step[]){one, one, other, other}, 4};
    generator *turns[2], *wanted[2];
    check(generator_open(&turns[0], d, base, &e), &e);
    check(generator_open(&turns[1], d, derived, &e), &e);
    image a = picture_of(turns, &m);
    device_weights *own, *below;
    check(device_weights_open(d, &derived->unet_weights, &own, &e), &e);
    check(device_weights_open(d, &base->unet_weights, &below, &e), &e);
    assert_ptr_equal(own->below, below);
    const weight *w = weight_find(&derived->unet_weights, QUERY);
    size_t most = device_copy_bytes(d, w, WEIGHT_READ), all = 0;
    for (size_t i = 0; i < base->unet_weights.count; i++)
        all += device_copy_bytes(d, &base->unet_weights.item[i], WEIGHT_READ);
    assert_true(device_weights_bytes(own) <= most + 4096);
    assert_true(most < all);
    device_weights_close(&own);
    device_weights_close(&below);
    generator_close(&turns[0]);
    generator_close(&turns[1]);
    check(generator_open(&wanted[0], d, base, &e), &e);
    check(generator_open(&wanted[1], d, merged, &e), &e);
    image b = picture_of(wanted, &m);
    m.step[2] = m.step[3] = one;
    image plain = picture_of(wanted, &m);
    size_t bytes = (size_t)a.width * (size_t)a.height * 3;
    assert_memory_equal(a.pixels, b.pixels, bytes);
    assert_memory_not_equal(a.pixels, plain.pixels, bytes);
    image_free(&a);
    image_free(&b);
    image_free(&plain);
    generator_close(&wanted[0]);
    generator_close(&wanted[1]);
    model_close(&derived);
    model_close(&merged);
    model_close(&base);
}

static int set_up(void **state)
{
    (void)state;
    error e = {0};
    snprintf(toy_path, sizeof toy_path, "%s/toy", scratch_dir());
    snprintf(lora_path, sizeof lora_path, "%s/dog.safetensors", scratch_dir());
    check(toy_stable_diffusion(toy_path, &e), &e);
    write_lora();
    check(device_open(&d, test_device(), &(device_options){.threads = 1}, &e), &e);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    device_close(&d);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms),       cmocka_unit_test(in_a_mix), cmocka_unit_test(wrong),
        cmocka_unit_test(allocations), cmocka_unit_test(beside),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
