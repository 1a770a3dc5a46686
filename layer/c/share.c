/* The measurement; docs/decisions/0015-parked.md has its figures. */
#define _GNU_SOURCE
#include "share.h"

#include <poll.h>
#include <stdlib.h>
#include <time.h>

#define AMPLE_MB 512 /* has 29 % of a CPU at least: to measure costs as much as it could save */
#define ANSWER_MS 5000
#ifndef SPIN_US /* tests have neither: then all that passes is lost */
#define SPIN_US 100 /* with the nap more than a quarter of a CPU, even where nothing else runs yet */
#define NAP_US 250
#endif
#ifndef ROUNDS /* they have more */
#define ROUNDS 34 /* 12 ms; more CPU than 7.25 % of two periods of 20 ms */
#endif
#ifndef STALL_US /* and stalls that never come */
#define STALL_US 8000 /* so late: more than other processes' turns, less than a period's rest */
#endif
#define STALLS 3 /* one may be anything */
#define ROUNDS_OF_STALLED (2 * ROUNDS)

static long now_us(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (long)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

long share_memory_mb(void)
{
    const char *memory = getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE");
    long mb = memory ? strtol(memory, NULL, 10) : 0;
    return mb > 0 ? mb : 0;
}

/* Use a little CPU, and sleep for a little: the account is made when a process goes to sleep. */
static void spin_and_nap(void)
{
    const struct timespec nap = {0, NAP_US * 1000};
    long until = now_us(CLOCK_PROCESS_CPUTIME_ID) + SPIN_US;
    while (now_us(CLOCK_PROCESS_CPUTIME_ID) < until)
        ;
    clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
}

enum share share_measure(int fd)
{
    struct pollfd registered = {fd, POLLIN, 0};
    long lost = 0, begun, ended, mb = share_memory_mb();
    int stalls = 0;
    if (!mb || mb >= AMPLE_MB)
        return SHARE_UNKNOWN;
    poll(&registered, 1, ANSWER_MS); /* whatever comes of it */
    begun = ended = now_us(CLOCK_MONOTONIC);
    for (int round = 0; round < (stalls ? ROUNDS_OF_STALLED : ROUNDS); round++) {
        long before = ended;
        spin_and_nap();
        ended = now_us(CLOCK_MONOTONIC);
        long late = ended - before - SPIN_US - NAP_US;
        if (late < STALL_US)
            continue;
        lost += late;
        if (++stalls >= STALLS && lost > (ended - begun) / 3 * 2)
            return SHARE_SMALL;
    }
    return SHARE_LARGE;
}
