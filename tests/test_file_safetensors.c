/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of safetensors: files of the Python library are read, the same bytes written, and every way
 * in which a header can lie is refused with a message that names file and tensor. */
#include "file/safetensors.h"
#include "support.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

static char folder[512], path[1024];

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s", scratch_dir());
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    return 0;
}

static int count_files(void)
{
    DIR *d = opendir(folder);
    int n = 0;
    for (struct dirent *f; (f = readdir(d));) n += f->d_name[0] != '.' || strlen(f->d_name) > 2;
    closedir(d);
    return n;
}

static void write_bytes(const void *head, size_t head_size, const void *rest, size_t rest_size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(head, 1, head_size, f), head_size);
    assert_int_equal(fwrite(rest, 1, rest_size, f), rest_size);
    assert_int_equal(fclose(f), 0);
}

/* A file of the given header and `data` zero bytes. */
static void write_file(const char *header, size_t length, size_t data)
{
    unsigned char *head = calloc(1, 8 + length + data);
    for (int i = 0; i < 8; i++) head[i] = (unsigned char)((uint64_t)length >> 8 * i);
    memcpy(head + 8, header, length);
    write_bytes(head, 8 + length + data, "", 0);
    free(head);
}

static void expect_refused(const char *part)
{
    error e = {0};
    safetensors s;
    if (safetensors_open(&s, path, &e)) fail_msg("read, though: %s", part);
    assert_int_equal(e.code, ERROR_FORMAT);
    if (strncmp(e.text, path, strlen(path)) != 0) fail_msg("'%s' does not name the file", e.text);
    if (!strstr(e.text, part)) fail_msg("'%s' does not say '%s'", e.text, part);
    assert_null(strchr(e.text, '\n'));
    assert_null(s.map.data);
    assert_null(s.memory.first);
}

/* A header that must be refused, with the file's data bytes. */
static void refuse(const char *header, size_t data, const char *part)
{
    write_file(header, strlen(header), data);
    expect_refused(part);
}

static void expect_read(const char *header, size_t data, size_t count)
{
    write_file(header, strlen(header), data);
    error e = {0};
    safetensors s;
    if (!safetensors_open(&s, path, &e)) fail_msg("%s", e.text);
    assert_int_equal(s.count, count);
    safetensors_close(&s);
}

static void test_read_python(void **state)
{
    (void)state;
    error e = {0};
    safetensors s;
    if (!safetensors_open(&s, fixture_path("safetensors/python.safetensors"), &e))
        fail_msg("%s", e.text);
    assert_int_equal(s.count, 11);
    assert_int_equal(s.metadata_count, 1);
    assert_string_equal(s.metadata[0].key, "format");
    assert_string_equal(s.metadata[0].value, "pt");
    for (size_t i = 1; i < s.count; i++)
        assert_true(strcmp(s.entry[i - 1].name, s.entry[i].name) < 0);
    const safetensors_entry *b = safetensors_find(&s, "b.weight");
    assert_int_equal(b->type, DTYPE_F32);
    assert_int_equal(b->rank, 2);
    assert_int_equal(b->dim[0], 2);
    assert_int_equal(b->dim[1], 3);
    assert_int_equal(b->bytes, 24);
    for (int i = 0; i < 6; i++) {
        float x;
        memcpy(&x, (const char *)b->data + 4 * i, 4);
        assert_true(x == (float)i / 4);
    }
    const safetensors_entry *scalar = safetensors_find(&s, "scalar");
    assert_int_equal(scalar->rank, 0);
    assert_int_equal(scalar->bytes, 4);
    assert_int_equal(safetensors_find(&s, "empty")->bytes, 0);
    assert_int_equal(safetensors_find(&s, "f8")->type, DTYPE_F8_E4M3);
    assert_int_equal(safetensors_find(&s, "mask")->type, DTYPE_BOOL);
    assert_int_equal(safetensors_find(&s, "ids")->type, DTYPE_I64);
    assert_non_null(safetensors_find(&s, "quote\"\\/\u00e9\n"));
    assert_null(safetensors_find(&s, "b.weigh"));
    safetensors_close(&s);
    safetensors_close(&s);
}

/* What Python wrote, read and written by us in another order, is the same bytes. */
static void test_write_as_python(void **state)
{
    (void)state;
    error e = {0};
    safetensors s;
    const char *fixture = fixture_path("safetensors/python.safetensors");
    assert_true(safetensors_open(&s, fixture, &e));
    if (!safetensors_write(path, s.entry, s.count, NULL, 0, &e)) fail_msg("%s", e.text);
    safetensors_close(&s);
    char *want, *got;
    size_t want_size, got_size;
    assert_true(file_read(fixture, 10000, &want, &want_size, &e));
    assert_true(file_read(path, 10000, &got, &got_size, &e));
    assert_int_equal(got_size, want_size);
    assert_memory_equal(got, want, want_size);
    free(want);
    free(got);
}

