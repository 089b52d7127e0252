/* The URL of a Redis: login, one host or several nodes of a cluster to ask first, or a Unix socket. */
#include <stdlib.h>

#include "aggregator/store_redis_internal.h"

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Percent-decoding, so that a password may hold '@' and ':'. NULL: a bad escape, or a NUL. */
static char *unescape(const char *text, size_t length)
{
    char *copy = weir_new(length + 1);
    char *out = copy;
    for (size_t i = 0; i < length; i++) {
        int code = (unsigned char)text[i];
        if (text[i] == '%') {
            int high = i + 2 < length ? hex_digit(text[i + 1]) : -1;
            int low = i + 2 < length ? hex_digit(text[i + 2]) : -1;
            code = high < 0 || low < 0 ? 0 : high * 16 + low;
            i += 2;
        }
        if (code == 0) {
            free(copy);
            return NULL;
        }
        *out++ = (char)code;
    }
    return copy;
}

static bool parse_number(const char *text, size_t length, int max, int *ret_number)
{
    int number = 0;
    if (length == 0 || length > 5)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        number = number * 10 + (text[i] - '0');
    }
    if (number > max)
        return false;
    *ret_number = number;
    return true;
}

static bool parse_login(const char *text, const char *end, struct weir_redis_endpoint *endpoint)
{
    const char *colon = memchr(text, ':', (size_t)(end - text));
    if (!colon)
        return false;
    if (colon > text && !(endpoint->user = unescape(text, (size_t)(colon - text))))
        return false;
    endpoint->password = unescape(colon + 1, (size_t)(end - colon - 1));
    return endpoint->password != NULL;
}

/* host[:port], host in [] when it is an IPv6 address. */
static bool parse_host(const char *text, const char *end, struct weir_redis_endpoint *endpoint)
{
    const char *host_end;
    const char *port = NULL;
    struct weir_redis_host host = {.port = WEIR_REDIS_PORT};
    if (text >= end)
        return false;
    if (*text == '[') {
        text++;
        host_end = memchr(text, ']', (size_t)(end - text));
        if (!host_end || (host_end + 1 != end && host_end[1] != ':'))
            return false;
        port = host_end + 1 == end ? NULL : host_end + 2;
    } else {
        const char *colon = memchr(text, ':', (size_t)(end - text));
        host_end = colon ? colon : end;
        port = colon ? colon + 1 : NULL;
    }
    if (host_end == text || (port && (!parse_number(port, (size_t)(end - port), 65535, &host.port) || host.port == 0)))
        return false;
    host.name = weir_copy_text(text, (size_t)(host_end - text));
    endpoint->hosts = weir_resize(endpoint->hosts, endpoint->host_count + 1, sizeof(*endpoint->hosts));
    endpoint->hosts[endpoint->host_count++] = host;
    return true;
}

/* [user:password@]host[:port][,host[:port]...][/database] */
static bool parse_network(const char *text, struct weir_redis_endpoint *endpoint)
{
    const char *end = text + strcspn(text, "/");
    if (*end && end[1] && !parse_number(end + 1, strlen(end + 1), 99999, &endpoint->database))
        return false;
    const char *at = memrchr(text, '@', (size_t)(end - text));
    if (at) {
        if (!parse_login(text, at, endpoint))
            return false;
        text = at + 1;
    }
    for (;;) {
        const char *comma = memchr(text, ',', (size_t)(end - text));
        if (!parse_host(text, comma ? comma : end, endpoint))
            return false;
        if (!comma)
            return true;
        text = comma + 1;
    }
}

enum weir_status weir_redis_parse_url(const char *url, struct weir_redis_endpoint *ret, struct weir_error *reterr)
{
    struct weir_redis_endpoint endpoint = {0};
    bool fits = false;
    if (strncmp(url, "rediss://", 9) == 0)
        return weir_fail(reterr, WEIR_REJECT,
                         "Redis URL: rediss:// (TLS) is not supported by the hiredis 0.14 that this is built with; use "
                         "redis:// to a TLS tunnel such as stunnel on this machine, or a private network");
    if (strncmp(url, "redis://", 8) == 0) {
        fits = parse_network(url + 8, &endpoint);
    } else if (strncmp(url, "unix:", 5) == 0) {
        const char *path = url + (strncmp(url, "unix://", 7) == 0 ? 7 : 5);
        fits = *path == '/';
        endpoint.path = weir_copy_text(path, strlen(path));
    }
    if (!fits) {
        weir_redis_endpoint_free(&endpoint);
        /* Not shown: it may hold a password. */
        return weir_fail(reterr, WEIR_REJECT,
                         "Redis URL: neither redis://[user:password@]host[:port][,host[:port]...][/database] nor "
                         "unix:///path (write '@', '/' and ':' of a password as %%40, %%2F and %%3A)");
    }
    *ret = endpoint;
    return WEIR_OK;
}

void weir_redis_endpoint_free(struct weir_redis_endpoint *endpoint)
{
    free(endpoint->user);
    free(endpoint->password);
    for (size_t i = 0; i < endpoint->host_count; i++)
        free(endpoint->hosts[i].name);
    free(endpoint->hosts);
    free(endpoint->path);
    *endpoint = (struct weir_redis_endpoint){0};
}
