/* The metrics page by real HTTP over loopback: its text, health and readiness, what is refused, and updates from
 * threads. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/calendar.h"
#include "common/daemon.h"
#include "common/metrics.h"

static uint16_t port;

static int connect_to_page(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct timeval patience = {.tv_sec = 30};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* The whole answer, head and body. */
static const char *ask(const char *method, const char *path)
{
    static char answer[65536];
    char request[256];
    size_t have = 0;
    ssize_t more;
    int fd = connect_to_page();
    int length =
        snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", method, path);

    cr_assert_eq(write(fd, request, (size_t)length), length);
    while ((more = read(fd, answer + have, sizeof answer - 1 - have)) > 0)
        have += (size_t)more;
    close(fd);
    answer[have] = '\0';
    return answer;
}

static void assert_answers(const char *method, const char *path, int status, const char *body)
{
    char expected[32];
    const char *answer = ask(method, path);

    snprintf(expected, sizeof expected, "HTTP/1.1 %d ", status);
    cr_assert(strncmp(answer, expected, strlen(expected)) == 0, "%s %s: %s", method, path, answer);
    cr_assert(strstr(answer, body), "%s %s: %s", method, path, answer);
}

static struct weir_metrics *open_page(struct weir_metrics *metrics)
{
    struct weir_error error = {{0}};
    cr_assert_eq(weir_metrics_open(metrics, "127.0.0.1:0", &port, &error), WEIR_OK, "%s", error.text);
    cr_assert_gt(port, 0);
    return metrics;
}

static int64_t minus_seven(void *context)
{
    return *(int64_t *)context;
}

Test(metrics, page_is_prometheus_text)
{
    static const char expected[] = "# HELP weir_events_total Events.\n"
                                   "# TYPE weir_events_total counter\n"
                                   "weir_events_total{outcome=\"counted\"} 18446744073709551615\n"
                                   "weir_events_total{outcome=\"duplicate\"} 0\n"
                                   "# HELP weir_lag Behind.\n"
                                   "# TYPE weir_lag gauge\n"
                                   "weir_lag -7\n";
    struct weir_metrics *metrics = weir_metrics_new();
    _Atomic uint64_t counted = 0, duplicate = 0;
    int64_t lag = -7;

    weir_metrics_add(metrics, WEIR_METRIC_COUNTER, "weir_events_total", "outcome=\"counted\"", "Events.", &counted);
    weir_metrics_add(metrics, WEIR_METRIC_COUNTER, "weir_events_total", "outcome=\"duplicate\"", "", &duplicate);
    weir_metrics_add_call(metrics, WEIR_METRIC_GAUGE, "weir_lag", "", "Behind.", minus_seven, &lag);
    counted = UINT64_MAX;
    open_page(metrics);
    const char *answer = ask("GET", "/metrics");
    cr_assert(strncmp(answer, "HTTP/1.1 200 ", 13) == 0);
    cr_assert(strcasestr(answer, "content-type: text/plain; version=0.0.4"));
    cr_assert_str_eq(strstr(answer, "\r\n\r\n") + 4, expected);
    weir_metrics_free(metrics);
}

/* The figures of several workers, each twice as much as the one before. */
static uint64_t doubled(const void *context, size_t which)
{
    return *(const uint64_t *)context << which;
}

Test(metrics, figures_that_one_call_knows_by_number)
{
    struct weir_metrics *metrics = weir_metrics_new();
    uint64_t base = 1;

    weir_metrics_add_figure(metrics, WEIR_METRIC_COUNTER, "weir_cuts_total", "result=\"written\"", "Cuts.",
                            &(struct weir_metric_figures){doubled, &base}, 0);
    weir_metrics_add_figure(metrics, WEIR_METRIC_COUNTER, "weir_cuts_total", "result=\"fenced\"", "",
                            &(struct weir_metric_figures){doubled, &base}, 62);
    weir_metrics_add_figure(metrics, WEIR_METRIC_GAUGE, "weir_lanes", "", "Lanes.",
                            &(struct weir_metric_figures){doubled, &base}, 2);
    base = 3; /* asked when the page is */
    char *page = weir_metrics_page(metrics);
    cr_assert_str_eq(page, "# HELP weir_cuts_total Cuts.\n# TYPE weir_cuts_total counter\n"
                           "weir_cuts_total{result=\"written\"} 3\n"
                           "weir_cuts_total{result=\"fenced\"} 13835058055282163712\n"
                           "# HELP weir_lanes Lanes.\n# TYPE weir_lanes gauge\nweir_lanes 12\n");
    free(page);
    weir_metrics_free(metrics);
}

static void two_lanes(const struct weir_metric_rows *to)
{
    to->emit(to->page, "lane=\"events:0\"", *(int64_t *)to->context);
    to->emit(to->page, "lane=\"events:11\"", -1);
}

static void no_lane(const struct weir_metric_rows *to)
{
    (void)to;
}

Test(metrics, rows_that_come_and_go)
{
    struct weir_metrics *metrics = weir_metrics_new();
    int64_t lag = 42;

    weir_metrics_add_rows(metrics, WEIR_METRIC_GAUGE, "weir_lane_lag", "Behind.", two_lanes, &lag);
    weir_metrics_add_rows(metrics, WEIR_METRIC_GAUGE, "weir_lane_paused", "Paused.", no_lane, NULL);
    char *page = weir_metrics_page(metrics);
    cr_assert_str_eq(page, "# HELP weir_lane_lag Behind.\n# TYPE weir_lane_lag gauge\n"
                           "weir_lane_lag{lane=\"events:0\"} 42\nweir_lane_lag{lane=\"events:11\"} -1\n"
                           "# HELP weir_lane_paused Paused.\n# TYPE weir_lane_paused gauge\n");
    free(page);
    weir_metrics_free(metrics);
}

