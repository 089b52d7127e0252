#include "common/metrics.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/daemon.h"

struct metric {
    enum weir_metric_type type;
    const char *name, *labels, *help;
    const _Atomic uint64_t *value;
    struct weir_metric_figures of;
    size_t which;
    int64_t (*call)(void *context);
    void (*rows)(const struct weir_metric_rows *to);
    void *context;
};

/* Where a row goes. */
struct row_page {
    FILE *file;
    const char *name;
};

struct weir_metrics {
    struct metric metrics[WEIR_METRICS_MAX];
    int count;
    struct MHD_Daemon *server;
    _Atomic bool is_ready;
    _Atomic(const char *) reason;
    const char *(*why_not)(void *context);
    void *why_not_context;
    int64_t silence_max;
};

struct weir_metrics *weir_metrics_new(void)
{
    struct weir_metrics *metrics = weir_new(sizeof *metrics);
    atomic_init(&metrics->reason, "starting");
    metrics->silence_max = WEIR_SILENCE_MAX;
    return metrics;
}

struct weir_metrics *weir_metrics_free(struct weir_metrics *metrics)
{
    if (metrics && metrics->server)
        MHD_stop_daemon(metrics->server);
    free(metrics);
    return NULL;
}

static void add(struct weir_metrics *metrics, struct metric metric)
{
    weir_check(metrics->count < WEIR_METRICS_MAX);
    weir_check(!metrics->server);
    metrics->metrics[metrics->count++] = metric;
}

void weir_metrics_add(struct weir_metrics *metrics, enum weir_metric_type type, const char *name, const char *labels,
                      const char *help, const _Atomic uint64_t *value)
{
    add(metrics, (struct metric){.type = type, .name = name, .labels = labels, .help = help, .value = value});
}

void weir_metrics_add_figure(struct weir_metrics *metrics, enum weir_metric_type type, const char *name,
                             const char *labels, const char *help, const struct weir_metric_figures *of, size_t which)
{
    add(metrics,
        (struct metric){.type = type, .name = name, .labels = labels, .help = help, .of = *of, .which = which});
}

void weir_metrics_add_call(struct weir_metrics *metrics, enum weir_metric_type type, const char *name,
                           const char *labels, const char *help, int64_t (*call)(void *context), void *context)
{
    add(metrics,
        (struct metric){.type = type, .name = name, .labels = labels, .help = help, .call = call, .context = context});
}

void weir_metrics_add_rows(struct weir_metrics *metrics, enum weir_metric_type type, const char *name, const char *help,
                           void (*rows)(const struct weir_metric_rows *to), void *context)
{
    add(metrics,
        (struct metric){.type = type, .name = name, .labels = "", .help = help, .rows = rows, .context = context});
}

static uint64_t value_of(const struct metric *metric)
{
    if (metric->of.read)
        return metric->of.read(metric->of.context, metric->which);
    return atomic_load_explicit(metric->value, memory_order_relaxed); /* a figure by itself */
}

static void print_row(void *page, const char *labels, int64_t value)
{
    const struct row_page *to = page;

    fprintf(to->file, "%s{%s} %" PRId64 "\n", to->name, labels, value);
}

