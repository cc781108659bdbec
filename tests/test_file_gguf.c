/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of GGUF files: every type that is read gives what ggml's own package makes of it; types
 * that are not are named; cut, absurd and damaged files are refused in one line. */
#include "file/gguf.h"
#include "file/torch.h"
#include "support.h"

#include "base/half.h"

static char path[1024];

static int setup(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "%s/x.gguf", scratch_dir());
    return 0;
}

static void check(bool ok, const error *e)
{
    if (!ok) fail_msg("%s", e->text);
}

static void types(void **state)
{
    (void)state;
    safetensors is, want;
    error e = {0};
    check(tensors_open(&is, fixture_path("gguf/types.gguf"), &e), &e);
    check(safetensors_open(&want, fixture_path("gguf/types.safetensors"), &e), &e);
    assert_int_equal(is.count, 14);
    assert_int_equal(is.count, want.count);
    for (size_t i = 0; i < is.count; i++) {
        const safetensors_entry *a = &is.entry[i], *b = &want.entry[i];
        assert_string_equal(a->name, b->name);
        assert_int_equal(a->rank, b->rank);
        assert_memory_equal(a->dim, b->dim, (size_t)a->rank * sizeof *a->dim);
        bool half = !strcmp(a->name, "F16") || !strcmp(a->name, "BF16");
        size_t n = (size_t)(b->bytes / dtype_size(b->type));
        assert_int_equal(a->bytes, n * dtype_size(a->type));
        if (!half) {
            assert_int_equal(a->type, b->type);
            if (memcmp(a->data, b->data, (size_t)b->bytes) != 0) fail_msg("%s differs", a->name);
            continue;
        }
        float *value = malloc(n * sizeof *value);
        convert_to_float(value, a->data, a->type, n);
        assert_memory_equal(value, b->data, n * sizeof *value);
        free(value);
    }
    safetensors_close(&is);
    safetensors_close(&want);
}

/* ---- files by hand ---- */

typedef struct file {
    uint8_t byte[1024];
    size_t size;
} file;

static void put(file *f, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) f->byte[f->size++] = (uint8_t)(value >> 8 * i);
}

static void put_text(file *f, const char *text)
{
    put(f, strlen(text), 8);
    memcpy(f->byte + f->size, text, strlen(text));
    f->size += strlen(text);
}

static file begin(uint64_t version, uint64_t tensors, uint64_t pairs)
{
    file f = {.size = 4};
    memcpy(f.byte, "GGUF", 4);
    put(&f, version, 4);
    put(&f, tensors, 8);
    put(&f, pairs, 8);
    return f;
}

static void put_tensor(file *f, const char *name, uint64_t rows, uint64_t columns, uint64_t type,
                       uint64_t offset)
{
    put_text(f, name);
    put(f, 2, 4);
    put(f, columns, 8);
    put(f, rows, 8);
    put(f, type, 4);
    put(f, offset, 8);
}

static void fill(file *f, size_t bytes)
{
    while (f->size % 32) f->byte[f->size++] = 0;
    for (size_t i = 0; i < bytes; i++) f->byte[f->size++] = (uint8_t)i;
}

static void write_file(const file *f, size_t size)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(f->byte, 1, size, out), size);
    assert_int_equal(fclose(out), 0);
}

static void refused(const file *f, size_t size, const char *part)
{
    error e = {0};
    safetensors s;
    write_file(f, size);
    if (gguf_open(&s, path, &e)) fail_msg("read, though: %s", part);
    if (!strstr(e.text, part)) fail_msg("'%s' does not say '%s'", e.text, part);
    assert_null(strchr(e.text, '\n'));
    assert_null(s.map.data);
    assert_null(s.memory.first);
}

/* Both versions; the alignment that the file gives. */
static void good(void **state)
{
    (void)state;
    for (uint64_t version = 2; version <= 3; version++) {
        file f = begin(version, 2, 1);
        put_text(&f, "general.alignment");
        put(&f, 4, 4);
        put(&f, 8, 4);
        put_tensor(&f, "b", 1, 2, 0, 0);
        put_tensor(&f, "a", 2, 1, 26, 8);
        while (f.size % 8) f.byte[f.size++] = 0;
        put(&f, 0x3f800000, 4);
        put(&f, 0x40000000, 4);
        put(&f, 7, 4);
        put(&f, 8, 4);
        write_file(&f, f.size);
        safetensors s;
        error e = {0};
        check(gguf_open(&s, path, &e), &e);
        assert_int_equal(s.count, 2);
        const safetensors_entry *a = safetensors_find(&s, "a"), *b = safetensors_find(&s, "b");
        assert_true(a && a->type == DTYPE_I32 && a->dim[0] == 2 && a->dim[1] == 1);
        assert_int_equal(((const int32_t *)a->data)[1], 8);
        assert_true(b && b->type == DTYPE_F32 && b->dim[0] == 1 && b->dim[1] == 2);
        assert_true(((const float *)b->data)[1] == 2);
        safetensors_close(&s);
    }
}

