/* Runs Criterion's tests without Criterion's runner, for builds under ThreadSanitizer.
 *
 * Criterion 2.4.1 hands state to its child processes in memory at addresses of its choosing, and nearly all of those
 * are TSan's own: its programs end before their first test. Here each test is one fork of a process that has no threads
 * yet, one after the other. A test fails by an assertion, another exit status or signal than it expects, or a race
 * (TSan ends the child with 66). The functions below take the place of the library's own of the same names, so that
 * test files need no change.
 *
 *   --filter SUITE/TEST  only this one (no wildcards)
 */
#include <criterion/criterion.h>
#include <criterion/internal/parameterized.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The linker's names for the sections in which the test macros leave their pointers; without suites there is none. */
extern struct criterion_test *__start_cr_tst[], *__stop_cr_tst[];
extern struct criterion_suite *__start_cr_sts[] __attribute__((weak)), *__stop_cr_sts[] __attribute__((weak));

enum { TIMEOUT_SECONDS = 300 };

/* Of the test that this process runs. */
static const struct criterion_test *running;
static const struct criterion_suite *running_suite;
static void *parameter;
static int failures;

void criterion_send_assert(struct criterion_assert_stats *stats)
{
    if (stats->passed)
        return;
    failures++;
    fprintf(stderr, "%s:%u: %s\n", stats->file, stats->line, stats->message);
}

void criterion_abort_test(void)
{
    exit(EXIT_FAILURE);
} /* and not _exit: TSan has its say at exit */
void criterion_continue_test(void) {}

void criterion_internal_test_setup(void)
{
    if (running_suite && running_suite->data && running_suite->data->init)
        running_suite->data->init();
    if (running->data->init)
        running->data->init();
}

void criterion_internal_test_main(void (*test)(void))
{
    if (running->data->kind_ == CR_TEST_PARAMETERIZED)
        ((void (*)(void *))test)(parameter);
    else
        test();
}

void criterion_internal_test_teardown(void)
{
    if (running->data->fini)
        running->data->fini();
    if (running_suite && running_suite->data && running_suite->data->fini)
        running_suite->data->fini();
}

static const struct criterion_suite *find_suite(const char *name)
{
    for (struct criterion_suite **suite = __start_cr_sts; suite < __stop_cr_sts; suite++)
        if (*suite && strcmp((*suite)->name, name) == 0)
            return *suite;
    return NULL;
}

/* In a child of its own. */
static bool passes(const struct criterion_test *test)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        alarm(TIMEOUT_SECONDS);
        test->test();
        exit(failures ? EXIT_FAILURE : EXIT_SUCCESS);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        return false;
    bool is_good = WIFSIGNALED(status) ? test->data->signal == WTERMSIG(status)
                                       : test->data->signal == 0 && test->data->exit_code == WEXITSTATUS(status);
    if (!is_good)
        fprintf(stderr, "%s/%s: ended with %s %d\n", test->category, test->name,
                WIFSIGNALED(status) ? "signal" : "status",
                WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    return is_good;
}

static int run(const struct criterion_test *test, int *failed)
{
    running = test;
    running_suite = find_suite(test->category);
    if (test->data->kind_ != CR_TEST_PARAMETERIZED) {
        *failed += !passes(test);
        return 1;
    }
    struct criterion_test_params parameters = test->data->param_();
    for (size_t i = 0; i < parameters.length; i++) {
        parameter = (char *)parameters.params + i * parameters.size;
        *failed += !passes(test);
    }
    return (int)parameters.length;
}

int main(int argc, char **argv)
{
    const char *only = argc == 3 && strcmp(argv[1], "--filter") == 0 ? argv[2] : NULL;
    int tested = 0, failed = 0;

    for (struct criterion_test **test = __start_cr_tst; test < __stop_cr_tst; test++)
        if (*test && !(*test)->data->disabled && (!only || strcmp(only, (*test)->data->identifier_) == 0))
            tested += run(*test, &failed);
    fprintf(stderr, "%s: tested %d, failed %d\n", argv[0], tested, failed);
    return tested == 0 || failed > 0;
}
