#include "common/actor.h"

#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

const char *weir_actor(char text[WEIR_ACTOR_MAX])
{
    char host[128] = "?", room[1024];
    struct passwd entry, *user = NULL;

    (void)gethostname(host, sizeof host - 1);
    (void)getpwuid_r(getuid(), &entry, room, sizeof room, &user);
    (void)snprintf(text, WEIR_ACTOR_MAX, "%.100s@%s", user ? user->pw_name : "?", host);
    return text;
}
