/* SPDX-License-Identifier: Apache-2.0
 *
 * Folders: what killed processes left is collected and nothing else; files move into place; room is
 * told for folders that are not there yet. */
#include "support.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/folder.h"
#include "base/platform.h"

static char place[600];

static const char *in(const char *name)
{
    static char path[6][1200];
    static int turn;
    turn = (turn + 1) % 6;
    snprintf(path[turn], sizeof path[turn], "%s/%s", place, name);
    return path[turn];
}

static void put(const char *name, const char *text)
{
    FILE *f = fopen(in(name), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static bool there(const char *name) { return access(in(name), F_OK) == 0; }

static void holds(const char *name, const char *text)
{
    char *found;
    error e = {0};
    if (!file_read(in(name), 1000, &found, NULL, &e)) fail_msg("%s", e.text);
    assert_string_equal(found, text);
    free(found);
}

static int setup(void **state)
{
    (void)state;
    static int count;
    error e = {0};
    snprintf(place, sizeof place, "%s/%d", scratch_dir(), count++);
    return path_make_dir(place, &e) ? 0 : -1;
}

static void test_sweep(void **state)
{
    (void)state;
    enum { GONE = 3, NAMES = 9 };
    char name[NAMES][64];
    pid_t dead = fork();
    if (dead == 0) _exit(0);
    waitpid(dead, NULL, 0);
    long own = getpid(), gone = dead;
    snprintf(name[0], sizeof *name, ".a.json.%ld-0.tmp", gone);
    snprintf(name[1], sizeof *name, ".class-0001.png.%ld-12.tmp.png", gone);
    snprintf(name[2], sizeof *name, "..b.png.%ld-0.tmp.png.%ld-0.tmp", gone, gone);
    snprintf(name[3], sizeof *name, ".a.json.%ld-0.tmp", own);
    snprintf(name[4], sizeof *name, "a.json.%ld-0.tmp", gone);
    snprintf(name[5], sizeof *name, ".a.json.%ld.tmp", gone);
    snprintf(name[6], sizeof *name, ".a.json.%ld-0.tmp.jpg", gone);
    snprintf(name[7], sizeof *name, ".%ld-0.tmp", gone);
    snprintf(name[8], sizeof *name, ".a.json.-0.tmp");
    for (int i = 0; i < NAMES; i++) put(name[i], "x");
    char link[64], folder[64];
    snprintf(link, sizeof link, ".link.%ld-0.tmp", gone);
    snprintf(folder, sizeof folder, ".folder.%ld-0.tmp", gone);
    assert_int_equal(symlink("/nowhere", in(link)), 0);
    assert_int_equal(mkdir(in(folder), 0777), 0);
    folder_sweep(place);
    for (int i = 0; i < NAMES; i++)
        if (there(name[i]) != (i >= GONE))
            fail_msg("%s is %s", name[i], there(name[i]) ? "left" : "gone");
    assert_true(there(folder));
    struct stat info;
    assert_int_equal(lstat(in(link), &info), 0);
    folder_sweep(in("no-such"));
}

/* Files take the place of files, others stay, the last comes last. */
static void test_install(void **state)
{
    (void)state;
    error e = {0};
    assert_true(path_make_dir(in("new/unet"), &e) && path_make_dir(in("old/unet"), &e) &&
                path_make_dir(in("new/vae"), &e));
    put("new/index", "2");
    put("new/unet/weights", "new");
    put("new/vae/weights", "vae");
    put("old/index", "1");
    put("old/unet/weights", "old");
    put("old/unet/notes", "kept");
    put("old/other", "kept too");
    if (!folder_install(in("new"), in("old"), "index", &e)) fail_msg("%s", e.text);
    holds("old/index", "2");
    holds("old/unet/weights", "new");
    holds("old/unet/notes", "kept");
    holds("old/other", "kept too");
    holds("old/vae/weights", "vae");
    assert_false(there("new"));
    /* what cannot be moved leaves a folder without its index, never a mixed one with */
    assert_true(path_make_dir(in("new/unet"), &e) && path_make_dir(in("old/unet/a"), &e));
    put("new/index", "3");
    put("new/unet/a", "where a folder is");
    assert_false(folder_install(in("new"), in("old"), "index", &e));
    assert_false(there("old/index"));
    holds("new/index", "3");
}

static void test_room(void **state)
{
    (void)state;
    uint64_t here = folder_space(place);
    assert_true(here != UINT64_MAX);
    assert_true(folder_space(in("not/there/yet")) != UINT64_MAX);
    assert_true(folder_space("not-there-yet-below-here") != UINT64_MAX);
}

static void test_can_write(void **state)
{
    (void)state;
    error e = {0};
    folder_names names;
    assert_true(folder_can_write(in("made/here"), &e));
    assert_true(folder_list(&names, in("made/here"), &e));
    assert_int_equal(names.count, 0);
    folder_list_free(&names);
    put("file", "x");
    assert_false(folder_can_write(in("file"), &e));
    error proc = {0};
    assert_false(folder_can_write("/proc/likeness", &proc));
    assert_non_null(strstr(proc.text, "no folder can be made there"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_sweep, setup),
        cmocka_unit_test_setup(test_install, setup),
        cmocka_unit_test_setup(test_room, setup),
        cmocka_unit_test_setup(test_can_write, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
