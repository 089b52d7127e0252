/* Signals, and what systemd is told (over a socket of our own in its place). */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/calendar.h"
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

Test(daemon, a_part_that_cannot_go_on_sets_the_same_flag)
{
    const _Atomic bool *stop = weir_daemon_catch_signals();

    cr_assert_not(*stop);
    weir_daemon_stop();
    cr_assert(*stop);
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

/* A thread that does as it is told, and has done it when tell returns. */
enum order { ALIVE, REST, END };

struct loop {
    pthread_t thread;
    sem_t told, done;
    enum order order;
};

static void *obey(void *context)
{
    struct loop *loop = context;
    bool is_over = false;

    while (!is_over) {
        sem_wait(&loop->told);
        is_over = loop->order == END;
        if (loop->order == ALIVE)
            weir_daemon_alive();
        else
            weir_daemon_rest();
        sem_post(&loop->done);
    }
    return NULL;
}

static void begin(struct loop *loop)
{
    sem_init(&loop->told, 0, 0);
    sem_init(&loop->done, 0, 0);
    cr_assert_eq(pthread_create(&loop->thread, NULL, obey, loop), 0);
}

static void tell(struct loop *loop, enum order order)
{
    loop->order = order;
    sem_post(&loop->told);
    sem_wait(&loop->done);
    if (order != END)
        return;
    pthread_join(loop->thread, NULL);
    sem_destroy(&loop->told);
    sem_destroy(&loop->done);
}

static void await(int64_t time)
{
    while (weir_monotonic() < time)
        sched_yield();
}

Test(daemon, silence_is_that_of_the_loop_silent_for_longest)
{
    struct loop one, other;

    begin(&one);
    begin(&other);
    cr_assert_eq(weir_daemon_silence(), 0, "no loop has begun");
    tell(&one, ALIVE);
    int64_t one_after = weir_monotonic();
    await(one_after + WEIR_SECOND / 50);
    int64_t other_before = weir_monotonic();
    tell(&other, ALIVE);
    int64_t now = weir_monotonic();
    cr_assert_geq(weir_daemon_silence(), now - one_after, "the other one's round is not its own");
    tell(&one, REST);
    int64_t silence = weir_daemon_silence();
    cr_assert_leq(silence, weir_monotonic() - other_before, "one that rests counts no longer");
    cr_assert_gt(silence, 0);
    tell(&one, ALIVE); /* and may begin again */
    tell(&other, END);
    cr_assert_leq(weir_daemon_silence(), weir_monotonic() - now);
    tell(&one, END);
    cr_assert_eq(weir_daemon_silence(), 0, "all rest");
}

Test(daemon, a_loop_that_begins_again_is_not_another_one)
{
    struct loop one, other;

    begin(&one);
    begin(&other);
    tell(&one, ALIVE);
    tell(&one, REST);
    tell(&other, ALIVE); /* where the first one was */
    int64_t after = weir_monotonic();
    await(after + WEIR_SECOND / 50);
    tell(&one, ALIVE);
    int64_t now = weir_monotonic();
    cr_assert_geq(weir_daemon_silence(), now - after);
    tell(&one, END);
    tell(&other, END);
}

Test(daemon, a_loop_that_is_over_makes_room_for_another)
{
    static struct loop loops[WEIR_DAEMON_LOOPS_MAX];

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < WEIR_DAEMON_LOOPS_MAX; i++) {
            begin(&loops[i]);
            tell(&loops[i], ALIVE);
        }
        for (int i = 0; i < WEIR_DAEMON_LOOPS_MAX; i++)
            tell(&loops[i], END);
    }
}

Test(daemon, more_loops_than_it_has_room_for_are_a_broken_promise, .signal = SIGABRT)
{
    static struct loop loops[WEIR_DAEMON_LOOPS_MAX];

    for (int i = 0; i < WEIR_DAEMON_LOOPS_MAX; i++) {
        begin(&loops[i]);
        tell(&loops[i], ALIVE);
    }
    weir_daemon_alive();
}

/* How often the watchdog was told. */
static int told(int fd)
{
    char text[64];
    int count = 0;

    while (recv(fd, text, sizeof text, MSG_DONTWAIT) > 0)
        count++;
    return count;
}

/* This thread's loop goes round so long; how often the watchdog was told. */
static int go_round(int fd, int64_t duration)
{
    int64_t end = weir_monotonic() + duration;
    int count = 0;

    while (weir_monotonic() < end) {
        weir_daemon_alive();
        count += told(fd);
    }
    weir_daemon_alive(); /* however long it had no core: once at least at the end */
    return count + told(fd);
}

Test(daemon, the_watchdog_is_told_only_of_a_round_that_every_loop_has_made)
{
    const int64_t long_enough = WEIR_SECOND / 50; /* forty times the interval at which it is told */
    char folder[] = "/tmp/weir-test-daemon-XXXXXX", path[64];
    int fd = listen_as_systemd(folder);
    struct loop other;

    setenv("WATCHDOG_USEC", "2000", 1);
    unsetenv("WATCHDOG_PID");
    weir_daemon_catch_signals();
    begin(&other);
    tell(&other, ALIVE);
    cr_assert_eq(told(fd), 1);
    cr_assert_eq(go_round(fd, long_enough), 0, "the other one stands still");
    tell(&other, ALIVE);
    cr_assert_eq(told(fd), 1, "both have gone round since");
    cr_assert_leq(go_round(fd, long_enough), 1);
    tell(&other, REST);
    cr_assert_gt(go_round(fd, long_enough), 1, "alone it goes on");
    tell(&other, END);
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
