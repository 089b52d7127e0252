#include "common/cores.h"

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The first line of root + group + file; false: there is none. */
static bool read_line(const char *root, const char *group, const char *file, char line[64])
{
    char path[PATH_MAX];

    if (snprintf(path, sizeof path, "%s%s/%s", root, group, file) >= (int)sizeof path)
        return false;
    FILE *stream = fopen(path, "re");
    bool is_read = stream && fgets(line, 64, stream);
    if (stream)
        fclose(stream);
    return is_read;
}

/* What one group may use, in µs of a core and of time. false: no limit. */
static bool read_quota(const char *root, const char *group, bool is_version_1, long long *ret_quota,
                       long long *ret_period)
{
    char line[64];

    if (!is_version_1)
        return read_line(root, group, "cpu.max", line) && sscanf(line, "%lld %lld", ret_quota, ret_period) == 2;
    return read_line(root, group, "cpu.cfs_quota_us", line) && sscanf(line, "%lld", ret_quota) == 1
           && read_line(root, group, "cpu.cfs_period_us", line) && sscanf(line, "%lld", ret_period) == 1;
}

/* The group and each above it, up to the root. Cuts group. */
static long within_group(long cores, const char *root, char *group, bool is_version_1)
{
    for (char *end = group + strlen(group); end; end = strrchr(group, '/')) {
        long long quota, period;
        *end = '\0';
        if (read_quota(root, group, is_version_1, &quota, &period) && quota > 0 && period > 0 && quota / period < cores)
            cores = quota < period ? 1 : (long)(quota / period);
    }
    return cores;
}

static bool has_cpu(const char *controllers)
{
    for (const char *at = controllers; at; at = strchr(at, ','), at += at != NULL)
        if (strncmp(at, "cpu", 3) == 0 && (at[3] == '\0' || at[3] == ','))
            return true;
    return false;
}

long weir_cores_within(long cores, const char *groups, const char *root)
{
    FILE *stream = fopen(groups, "re");
    char line[PATH_MAX], of_version_1[PATH_MAX];

    while (stream && fgets(line, sizeof line, stream)) { /* "4:cpu,cpuacct:/name", or "0::/name" of version 2 */
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        controllers++;
        if (*controllers == '\0')
            cores = within_group(cores, root, group, false);
        else if (has_cpu(controllers)
                 && snprintf(of_version_1, sizeof of_version_1, "%s/%s", root, controllers) < (int)sizeof of_version_1)
            cores = within_group(cores, of_version_1, group, true);
    }
    if (stream)
        fclose(stream);
    return cores;
}

long weir_cores(void)
{
    cpu_set_t bound;
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    /* It fails where the system has more than 1,024. */
    long cores = sched_getaffinity(0, sizeof bound, &bound) == 0 ? CPU_COUNT(&bound) : online;

    return weir_cores_within(cores < 1 ? 1 : cores, "/proc/self/cgroup", "/sys/fs/cgroup");
}