static void test_write_metadata(void **state)
{
    (void)state;
    error e = {0};
    float x[3] = {1, 2, 3};
    safetensors_entry t = {
        .name = "x", .type = DTYPE_F32, .rank = 1, .dim = {3}, .data = x, .bytes = 12};
    safetensors_pair pairs[] = {{"prompt", "a \"dog\"\n\u00e9"}, {"format", "np"}};
    assert_true(safetensors_write(path, &t, 1, pairs, 1, &e));
    safetensors s;
    assert_true(safetensors_open(&s, path, &e));
    assert_int_equal(s.metadata_count, 2);
    assert_string_equal(s.metadata[0].value, "pt");
    assert_string_equal(s.metadata[1].key, "prompt");
    assert_string_equal(s.metadata[1].value, "a \"dog\"\n\u00e9");
    assert_memory_equal(s.entry[0].data, x, 12);
    assert_int_equal((s.map.size - 12) % 8, 0); /* data are aligned */
    safetensors_close(&s);
    assert_true(safetensors_write(path, &t, 1, pairs, 2, &e)); /* a format given replaces ours */
    assert_true(safetensors_open(&s, path, &e));
    assert_int_equal(s.metadata_count, 2);
    assert_string_equal(s.metadata[0].value, "np");
    safetensors_close(&s);
    assert_true(safetensors_write(path, NULL, 0, NULL, 0, &e)); /* no tensors at all */
    assert_true(safetensors_open(&s, path, &e));
    assert_int_equal(s.count, 0);
    assert_null(safetensors_find(&s, "x"));
    safetensors_close(&s);
    safetensors_entry twice[] = {t, t};
    assert_false(safetensors_write(path, twice, 2, NULL, 0, &e));
    assert_non_null(strstr(e.text, "tensor 'x': is to be written twice"));
    assert_int_equal(count_files(), 1);
}

static void test_write_errors(void **state)
{
    (void)state;
    float x[3] = {1, 2, 3};
    safetensors_entry t = {
        .name = "x", .type = DTYPE_F32, .rank = 1, .dim = {3}, .data = x, .bytes = 12};
    error e = {0};
    assert_false(safetensors_write("/dev/full", &t, 1, NULL, 0, &e));
    assert_int_equal(e.code, ERROR_FILE);
    assert_non_null(strstr(e.text, "the disk is full"));
    e = (error){0};
    snprintf(path, sizeof path, "%s/none/x.safetensors", folder);
    assert_false(safetensors_write(path, &t, 1, NULL, 0, &e));
    assert_int_equal(e.code, ERROR_FILE);
    assert_int_equal(count_files(), 0);
}