Test(metrics, health_readiness_and_nothing_else)
{
    struct weir_metrics *metrics = open_page(weir_metrics_new());

    assert_answers("GET", "/healthz", 200, "ok");
    assert_answers("GET", "/readyz", 503, "starting");
    weir_metrics_set_ready(metrics, true, NULL);
    assert_answers("GET", "/readyz", 200, "ready");
    weir_metrics_set_ready(metrics, false, "the window store is away");
    assert_answers("GET", "/readyz", 503, "the window store is away");
    assert_answers("GET", "/healthz", 200, "ok");
    assert_answers("HEAD", "/healthz", 200, "");
    assert_answers("GET", "/", 404, "/metrics");
    assert_answers("GET", "/metrics/", 404, "");
    assert_answers("GET", "/../etc/passwd", 404, "");
    assert_answers("POST", "/metrics", 405, "");
    assert_answers("DELETE", "/healthz", 405, "");
    weir_metrics_free(metrics);
}

static const char *why_not(void *context)
{
    return *(const char *_Atomic *)context;
}

Test(metrics, readiness_is_asked_for_when_the_page_is)
{
    const char *_Atomic reason = "lanes are yet to be taken";
    struct weir_metrics *metrics = weir_metrics_new();

    weir_metrics_ready_call(metrics, why_not, &reason);
    open_page(metrics);
    assert_answers("GET", "/readyz", 503, "starting");
    weir_metrics_set_ready(metrics, true, NULL);
    assert_answers("GET", "/readyz", 503, "lanes are yet to be taken");
    reason = NULL;
    assert_answers("GET", "/readyz", 200, "ready");
    weir_metrics_set_ready(metrics, false, "stopping");
    assert_answers("GET", "/readyz", 503, "stopping");
    weir_metrics_free(metrics);
}

/* The answers while the loop stands still; it goes on between them. */
Test(metrics, health_is_a_loop_that_goes_round)
{
    struct weir_metrics *metrics = weir_metrics_new();
    const struct timespec pause = {.tv_nsec = 20000000};

    weir_metrics_set_silence_max(metrics, WEIR_SECOND / 100);
    open_page(metrics);
    weir_metrics_set_ready(metrics, true, NULL);
    assert_answers("GET", "/healthz", 200, "ok"); /* it has not begun */
    weir_daemon_alive();
    nanosleep(&pause, NULL);
    assert_answers("GET", "/healthz", 503, "the loop does not go round");
    assert_answers("GET", "/readyz", 503, "the loop does not go round");
    weir_metrics_free(metrics);

    metrics = weir_metrics_new();
    open_page(metrics);
    weir_metrics_set_ready(metrics, true, NULL);
    assert_answers("GET", "/healthz", 200, "ok");
    assert_answers("GET", "/readyz", 200, "ready");
    weir_metrics_free(metrics);
}

Test(metrics, where_it_cannot_listen_is_said)
{
    struct weir_metrics *metrics = open_page(weir_metrics_new()), *other = weir_metrics_new();
    static const char *const wrong[] = {
        "", "9464", "localhost", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "host:1:2", "1.2.3:80"};
    struct weir_error error;
    char taken[32];

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cr_expect_eq(weir_metrics_open(other, wrong[i], NULL, &error), WEIR_REJECT, "%s", wrong[i]);
        cr_expect(strstr(error.text, "metrics.listen"), "%s", error.text);
    }
    snprintf(taken, sizeof taken, "127.0.0.1:%d", port);
    cr_assert_eq(weir_metrics_open(other, taken, NULL, &error), WEIR_FATAL);
    cr_assert(strstr(error.text, taken), "%s", error.text);
    cr_assert_eq(weir_metrics_open(other, "off", NULL, &error), WEIR_OK);
    weir_metrics_free(other);
    weir_metrics_free(metrics);
    cr_assert_null(weir_metrics_free(NULL));
}

/* Two threads count while the page is read: under TSan in tests/run. The page never goes back, and nothing is lost. */
enum { ADDS = 200000 };
static _Atomic uint64_t shared;

static void *count_up(void *context)
{
    for (int i = 0; i < ADDS; i++)
        atomic_fetch_add_explicit(&shared, 1, memory_order_relaxed);
    return context;
}

static uint64_t shown(void)
{
    uint64_t value = 0;
    cr_assert_eq(sscanf(strstr(ask("GET", "/metrics"), "\nweir_x "), "\nweir_x %" SCNu64, &value), 1);
    return value;
}

Test(metrics, counts_from_threads_are_all_there)
{
    struct weir_metrics *metrics = weir_metrics_new();
    pthread_t threads[2];
    uint64_t last = 0;

    weir_metrics_add(metrics, WEIR_METRIC_COUNTER, "weir_x", "", "X.", &shared);
    open_page(metrics);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, count_up, NULL), 0);
    for (int i = 0; i < 20; i++) {
        uint64_t now = shown();
        cr_assert_geq(now, last);
        last = now;
        weir_metrics_set_ready(metrics, i % 2 == 0, "odd");
        (void)ask("GET", "/readyz");
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(shown(), (uint64_t)2 * ADDS);
    weir_metrics_free(metrics);
}
