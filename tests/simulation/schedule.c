#include "tests/simulation/schedule.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/ring.h"
#include "common/status.h"
#include "ingest/decode.h"

enum { THREADS_MAX = 96, BELLS_MAX = 256, TRACE_BYTES = 1 << 20, SWITCHES_MAX = 1000000 };

enum state { FREE, READY, WAITING };

/* One thread of one process. Real threads, since the program keeps thread-local scratch; they are used again. */
struct strand {
    pthread_t thread;
    sem_t go;
    bool is_real;
    enum state state;
    struct process *process;
    void (*first)(struct process *process); /* a process's first thread ... */
    void *(*more)(void *);                  /* ... or one that it made */
    void *argument;
    bool (*is_ready)(void *context);
    void *context;
    int64_t deadline;
    uint64_t lives; /* of this slot: a handle of an earlier life is joined at once */
};

static struct {
    struct strand strands[THREADS_MAX];
    struct strand *now;
    struct process director;
    struct choices *choices;
    int64_t wall_start, clock;
    bool is_deviating;
    bool is_rung[BELLS_MAX], is_bell[BELLS_MAX];
    uint64_t secrets;
    uint64_t switches;
    char trace[TRACE_BYTES];
    size_t traced;
    char failure[1100];
} world;

/* 1. choices */
uint64_t next_random(uint64_t *seed)
{
    uint64_t x = *seed += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

unsigned choose(unsigned limit, const char *what)
{
    struct choices *choices = world.choices;
    unsigned value = 0;

    weir_check(limit >= 1 && limit <= UINT16_MAX);
    if (limit == 1 || !world.is_deviating || choices->deviations_left == 0)
        return 0;
    if (choices->count == CHOICES_MAX)
        run_fails("the run makes more than %d choices", CHOICES_MAX);
    if (choices->how == CHOOSE_RANDOM) {
        if (next_random(&choices->seed) % choices->odds == 0)
            value = 1 + (unsigned)(next_random(&choices->seed) % (limit - 1));
    } else if (choices->count < choices->given) {
        value = choices->values[choices->count];
        if (value >= limit)
            run_fails("the list of choices is not one of this case: choice %zu is %u of %u", choices->count, value,
                      limit);
    }
    choices->values[choices->count] = (uint16_t)value;
    choices->limits[choices->count++] = (uint16_t)limit;
    if (value) {
        choices->deviations_left--;
        trace("%s: choice %u of %u", what, value, limit);
    }
    return value;
}

bool next_choices(struct choices *choices)
{
    while (choices->count > 0 && choices->values[choices->count - 1] + 1 >= choices->limits[choices->count - 1])
        choices->count--;
    if (choices->count == 0)
        return false;
    choices->values[choices->count - 1]++;
    choices->given = choices->count;
    return true;
}

void print_choices(const struct choices *choices)
{
    size_t end = choices->count;

    while (end > 0 && choices->values[end - 1] == 0)
        end--; /* the plain course needs no telling */
    fprintf(stderr, "choices: ");
    for (size_t i = 0; i < end; i++) {
        size_t zeros = i;
        while (zeros < end && choices->values[zeros] == 0)
            zeros++;
        if (zeros - i > 1) {
            fprintf(stderr, "%s0x%zu", i ? "," : "", zeros - i);
            i = zeros - 1;
        } else
            fprintf(stderr, "%s%u", i ? "," : "", choices->values[i]);
    }
    fprintf(stderr, "%s\n", end ? "" : "(none)");
}

/* 2. the baton */
static void hand_to(struct strand *next)
{
    struct strand *from = world.now;

    if (next == from)
        return;
    if (++world.switches > SWITCHES_MAX)
        run_fails("more than %d changes of thread: the run does not end", SWITCHES_MAX);
    world.now = next;
    sem_post(&next->go);
    while (sem_wait(&from->go) != 0)
        continue;
}

static bool can_go(const struct strand *strand)
{
    if (strand->state == FREE)
        return false;
    if (strand->process->is_dead || strand->state == READY)
        return strand->process->is_dead || strand->process->stalled_until <= world.clock;
    return strand->process->stalled_until <= world.clock
           && (strand->deadline <= world.clock || (strand->is_ready && strand->is_ready(strand->context)));
}

/* When a waiting or stopped thread could go on by time alone. */
static int64_t wakes_at(const struct strand *strand)
{
    int64_t at = strand->state == READY ? 0 : strand->deadline;

    if (strand->state == WAITING && strand->is_ready && strand->is_ready(strand->context))
        at = 0;
    return at > strand->process->stalled_until ? at : strand->process->stalled_until;
}

/* The ones that could go on, in turn after `from`; `from` itself last. */
static unsigned list_ready(const struct strand *from, struct strand *ret_ready[THREADS_MAX])
{
    unsigned count = 0, own = (unsigned)(from - world.strands);

    for (unsigned i = 1; i <= THREADS_MAX; i++) {
        struct strand *strand = &world.strands[(own + i) % THREADS_MAX];
        if (can_go(strand))
            ret_ready[count++] = strand;
    }
    return count;
}

static struct strand *choose_next(const struct strand *from)
{
    struct strand *ready[THREADS_MAX];
    unsigned count = list_ready(from, ready);

    while (count == 0) {
        int64_t at = INT64_MAX;
        for (int i = 0; i < THREADS_MAX; i++)
            if (world.strands[i].state != FREE && wakes_at(&world.strands[i]) < at)
                at = wakes_at(&world.strands[i]);
        if (at == INT64_MAX)
            run_fails("everybody waits for somebody else");
        weir_check(at > world.clock);
        world.clock = at;
        count = list_ready(from, ready);
    }
    return ready[choose(count, "who goes on")];
}

static void *live(void *argument)
{
    struct strand *strand = argument;

    for (;;) {
        while (sem_wait(&strand->go) != 0)
            continue;
        if (strand->first) {
            strand->first(strand->process);
            strand->process->has_ended = true;
            if (strand->process->on_end)
                strand->process->on_end(strand->process, strand->process->context);
        } else
            strand->more(strand->argument);
        strand->state = FREE;
        strand->lives++;
        world.now = choose_next(strand);
        sem_post(&world.now->go);
    }
    return NULL;
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);

static struct strand *new_strand(struct process *process)
{
    for (int i = 1; i < THREADS_MAX; i++) {
        struct strand *strand = &world.strands[i];
        if (strand->state != FREE)
            continue;
        if (!strand->is_real) {
            sem_init(&strand->go, 0, 0);
            strand->is_real = true;
            weir_check(__real_pthread_create(&strand->thread, NULL, live, strand) == 0);
        }
        strand->state = READY;
        strand->process = process;
        strand->first = NULL;
        strand->more = NULL;
        return strand;
    }
    run_fails("more than %d threads at a time", THREADS_MAX);
}

void start_process(struct process *process, void (*run)(struct process *process))
{
    trace("%s starts", process->name);
    new_strand(process)->first = run;
}

struct process *this_process(void)
{
    return world.now->process;
}

void wait_for(bool (*is_ready)(void *context), void *context, int64_t timeout)
{
    struct strand *strand = world.now;

    if (strand->process->is_dead || (is_ready && is_ready(context))) {
        /* A dead one has to unwind, and may be waiting for its own other thread to do so. */
        if (strand->process->is_dead)
            hand_to(choose_next(strand));
        return;
    }
    strand->state = WAITING;
    strand->is_ready = is_ready;
    strand->context = context;
    strand->deadline = timeout < 0 ? INT64_MAX : world.clock + timeout;
    hand_to(choose_next(strand));
    strand->state = READY;
}

unsigned step(unsigned extra, const char *what)
{
    struct strand *ready[THREADS_MAX];
    struct strand *strand = world.now;

    if (strand->process->is_dead || !world.is_deviating)
        return 0;
    unsigned others = list_ready(strand, ready) - 1;
    unsigned chosen = choose(1 + extra + others, what);
    if (chosen <= extra)
        return chosen;
    hand_to(ready[chosen - extra - 1]);
    /* The others were first; now the caller's own alternatives once more. */
    return strand->process->is_dead ? 0 : choose(1 + extra, what);
}

void stall(int64_t duration)
{
    world.now->process->stalled_until = world.clock + duration;
    hand_to(choose_next(world.now));
}

int64_t simulated_clock(void)
{
    return world.clock;
}

void let_time_pass(int64_t duration)
{
    trace("time passes");
    world.clock += duration;
}

void allow_deviations(bool is_on)
{
    world.is_deviating = is_on;
}

void schedule_begin(struct choices *choices, int64_t wall)
{
    static bool is_open;

    if (!is_open) {
        sem_init(&world.strands[0].go, 0, 0);
        /* One thread moves at a time: on one processor the baton changes hands without waking another one. */
        cpu_set_t here;
        CPU_ZERO(&here);
        CPU_SET(sched_getcpu(), &here);
        (void)sched_setaffinity(0, sizeof here, &here);
    }
    is_open = true;
    world.director = (struct process){.name = "director"};
    world.strands[0].state = READY;
    world.strands[0].process = &world.director;
    world.now = &world.strands[0];
    world.choices = choices;
    world.clock = CLOCK_START;
    world.wall_start = wall - CLOCK_START;
    world.secrets = 0;
    world.switches = 0;
    world.traced = 0;
    choices->count = 0;
    choices->deviations_left = choices->deviations;
}

void schedule_end(void)
{
    for (int i = 1; i < THREADS_MAX; i++)
        if (world.strands[i].state != FREE)
            run_fails("%s is still running at the end", world.strands[i].process->name);
    for (int i = 0; i < BELLS_MAX; i++)
        weir_check(!world.is_bell[i]);
}

/* 3. the seams */
struct weir_decoder *__real_weir_decoder_new(const struct weir_catalog *catalog);
struct weir_decoder *__wrap_weir_decoder_new(const struct weir_catalog *catalog);
struct weir_decoder *__wrap_weir_decoder_free(struct weir_decoder *decoder);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);
int __wrap_pthread_join(pthread_t thread, void **ret_value);
void __wrap_weir_bell_open(struct weir_bell *bell);
void __wrap_weir_bell_close(struct weir_bell *bell);
void __wrap_weir_bell_ring(struct weir_bell *bell);
void __wrap_weir_bell_wait(struct weir_bell *bell, int timeout_ms);
void __wrap_weir_hash_make_secret(unsigned char *secret);
void __wrap_weir_log(enum weir_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time)
{
    int64_t now = world.clock + (clock == CLOCK_REALTIME ? world.wall_start : 0);

    *ret_time = (struct timespec){.tv_sec = now / WEIR_SECOND, .tv_nsec = now % WEIR_SECOND};
    return 0;
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    struct strand *strand = new_strand(this_process());

    (void)attributes;
    strand->more = run;
    strand->argument = argument;
    *thread = (pthread_t)((uint64_t)(strand - world.strands) << 32 | (uint32_t)strand->lives);
    return 0;
}