static void test_valid(void **state)
{
    (void)state;
    expect_read("{}", 0, 0);
    expect_read("{}      ", 0, 0);
    expect_read("{\"__metadata__\":{}}", 0, 0);
    expect_read("{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, 1);
    expect_read("{\"a\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[0,0]}}", 0, 1);
    expect_read("{\"a\":{\"dtype\":\"I16\",\"shape\":[2],\"data_offsets\":[4,8],\"more\":[]},"
                "\"b\":{\"dtype\":\"F16\",\"shape\":[1,2],\"data_offsets\":[0,4]},"
                "\"c\":{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[4,4]}}",
                8, 3);
    expect_read("{\"a\":{\"dtype\":\"F8_E5M2\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, 1);
}

/* The length of a header, as 80 00 01, 80 02 02 ..., begins like a pickle's protocol. */
static void test_lengths_like_pickles(void **state)
{
    (void)state;
    static const size_t lengths[] = {0x10080, 0x10180, 0x20080, 0x20280, 0x10480, 0x10088};
    char *header = malloc(0x20300);
    assert_non_null(header);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        memset(header, ' ', lengths[i]);
        memcpy(header, "{}", 2);
        header[lengths[i]] = '\0';
        expect_read(header, 0, 0);
    }
    free(header);
    write_bytes("\x80\2\x8a\nl\xfc\x9c"
                "F\xf9 j\xa8P\x19.",
                14, "", 0); /* torch.save of old */
    expect_refused("PyTorch pickle (.ckpt, .pth, .pt, .bin), which is read only where it is whole");
}

static void test_not_ours(void **state)
{
    (void)state;
    write_bytes("", 0, "", 0);
    expect_refused("is not a safetensors file");
    write_bytes("1234567", 7, "", 0);
    expect_refused("is not a safetensors file");
    write_bytes("PK\3\4 a zip archive", 18, "", 0);
    expect_refused("PyTorch pickle");
    write_bytes("version https://git-lfs.github.com/spec/v1", 42, "", 0);
    expect_refused("git-lfs pointer");
    write_bytes("<!DOCTYPE html><html>", 21, "", 0);
    expect_refused("web page");
    write_bytes("\4\0\0\0\0\0\0\0[{}]", 12, "", 0);
    expect_refused("is not a safetensors file");
    write_bytes("\0\0\0\0\0\0\0\0", 8, "", 0);
    expect_refused("is not a safetensors file");
}

static void test_header_length(void **state)
{
    (void)state;
    write_bytes("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, "", 0);
    expect_refused("the header claims 18446744073709551615 bytes");
    write_bytes("\x01\xe1\xf5\x05\0\0\0\0{}", 10, "", 0);
    expect_refused("the header claims 100000001 bytes");
    write_bytes("\0\xe1\xf5\x05\0\0\0\0{}", 10, "", 0);
    expect_refused("the header should have 100000000 bytes, but the file ends after 2");
    write_bytes("\3\0\0\0\0\0\0\0{}", 10, "", 0);
    expect_refused("cut short");
    write_bytes("\1\0\0\0\0\0\0\0{}", 10, "", 0);
    expect_refused("the header claims 1 bytes");
}

static void test_header_json(void **state)
{
    (void)state;
    refuse("{\"a\":", 0, "the header is not valid JSON");
    refuse("{} x", 0, "the header is not valid JSON");
    refuse("{\"a\xff\":1}", 0, "the header is not valid JSON");
    refuse("{\"a\\u0000b\":1}", 0, "the header is not valid JSON");
    write_file("{}\0\0\0\0\0\0", 8, 0);
    expect_refused("the header is not valid JSON");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,4]}}", 4,
           "the header is not valid JSON: too big integer");
    refuse("{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
           "\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
           2, "duplicate object key");
    enum { DEEP = 1000000 };
    char *bomb = malloc(DEEP + 6);
    memcpy(bomb, "{\"a\":", 5);
    memset(bomb + 5, '[', DEEP);
    write_file(bomb, DEEP + 5, 0);
    free(bomb);
    expect_refused("the header is not valid JSON: maximum parsing depth reached");
}

static void test_metadata(void **state)
{
    (void)state;
    refuse("{\"__metadata__\":[]}", 0, "__metadata__ is not an object");
    refuse("{\"__metadata__\":{\"k\":1}}", 0, "__metadata__: the value of 'k' is not a text");
}

static void test_entry(void **state)
{
    (void)state;
    refuse("{\"t\":1}", 0, "tensor 't': is not described by an object");
    refuse("{\"t\":{\"shape\":[],\"data_offsets\":[0,4]}}", 4,
           "tensor 't': the header gives no dtype");
    refuse("{\"t\":{\"dtype\":3,\"shape\":[],\"data_offsets\":[0,4]}}", 4,
           "tensor 't': the header gives no dtype");
    refuse("{\"t\":{\"dtype\":\"F33\",\"shape\":[],\"data_offsets\":[0,4]}}", 4,
           "tensor 't': dtype 'F33' is not known");
    refuse("{\"t\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4,
           "tensor 't': the header gives no shape");
    refuse("{\"t\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4,
           "tensor 't': the shape is not a list of sizes");
    refuse("{\"t\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4,
           "tensor 't': the shape is not a list of sizes");
    refuse("{\"t\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4,
           "tensor 't': has 9 dimensions");
    refuse("{\"t\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]}}",
           4, "tensor 't': the shape is impossibly large");
    refuse("{\"t\":{\"dtype\":\"F32\",\"shape\":[4611686018427387905],\"data_offsets\":[0,4]}}", 4,
           "tensor 't': the shape is impossibly large");
    refuse("{\"line\\nbreak\":1}", 0, "tensor 'line?break': is not described");
}

