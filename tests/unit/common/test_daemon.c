/* Signals, and what systemd is told (over a socket of our own in its place). */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/daemon.h"

Test(daemon, sigterm_and_sigint_set_the_flag)
{
    const _Atomic bool *stop = weir_daemon_catch_signals();

    cr_assert_not(*stop);
    raise(SIGPIPE); /* a peer that went away ends nothing */
    cr_assert_not(*stop);
    raise(SIGTERM);
    cr_assert(*stop);
    raise(SIGTERM); /* a supervisor that repeats itself does no harm */
}

/* In a child: what it ends with after these signals. */
static int status_after(int first, int second)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        const _Atomic bool *stop = weir_daemon_catch_signals();
        raise(first);
        if (second)
            raise(second);
        _exit(*stop ? 42 : 43);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Test(daemon, a_second_sigint_ends_at_once)
{
    cr_assert_eq(status_after(SIGINT, 0), 42);
    cr_assert_eq(status_after(SIGINT, SIGINT), EXIT_FAILURE);
    cr_assert_eq(status_after(SIGTERM, SIGTERM), 42);
}

static int listen_as_systemd(char folder[])
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = 30};
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

    cr_assert(mkdtemp(folder));
    snprintf(address.sun_path, sizeof address.sun_path, "%s/notify", folder);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    setenv("NOTIFY_SOCKET", address.sun_path, 1);
    return fd;
}

static const char *heard(int fd)
{
    static char text[256];
    ssize_t length = recv(fd, text, sizeof text - 1, 0);

    text[length > 0 ? length : 0] = '\0';
    return text;
}

Test(daemon, tells_systemd)
{
    char folder[] = "/tmp/weir-test-daemon-XXXXXX", path[64], text[256], pid[32];
    int fd = listen_as_systemd(folder);

    snprintf(pid, sizeof pid, "%d", (int)getpid());
    setenv("WATCHDOG_USEC", "60000000", 1);
    setenv("WATCHDOG_PID", pid, 1);
    weir_daemon_catch_signals();
    weir_daemon_ready("3 lanes");
    cr_assert_str_eq(heard(fd), "READY=1\nSTATUS=3 lanes");
    weir_daemon_alive();
    weir_daemon_alive(); /* too soon: not sent again */
    weir_daemon_stopping();
    snprintf(text, sizeof text, "%s", heard(fd));
    if (strcmp(text, "WATCHDOG=1") == 0) /* not sent in a machine's first quarter of a minute */
        snprintf(text, sizeof text, "%s", heard(fd));
    cr_assert_str_eq(text, "STOPPING=1");
    close(fd);
    snprintf(path, sizeof path, "%s/notify", folder);
    unlink(path);
    rmdir(folder);
}

Test(daemon, without_systemd_nothing_happens)
{
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    weir_daemon_catch_signals();
    weir_daemon_ready("x");
    weir_daemon_alive();
    weir_daemon_stopping();
}

/* Nothing but a terminal is written over. */
Test(progress, is_silent_elsewhere)
{
    FILE *caught = tmpfile();

    dup2(fileno(caught), STDERR_FILENO);
    struct weir_progress progress = weir_progress_start("weir rate");
    weir_progress_show(&progress, "%d events", 1);
    weir_progress_end(&progress);
    cr_assert_eq(lseek(fileno(caught), 0, SEEK_END), 0);
    fclose(caught);
}

/* On a terminal: not at once, then one line that is written over, at most five times a second, and gone at the end. */
Test(progress, is_one_line_on_a_terminal)
{
    static char text[65536];
    int terminal = posix_openpt(O_RDWR | O_NOCTTY), shows = 0;
    struct timespec began, now;
    ssize_t length = 0, more;

    cr_assert(grantpt(terminal) == 0 && unlockpt(terminal) == 0);
    int screen = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    dup2(screen, STDERR_FILENO);
    fcntl(terminal, F_SETFL, O_NONBLOCK);
    clock_gettime(CLOCK_MONOTONIC, &began);
    struct weir_progress progress = weir_progress_start("weir rate");
    weir_progress_show(&progress, "%d events", 0);
    cr_assert_lt(read(terminal, text, sizeof text), 0, "a short run shows nothing");
    do {
        weir_progress_show(&progress, "%d events", 7);
        while ((more = read(terminal, text + length, sizeof text - 1 - (size_t)length)) > 0)
            length += more;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - began.tv_sec < 4);
    weir_progress_end(&progress);
    more = read(terminal, text + length, sizeof text - 1 - (size_t)length);
    text[length + (more > 0 ? more : 0)] = '\0';
    for (const char *at = text; (at = strstr(at, "\r\033[Kweir rate: 7 events")); at++)
        shows++;
    cr_assert(shows >= 1 && shows <= 11, "%d times in two seconds", shows);
    cr_assert_not(strchr(text, '\n'));
    cr_assert_str_eq(text + strlen(text) - 4, "\r\033[K");
    close(screen);
    close(terminal);
}