static bool has_returned(void *context)
{
    uint64_t handle = *(uint64_t *)context;
    return (uint32_t)world.strands[handle >> 32].lives != (uint32_t)handle;
}

int __wrap_pthread_join(pthread_t thread, void **ret_value)
{
    uint64_t handle = (uint64_t)thread;

    (void)ret_value;
    while (!has_returned(&handle))
        wait_for(has_returned, &handle, -1);
    return 0;
}

void __wrap_weir_bell_open(struct weir_bell *bell)
{
    bell->fd = 0;
    while (bell->fd < BELLS_MAX && world.is_bell[bell->fd])
        bell->fd++;
    weir_check(bell->fd < BELLS_MAX);
    world.is_bell[bell->fd] = true;
    world.is_rung[bell->fd] = false;
}

void __wrap_weir_bell_close(struct weir_bell *bell)
{
    world.is_bell[bell->fd] = false;
}

void __wrap_weir_bell_ring(struct weir_bell *bell)
{
    world.is_rung[bell->fd] = true;
}

static bool is_rung(void *context)
{
    return world.is_rung[((struct weir_bell *)context)->fd];
}

void __wrap_weir_bell_wait(struct weir_bell *bell, int timeout_ms)
{
    wait_for(is_rung, bell, timeout_ms * (WEIR_SECOND / 1000));
    world.is_rung[bell->fd] = false;
}

