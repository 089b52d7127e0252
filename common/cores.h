/* How many cores this process may use: those that it is bound to (taskset, cpuset), and no more than the quota of its
 * control group allows, as a container's limit sets it. Cores on line say nothing of a container that has two of 64.
 *
 * Any thread; asks the system each time.
 */
#ifndef WEIR_COMMON_CORES_H
#define WEIR_COMMON_CORES_H

/* At least 1. Of a quota only whole cores count: 1.5 are 1. */
long weir_cores(void);

/* No more of cores than the quotas of the groups that the file groups lists ("/proc/self/cgroup"), and of those above
 * them, allow. root: "/sys/fs/cgroup". A group that is not found there has no quota, since a container may see its own
 * group as root whatever its name is outside. Both versions of control groups. */
long weir_cores_within(long cores, const char *groups, const char *root);

#endif