static void test_offsets(void **state)
{
    (void)state;
    refuse("{\"t\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "tensor 't': data_offsets are not");
    refuse("{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4,
           "tensor 't': data_offsets are not");
    refuse("{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4,
           "tensor 't': data_offsets are not");
    refuse("{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4,
           "tensor 't': data_offsets are not");
    refuse("{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4.0]}}", 4,
           "tensor 't': data_offsets are not");
    refuse("{\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4,
           "tensor 't': shape and type need 8 bytes, data_offsets give 4");
    refuse("{\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 5,
           "tensor 't': its data reach 3 bytes past the end of the file; the file is cut short");
    refuse("{\"t\":{\"dtype\":\"U8\",\"shape\":[9223372036854775807],"
           "\"data_offsets\":[0,9223372036854775807]}}",
           4, "past the end of the file");
    refuse("{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 5,
           "1 bytes at the end belong to no tensor");
    refuse("{}", 5, "5 bytes at the end belong to no tensor");
    refuse("{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8,
           "tensor 't': 4 bytes before its data belong to no tensor");
    refuse("{\"s\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
           "\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[6,10]}}",
           10, "tensor 't': 2 bytes before its data belong to no tensor");
    refuse("{\"s\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
           "\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
           8, "tensor 't': its data overlap those of 's'");
    refuse("{\"s\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
           "\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
           4, "its data overlap those of");
    refuse("{\"s\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
           "\"t\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[4,4]}}",
           8, "its data overlap those of");
}

/* Every shortened form of a good file is refused, and so is the folder it lies in. */
static void test_truncated(void **state)
{
    (void)state;
    error e = {0};
    char *whole;
    size_t size;
    assert_true(
        file_read(fixture_path("safetensors/python.safetensors"), 10000, &whole, &size, &e));
    write_bytes(whole, size, "", 0);
    for (size_t n = size; n-- > 0;) {
        assert_int_equal(truncate(path, (off_t)n), 0);
        safetensors s;
        e = (error){0};
        assert_false(safetensors_open(&s, path, &e));
        assert_int_equal(e.code, ERROR_FORMAT);
    }
    free(whole);
    safetensors s;
    e = (error){0};
    assert_false(safetensors_open(&s, folder, &e));
    assert_non_null(strstr(e.text, "is a folder"));
    e = (error){0};
    assert_false(safetensors_open(&s, "/nowhere/x.safetensors", &e));
    assert_non_null(strstr(e.text, "/nowhere/x.safetensors: cannot open"));
}

/* Every byte of the header changed in a few ways: refused or read, nothing else (see the
 * sanitizers). */
static void test_damaged(void **state)
{
    (void)state;
    error e = {0};
    char *whole;
    size_t size;
    assert_true(
        file_read(fixture_path("safetensors/python.safetensors"), 10000, &whole, &size, &e));
    write_bytes(whole, size, "", 0);
    int file = open(path, O_WRONLY);
    for (size_t n = 0; n < size; n++) {
        for (int bit = 0; bit < 8; bit += 3) {
            char changed = (char)(whole[n] ^ 1 << bit);
            assert_int_equal(pwrite(file, &changed, 1, (off_t)n), 1);
            safetensors s;
            if (!safetensors_open(&s, path, NULL)) continue;
            for (size_t i = 0; i < s.count; i++) {
                const uint8_t *data = s.entry[i].data, *end = s.map.data + s.map.size;
                assert_true(data >= s.map.data && data + s.entry[i].bytes <= end);
            }
            safetensors_close(&s);
        }
        assert_int_equal(pwrite(file, whole + n, 1, (off_t)n), 1);
    }
    close(file);
    free(whole);
}

static void test_allocations(void **state)
{
    (void)state;
    if (!allocation_can_fail()) skip();
    char fixture[1024];
    snprintf(fixture, sizeof fixture, "%s", fixture_path("safetensors/python.safetensors"));
    for (long n = 0;; n++) {
        error e = {0};
        safetensors s = {0};
        allocation_fail_at(n);
        bool ok = safetensors_open(&s, fixture, &e) &&
                  safetensors_write(path, s.entry, s.count, s.metadata, s.metadata_count, &e);
        bool struck = allocation_fail_end();
        safetensors_close(&s);
        if (!ok) assert_int_equal(e.code, ERROR_MEMORY);
        if (!ok) assert_int_equal(count_files(), 0);
        if (ok) unlink(path);
        if (struck) continue;
        assert_true(ok && n > 5);
        break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_read_python, setup),
        cmocka_unit_test_setup(test_write_as_python, setup),
        cmocka_unit_test_setup(test_write_metadata, setup),
        cmocka_unit_test_setup(test_write_errors, setup),
        cmocka_unit_test_setup(test_valid, setup),
        cmocka_unit_test_setup(test_lengths_like_pickles, setup),
        cmocka_unit_test_setup(test_not_ours, setup),
        cmocka_unit_test_setup(test_header_length, setup),
        cmocka_unit_test_setup(test_header_json, setup),
        cmocka_unit_test_setup(test_metadata, setup),
        cmocka_unit_test_setup(test_entry, setup),
        cmocka_unit_test_setup(test_offsets, setup),
        cmocka_unit_test_setup(test_truncated, setup),
        cmocka_unit_test_setup(test_damaged, setup),
        cmocka_unit_test_setup(test_allocations, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
