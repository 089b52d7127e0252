/* What a server says before there is a session: what passes by waiting, and what does not. Said by a server of ours
 * that answers a start-up packet with one error; and how our sessions stand in a real one. */
#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "common/calendar.h"
#include "common/daemon.h"
#include "postgres_database.h"
#include "rater/claims.h"
#include "rater/postgres.h"

static struct database database;

static void drop_database(void)
{
    database_drop(&database);
}

TestSuite(postgres_connect, .fini = drop_database, .timeout = 600);

/* Takes one client and refuses it with `message`. */
struct refusing {
    int listener;
    const char *sqlstate, *message;
};

static void *refuse(void *context)
{
    const struct refusing *server = context;
    char bytes[512], fields[400];
    int client = accept(server->listener, NULL, NULL);

    if (client < 0 || recv(client, bytes, sizeof bytes, 0) <= 0)
        return NULL;
    int length =
        snprintf(fields, sizeof fields, "SFATAL%cVFATAL%cC%s%cM%s%c", 0, 0, server->sqlstate, 0, server->message, 0);
    uint32_t size = htonl((uint32_t)length + 5);
    bytes[0] = 'E';
    memcpy(bytes + 1, &size, 4);
    memcpy(bytes + 5, fields, (size_t)length + 1); /* with the 0 that ends the list */
    (void)!send(client, bytes, (size_t)length + 6, MSG_NOSIGNAL);
    close(client);
    return NULL;
}

static enum weir_status status_when_refused(const char *sqlstate, const char *message, struct weir_error *reterr)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    struct refusing server = {socket(AF_INET, SOCK_STREAM, 0), sqlstate, message};
    enum weir_status status = WEIR_OK;
    char url[128];
    pthread_t thread;

    cr_assert_eq(bind(server.listener, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(listen(server.listener, 1), 0);
    cr_assert_eq(getsockname(server.listener, (struct sockaddr *)&address, &length), 0);
    cr_assert_eq(pthread_create(&thread, NULL, refuse, &server), 0);
    snprintf(url, sizeof url, "postgresql://weir@127.0.0.1:%d/weir?sslmode=disable&gssencmode=disable",
             ntohs(address.sin_port));
    cr_expect_null(weir_postgres_connect(url, "test", &status, reterr));
    pthread_join(thread, NULL);
    close(server.listener);
    return status;
}

Test(postgres_connect, what_passes_is_tried_again_and_what_does_not_is_refused)
{
    static const struct {
        const char *sqlstate, *message;
        enum weir_status status;
    } cases[] = {
        {"57P03", "the database system is starting up", WEIR_RETRY},
        {"57P03", "the database system is shutting down", WEIR_RETRY},
        {"57P03", "the database system is not yet accepting connections", WEIR_RETRY},
        {"57P01", "terminating connection due to administrator command", WEIR_RETRY},
        {"57P02", "terminating connection because of crash of another server process", WEIR_RETRY},
        {"57014", "canceling authentication due to timeout", WEIR_RETRY},
        {"53300", "sorry, too many clients already", WEIR_RETRY},
        {"53200", "out of memory", WEIR_RETRY},
        {"28P01", "password authentication failed for user \"weir\"", WEIR_FATAL},
        {"28000", "no pg_hba.conf entry for host \"10.0.0.1\", user \"weir\", database \"weir\"", WEIR_FATAL},
        {"28000", "role \"weir\" is not permitted to log in", WEIR_FATAL},
        {"3D000", "database \"weir\" does not exist", WEIR_FATAL},
        {"42501", "permission denied for database \"weir\"", WEIR_FATAL},
    };
    struct weir_error error;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_expect_eq(status_when_refused(cases[i].sqlstate, cases[i].message, &error), cases[i].status, "%s",
                     cases[i].message);
        cr_expect(strstr(error.text, cases[i].message), "%s", error.text);
    }
}