void __wrap_weir_hash_make_secret(unsigned char *secret)
{
    for (int i = 0; i < 32; i++)
        secret[i] = (unsigned char)next_random(&world.secrets);
}

/* What is logged stands in the trace. */
void __wrap_weir_log(enum weir_log_level level, const char *format, ...)
{
    char text[400];
    va_list arguments;

    if (level > WEIR_LOG_WARN)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    trace("logs: %s", text);
}

/* A decoder is 100 MB of address space and keeps nothing between messages: each life of a worker takes used ones. */
enum { DECODERS_MAX = 1024 };
static struct weir_decoder *idle_decoders[DECODERS_MAX];
static unsigned idle_decoder_count;

struct weir_decoder *__wrap_weir_decoder_new(const struct weir_catalog *catalog)
{
    return idle_decoder_count ? idle_decoders[--idle_decoder_count] : __real_weir_decoder_new(catalog);
}

struct weir_decoder *__wrap_weir_decoder_free(struct weir_decoder *decoder)
{
    weir_check(idle_decoder_count < DECODERS_MAX);
    idle_decoders[idle_decoder_count++] = decoder;
    return NULL;
}

/* 4. what a failing run leaves behind */
void trace(const char *format, ...)
{
    va_list arguments;
    size_t room = TRACE_BYTES - world.traced;

    if (room < 512)
        return;
    int length =
        snprintf(world.trace + world.traced, room, "%8lld.%03lld  %-10s ", (long long)(world.clock / WEIR_SECOND),
                 (long long)(world.clock / 1000000 % 1000), world.now ? world.now->process->name : "");
    world.traced += (size_t)length;
    va_start(arguments, format);
    length = vsnprintf(world.trace + world.traced, 400, format, arguments);
    va_end(arguments);
    world.traced += (size_t)(length < 399 ? length : 399);
    world.trace[world.traced++] = '\n';
}

void print_trace(void)
{
    (void)!write(STDERR_FILENO, world.trace, world.traced);
    (void)!write(STDERR_FILENO, world.failure, strlen(world.failure));
}

_Noreturn void run_fails(const char *format, ...)
{
    char text[1024];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    snprintf(world.failure, sizeof world.failure, "FAILED: %s\n", text);
    abort(); /* main's handler prints the trace, this, and which run it was */
}
