#include "common/digest.h"

#include <glib.h>
#include <stdlib.h>

#include "common/status.h"

struct weir_digester {
    GChecksum *checksum;
};

struct weir_digester *weir_digester_new(void)
{
    struct weir_digester *digester = weir_new(sizeof *digester);
    digester->checksum = g_checksum_new(G_CHECKSUM_SHA256);
    return digester;
}

struct weir_digester *weir_digester_free(struct weir_digester *digester)
{
    if (!digester)
        return NULL;
    g_checksum_free(digester->checksum);
    free(digester);
    return NULL;
}

void weir_digest(struct weir_digester *digester, struct weir_slice bytes, unsigned char digest[WEIR_DIGEST_BYTES])
{
    gsize length = WEIR_DIGEST_BYTES;

    g_checksum_reset(digester->checksum);
    g_checksum_update(digester->checksum, (const guchar *)bytes.data, bytes.length);
    g_checksum_get_digest(digester->checksum, digest, &length);
}

void weir_digest_text(const char *data, size_t length, char text[WEIR_DIGEST_TEXT_MAX])
{
    static const char hex[] = "0123456789abcdef";
    struct weir_digester *digester = weir_digester_new();
    unsigned char digest[WEIR_DIGEST_BYTES];

    weir_check(length <= UINT32_MAX);
    weir_digest(digester, weir_slice_of(data, length), digest);
    for (int i = 0; i < WEIR_DIGEST_BYTES; i++) {
        text[2 * i] = hex[digest[i] >> 4];
        text[2 * i + 1] = hex[digest[i] & 15];
    }
    text[2 * WEIR_DIGEST_BYTES] = '\0';
    weir_digester_free(digester);
}
