/* The system's time zone files, read into memory: what the clocks of a zone show at an instant.
 *
 * TZif (RFC 8536) of /usr/share/zoneinfo, the 64-bit part and the rule at its end. Read here rather than by GLib, which
 * 2.74 gets Europe/Dublin wrong from 2038 on (its winter time is the exception, not its summer time) and takes any file
 * of that folder for a zone; and rather than by glibc, whose zone is the process's. A zone is immutable once open, so
 * any number of threads may share one. tests/oracle/test_calendar_oracle.py compares every zone with Python's zoneinfo.
 */
#ifndef WEIR_COMMON_ZONE_DATA_H
#define WEIR_COMMON_ZONE_DATA_H

#include "common/calendar.h"

/* A zone from a TZif file's bytes; NULL when they are none. The caller's. */
struct weir_zone *weir_zone_read(const unsigned char *bytes, size_t length);

/* Seconds east of UTC at an instant (seconds since 1970). Opening and closing are calendar.h's. */
int64_t weir_zone_offset(const struct weir_zone *zone, int64_t instant);

#endif