char *weir_metrics_page(const struct weir_metrics *metrics)
{
    char *text = NULL;
    size_t size = 0;
    FILE *page = open_memstream(&text, &size);

    weir_check(page != NULL);
    for (int i = 0; i < metrics->count; i++) {
        const struct metric *metric = &metrics->metrics[i];
        if (i == 0 || strcmp(metric->name, metrics->metrics[i - 1].name) != 0)
            fprintf(page, "# HELP %s %s\n# TYPE %s %s\n", metric->name, metric->help, metric->name,
                    metric->type == WEIR_METRIC_COUNTER ? "counter" : "gauge");
        const char *open = *metric->labels ? "{" : "", *close = *metric->labels ? "}" : "";
        struct row_page rows = {page, metric->name};
        if (metric->rows)
            metric->rows(&(struct weir_metric_rows){metric->context, print_row, &rows});
        else if (metric->call)
            fprintf(page, "%s%s%s%s %" PRId64 "\n", metric->name, open, metric->labels, close,
                    metric->call(metric->context));
        else
            fprintf(page, "%s%s%s%s %" PRIu64 "\n", metric->name, open, metric->labels, close, value_of(metric));
    }
    fclose(page);
    return text;
}

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type, char *text)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);

    if (!response) {
        free(text);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

/* One line. */
static enum MHD_Result say(struct MHD_Connection *connection, unsigned status, const char *text)
{
    char line[256];
    int length = snprintf(line, sizeof line, "%s\n", text);

    return answer(connection, status, "text/plain; charset=utf-8",
                  weir_copy_text(line, (size_t)length < sizeof line ? (size_t)length : sizeof line - 1));
}

static const char *why_not_ready(const struct weir_metrics *metrics)
{
    /* acquire pairs with set_ready's release: the reason belongs to the flag. */
    if (!atomic_load_explicit(&metrics->is_ready, memory_order_acquire))
        return atomic_load_explicit(&metrics->reason, memory_order_relaxed);
    return metrics->why_not ? metrics->why_not(metrics->why_not_context) : NULL;
}

static enum MHD_Result serve(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                             const char *version, const char *data, size_t *size, void **request)
{
    struct weir_metrics *metrics = context;
    static const char silent[] = "the loop does not go round";

    (void)version, (void)data, (void)size, (void)request;
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        return say(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET only");
    if (strcmp(url, "/metrics") == 0)
        return answer(connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", weir_metrics_page(metrics));
    bool is_silent = weir_daemon_silence() > metrics->silence_max;
    if (strcmp(url, "/healthz") == 0)
        return is_silent ? say(connection, MHD_HTTP_SERVICE_UNAVAILABLE, silent) : say(connection, MHD_HTTP_OK, "ok");
    if (strcmp(url, "/readyz") != 0)
        return say(connection, MHD_HTTP_NOT_FOUND, "/metrics /healthz /readyz");
    const char *why_not = is_silent ? silent : why_not_ready(metrics);
    return why_not ? say(connection, MHD_HTTP_SERVICE_UNAVAILABLE, why_not) : say(connection, MHD_HTTP_OK, "ready");
}

/* "HOST:PORT". */
static bool parse_listen(const char *listen, struct sockaddr_in *ret_address)
{
    const char *colon = strrchr(listen, ':');
    char host[64], *end;

    if (!colon || (size_t)(colon - listen) >= sizeof host)
        return false;
    memcpy(host, listen, (size_t)(colon - listen));
    host[colon - listen] = '\0';
    long port = strtol(colon + 1, &end, 10);
    if (end == colon + 1 || *end || port < 0 || port > 65535)
        return false;
    *ret_address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    return inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &ret_address->sin_addr) == 1;
}

enum weir_status weir_metrics_open(struct weir_metrics *metrics, const char *listen, uint16_t *ret_port,
                                   struct weir_error *reterr)
{
    struct sockaddr_in address;

    if (strcmp(listen, "off") == 0)
        return WEIR_OK;
    if (!parse_listen(listen, &address))
        return weir_fail(reterr, WEIR_REJECT, "metrics.listen: '%s' is not HOST:PORT (HOST an IPv4 address) or off",
                         listen);
    metrics->server = MHD_start_daemon(MHD_USE_AUTO_INTERNAL_THREAD, ntohs(address.sin_port), NULL, NULL, serve,
                                       metrics, MHD_OPTION_SOCK_ADDR, &address, MHD_OPTION_CONNECTION_LIMIT, 16u,
                                       MHD_OPTION_CONNECTION_TIMEOUT, 10u, MHD_OPTION_END);
    if (!metrics->server)
        return weir_fail(reterr, WEIR_FATAL,
                         "metrics.listen: %s cannot be listened on (taken by another process?); "
                         "choose another port, 0 for any, or off",
                         listen);
    if (ret_port)
        *ret_port = MHD_get_daemon_info(metrics->server, MHD_DAEMON_INFO_BIND_PORT)->port;
    return WEIR_OK;
}

void weir_metrics_set_ready(struct weir_metrics *metrics, bool is_ready, const char *reason)
{
    if (reason) /* none is needed to be ready; a page that is being written keeps the last one */
        atomic_store_explicit(&metrics->reason, reason, memory_order_relaxed);
    atomic_store_explicit(&metrics->is_ready, is_ready, memory_order_release);
}

void weir_metrics_ready_call(struct weir_metrics *metrics, const char *(*why_not)(void *context), void *context)
{
    weir_check(!metrics->server);
    metrics->why_not = why_not;
    metrics->why_not_context = context;
}

void weir_metrics_set_silence_max(struct weir_metrics *metrics, int64_t silence)
{
    weir_check(!metrics->server);
    metrics->silence_max = silence;
}
