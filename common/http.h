/* The small HTTP server of a daemon: /metrics, /healthz and /readyz, on a thread of its own.
 *
 * /healthz answers 200 for as long as the process does; /readyz 200 or, with a reason, 503; every other path 404 and
 * every method but GET and HEAD 405. Plain HTTP, for a scraper on the same host or network: there is nothing to change
 * and nothing secret on any page.
 */
#ifndef WEIR_COMMON_HTTP_H
#define WEIR_COMMON_HTTP_H

#include <stdint.h>

#include "common/metrics.h"
#include "common/status.h"

struct weir_http;

/* listen: "HOST:PORT" or "[ADDRESS]:PORT", port 0 for any free one; "off": no server, *ret_http is NULL (which all
 * functions here take). The metrics must outlive the server. WEIR_REJECT: listen cannot be read; WEIR_FATAL: it cannot be
 * listened on. Not ready at first. */
enum weir_status weir_http_open(const char *listen, const struct weir_metrics *metrics, struct weir_http **ret_http,
                                struct weir_error *reterr);
struct weir_http *weir_http_close(struct weir_http *http); /* waits for its thread; NULL out */

/* Any thread. why_not: NULL, ready; else a text that outlives the server, which /readyz answers. */
void weir_http_set_ready(struct weir_http *http, const char *why_not);
/* The port that it listens on; 0 without a server. */
uint16_t weir_http_port(const struct weir_http *http);

#endif
