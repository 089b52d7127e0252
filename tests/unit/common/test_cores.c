#include "common/cores.h"

#include <criterion/criterion.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char root[64], groups[128];

static void put(const char *path, const char *text)
{
    FILE *stream = fopen(path, "w");
    cr_assert(stream && fputs(text, stream) >= 0 && fclose(stream) == 0, "%s", path);
}

/* A file of the tree, with the folders that lead to it. */
static void plant(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        (void)mkdir(path, 0700);
        *slash = '/';
    }
    put(path, text);
}

static void start(void)
{
    strcpy(root, "/tmp/weir-test-cores-XXXXXX");
    cr_assert_not_null(mkdtemp(root));
    snprintf(groups, sizeof groups, "%s/groups", root);
}

static void end(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", root);
    cr_assert_eq(system(command), 0);
}

static long within(long cores, const char *listed)
{
    put(groups, listed);
    return weir_cores_within(cores, groups, root);
}

TestSuite(cores, .init = start, .fini = end);

Test(cores, a_quota_of_the_group_or_of_one_above_it_holds)
{
    plant("pods/one/main/cpu.max", "max 100000\n");
    plant("pods/one/cpu.max", "400000 100000\n");
    plant("pods/cpu.max", "3200000 100000\n");
    cr_expect_eq(within(64, "0::/pods/one/main\n"), 4);
    cr_expect_eq(within(64, "0::/pods/one\n"), 4);
    cr_expect_eq(within(64, "0::/pods\n"), 32);
    cr_expect_eq(within(2, "0::/pods/one/main\n"), 2, "there are no more than there are");
}

Test(cores, a_container_sees_its_own_group_as_root)
{
    plant("cpu.max", "200000 100000\n");
    cr_expect_eq(within(64, "0::/\n"), 2);
    cr_expect_eq(within(64, "0::/docker/0123\n"), 2);
    cr_expect_eq(within(64, "0::/../..\n"), 2);
}

Test(cores, only_whole_cores_count_but_one_there_is)
{
    plant("a/cpu.max", "199999 100000\n");
    plant("b/cpu.max", "50000 100000\n");
    plant("c/cpu.max", "30000 10000\n");
    cr_expect_eq(within(8, "0::/a\n"), 1);
    cr_expect_eq(within(8, "0::/b\n"), 1);
    cr_expect_eq(within(8, "0::/c\n"), 3);
}

Test(cores, version_1_says_it_in_two_files)
{
    plant("cpu,cpuacct/box/cpu.cfs_quota_us", "300000\n");
    plant("cpu,cpuacct/box/cpu.cfs_period_us", "100000\n");
    plant("cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    plant("cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    plant("cpuset/box/cpu.cfs_quota_us", "100000\n");
    plant("cpuset/box/cpu.cfs_period_us", "100000\n");
    static const char listed[] = "5:cpuset:/box\n4:cpu,cpuacct:/box\n3:cpuacct:/box\n1:name=systemd:/box\n0::/box\n";
    cr_expect_eq(within(16, listed), 3);
    cr_expect_eq(within(16, "4:cpu,cpuacct:/\n"), 16);
}

Test(cores, what_cannot_be_read_is_no_limit)
{
    plant("odd/cpu.max", "nonsense\n");
    plant("zero/cpu.max", "0 0\n");
    plant("below/cpu.max", "-5 100000\n");
    cr_expect_eq(within(7, "0::/odd\n"), 7);
    cr_expect_eq(within(7, "0::/zero\n"), 7);
    cr_expect_eq(within(7, "0::/below\n"), 7);
    cr_expect_eq(within(7, "0::/nowhere\n"), 7);
    cr_expect_eq(within(7, "no group\n\n:\n"), 7);
    cr_expect_eq(weir_cores_within(7, "/nowhere", root), 7);
}

Test(cores, those_that_the_process_is_bound_to)
{
    cpu_set_t one;
    long before = weir_cores();
    cr_assert_geq(before, 1);
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    cr_assert_eq(sched_setaffinity(0, sizeof one, &one), 0);
    cr_expect_eq(weir_cores(), 1);
}
