/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of files, paths and memory. Every failure leaves the old file and no other behind. */
#include "base/platform.h"
#include "support.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[512];

static char *in_folder(const char *name)
{
    static char path[4][1024];
    static int next;
    char *out = path[next++ % 4];
    snprintf(out, 1024, "%s/%s", folder, name);
    return out;
}

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s", scratch_dir());
    return 0;
}

static int count_files(const char *path)
{
    DIR *d = opendir(path);
    assert_non_null(d);
    int n = 0;
    for (struct dirent *f; (f = readdir(d));)
        n += strcmp(f->d_name, ".") && strcmp(f->d_name, "..");
    closedir(d);
    return n;
}

static bool write_text(const char *path, const char *text, error *e)
{
    file_writer *w;
    if (!file_writer_open(&w, path, e)) return false;
    if (!file_writer_put(w, text, strlen(text), e)) {
        file_writer_abandon(&w);
        return false;
    }
    return file_writer_commit(&w, e);
}

static void expect_text(const char *path, const char *want)
{
    error e = {0};
    char *text;
    size_t size;
    if (!file_read(path, 1000, &text, &size, &e)) fail_msg("%s", e.text);
    assert_string_equal(text, want);
    assert_int_equal(size, strlen(want));
    free(text);
}

#define expect_error(e, what, part)                                                                \
    do {                                                                                           \
        assert_int_equal((e).code, what);                                                          \
        if (!strstr((e).text, part)) fail_msg("'%s' does not say '%s'", (e).text, part);           \
    } while (0)

static void test_write_and_read(void **state)
{
    (void)state;
    error e = {0};
    assert_true(write_text(in_folder("a"), "hello", &e));
    expect_text(in_folder("a"), "hello");
    assert_int_equal(chmod(in_folder("a"), 0640), 0);
    assert_true(write_text(in_folder("a"), "again", &e));
    expect_text(in_folder("a"), "again");
    struct stat info;
    stat(in_folder("a"), &info);
    assert_int_equal(info.st_mode & 0777, 0640); /* the old file's mode is kept */
    assert_int_equal(count_files(folder), 1);
    /* a symbolic link stays one: its target is replaced */
    assert_int_equal(symlink("a", in_folder("link")), 0);
    assert_true(write_text(in_folder("link"), "through", &e));
    lstat(in_folder("link"), &info);
    assert_true(S_ISLNK(info.st_mode));
    expect_text(in_folder("a"), "through");
    assert_true(write_text("/dev/null", "kept a device", &e));
    stat("/dev/null", &info);
    assert_true(S_ISCHR(info.st_mode));
    /* a name of the longest kind */
    char name[256];
    memset(name, 'n', 255);
    name[255] = '\0';
    assert_true(write_text(in_folder(name), "long", &e));
    expect_text(in_folder(name), "long");
    assert_int_equal(count_files(folder), 3);
}

static void test_abandon(void **state)
{
    (void)state;
    error e = {0};
    file_writer *w = NULL;
    file_writer_abandon(&w);
    assert_true(write_text(in_folder("a"), "old", &e));
    assert_true(file_writer_open(&w, in_folder("a"), &e));
    assert_true(file_writer_put(w, "half", 4, &e));
    expect_text(in_folder("a"), "old");
    assert_int_equal(count_files(folder), 2);
    file_writer_abandon(&w);
    assert_null(w);
    expect_text(in_folder("a"), "old");
    assert_int_equal(count_files(folder), 1);
}

static void test_write_errors(void **state)
{
    (void)state;
    error e = {0};
    assert_false(write_text(in_folder("none/a"), "x", &e));
    expect_error(e, ERROR_FILE, "none/a: cannot create: No such file or directory");
    e = (error){0};
    assert_false(write_text(folder, "x", &e));
    expect_error(e, ERROR_FILE, "is a folder");
    e = (error){0};
    assert_false(write_text(in_folder("none/"), "x", &e));
    expect_error(e, ERROR_FILE, "not the name of a file");
    e = (error){0};
    assert_false(write_text("", "x", &e));
    expect_error(e, ERROR_FILE, "not the name of a file");
    e = (error){0};
    assert_false(write_text("/proc/likeness", "x", &e));
    expect_error(e, ERROR_FILE, "/proc/likeness: cannot create");
    assert_int_equal(count_files(folder), 0);
}

