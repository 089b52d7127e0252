/* Who runs this weir, for what keeps a name: user@host. */
#ifndef WEIR_COMMON_ACTOR_H
#define WEIR_COMMON_ACTOR_H

enum { WEIR_ACTOR_MAX = 256 };

/* Into text, which is returned. What the system does not tell is "?". */
const char *weir_actor(char text[WEIR_ACTOR_MAX]);

#endif
