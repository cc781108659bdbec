/* SPDX-License-Identifier: Apache-2.0
 *
 * test_device_plugin: what stands in the way of a plug-in is one line each, and "auto" then takes
 * the processor. FAKES is the folder of plugin_fake.c's libraries. */
#include <stdlib.h>
#include <string.h>

#include "device/plugin.h"
#include "support.h"

static void refused(const char *path, const char *part)
{
    error e = {0};
    assert_null(plugin_load(path, &e));
    assert_int_equal(e.code, ERROR_FILE);
    assert_non_null(strstr(e.text, path));
    assert_non_null(strstr(e.text, part));
    assert_null(strchr(e.text, '\n'));
}

static void what_is_refused(void **state)
{
    (void)state;
    refused(FAKES "/nowhere.so", "cannot be loaded: cannot open shared object file");
    refused(FAKES "/libfake_library.so",
            "cannot be loaded: libfake_far.so: cannot open shared object file: No such file or "
            "directory; install NVIDIA's cuBLAS for CUDA 13 and cuDNN 9, or build it with make "
            "cuda");
    refused(FAKES "/libfake_needs.so", "undefined symbol: nobody_has_this");
    refused(FAKES "/libfake_symbol.so", "no plug-in of likeness: it has no likeness_device_plugin");
    refused(FAKES "/libfake_version.so", "is of likeness 0.0.0 (interface ");
    refused(FAKES "/libfake_abi.so", "(interface 999), this is");
}

static const device_options options = {.threads = 1};

static void what_is_asked_goes_to_it(void **state)
{
    device *d;
    device_card c;
    error e = {0}, other = {0};
    (void)state;
    assert_false(device_open(&d, "cuda", &options, &e));
    assert_string_equal(e.text, "no driver");
    assert_false(device_open(&d, "cuda:9", &options, &other));
    assert_string_equal(other.text, "there is no cuda:9");
    const device_kind *cuda = device_kind_at(1);
    assert_string_equal(cuda->name, "cuda");
    assert_true(cuda->card(0, &c, &e));
    assert_string_equal(c.text, "a fake");
    assert_false(cuda->card(1, &c, &e));
}

static void auto_takes_the_processor(void **state)
{
    device *d;
    error e = {0}, why = {0};
    device_options o = options;
    (void)state;
    o.passed_over = &why;
    assert_true(device_open(&d, "auto", &o, &e));
    assert_int_equal(strncmp(d->name, "cpu", 3), 0);
    assert_string_equal(why.text, "no driver");
    assert_true(plugin_is_there());
    device_close(&d);
    assert_false(device_open(&d, "cpu:0", &options, &e));
    assert_string_equal(e.text, "device cpu:0: the processor is one device, cpu");
    e = (error){0};
    assert_false(device_open(&d, "abacus", &options, &e));
    assert_string_equal(e.text, "device abacus is unknown: there is auto, cpu, cuda");
}

static void the_processor_is_a_card(void **state)
{
    device_card c;
    error e = {0};
    (void)state;
    const device_kind *cpu = device_kind_at(0);
    assert_true(cpu->card(0, &c, &e));
    assert_string_equal(c.name, "cpu");
    assert_true(c.memory >= c.left && c.left > 0);
    assert_false(cpu->card(1, &c, &e));
    assert_int_equal(e.code, ERROR_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(what_is_asked_goes_to_it),
        cmocka_unit_test(auto_takes_the_processor),
        cmocka_unit_test(the_processor_is_a_card),
    };
    setenv("LIKENESS_CUDA", FAKES "/libfake_good.so", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