static void test_full_device(void **state)
{
    (void)state;
    error e = {0};
    assert_false(write_text("/dev/full", "x", &e));
    expect_error(e, ERROR_FILE, "/dev/full: cannot write");
    expect_error(e, ERROR_FILE, "the disk is full");
}

static void test_full_disk(void **state)
{
    (void)state;
    const char *disk = in_folder("disk");
    assert_int_equal(mkdir(disk, 0777), 0);
    if (mount("none", disk, "tmpfs", 0, "size=64k") != 0) skip(); /* only root may */
    static char big[200000];
    char path[1024];
    snprintf(path, sizeof path, "%s/a", disk);
    error e = {0};
    bool first = write_text(path, "old", &e);
    file_writer *w = NULL;
    bool opened = file_writer_open(&w, path, &e);
    bool put = opened && file_writer_put(w, big, sizeof big, &e);
    file_writer_abandon(&w);
    int files = count_files(disk);
    char *text = NULL;
    error other = {0};
    file_read(path, 100, &text, NULL, &other);
    umount(disk);
    assert_true(first && opened);
    assert_false(put);
    expect_error(e, ERROR_FILE, "the disk is full");
    assert_int_equal(files, 1);
    assert_string_equal(text, "old");
    free(text);
}

static void test_read_errors(void **state)
{
    (void)state;
    error e = {0};
    char *text;
    mapped_file map;
    assert_false(file_read(in_folder("none"), 10, &text, NULL, &e));
    expect_error(e, ERROR_FILE, "none: cannot open: No such file");
    assert_null(text);
    e = (error){0};
    assert_false(file_map(&map, folder, &e));
    expect_error(e, ERROR_FILE, "is a folder");
    assert_int_equal(mkfifo(in_folder("pipe"), 0666), 0);
    e = (error){0};
    assert_false(file_map(&map, in_folder("pipe"), &e));
    expect_error(e, ERROR_FILE, "is not a regular file");
    e = (error){0};
    assert_true(write_text(in_folder("a"), "12345678901", &e));
    assert_false(file_read(in_folder("a"), 10, &text, NULL, &e));
    expect_error(e, ERROR_FORMAT, "a: has 11 bytes, at most 10");
}

static void test_map(void **state)
{
    (void)state;
    error e = {0};
    mapped_file map;
    assert_true(write_text(in_folder("a"), "mapped", &e));
    assert_true(write_text(in_folder("empty"), "", &e));
    assert_true(file_map(&map, in_folder("a"), &e));
    assert_int_equal(map.size, 6);
    assert_memory_equal(map.data, "mapped", 6);
    file_map_drop(&map);
    assert_memory_equal(map.data, "mapped", 6);
    file_unmap(&map);
    assert_null(map.data);
    file_unmap(&map);
    assert_true(file_map(&map, in_folder("empty"), &e));
    assert_null(map.data);
    assert_int_equal(map.size, 0);
    file_map_drop(&map);
    file_unmap(&map);
    expect_text(in_folder("empty"), "");
}

