/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of control groups on trees of files as Linux shows them: version 2 and 1, limits of the
 * group and of those above it, none, and a container whose group is not to be seen. */
#include "base/cgroup.h"
#include "base/platform.h"
#include "support.h"

static char folder[256], groups[300], self[300];
static cgroup_place place;

/* A fresh tree, and what /proc/self/cgroup says. */
static void begin(const char *said)
{
    static int n;
    error e = {0};
    snprintf(folder, sizeof folder, "%s/%d", scratch_dir(), n++);
    snprintf(groups, sizeof groups, "%s/groups", folder);
    snprintf(self, sizeof self, "%s/self", folder);
    assert_true(path_make_dir(groups, &e));
    place = (cgroup_place){groups, self};
    FILE *f = fopen(self, "w");
    assert_non_null(f);
    fputs(said, f);
    fclose(f);
}

static void put(const char *group, const char *name, const char *text)
{
    char path[900];
    error e = {0};
    snprintf(path, sizeof path, "%s%s", groups, group);
    assert_true(path_make_dir(path, &e));
    snprintf(path, sizeof path, "%s%s/%s", groups, group, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void test_none(void **state)
{
    (void)state;
    begin("0::/\n");
    assert_int_equal(cgroup_processors(&place), INT32_MAX);
    assert_true(cgroup_memory_left(&place) == UINT64_MAX);
    put("", "cpu.max", "max 100000\n");
    put("", "memory.max", "max\n");
    assert_int_equal(cgroup_processors(&place), INT32_MAX);
    assert_true(cgroup_memory_left(&place) == UINT64_MAX);
    place.self = "/nowhere/at/all";
    assert_int_equal(cgroup_processors(&place), INT32_MAX);
}

static void test_version_2(void **state)
{
    (void)state;
    begin("0::/slice/service\n");
    put("/slice/service", "cpu.max", "max 100000\n");
    put("/slice", "cpu.max", "250000 100000\n"); /* two and a half, above the group */
    put("", "cpu.max", "800000 100000\n");
    assert_int_equal(cgroup_processors(&place), 3);
    put("/slice/service", "cpu.max", "50000 100000\n");
    assert_int_equal(cgroup_processors(&place), 1);
    put("/slice/service", "memory.max", "4000\n");
    put("/slice/service", "memory.current", "1000\n");
    put("/slice", "memory.max", "5000\n");
    put("/slice", "memory.current", "4500\n");
    put("/slice", "memory.stat", "anon 1\ninactive_file 2000\nactive_file 7\n");
    assert_int_equal(cgroup_memory_left(&place), 2500);
}

static void test_version_1(void **state)
{
    (void)state;
    begin("9:memory:/a\n4:cpuset:/x\n3:cpu,cpuacct:/a/b\n1:name=systemd:/\n");
    put("/cpu/a/b", "cpu.cfs_quota_us", "-1\n");
    put("/cpu/a/b", "cpu.cfs_period_us", "100000\n");
    put("/cpu/a", "cpu.cfs_quota_us", "400000\n");
    put("/cpu/a", "cpu.cfs_period_us", "100000\n");
    put("/cpu/x", "cpu.cfs_quota_us", "100000\n"); /* cpuset's group is no group of cpu */
    put("/cpu/x", "cpu.cfs_period_us", "100000\n");
    put("/memory/a", "memory.limit_in_bytes", "7000\n");
    put("/memory/a", "memory.usage_in_bytes", "3000\n");
    put("/memory/a", "memory.stat", "cache 9\ntotal_inactive_file 500\n");
    assert_int_equal(cgroup_processors(&place), 4);
    assert_int_equal(cgroup_memory_left(&place), 4500);
    put("/cpu/a/b", "cpu.cfs_quota_us", "150000\n");
    assert_int_equal(cgroup_processors(&place), 2);
}

/* A container sees its own group as the root, while its path is the host's. */
static void test_container(void **state)
{
    (void)state;
    begin("12:cpuacct,cpu:/docker/1234\n0::/docker/1234\n");
    put("", "cpu.max", "200000 100000\n");
    assert_int_equal(cgroup_processors(&place), 2);
    put("/cpu", "cpu.cfs_quota_us", "100000\n");
    put("/cpu", "cpu.cfs_period_us", "100000\n");
    assert_int_equal(cgroup_processors(&place), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_version_2),
        cmocka_unit_test(test_version_1),
        cmocka_unit_test(test_container),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
