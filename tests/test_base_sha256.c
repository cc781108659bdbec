/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of SHA-256: the vectors of FIPS 180-4 and of NIST's examples, in whole and in pieces; the
 * processor's instructions against the plain rounds; files. */
#include "base/platform.h"
#include "base/random.h"
#include "base/sha256.h"
#include "base/sha256_blocks.h"
#include "support.h"

#include <fcntl.h>
#include <unistd.h>

static void expect_hash(const void *data, size_t size, size_t piece, const char *want)
{
    sha256 s;
    char hex[65];
    sha256_start(&s);
    for (size_t at = 0; at < size; at += piece)
        sha256_add(&s, (const char *)data + at, size - at < piece ? size - at : piece);
    sha256_end(&s, hex);
    assert_string_equal(hex, want);
}

static void test_vectors(void **state)
{
    (void)state;
    static const struct {
        const char *text, *hash;
    } vector[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqr"
         "lmnopqrsmnopqrstnopqrstu",
         "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    };
    for (size_t i = 0; i < sizeof vector / sizeof *vector; i++)
        for (size_t piece = 1; piece <= 113; piece += 7)
            expect_hash(vector[i].text, strlen(vector[i].text), piece, vector[i].hash);
    char *many = malloc(1000000);
    memset(many, 'a', 1000000);
    static const char million[] =
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
    expect_hash(many, 1000000, 1000000, million);
    expect_hash(many, 1000000, 4099, million);
    free(many);
}

/* An empty file maps to no address at all; that is nothing to add, not a copy from NULL. */
static void test_nothing_to_add(void **state)
{
    (void)state;
    sha256 s;
    char hex[65];
    sha256_start(&s);
    sha256_add(&s, NULL, 0);
    sha256_add(&s, "a", 1);
    sha256_add(&s, NULL, 0);
    sha256_add(&s, "bc", 2);
    sha256_end(&s, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void test_instructions(void **state)
{
    (void)state;
    if (!sha256_has_ni()) skip();
    enum { MOST = 40 };
    uint8_t data[MOST * 64 + 64];
    rng r;
    rng_seed(&r, 7);
    for (int n = 0; n <= MOST; n++)
        for (int shift = 0; shift < 64; shift += 13) {
            uint32_t plain[8], ni[8];
            for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)rng_u32(&r);
            for (int i = 0; i < 8; i++) plain[i] = ni[i] = rng_u32(&r);
            sha256_blocks_plain(plain, data + shift, (size_t)n);
            sha256_blocks_ni(ni, data + shift, (size_t)n);
            assert_memory_equal(plain, ni, sizeof plain);
        }
}

static void write_bytes(const char *path, size_t size)
{
    error e = {0};
    char *zeros = calloc(size + 1, 1);
    assert_true(file_write(path, zeros, size, &e));
    free(zeros);
}

static void test_files(void **state)
{
    (void)state;
    error e = {0};
    char path[300], hex[65], whole[65];
    snprintf(path, sizeof path, "%s/file", scratch_dir());
    write_bytes(path, 0);
    assert_true(sha256_file(hex, path, &e));
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_false(sha256_file(hex, "/nowhere/at/all", &e));
    assert_int_equal(e.code, ERROR_FILE);

    /* more than is held at a time, and not a multiple of it */
    size_t size = (80u << 20) + 5;
    write_bytes(path, size);
    uint64_t before = memory_peak();
    e = (error){0};
    assert_true(sha256_file(hex, path, &e));
    assert_true(memory_peak() - before < 32u << 20);
    char *zeros = calloc(size, 1);
    sha256 s;
    sha256_start(&s);
    sha256_add(&s, zeros, size);
    sha256_end(&s, whole);
    free(zeros);
    assert_string_equal(hex, whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_nothing_to_add),
        cmocka_unit_test(test_instructions),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
