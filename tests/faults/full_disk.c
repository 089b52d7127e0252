/* Preloaded into a server: while the file $FULL_DISK_FLAG exists, nothing grows below $FULL_DISK_FOLDER. What a file
 * has can be written over, as on a real disk; more of it, and a new file's first byte, is ENOSPC. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static bool is_full_for(int fd)
{
    static const char *flag, *folder;
    char link[64], path[4096];
    int kept = errno;

    if (!flag) {
        folder = getenv("FULL_DISK_FOLDER");
        flag = getenv("FULL_DISK_FLAG");
    }
    if (!flag || !folder || access(flag, F_OK) != 0) {
        errno = kept;
        return false;
    }
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = kept;
    return length > 0 && strncmp(path, folder, strlen(folder)) == 0;
}

/* offset -1: where the descriptor stands, or the end. */
static bool has_no_room(int fd, off_t offset, size_t count)
{
    struct stat stat;

    if (count == 0 || !is_full_for(fd) || fstat(fd, &stat) != 0 || !S_ISREG(stat.st_mode))
        return false;
    if (offset < 0)
        offset = fcntl(fd, F_GETFL) & O_APPEND ? stat.st_size : lseek(fd, 0, SEEK_CUR);
    if (offset + (off_t)count <= stat.st_size)
        return false;
    errno = ENOSPC;
    return true;
}

static size_t sum_of(const struct iovec *parts, int count)
{
    size_t sum = 0;
    for (int i = 0; i < count; i++)
        sum += parts[i].iov_len;
    return sum;
}

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *bytes, size_t count)
{
    return has_no_room(fd, -1, count) ? -1 : REAL(write)(fd, bytes, count);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return has_no_room(fd, -1, sum_of(parts, count)) ? -1 : REAL(writev)(fd, parts, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset)
{
    return has_no_room(fd, offset, count) ? -1 : REAL(pwrite)(fd, bytes, count, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t offset)
{
    return has_no_room(fd, offset, count) ? -1 : REAL(pwrite64)(fd, bytes, count, offset);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return has_no_room(fd, offset, sum_of(parts, count)) ? -1 : REAL(pwritev)(fd, parts, count, offset);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset)
{
    return has_no_room(fd, offset, sum_of(parts, count)) ? -1 : REAL(pwritev64)(fd, parts, count, offset);
}

int posix_fallocate(int fd, off_t offset, off_t length)
{
    return has_no_room(fd, offset, (size_t)length) ? ENOSPC : REAL(posix_fallocate)(fd, offset, length);
}

int posix_fallocate64(int fd, off_t offset, off_t length)
{
    return has_no_room(fd, offset, (size_t)length) ? ENOSPC : REAL(posix_fallocate64)(fd, offset, length);
}