static void test_paths(void **state)
{
    (void)state;
    error e = {0};
    assert_true(path_make_dir(in_folder("x/y//z/"), &e));
    assert_true(path_make_dir(in_folder("x/y/z"), &e));
    assert_true(path_is_dir(in_folder("x/y/z")));
    assert_false(path_is_file(in_folder("x/y/z")));
    assert_true(write_text(in_folder("x/file"), "", &e));
    assert_true(path_is_file(in_folder("x/file")));
    assert_false(path_make_dir(in_folder("x/file"), &e));
    expect_error(e, ERROR_FILE, "x/file: is a file");
    e = (error){0};
    assert_false(path_make_dir(in_folder("x/file/below"), &e));
    assert_int_equal(e.code, ERROR_FILE);
    /* what forbids it is told, not that it is not there */
    e = (error){0};
    assert_int_equal(chmod(in_folder("x/y"), 0555), 0);
    assert_int_equal(chdir(in_folder("x/y")), 0);
    bool root = geteuid() == 0;
    if (root) assert_int_equal(seteuid(65534), 0);
    bool made = path_make_dir("new/one", &e);
    if (root) assert_int_equal(seteuid(0), 0);
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(chmod(in_folder("x/y"), 0755), 0);
    assert_false(made);
    expect_error(e, ERROR_FILE, "new: cannot make the folder: Permission denied");
    char *p = path_join("a", "b");
    assert_string_equal(p, "a/b");
    free(p);
    p = path_join("a/", "b");
    assert_string_equal(p, "a/b");
    free(p);
    p = path_join("", "b");
    assert_string_equal(p, "b");
    free(p);
    p = string_format("%d %s", 3, "x");
    assert_string_equal(p, "3 x");
    free(p);
    p = path_of_program();
    assert_true(path_is_dir(p));
    free(p);
}

static void test_memory(void **state)
{
    (void)state;
    size_t sizes[] = {0, 1, 5000, (2u << 20) - 1, 2u << 20, (64u << 20) + 3};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *b = block_alloc(sizes[i]);
        assert_non_null(b);
        assert_int_equal((uintptr_t)b % (sizes[i] < 2u << 20 ? 64 : 2u << 20), 0);
        for (size_t j = 0; j < sizes[i]; j += 4000) assert_int_equal(b[j], 0);
        if (sizes[i]) b[sizes[i] - 1] = 1;
        block_free(b, sizes[i]);
    }
    assert_null(block_alloc(SIZE_MAX));
    assert_null(block_alloc((size_t)1 << 60));
    block_free(NULL, 10);
    uint64_t available = memory_available(), peak = memory_peak();
    assert_true(available > 1 << 20 && available < (uint64_t)1 << 50);
    assert_true(peak > 1 << 20 && peak < (uint64_t)1 << 40);
    assert_in_range(cpu_count(), 1, 4096);
    double t = clock_seconds();
    assert_true(clock_seconds() >= t);
}

static void test_allocations(void **state)
{
    (void)state;
    if (!allocation_can_fail()) skip();
    error e = {0};
    assert_true(write_text(in_folder("a"), "old", &e));
    for (long n = 0;; n++) {
        e = (error){0};
        allocation_fail_at(n);
        char *text = NULL;
        bool ok = write_text(in_folder("a"), "old", &e) && path_make_dir(in_folder("d"), &e) &&
                  file_read(in_folder("a"), 10, &text, NULL, &e);
        bool struck = allocation_fail_end();
        free(text);
        assert_int_equal(count_files(folder), path_is_dir(in_folder("d")) ? 2 : 1);
        if (!struck) {
            assert_true(ok);
            assert_true(n >= 5);
            break;
        }
        if (!ok) assert_int_equal(e.code, ERROR_MEMORY);
    }
    expect_text(in_folder("a"), "old");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_write_and_read, setup),
        cmocka_unit_test_setup(test_abandon, setup),
        cmocka_unit_test_setup(test_write_errors, setup),
        cmocka_unit_test_setup(test_full_device, setup),
        cmocka_unit_test_setup(test_full_disk, setup),
        cmocka_unit_test_setup(test_read_errors, setup),
        cmocka_unit_test_setup(test_map, setup),
        cmocka_unit_test_setup(test_paths, setup),
        cmocka_unit_test_setup(test_memory, setup),
        cmocka_unit_test_setup(test_allocations, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
