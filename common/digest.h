/* SHA-256, for what must not collide even on purpose: keys that stand for longer ones in PostgreSQL, checksums of
 * migrations and catalogs. weir_hash64 is for tables in memory.
 *
 * A maker keeps its working memory from one digest to the next. One thread.
 */
#ifndef WEIR_COMMON_DIGEST_H
#define WEIR_COMMON_DIGEST_H

#include <stddef.h>

#include "common/slice.h"

enum { WEIR_DIGEST_BYTES = 32, WEIR_DIGEST_TEXT_MAX = 65 };

struct weir_digester;

struct weir_digester *weir_digester_new(void);
struct weir_digester *weir_digester_free(struct weir_digester *digester); /* NULL in, NULL out */
void weir_digest(struct weir_digester *digester, struct weir_slice bytes, unsigned char digest[WEIR_DIGEST_BYTES]);

/* Once, as 64 small hexadecimal digits and NUL. */
void weir_digest_text(const char *data, size_t length, char text[WEIR_DIGEST_TEXT_MAX]);

#endif
