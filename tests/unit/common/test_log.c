/* Log lines: levels, both forms, whatever the message holds, and lines that do not mix between threads. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/calendar.h"
#include "common/log.h"

static FILE *caught;

/* Stderr of this test's process from now on. */
static void catch_lines(void)
{
    caught = tmpfile();
    dup2(fileno(caught), STDERR_FILENO);
}

static char *lines(void)
{
    static char text[1 << 20];
    ssize_t length = pread(fileno(caught), text, sizeof text - 1, 0);

    cr_assert_geq(length, 0);
    text[length] = '\0';
    return text;
}

Test(log, below_the_level_is_silent)
{
    catch_lines();
    weir_log_open("weir ingest", false, WEIR_LOG_WARN);
    weir_log(WEIR_LOG_DEBUG, "no");
    weir_log(WEIR_LOG_INFO, "no");
    cr_assert_str_eq(lines(), "");
    weir_log(WEIR_LOG_WARN, "yes %d", 1);
    weir_log(WEIR_LOG_ERROR, "yes %d", 2);
    cr_assert(strstr(lines(), " warn  weir ingest: yes 1\n"), "%s", lines());
    cr_assert(strstr(lines(), " error weir ingest: yes 2\n"), "%s", lines());
    cr_assert_not(strstr(lines(), "\033"), "no colours where there is no terminal");
}

Test(log, a_text_line_is_one_line)
{
    catch_lines();
    weir_log_open("weir", false, WEIR_LOG_INFO);
    weir_log(WEIR_LOG_INFO, "%s", "a\nb\r\033[31m\"\\é\xff\xc2\x9b\u202e");
    cr_assert(strstr(lines(), "weir: a\\u000ab\\u000d\\u001b[31m\"\\é\xef\xbf\xbd\\u009b\\u202e\n"), "%s", lines());
    cr_assert_eq(strchr(lines(), '\n'), lines() + strlen(lines()) - 1);
}

