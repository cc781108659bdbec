/* SPDX-License-Identifier: Apache-2.0
 *
 * test_locale: the library inside a program that has set its locale to one that writes 0,5: every
 * text is the one that the C locale gives. */
#include <unistd.h>

#include "base/platform.h"
#include "likeness.h"
#include "likeness_study.h"
#include "support.h"
#include "toy.h"

static char folder[256], path[2048];

static const char *in_folder(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_plan(void)
{
    FILE *f = fopen(in_folder("plan.json"), "w");
    assert_non_null(f);
    fprintf(
        f,
        "{\"title\": \"A study\", \"defaults\": {\"steps\": 3, \"guidance\": 2.5, "
        "\"guidance_rescale\": 0.3},\n"
        " \"models\": {\"base\": {\"path\": \"%s/toy\"},\n"
        "  \"tuned\": {\"train\": {\"model\": \"base\", \"instance_data_dir\": "
        "\"%s/examples/subject\",\n"
        "   \"instance_prompt\": \"a photo of sks dog\", \"class_prompt\": \"a dog\",\n"
        "   \"learning_rate\": 5e-4, \"train_batch_size\": 1, \"max_train_steps\": 2}}},\n"
        " \"sections\": [\n"
        "  {\"id\": \"tuned\", \"title\": \"Tuned\", \"settings\": {\"model\": \"tuned\"},\n"
        "   \"rows\": {\"prompt\": [\"a dog\", \"a cat\"]}, \"columns\": {\"seed\": [1, 2]}},\n"
        "  {\"id\": \"sums\", \"title\": \"Sums\", \"settings\": {\"prompt\": \"a dog\"},\n"
        "   \"rows\": {\"schedule\": [\"0.3*base+0.7*tuned x3\"]}, \"columns\": {\"seed\": [1, "
        "2]}},\n"
        "  {\"id\": \"switching\", \"title\": \"Switching\", \"settings\": {\"prompt\": \"a "
        "dog\"},\n"
        "   \"rows\": {\"switch\": {\"from\": \"base\", \"to\": \"tuned\", \"at\": [0, 1, 3]}},\n"
        "   \"columns\": {\"seed\": [1, 2]}}],\n"
        " \"measures\": {\"noises\": 1}}\n",
        folder, SOURCE_DIR);
    assert_int_equal(fclose(f), 0);
}

static bool study(const char *name, lk_error *why)
{
    lk_context *context = NULL;
    lk_context_options c;
    char plan[1024], out[1024];
    snprintf(plan, sizeof plan, "%s/plan.json", folder);
    snprintf(out, sizeof out, "%s/%s", folder, name);
    lk_context_defaults(&c);
    c.threads = 1;
    lk_study_options o;
    lk_study_defaults(&o);
    o.plan = plan;
    o.folder = out;
    bool ok = lk_context_open(&context, &c, why) && lk_study(context, &o, why);
    lk_context_close(&context);
    return ok;
}

/* Numbers of time and memory and the study's own folder as "N", without the page's last line. */
static const char *const times = "sed -E 's/\"(seconds|rss_mb)\": [0-9.]+/\"\\1\": N/g; "
                                 "s/(plain|comma).models/N/; /<footer/,/<\\/footer>/d'";

static void test_study(void **state)
{
    (void)state;
    lk_error why = {LK_OK, ""};
    error e = {0};
    char command[2048];
    const char *const names[] = {"a", "b"};
    snprintf(folder, sizeof folder, "%s", scratch_dir());
    assert_true(toy_stable_diffusion(in_folder("toy"), &e));
    write_plan();
    if (!study("plain", &why)) fail_msg("%s", why.text);
    if (!locale_with("<U066B>") || !locale_with(",")) skip();
    bool ok = study("comma", &why) && lk_schedule_check("0.5*a+0.5*b", names, 2, 10, &why);
    locale_with(".");
    if (!ok) fail_msg("%s", why.text);
    snprintf(command, sizeof command,
             "cd %s && for d in plain comma; do (cd $d && for f in $(find . -type f ! -name "
             "times.json | sort); "
             "do echo $f; %s $f | sha256sum; done) >$d.sums; done; diff plain.sums comma.sums >&2",
             folder, times);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_study)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