static void damaged(void **state)
{
    (void)state;
    file f = begin(1, 0, 0);
    refused(&f, f.size, "is GGUF of version 1; 2 and 3 are read");
    f = begin((uint64_t)3 << 24, 0, 0);
    refused(&f, f.size, "big-endian");
    f = begin(3, 1 << 30, 0);
    refused(&f, f.size, "claims more than 262144 tensors");
    f = begin(3, 0, UINT64_MAX);
    refused(&f, f.size, "claims more than 65536 keys");
    f = begin(3, 0, 1);
    put_text(&f, "k");
    put(&f, 77, 4);
    refused(&f, f.size, "a value's type is not known");
    f = begin(3, 0, 1);
    put_text(&f, "k");
    put(&f, 9, 4);
    put(&f, 4, 4);
    put(&f, UINT64_MAX, 8);
    refused(&f, f.size, "it ends in its header");
    f = begin(3, 0, 1);
    put(&f, UINT64_MAX, 8);
    refused(&f, f.size, "it ends in its header");
    f = begin(3, 0, 1);
    put_text(&f, "general.alignment");
    put(&f, 4, 4);
    put(&f, 24, 4);
    refused(&f, f.size, "its alignment is no power of two");

    static const struct {
        uint64_t rows, columns, type, offset;
        const char *says;
    } tensors[] = {
        {1, 256, 11, 0, "tensor a is Q3_K, which is not read: F32, F16, BF16, Q8_0"},
        {1, 256, 18, 0, "tensor a is IQ3_XXS, which is not read"},
        {1, 256, 99, 0, "tensor a is type 99, which is not read"},
        {1, 33, 8, 0, "has rows that are no whole number of its type's blocks"},
        {1, 128, 12, 0, "has rows that are no whole number of its type's blocks"},
        {UINT64_MAX, 2, 0, 0, "has absurd dimensions"},
        {(uint64_t)1 << 40, (uint64_t)1 << 40, 0, 0, "has absurd dimensions"},
        {1, 32, 0, 7, "lies at an offset that is not aligned"},
        {1, 32, 0, 32, "reaches beyond the file's end"},
        {1, 32, 0, UINT64_MAX - 31, "reaches beyond the file's end"},
        {(uint64_t)1 << 50, 32, 8, 0, "reaches beyond the file's end"},
    };
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        f = begin(3, 1, 0);
        put_tensor(&f, "a", tensors[i].rows, tensors[i].columns, tensors[i].type,
                   tensors[i].offset);
        fill(&f, 128);
        refused(&f, f.size, tensors[i].says);
    }
    f = begin(3, 2, 0);
    put_tensor(&f, "a", 1, 1, 0, 0);
    put_tensor(&f, "a", 1, 1, 0, 32);
    fill(&f, 64);
    refused(&f, f.size, "tensor a is there twice");
    f = begin(3, 1, 0);
    put_text(&f, "a");
    put(&f, 9, 4);
    refused(&f, f.size, "more than 4 dimensions");
    f = begin(3, 1, 0);
    put_text(&f, "");
    put(&f, 1, 4);
    refused(&f, f.size, "a tensor's name is no name");
}

/* Cut anywhere. */
static void cut(void **state)
{
    (void)state;
    file f = begin(3, 1, 1);
    put_text(&f, "key");
    put(&f, 8, 4);
    put_text(&f, "value");
    put_tensor(&f, "a", 2, 32, 8, 0);
    fill(&f, 68);
    write_file(&f, f.size);
    safetensors s;
    error e = {0};
    check(gguf_open(&s, path, &e), &e);
    safetensors_close(&s);
    refused(&f, 0, "is empty");
    for (size_t n = 4; n < f.size; n++) refused(&f, n, path);
}

static void allocations(void **state)
{
    (void)state;
    if (!allocation_can_fail()) skip();
    bool struck = true;
    for (int n = 0; struck; n++) {
        safetensors s;
        error e = {0};
        allocation_fail_at(n);
        bool ok = gguf_open(&s, fixture_path("gguf/types.gguf"), &e);
        struck = allocation_fail_end();
        assert_true(ok || (struck && e.code == ERROR_MEMORY));
        if (ok) safetensors_close(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types), cmocka_unit_test(good),        cmocka_unit_test(damaged),
        cmocka_unit_test(cut),   cmocka_unit_test(allocations),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