/* Each line must be read by jansson, which is strict about UTF-8 and escapes. */
static const char *message_of(json_t **root, const char *line)
{
    json_error_t error;

    *root = json_loads(line, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    cr_assert(*root, "%s in %s", error.text, line);
    return json_string_value(json_object_get(*root, "message"));
}

Test(log, a_json_line_is_json_whatever_it_says)
{
    static const struct {
        const char *message, *read;
    } cases[] = {
        {"plain", "plain"},
        {"\"quoted\" \\ back", "\"quoted\" \\ back"},
        {"line\nbreak\ttab\001\037\177", "line\nbreak\ttab\001\037\177"},
        {"é € 𝄞", "é € 𝄞"},
        {"\xc2\x9b \u202e \u2069", "\xc2\x9b \u202e \u2069"},
        {"cut \xc3", "cut \xef\xbf\xbd"},
        {"\xc0\x80 \xed\xa0\x80 \xf4\x90\x80\x80 \x80",
         "\xef\xbf\xbd\xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd "
         "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd \xef\xbf\xbd"},
        {"\xe0\x80\x80\xf0\x80\x80\x80",
         "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
    };
    json_t *root;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        catch_lines();
        weir_log_open("weir rater", true, WEIR_LOG_INFO);
        weir_log(WEIR_LOG_INFO, "%s", cases[i].message);
        cr_expect_str_eq(message_of(&root, lines()), cases[i].read);
        cr_expect_str_eq(json_string_value(json_object_get(root, "level")), "info");
        cr_expect_str_eq(json_string_value(json_object_get(root, "command")), "weir rater");
        int64_t time;
        cr_expect(weir_time_parse(weir_slice_text(json_string_value(json_object_get(root, "time"))), &time));
        json_decref(root);
    }
}

Test(log, a_line_takes_the_place_of_a_progress_line)
{
    catch_lines();
    weir_log_open("weir", false, WEIR_LOG_INFO);
    weir_log_progress(NULL);
    cr_assert_str_eq(lines(), "", "there is nothing to clear");
    weir_log_progress("weir: 1 of 2");
    weir_log_plain(WEIR_LOG_WARN, "first");
    weir_log_plain(WEIR_LOG_WARN, "second");
    weir_log_progress("weir: 2 of\n2");
    weir_log_progress(NULL);
    weir_log_progress(NULL);
    cr_assert_str_eq(lines(), "\r\033[Kweir: 1 of 2\r\033[Kweir: first\nweir: second\n\r\033[Kweir: 2 of?2\r\033[K");
}

Test(log, json_has_no_progress_line)
{
    catch_lines();
    weir_log_open("weir", true, WEIR_LOG_INFO);
    weir_log_progress("weir: 1 of 2");
    weir_log_plain(WEIR_LOG_WARN, "first");
    weir_log_progress(NULL);
    cr_assert_eq(lines()[0], '{', "%s", lines());
    cr_assert_str_eq(lines() + strlen(lines()) - 2, "}\n");
}

Test(log, a_long_message_is_cut_and_still_a_line)
{
    static char longest[3 * WEIR_LOG_LINE_MAX];
    json_t *root;

    for (int form = 0; form < 3; form++) {
        memset(longest, form == 0 ? 'x' : form == 1 ? '\n' : 0xc3, sizeof longest - 1);
        catch_lines();
        weir_log_open("weir", true, WEIR_LOG_INFO);
        weir_log(WEIR_LOG_INFO, "%s", longest);
        cr_assert_gt(strlen(message_of(&root, lines())), (size_t)1000);
        cr_assert_eq(strchr(lines(), '\n'), lines() + strlen(lines()) - 1);
        json_decref(root);
    }
}

/* The same width whatever the clock says: milliseconds that end in noughts come up within a second or so. */
Test(log, a_time_has_three_places)
{
    catch_lines();
    weir_log_open("weir", false, WEIR_LOG_INFO);
    for (int64_t end = weir_time_now() + WEIR_SECOND / 20; weir_time_now() < end;)
        weir_log(WEIR_LOG_INFO, "x");
    for (char *at = lines(), *next; (next = strchr(at, '\n')); at = next + 1) {
        cr_assert_eq(next - at, (ptrdiff_t)strlen("2026-01-05T10:00:00.000Z info  weir: x"), "%.*s", (int)(next - at),
                     at);
        cr_assert(at[19] == '.' && at[23] == 'Z', "%.*s", (int)(next - at), at);
    }
}

Test(log, what_a_command_says_of_its_run_is_plain_text_or_json)
{
    json_t *root;

    catch_lines();
    weir_log_open("weir ingest", false, WEIR_LOG_ERROR);
    weir_log_plain(WEIR_LOG_INFO, "read=%d", 7);
    cr_assert_str_eq(lines(), "weir ingest: read=7\n");
    catch_lines();
    weir_log_open("weir ingest", true, WEIR_LOG_ERROR);
    weir_log_plain(WEIR_LOG_INFO, "read=%d", 7);
    cr_assert_str_eq(message_of(&root, lines()), "read=7");
    cr_assert_str_eq(json_string_value(json_object_get(root, "level")), "info");
    json_decref(root);
}

enum { THREADS = 4, LINES = 500 };

static void *write_lines(void *context)
{
    for (int i = 0; i < LINES; i++)
        weir_log(WEIR_LOG_INFO, "thread %d line %d %0200d", *(int *)context, i, 0);
    return NULL;
}

/* Stderr is a pipe's twin here, a file that is appended to: one write(2) a line keeps lines whole. */
Test(log, lines_of_threads_do_not_mix)
{
    pthread_t threads[THREADS];
    int numbers[THREADS], next[THREADS] = {0}, thread, line;
    char path[] = "/tmp/weir-test-log-XXXXXX", *save = NULL;

    close(mkstemp(path));
    caught = freopen(path, "a+", stderr);
    unlink(path);
    weir_log_open("weir", false, WEIR_LOG_INFO);
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        cr_assert_eq(pthread_create(&threads[i], NULL, write_lines, &numbers[i]), 0);
    }
    for (int i = 0; i < LINES; i++)
        weir_log_progress("under way");
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    weir_log_progress(NULL);
    for (const char *at = lines(); (at = strstr(at, "under way")); at++)
        cr_assert_eq(strncmp(at + strlen("under way"), "\r\033[K", 4), 0, "what comes next takes its place");
    for (char *at = strtok_r(lines(), "\n", &save); at && strstr(at, "weir: "); at = strtok_r(NULL, "\n", &save)) {
        cr_assert_eq(sscanf(strstr(at, "weir: "), "weir: thread %d line %d 0", &thread, &line), 2, "%s", at);
        cr_assert_eq(line, next[thread]++);
    }
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(next[i], LINES);
}