/* A claim that nobody gives up keeps every other rater away, so the server must notice when its holder has vanished. */
Test(postgres_connect, a_claims_session_is_one_of_ours)
{
    struct weir_error error;
    bool is_ours = false;

    database_make(&database);
    struct weir_claims *claims = weir_claims_new(database.url, WEIR_MINUTE);
    cr_assert_eq(weir_claims_try(claims, weir_slice_text("lane"), &is_ours, &error), WEIR_OK, "%s", error.text);
    cr_expect(is_ours);
    cr_expect_eq(ask_number(&database, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                                       " AND application_name = 'weir rater, claims'"),
                 1);
    weir_claims_free(claims);

    enum weir_status status;
    PGconn *session = weir_postgres_connect(database.url, "test", &status, &error);
    cr_assert(session, "%s", error.text);
    PGresult *result = PQexec(session, "SHOW tcp_keepalives_idle");
    cr_expect_str_eq(PQgetvalue(result, 0, 0), "30");
    PQclear(result);
    PQfinish(session);
}

/* A rater that is stopped keeps its lane from the others only for a while, and knows after it that it has lost it. */
Test(postgres_connect, a_stopped_rater_loses_its_claims)
{
    const struct weir_slice lane = weir_slice_text("lane");
    struct weir_error error;
    bool is_ours = false;
    int told[2], status;
    char word;

    database_make(&database);
    cr_assert_eq(pipe(told), 0);
    pid_t stopped = fork();
    if (stopped == 0) {
        struct weir_claims *claims = weir_claims_new(database.url, 2 * WEIR_SECOND);
        bool has = weir_claims_try(claims, lane, &is_ours, &error) == WEIR_OK && is_ours;
        if (write(told[1], has ? "y" : "n", 1) != 1)
            _exit(3);
        raise(SIGSTOP);
        /* It asks for what it held: no error, and another rater has it. */
        _exit(weir_claims_try(claims, lane, &is_ours, &error) == WEIR_OK && !is_ours ? 0 : 1);
    }
    cr_assert(read(told[0], &word, 1) == 1 && word == 'y');
    struct weir_claims *claims = weir_claims_new(database.url, WEIR_MINUTE);
    cr_assert_eq(weir_claims_try(claims, lane, &is_ours, &error), WEIR_OK, "%s", error.text);
    cr_expect(!is_ours, "the other one holds it");
    for (int i = 0; i < 1200 && !is_ours; i++) {
        usleep(50000);
        cr_assert_eq(weir_claims_try(claims, lane, &is_ours, &error), WEIR_OK, "%s", error.text);
    }
    cr_expect(is_ours, "a minute, and it still holds it");
    cr_assert_eq(waitpid(stopped, &status, WUNTRACED), stopped);
    kill(stopped, SIGCONT);
    cr_assert_eq(waitpid(stopped, &status, 0), stopped);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    cr_expect_eq(weir_claims_release(claims, lane, &error), WEIR_OK);
    weir_claims_free(claims);
}

static long holder(void)
{
    return ask_number(&database, "SELECT max(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid "
                                 "FROM pg_database WHERE datname = current_database())");
}

/* What is called more often than that is kept. Two calls that a busy machine kept further apart show nothing: it is
 * done again. */
Test(postgres_connect, a_claim_that_is_asked_for_again_is_kept)
{
    const int64_t idle = 2 * WEIR_SECOND;
    const struct weir_slice lane = weir_slice_text("lane");
    struct weir_error error;
    bool is_ours = false;
    long first, last;
    int64_t longest;

    database_make(&database);
    struct weir_claims *claims = weir_claims_new(database.url, idle);
    do {
        cr_assert_eq(weir_claims_try(claims, lane, &is_ours, &error), WEIR_OK, "%s", error.text);
        int64_t began = weir_monotonic(), asked = began, now = began;
        longest = 0;
        first = last = holder();
        for (; now - began < idle * 3 / 2; asked = now) {
            usleep(100000);
            cr_assert_eq(weir_claims_try(claims, lane, &is_ours, &error), WEIR_OK, "%s", error.text);
            cr_assert(is_ours);
            last = holder();
            now = weir_monotonic();
            longest = now - asked > longest ? now - asked : longest;
        }
    } while (longest >= idle);
    cr_expect_eq(last, first);
    weir_claims_free(claims);
}
