/* The ring: full and empty at every place of the counters, and two threads that pass items on, under TSan in tests/run.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "common/ring.h"

enum { CAPACITY = 8, ITEMS = 300000 };

/* A ring whose counters stand a few steps before they wrap. */
static void start_near_the_end(struct weir_ring *ring, void **slots, uint32_t capacity)
{
    weir_ring_init(ring, slots, capacity);
    atomic_store(&ring->head, UINT32_MAX - 5);
    atomic_store(&ring->tail, UINT32_MAX - 5);
}

Test(ring, holds_its_capacity_and_keeps_the_order_over_the_wrap)
{
    struct weir_ring ring;
    void *slots[CAPACITY];
    char items[CAPACITY + 1];

    start_near_the_end(&ring, slots, CAPACITY);
    for (int round = 0; round < 3 * CAPACITY; round++) {
        cr_assert_null(weir_ring_pop(&ring));
        cr_assert_eq(weir_ring_count(&ring), 0u);
        for (uint32_t i = 0; i < CAPACITY; i++) {
            cr_assert(weir_ring_push(&ring, &items[i]));
            cr_assert_eq(weir_ring_count(&ring), i + 1);
        }
        cr_assert_not(weir_ring_push(&ring, &items[CAPACITY]), "full");
        for (int i = 0; i < CAPACITY; i++)
            cr_assert_eq(weir_ring_pop(&ring), &items[i]);
        cr_assert(weir_ring_push(&ring, &items[0])); /* shifts the next round by one slot */
        cr_assert_eq(weir_ring_pop(&ring), &items[0]);
    }
    cr_assert_lt(atomic_load(&ring.tail), UINT32_MAX / 2, "it has wrapped");
}

Test(ring, of_one_slot)
{
    struct weir_ring ring;
    void *slots[1];
    char item;

    start_near_the_end(&ring, slots, 1);
    for (int i = 0; i < 20; i++) {
        cr_assert(weir_ring_push(&ring, &item));
        cr_assert_not(weir_ring_push(&ring, &item));
        cr_assert_eq(weir_ring_pop(&ring), &item);
        cr_assert_null(weir_ring_pop(&ring));
    }
}

/* Items go forward and come back empty through a twin ring, as cuts do; what an item points at is plain memory. */
struct item {
    uint64_t number;
};
struct relay {
    struct weir_ring forward, back;
    void *forward_slots[CAPACITY], *back_slots[CAPACITY];
    struct weir_bell work, done;
    uint64_t sum;
};

static void *consume(void *context)
{
    struct relay *relay = context;

    for (uint64_t expected = 1; expected <= ITEMS;) {
        struct item *item = weir_ring_pop(&relay->forward);
        if (!item) {
            weir_bell_wait(&relay->work, 1000);
            continue;
        }
        if (item->number != expected++)
            break; /* the sum will tell */
        relay->sum += item->number;
        item->number = 0;
        weir_check(weir_ring_push(&relay->back, item));
        weir_bell_ring(&relay->done);
    }
    return NULL;
}

Test(ring, two_threads_pass_every_item_once_and_in_order)
{
    static struct relay relay;
    static struct item items[CAPACITY];
    pthread_t consumer;

    start_near_the_end(&relay.forward, relay.forward_slots, CAPACITY);
    start_near_the_end(&relay.back, relay.back_slots, CAPACITY);
    weir_bell_open(&relay.work);
    weir_bell_open(&relay.done);
    for (int i = 0; i < CAPACITY; i++)
        cr_assert(weir_ring_push(&relay.back, &items[i]));
    cr_assert_eq(pthread_create(&consumer, NULL, consume, &relay), 0);
    for (uint64_t number = 1; number <= ITEMS;) {
        struct item *item = weir_ring_pop(&relay.back);
        if (!item) {
            weir_bell_wait(&relay.done, 1000);
            continue;
        }
        cr_assert_eq(item->number, 0u, "it came back empty");
        item->number = number++;
        cr_assert(weir_ring_push(&relay.forward, item));
        weir_bell_ring(&relay.work);
    }
    pthread_join(consumer, NULL);
    cr_assert_eq(relay.sum, (uint64_t)ITEMS * (ITEMS + 1) / 2);
    weir_bell_close(&relay.work);
    weir_bell_close(&relay.done);
}

static int64_t milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

Test(bell, a_ring_before_the_wait_is_not_lost_and_is_heard_once)
{
    struct weir_bell bell;
    int64_t began;

    weir_bell_open(&bell);
    weir_bell_ring(&bell);
    weir_bell_ring(&bell);
    began = milliseconds();
    weir_bell_wait(&bell, 60000);
    cr_assert_lt(milliseconds() - began, 30000);
    began = milliseconds();
    weir_bell_wait(&bell, 50); /* both rings are used up: it waits its time out */
    cr_assert_geq(milliseconds() - began, 49);
    weir_bell_close(&bell);
}
