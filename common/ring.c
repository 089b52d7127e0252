#include "common/ring.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

void weir_bell_open(struct weir_bell *bell)
{
    bell->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    weir_check(bell->fd >= 0); /* only without file descriptors at the start of the process */
}

void weir_bell_close(struct weir_bell *bell)
{
    close(bell->fd);
    bell->fd = -1;
}

void weir_bell_ring(struct weir_bell *bell)
{
    uint64_t one = 1;
    ssize_t written = write(bell->fd, &one, sizeof one);
    weir_check(written == sizeof one || errno == EAGAIN); /* EAGAIN: 2^64 rings are waiting, one is enough */
}

void weir_bell_wait(struct weir_bell *bell, int timeout_ms)
{
    struct pollfd poll_for = {.fd = bell->fd, .events = POLLIN};
    uint64_t rings;

    if (poll(&poll_for, 1, timeout_ms) > 0)
        (void)!read(bell->fd, &rings, sizeof rings); /* empties it; nothing there is fine too */
}
